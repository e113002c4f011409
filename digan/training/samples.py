"""What a run shows of itself: sample videos, frame strips, and fd-random3d with its controls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from digan.data.datasets import ClipPairs
from digan.data.sinks import open_sink, tile_frames
from digan.grid import frame_times
from digan.metrics import Random3dResult, RealReference, own_batches
from digan.nn import Generator
from digan.processes import World
from digan.randomness import Permutation, sample_rng
from digan.synthesis import clips

METRIC_SAMPLES = 512
_METRIC_BATCH = 16  # clips made at once


def grid_shape(resolution: int) -> tuple[int, int]:
    """Rows and columns of the sample grid: about 768 x 1024 pixels, 4x4 to 8x8 videos."""
    return min(max(768 // resolution, 3), 6), min(max(1024 // resolution, 4), 8)


def real_clips(pairs: ClipPairs, count: int, stream: str) -> Iterator[NDArray[np.uint8]]:
    """Randomly chosen real clips [1, N, H, W, 3], without repeats where the data allow it."""
    order = Permutation(pairs.num_windows, pairs.seed, stream)
    for i in range(count):
        yield pairs.clip(order[i % pairs.num_windows])[None]


def fake_labels(pairs: ClipPairs, count: int, stream: str) -> list[int] | None:
    """Classes for generated samples, drawn as the data have them; None if unconditional."""
    if not pairs.use_labels:
        return None
    labels = pairs.labels
    rng = sample_rng(pairs.seed, stream, 0)
    return [int(labels[rng.integers(len(labels))]) for _ in range(count)]


class SampleWriter:
    """Writes `reals.mp4` once and `fakesNNNNNN.mp4` at snapshots, all with the same seeds."""

    def __init__(self, run: Path, pairs: ClipPairs, fps: float, world: World | None = None) -> None:
        self.world = world or World()
        self.run, self.pairs, self.fps = run, pairs, fps or 8.0
        self.rows, self.columns = grid_shape(pairs.resolution)
        self.t = frame_times(pairs.clip_frames, pairs.clip_frames)

    @property
    def count(self) -> int:
        """Videos in the grid."""
        return self.rows * self.columns

    def write_reals(self) -> NDArray[np.uint8]:
        """Writes the grid of real clips; returns the clips [N, T, H, W, 3]."""
        found = np.concatenate(list(real_clips(self.pairs, self.count, "reals")))
        return self._write(self.run / "reals.mp4", found)

    def write_fakes(self, generator: Generator, kimg: float) -> NDArray[np.uint8]:
        """Writes the grid of generated clips of seeds 0, 1, 2, ...; returns them.

        Every process makes its share of them, and the first one writes.
        """
        labels = fake_labels(self.pairs, self.count, "fakes")
        own = self.world.share(range(self.count))
        own_labels = None if labels is None else [labels[seed] for seed in own]
        made = [torch.from_numpy(found) for found in clips(generator, own, self.t, own_labels)]
        shown = torch.cat(made) if made else torch.empty(0, 0, 0, 0, 3, dtype=torch.uint8)
        shares = [list(share) for share in self.world.gather_tensors(shown)]
        found = torch.stack(self.world.deal(shares)).numpy()
        if not self.world.is_first:
            return found
        return self._write(self.run / f"fakes{math.floor(kimg):06d}.mp4", found)

    def _write(self, path: Path, videos: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with open_sink(path, self.fps, videos.shape[1]) as sink:
            for t in range(videos.shape[1]):
                sink.write(tile_frames(videos[:, t], self.columns))
        return videos


class Random3dMetric:
    """fd-random3d of a run's averaged generator, beside its floor and its controls.

    The clips' times are cut to at most 16 frames spread over the clip, so that the cost does
    not grow with the clip; the real side is computed once.
    """

    def __init__(
        self, pairs: ClipPairs, samples: int | None = None, world: World | None = None
    ) -> None:
        self.world = world or World()
        samples = METRIC_SAMPLES if samples is None else samples
        self.pairs, self.samples = pairs, samples
        n = pairs.clip_frames
        self.stride = max(1, n // 16)
        self.frames = np.arange(0, n, self.stride)
        # Even clips are the reference, odd ones make the controls: 2x for `samples` a side.
        real = (clip[:, self.frames] for clip in real_clips(pairs, 2 * samples, "fd-random3d"))
        self.reference = RealReference.from_clips(
            real,
            data={
                "store": pairs.store.path.name,
                "split": pairs.split or "all",
                "stride": self.stride,
                "windows": pairs.num_windows,
                "fps": pairs.store.fps,
                "rounding": "round",
            },
        )

    def evaluate(self, generator: Generator) -> Random3dResult:
        """The result of the generator's samples with seeds 0, 1, 2, ..."""
        t = frame_times(self.pairs.clip_frames, self.pairs.clip_frames)[self.frames]
        labels = fake_labels(self.pairs, self.samples, "fd-random3d/fakes")
        fakes = (
            clip
            for own in own_batches(self.samples, _METRIC_BATCH, self.world)
            for clip in clips(
                generator, own, t, None if labels is None else labels[own.start : own.stop],
                batch=_METRIC_BATCH,
            )
        )  # fmt: skip
        return self.reference.evaluate(fakes, self.world)
