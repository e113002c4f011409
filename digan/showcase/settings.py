"""What a showcase shows: seeds, sizes, lengths, with defaults that suit the network."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from digan.errors import DiganError
from digan.generate import density_of
from digan.nn.snapshot import NetworkInfo

FEWEST_SEEDS = 4
SHOWN_SIZE = 128  # pixels; smaller networks are shown on a denser grid
FPS = 8.0
LONG_FPS = 30.0
LONG_FRAMES = (128, 256)


@dataclass(frozen=True)
class Settings:
    """What to show.

    Attributes:
        seeds: contents; the first of them serve where a section shows few.
        size: pixels of the training square where size is not the subject, a multiple of the
            network's resolution; None for the smallest of at least 128.
        frames: of a clip at training speed; None for a training clip's.
        fps: playback speed of frames at training speed, but for long videos.
        trunc: truncation psi.
        long: lengths of the long videos in frames.
        video: a clip to predict from; None for one that the network made.
    """

    seeds: tuple[int, ...] = tuple(range(16))
    size: int | None = None
    frames: int | None = None
    fps: float = FPS
    trunc: float = 1.0
    long: tuple[int, ...] = LONG_FRAMES
    video: Path | None = None


def resolve(settings: Settings, info: NetworkInfo) -> Settings:
    """The settings with every None filled by the network, but for `video`.

    Raises:
        DiganError: too few seeds, or twice the same; lengths and speeds that cannot be; a size
            that is no multiple of the network's.
    """
    if len(set(settings.seeds)) < FEWEST_SEEDS or len(set(settings.seeds)) < len(settings.seeds):
        raise DiganError(
            f"seeds must be at least {FEWEST_SEEDS} different ones, got {list(settings.seeds)}"
        )
    if not (math.isfinite(settings.fps) and settings.fps > 0):
        raise DiganError(f"fps must be positive, got {settings.fps}")
    if not math.isfinite(settings.trunc):
        raise DiganError(f"trunc must be finite, got {settings.trunc}")
    if settings.frames is not None and settings.frames < 2:
        raise DiganError(f"frames must be at least 2, got {settings.frames}")
    if not settings.long or min(settings.long) < 2:
        raise DiganError(f"long must be lengths of at least 2 frames, got {list(settings.long)}")
    if settings.video is not None and not settings.video.exists():
        raise DiganError(f"the video {settings.video} does not exist")
    resolution = info.generator.resolution
    size = settings.size or resolution * max(1, math.ceil(SHOWN_SIZE / resolution))
    density_of(size, resolution)
    return dataclasses.replace(settings, size=size, frames=settings.frames or info.clip_frames)
