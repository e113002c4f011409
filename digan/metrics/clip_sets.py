"""Sets of videos as metrics see them: stores and folders, and which clips are taken of them.

Nothing holds a set in memory: `clip_batches` reads clip after clip, in worker processes if wanted.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from digan.data.datasets import as_is, start_worker
from digan.data.images import read_image, square
from digan.data.progress import progress_bar
from digan.data.sources import Source, find_sources, natural_key, pictures_in
from digan.data.store import STORE_FILE, Store
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.files import file_sha256
from digan.metrics.arrays import array_frames
from digan.metrics.protocols import ClipRule
from digan.processes import World
from digan.randomness import Permutation, sample_rng


class VideoSet(ABC):
    """Videos of known lengths.

    Attributes:
        path: of the store or folder. fps: frames a second, 0 if unknown.
        names: of the videos. lengths: their frames, int64 [V].
        labels: class numbers, -1 without, int64 [V]. classes: names of the classes.
        splits: split numbers, -1 without, int64 [V]. split_names: names of the splits.
    """

    path: Path
    fps: float
    names: Sequence[str]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    splits: NDArray[np.int64]
    classes: tuple[str, ...]
    split_names: tuple[str, ...]

    @abstractmethod
    def read(self, video: int, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Those frames of a video, in rising order: uint8 [T, H, W, 3]."""

    def of(self, split: str | None) -> NDArray[np.bool_]:
        """Which videos are in a split, or all; DiganError if there is no such split."""
        if split in (None, "all"):
            return np.ones(len(self.lengths), dtype=bool)
        if split not in self.split_names:
            known = ", ".join(self.split_names) or "none"
            raise DiganError(f"split must be one of {self.path}'s ({known}) or all, got {split}")
        found: NDArray[np.bool_] = self.splits == self.split_names.index(split)
        return found

    @abstractmethod
    def content_sha256(self) -> str:
        """Identifies the pixels of the set, in hex."""

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """What a result says about the set, beside its checksum."""


class StoreVideos(VideoSet):
    """The videos of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path, self.fps = store.path, store.fps
        self.names = store.names
        self.lengths = np.array(store.videos["count"], dtype=np.int64)
        self.labels = np.array(store.videos["label"], dtype=np.int64)
        self.splits = np.array(store.videos["split"], dtype=np.int64)
        self.classes, self.split_names = store.classes, store.splits

    def read(self, video: int, frames: Sequence[int]) -> NDArray[np.uint8]:
        """See `VideoSet`."""
        return self.store.video_frames(video, frames)

    def content_sha256(self) -> str:
        """Of the records' checksums and the index of the videos."""
        digest = hashlib.sha256(self.store.fingerprint.encode())
        digest.update(np.ascontiguousarray(self.store.frame_checksums).tobytes())
        digest.update(np.ascontiguousarray(self.store.videos).tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, object]:
        """See `VideoSet`."""
        info = self.store.info
        return {
            "kind": "store",
            "name": self.path.name,
            "videos": len(self.lengths),
            "resolution": self.store.resolution,
            "fps": self.fps,
            "lossy": self.store.lossy,
            "resize": info.get("filter"),
            "store_stride": info.get("stride"),
        }


class FolderVideos(VideoSet):
    """The videos of a folder: video files, folders of pictures, or .npz files.

    Lengths are counted by decoding, as headers lie. With `resolution` every frame is cut to its
    centre square and resized as `digan prepare` does it, else frames are as they are.

    Raises:
        DiganError: no videos there, or none that decodes.
    """

    def __init__(
        self, path: Path, resolution: int | None = None, *, progress: bool = False
    ) -> None:
        self.path, self.resolution, self.fps = path, resolution, 0.0
        self.sources = _sources(path)
        self.names = [source.name for source in self.sources]
        self.classes = _distinct(source.label for source in self.sources)
        self.split_names = _distinct(source.split for source in self.sources)
        self.labels = _numbers([source.label for source in self.sources], self.classes)
        self.splits = _numbers([source.split for source in self.sources], self.split_names)
        counts = []
        with progress_bar("count frames", len(self.sources), "video", progress) as bar:
            for source in self.sources:
                counts.append(_count(source))
                bar.update()
        self.lengths = np.array(counts, dtype=np.int64)

    def read(self, video: int, frames: Sequence[int]) -> NDArray[np.uint8]:
        """See `VideoSet`."""
        source, wanted, found = self.sources[video], set(frames), []
        for index, image in enumerate(_images(source)):
            if index in wanted:
                found.append(image if self.resolution is None else square(image, self.resolution))
                if len(found) == len(wanted):
                    break
        if len(found) < len(wanted) or len({image.shape for image in found}) > 1:
            raise DiganError(
                f"{source.path} must have {max(frames) + 1} frames of one size, it has "
                f"{int(self.lengths[video])} and not all alike"
            )
        return np.stack(found)

    def content_sha256(self) -> str:
        """Of the files' bytes, and the resolution they are brought to."""
        digest = hashlib.sha256(f"{self.resolution}".encode())
        for source in self.sources:
            digest.update(source.name.encode() + b"\0")
            for file in _files(source):
                digest.update(bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()

    def to_json(self) -> dict[str, object]:
        """See `VideoSet`."""
        return {
            "kind": "folder",
            "name": self.path.name,
            "videos": len(self.lengths),
            "resolution": self.resolution,
            "resize": "none" if self.resolution is None else "centre square, Lanczos",
        }


def open_videos(path: Path, resolution: int | None = None, *, progress: bool = False) -> VideoSet:
    """A store or a folder, by what lies there.

    Raises:
        DiganError: neither; or another resolution than the store's is asked for.
    """
    if (path / STORE_FILE).is_file():
        store = Store(path)
        if resolution not in (None, store.resolution):
            raise DiganError(
                f"resolution must be the store's {store.resolution}, got {resolution}: prepare a "
                "store of that resolution"
            )
        return StoreVideos(store)
    return FolderVideos(path, resolution, progress=progress)


def _distinct(names: Iterator[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name is not None}, key=natural_key))


def _numbers(names: Sequence[str | None], known: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([-1 if name is None else known.index(name) for name in names], dtype=np.int64)


def _sources(path: Path) -> list[Source]:
    if not path.exists():
        raise DiganError(f"{path} does not exist")
    arrays = sorted(path.rglob("*.npz")) if path.is_dir() else []
    if not arrays:
        return find_sources(path).sources
    try:
        others = len(find_sources(path).sources)
    except DiganError:
        others = 0
    if others:
        raise DiganError(
            f"{path} holds {len(arrays)} .npz files and {others} other videos: give one kind"
        )
    made = []
    for file in arrays:
        name, about = file.relative_to(path).as_posix(), file.stat()
        made.append(Source(name, str(file), about.st_size, f"{about.st_mtime_ns}"))
    return sorted(made, key=lambda source: natural_key(source.name))


def _files(source: Source) -> list[Path]:
    if source.pictures:
        return [Path(source.path, name) for name in pictures_in(source.path)]
    return [Path(source.path)]


def _images(source: Source) -> Iterator[NDArray[np.uint8]]:
    if source.pictures:
        for file in _files(source):
            yield read_image(file)
    elif source.path.endswith(".npz"):
        yield from array_frames(source.path)
    else:
        decoding = decode_frames(source.path)
        try:
            for frame in decoding:
                yield frame.image
        finally:
            decoding.close()


def _count(source: Source) -> int:
    if source.pictures:
        return len(_files(source))
    return sum(1 for _ in _images(source))


@dataclass(frozen=True)
class ChosenClips:
    """Which clips are taken.

    Attributes:
        picks: (video, first frame) of every clip.
        too_short: videos left out because they are shorter than a clip.
        available: clips there were to choose from.
    """

    picks: tuple[tuple[int, int], ...]
    too_short: int
    available: int

    def in_order(self) -> ChosenClips:
        """The same clips by video and time: an order that does not depend on the draw."""
        return replace(self, picks=tuple(sorted(self.picks)))

    def shortfalls(self, asked: int, span: int, clips: str, videos: str) -> list[str]:
        """What a reader should know of clips that are fewer than `asked`, in sentences.

        Args:
            asked: clips wanted. span: frames that a video must have.
            clips, videos: what they are called.
        """
        notes = []
        if len(self.picks) < asked:
            notes.append(f"{len(self.picks)} {clips} where {asked} were asked for")
        if self.too_short:
            notes.append(f"{self.too_short} {videos} are shorter than {span} frames and left out")
        return notes

    def halves(self) -> tuple[list[int], list[int]]:
        """The clips dealt into two by turns of their videos, so that no video is in both."""
        rank: dict[int, int] = {}
        for video, _ in self.picks:
            rank.setdefault(video, len(rank))
        sides: tuple[list[int], list[int]] = ([], [])
        for place, (video, _) in enumerate(self.picks):
            sides[rank[video] % 2].append(place)
        return sides


def choose_clips(
    videos: VideoSet,
    *,
    span: int,
    count: int,
    rule: ClipRule,
    seed: int,
    repeat: int = 0,
    split: str | None = None,
    label: int | None = None,
) -> ChosenClips:
    """Clips of a set, a function of the arguments alone; none is taken twice.

    Args:
        videos: the set. span: frames a clip reaches over. count: clips wanted.
        rule: see `EvaluationProtocol`.
        seed, repeat: of the choice; another repeat is another choice.
        split: videos of that split only. label: videos of that class only.

    Raises:
        DiganError: no such split, or no video that is long enough.
    """
    wanted = videos.of(split)
    if label is not None:
        wanted = wanted & (videos.labels == label)
    fits = np.flatnonzero(wanted & (videos.lengths >= span))
    short = int(wanted.sum()) - len(fits)
    if len(fits) == 0:
        lengths = videos.lengths[wanted]
        found = f"{lengths.min()} to {lengths.max()} frames" if len(lengths) else "none"
        raise DiganError(
            f"{videos.path} has no video of {span} frames, which the protocol needs: its "
            f"{len(lengths)} videos have {found}"
        )
    windows = videos.lengths[fits] - span + 1
    stream = f"metric clips {rule} {repeat}"
    picks: list[tuple[int, int]] = []
    if rule == "windows":
        ends = np.cumsum(windows)
        order = Permutation(int(ends[-1]), seed, stream)
        for i in range(min(count, len(order))):
            window = order[i]
            which = int(np.searchsorted(ends, window, side="right"))
            start = window - int(ends[which] - windows[which])
            picks.append((int(fits[which]), start))
        return ChosenClips(tuple(picks), short, int(ends[-1]))
    order = Permutation(len(fits), seed, stream)
    for i in range(min(count, len(fits))):
        which, start = order[i], 0
        if rule == "per-video":
            u = sample_rng(seed, f"{stream} offset", int(fits[which])).random()
            start = min(int(u * windows[which]), int(windows[which]) - 1)
        picks.append((int(fits[which]), start))
    return ChosenClips(tuple(picks), short, len(fits))


class _Clips:
    """What workers index: clips as arrays, with errors as text."""

    def __init__(self, videos: VideoSet, chosen: ChosenClips, frames: int, stride: int) -> None:
        self.videos, self.chosen, self.frames, self.stride = videos, chosen, frames, stride

    def __len__(self) -> int:
        return len(self.chosen.picks)

    def __getitem__(self, index: int) -> Tensor | str:
        video, start = self.chosen.picks[index]
        stop = start + (self.frames - 1) * self.stride + 1
        try:
            return torch.from_numpy(self.videos.read(video, range(start, stop, self.stride)))
        except DiganError as error:
            return str(error)


def own_batches(count: int, batch: int, world: World | None = None) -> list[range]:
    """Numbers 0 to count - 1 in batches, of which a process gets every `world.size`-th.

    The batches are the same for any number of processes, and so is what is computed of each.
    """
    whole = [range(i, min(i + batch, count)) for i in range(0, count, batch)]
    return list((world or World()).share(whole))


def gather_batches(found: Sequence[Tensor], world: World | None = None) -> list[Tensor]:
    """The batches of all processes in their order, from each one's own, float32 [n, D]."""
    world = world or World()
    own = torch.cat(list(found)).float() if found else torch.empty(0, 0)
    sizes = world.gather([len(rows) for rows in found])
    shares = zip(world.gather_tensors(own), sizes, strict=True)
    return world.deal([rows.split(size) if size else () for rows, size in shares])


def clip_batches(
    videos: VideoSet,
    chosen: ChosenClips,
    frames: int,
    stride: int = 1,
    *,
    batch: int = 8,
    workers: int = 0,
    world: World | None = None,
) -> Iterator[Tensor]:
    """The chosen clips, uint8 [n, T, H, W, 3] with n <= batch, in their order.

    Of several processes each gets its share of the batches, see `own_batches`.

    Raises:
        DiganError: a clip that cannot be read, clips of unequal height and width.
    """
    own = own_batches(len(chosen.picks), batch, world)
    loader: DataLoader[Any] = DataLoader(
        _Clips(videos, chosen, frames, stride),  # type: ignore[arg-type]
        batch_sampler=own,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=as_is,
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(0),  # or it would draw from the global one
    )
    first: tuple[str, tuple[int, ...]] | None = None
    for places, found in zip(own, loader, strict=True):
        for place, clip in zip(places, found, strict=True):
            if isinstance(clip, str):
                raise DiganError(clip)
            name, shape = videos.names[chosen.picks[place][0]], tuple(clip.shape[1:3])
            first = first or (name, shape)
            if shape != first[1]:
                raise DiganError(
                    f"videos of {videos.path} must be of one height and width, got "
                    f"{list(first[1])} in {first[0]} and {list(shape)} in {name}; --resolution "
                    "brings all to one"
                )
        yield torch.stack(found)
