"""Training samples from a store: two frames of a clip, a pure function of (seed, number).

Only the two frames that a sample uses are decoded, whatever the length of the clip. Sample
number i is the same in every process, with any number of workers, after any resume.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from digan.data.store import Store
from digan.errors import DiganError
from digan.randomness import Permutation, sample_rng


class PairSample(NamedTuple):
    """Two frames of one clip, the earlier first."""

    frames: Tensor  # [2, 3, H, W] uint8
    dt: float  # (j - i) / (N - 1), in [0, 1]
    label: int  # class, -1 without labels


class PairBatch(NamedTuple):
    """B samples."""

    frames: Tensor  # [B, 2, 3, H, W] uint8
    dt: Tensor  # [B] float32
    label: Tensor  # [B] int64


def in_split(store: Store, split: str | None) -> NDArray[np.bool_]:
    """Which videos of a store belong to a split, bool [num_videos].

    None and "all" are every video, with the ones that are in no split. Raises DiganError,
    naming the store's splits, for a split that it does not have.
    """
    if split is None or split == "all":
        return np.ones(store.num_videos, dtype=bool)
    if split in store.splits:
        return np.asarray(store.videos["split"] == store.splits.index(split))
    known = ", ".join(store.splits) or "none"
    raise DiganError(f"split must be one of the store's ({known}) or all, got {split}")


class ClipPairs:
    """An endless sequence of training pairs: `pairs[i]` for i = 0, 1, 2, ...

    The items are all windows of `clip_frames` consecutive frames, so long videos weigh
    more. Each run through them (an epoch) takes them in a new order. Inside the window of
    N frames the two are drawn as

        i = min(floor(N * Beta(2, 1)), N - 1),   j = min(floor(N * Beta(1, 2)), N - 1),

    sorted; with `mirror` both are flipped left to right in half of the samples.

    `split` keeps the videos of that split only (None or "all": every video). With
    `use_labels` the label is the video's class, otherwise -1. Attributes: `num_windows`
    (items in an epoch), `too_short` (videos that have fewer frames than the clip and are
    left out), `num_classes` (0 without labels), `resolution`.

    Raises DiganError if no video is long enough, if there is no such split, or if labels
    are asked of a store that has none.
    """

    def __init__(
        self,
        store: Store,
        clip_frames: int,
        *,
        seed: int,
        mirror: bool = True,
        split: str | None = None,
        use_labels: bool = False,
    ) -> None:
        if clip_frames < 2:
            raise DiganError(f"clip_frames must be at least 2, got {clip_frames}")
        if use_labels and not store.classes:
            raise DiganError(
                f"store {store.path} has no classes, which training with labels needs: prepare "
                "it from one folder a class"
            )
        self.store = store
        self.clip_frames = clip_frames
        self.seed = seed
        self.mirror = mirror
        self.split = None if split == "all" else split
        self.use_labels = use_labels
        self.resolution = store.resolution
        self.num_classes = len(store.classes) if use_labels else 0
        counts = np.array(store.videos["count"], dtype=np.int64)
        chosen = in_split(store, split)
        long_enough = chosen & (counts >= clip_frames)
        self.too_short = int(chosen.sum() - long_enough.sum())
        self._videos = np.flatnonzero(long_enough)
        # Windows before each video: window w belongs to the last video with _starts <= w.
        windows = counts[self._videos] - clip_frames + 1
        self._starts = np.concatenate([[0], np.cumsum(windows)]).astype(np.int64)
        self.num_windows = int(self._starts[-1])
        if self.num_windows == 0:
            lengths = counts[chosen]
            found = f"{lengths.min()} to {lengths.max()} frames" if len(lengths) else "none"
            raise DiganError(
                f"store {store.path} has no video of {clip_frames} frames, which clips of that "
                f"length need: its {len(lengths)} videos have {found}"
            )
        self._orders: dict[int, Permutation] = {}

    def __getitem__(self, number: int) -> PairSample:
        epoch, position = divmod(number, self.num_windows)
        video, start = self.window(self._order(epoch)[position])
        first = int(self.store.videos[video]["first"]) + start
        # Beta(2, 1) is the larger of two uniforms and Beta(1, 2) the smaller.
        u = sample_rng(self.seed, "pairs", number).random(5)
        n = self.clip_frames
        a = min(int(n * max(u[0], u[1])), n - 1)
        b = min(int(n * min(u[2], u[3])), n - 1)
        i, j = min(a, b), max(a, b)
        early = self.store.frame(first + i)
        late = self.store.frame(first + j) if j > i else early
        frames = np.stack([early, late])
        if self.mirror and u[4] < 0.5:
            frames = frames[:, :, ::-1]
        channels_first = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
        return PairSample(torch.from_numpy(channels_first), (j - i) / (n - 1), self._label(video))

    def window(self, index: int) -> tuple[int, int]:
        """Video number and first frame (inside the video) of window `index`."""
        if not 0 <= index < self.num_windows:
            raise IndexError(f"window must be in [0, {self.num_windows}), got {index}")
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return int(self._videos[which]), index - int(self._starts[which])

    def clip(self, index: int) -> NDArray[np.uint8]:
        """All frames of window `index` in [0, num_windows): uint8 [N, H, W, 3]."""
        video, start = self.window(index)
        return self.store.video_frames(video, range(start, start + self.clip_frames))

    @property
    def videos(self) -> NDArray[np.int64]:
        """Numbers, in the store, of the videos that are long enough and in the split."""
        return self._videos

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label of every window, int64 [num_windows]; all -1 without labels."""
        labels = np.array([self._label(int(v)) for v in self._videos], dtype=np.int64)
        return np.repeat(labels, np.diff(self._starts))

    def _label(self, video: int) -> int:
        return int(self.store.videos[video]["label"]) if self.use_labels else -1

    def _order(self, epoch: int) -> Permutation:
        order = self._orders.get(epoch)
        if order is None:
            if len(self._orders) >= 2:  # batches and workers reach across one boundary
                self._orders.pop(min(self._orders))
            order = Permutation(self.num_windows, self.seed, f"epoch {epoch}")
            self._orders[epoch] = order
        return order


class _Batches:
    """What the loader's workers index: whole batches, with the user's errors as text.

    A DataLoader would bury a worker's DiganError in a traceback.
    """

    def __init__(self, pairs: ClipPairs) -> None:
        self.pairs = pairs

    def __getitem__(self, number: int) -> PairSample:
        return self.pairs[number]

    def __getitems__(self, numbers: list[int]) -> PairBatch | str:
        try:
            samples = [self.pairs[number] for number in numbers]
        except DiganError as error:
            return str(error)
        return PairBatch(
            torch.stack([sample.frames for sample in samples]),
            torch.tensor([sample.dt for sample in samples], dtype=torch.float32),
            torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        )


def as_is(batch: Any) -> Any:
    """The `collate_fn` of loaders whose samples need none."""
    return batch


def start_worker(worker: int) -> None:
    """The `worker_init_fn` of every loader: one thread, and signals are the main process's."""
    torch.set_num_threads(1)
    # Terminals and schedulers signal every process of a job. The main process decides what
    # that means; a worker that died first would take the run with it. So a worker ends at
    # the main process's own signal only.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_parents_signal, daemon=True).start()


def _end_at_parents_signal() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextlib.contextmanager
def dead_workers_named() -> Iterator[None]:
    """Turns the death of a loader's worker into an error of one line.

    PyTorch raises it from a signal's handler, so wherever the main thread then is.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        reason = " ".join(str(error).split())
        raise DiganError(
            f"a process that decodes frames died ({reason}): memory may be short; fewer --workers "
            "need less"
        ) from error


def pair_loader(
    pairs: ClipPairs,
    batch_indices: Iterable[list[int]],
    workers: int = 0,
    *,
    pin_memory: bool = False,
    prefetch: int = 4,
) -> Iterator[PairBatch]:
    """Batches of the samples with the given numbers, in the given order.

    `batch_indices` yields the global sample numbers of each batch and may be endless; it
    decides everything, so a resumed run goes on with the numbers that come next. With
    `workers` 0 samples are made in this process, otherwise by that many processes of one
    thread each, `prefetch` batches ahead. `pin_memory` takes effect where CUDA is available.
    Raises DiganError if a record of the store is damaged.
    """
    loader: DataLoader[Any] = DataLoader(
        _Batches(pairs),  # type: ignore[arg-type]
        batch_sampler=batch_indices,
        num_workers=workers,
        collate_fn=as_is,
        pin_memory=pin_memory and torch.cuda.is_available(),
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(0),  # or it would draw from the global one
        prefetch_factor=prefetch if workers else None,
        persistent_workers=workers > 0,
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, str):
                raise DiganError(batch)
            yield batch
    finally:
        # Workers end when their iterator dies, which a traceback would keep alive.
        del batches, loader
