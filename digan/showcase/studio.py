"""Where films are set up: a network, its settings, and the command lines that make the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from digan.data.sinks import tile_frames
from digan.grid import frame_times
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo
from digan.showcase.media import Film, Frames
from digan.showcase.settings import Settings
from digan.synthesis import Codes, Shot, denser, seed_codes, stream


@dataclass(frozen=True)
class Studio:
    """A network and what is wanted of it.

    Attributes:
        generator, info: the network. network: its name on the command line.
        settings: resolved, see `settings.resolve`.
        progress: whether long work of its own, beside films, shows a bar.
    """

    generator: Generator
    info: NetworkInfo
    network: str
    settings: Settings
    progress: bool = False

    @property
    def density(self) -> int:
        """How many times denser than in training the videos are shown."""
        assert self.settings.size is not None
        return self.settings.size // self.info.generator.resolution

    @property
    def frames(self) -> int:
        """Frames of a clip at training speed."""
        assert self.settings.frames is not None
        return self.settings.frames

    def times(self, frames: int | None = None, density: int = 1) -> Tensor:
        """Time stamps at training speed, a clip's by default."""
        count = self.frames if frames is None else frames
        return frame_times(count, self.info.clip_frames, time_density=density)

    def some(self, count: int, start: int = 0) -> list[int]:
        """`count` seeds from a place on, from the first again where there are no more."""
        seeds = self.settings.seeds
        return [seeds[(start + i) % len(seeds)] for i in range(count)]

    def labels(self, seeds: Sequence[int]) -> list[int] | None:
        """Classes in turn by the seed, as `digan generate` takes them."""
        known = self.info.generator.num_classes
        return [seed % known for seed in seeds] if known else None

    def codes(
        self,
        seeds: Sequence[int],
        motion_seeds: Sequence[int] | None = None,
        labels: Sequence[int] | None = None,
    ) -> Codes:
        """Codes of seeds, of classes in turn by default."""
        return seed_codes(
            self.generator, seeds, motion_seeds, labels or self.labels(seeds),
            truncation=self.settings.trunc,
        )  # fmt: skip

    def large(self, shot: Shot) -> Shot:
        """A shot at the size at which videos are shown."""
        return denser(shot, self.density)

    def film(
        self,
        caption: str,
        shot: Shot,
        fps: float,
        *,
        columns: int = 1,
        draw: Callable[[Frames, slice], Frames] | None = None,
        pixelated: bool = False,
    ) -> Film:
        """A film of all videos of a shot, in a grid of that many columns.

        `draw` makes of the frames [n, H, W, 3] of one video others, and is told their place in
        time.
        """

        def frames() -> Iterator[Frames]:
            for place, videos in pieces(self.generator, shot):
                if draw is not None:
                    videos = np.stack([draw(video, place) for video in videos])
                yield grid_of(videos, columns)

        return Film(caption, fps, shot.frames, frames, self.work(shot), pixelated)

    def work(self, shot: Shot) -> int:
        """Pixels of a shot."""
        side = shot.grid.frame_size(self.info.generator.resolution)
        return int(shot.frames * shot.videos * side * side)

    def command(self, seeds: Sequence[int], *flags: object) -> str:
        """A `digan generate` line; the size and the truncation are added where they differ."""
        words = ["digan", "generate", "--network", self.network, "--seeds", seed_text(seeds)]
        words += [str(flag) for flag in flags]
        if "--size" not in words and self.density > 1:
            words += ["--size", str(self.settings.size)]
        if self.settings.trunc != 1:
            words += ["--trunc", f"{self.settings.trunc:g}"]
        return shlex.join(words)


def pieces(generator: Generator, shot: Shot) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """The frames of a shot uint8 [B, n, H, W, 3], each piece with its place in time."""
    start = 0
    for piece in stream(generator, shot):
        place = slice(start, start + piece.shape[1])
        start = place.stop
        yield place, piece.numpy()


def grid_of(videos: NDArray[np.uint8], columns: int) -> Frames:
    """Videos [B, n, H, W, 3] as one: [n, rows*H, columns*W, 3]."""
    if len(videos) == 1:
        return np.ascontiguousarray(videos[0])
    return np.stack([tile_frames(frames, columns) for frames in videos.swapaxes(0, 1)])


def seed_text(seeds: Sequence[int]) -> str:
    """Seeds as the command line takes them: 0-3,7."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
