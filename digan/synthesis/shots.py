"""Shots: what the model can show of a video, described and not yet computed.

Every function here is pure and cheap. `digan.synthesis.stream` and `render` make the frames.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator
from digan.synthesis.codes import Codes, cat_codes, interpolate_codes, seed_codes
from digan.synthesis.times import Curve, curve_times, progress

_EDGE = 1e-9  # times this close to 0 and 1 are still inside: linspace may miss 1 by a rounding


@dataclass(frozen=True)
class Shot:
    """Codes, and the grid on which they are seen.

    Attributes:
        codes: of B videos.
        grid: its t is [T].
        along_time: frame i is of codes[i], so that there are T codes, and one video.

    Raises:
        ValueError: t is not [T]; along_time with another number of codes than frames.
    """

    codes: Codes
    grid: SpaceTimeGrid
    along_time: bool = False

    def __post_init__(self) -> None:
        if self.grid.t.dim() != 1:
            raise ValueError(f"t of a shot must be [T], got {list(self.grid.t.shape)}")
        if self.along_time and len(self.codes) != len(self.grid.t):
            raise ValueError(
                f"codes along time must be one a frame, {len(self.grid.t)}, got {len(self.codes)}"
            )

    @property
    def frames(self) -> int:
        """T."""
        return len(self.grid.t)

    @property
    def videos(self) -> int:
        """B."""
        return 1 if self.along_time else len(self.codes)


def long_video(codes: Codes, clip_frames: int, frames: int) -> Shot:
    """Any number of frames at training speed, beyond the training clip if there are more.

    Args:
        codes: of the videos. clip_frames: N, the frames of a training clip.
        frames: how many.

    Raises:
        DiganError: a count that cannot be, see `frame_times`; so of all functions here.
    """
    return Shot(codes, SpaceTimeGrid(frame_times(frames, clip_frames)))


def interpolate_time(codes: Codes, clip_frames: int, frames: int, factor: int) -> Shot:
    """`factor` times as many frames a second: factor*(frames-1)+1, the old ones among them."""
    return Shot(codes, SpaceTimeGrid(frame_times(frames, clip_frames, time_density=factor)))


def extrapolate_time(codes: Codes, clip_frames: int, before: float, after: float) -> Shot:
    """A training clip with what was before and what comes after, at training speed.

    Args:
        codes: of the videos. clip_frames: N, the frames of a training clip.
        before, after: clip lengths before time 0 and after time 1, rounded to whole frames.

    Raises:
        DiganError: a length that is negative or not finite.
    """
    for name, length in (("before", before), ("after", after)):
        if not (math.isfinite(length) and length >= 0):
            raise DiganError(f"{name} must be 0 or more clip lengths, got {length}")
    if clip_frames < 2:
        raise DiganError(f"a clip must have at least 2 frames, got {clip_frames}")
    steps = clip_frames - 1
    first, last = -round(before * steps), steps + round(after * steps)
    t = torch.arange(first, last + 1, dtype=torch.float64) / steps
    return Shot(codes, SpaceTimeGrid(t))


def slow_motion(
    codes: Codes, clip_frames: int, frames: int, curve: Curve, *, factor: int = 4
) -> Shot:
    """The motion of some training frames, slowed down, time passing along a curve.

    Args:
        codes: of the videos. clip_frames: N, the frames of a training clip.
        frames: at training speed, whose span of time is shown.
        curve: how time passes, see `digan.synthesis.times`.
        factor: how many times slower on the whole: factor*(frames-1)+1 frames.
    """
    plain = frame_times(frames, clip_frames, time_density=factor)
    return Shot(codes, SpaceTimeGrid(curve_times(curve, len(plain), 0.0, float(plain[-1]))))


def denser(shot: Shot, factor: int) -> Shot:
    """The same extent with `factor` times as many pixels on each axis; 1 changes nothing."""
    grid = dataclasses.replace(shot.grid, density=shot.grid.density * factor)
    return dataclasses.replace(shot, grid=grid)


def wider(shot: Shot, zoom: float) -> Shot:
    """`zoom` times the extent at the same spacing, the same centre; below 1 it is a crop."""
    grid = dataclasses.replace(shot.grid, zoom=shot.grid.zoom * zoom)
    return dataclasses.replace(shot, grid=grid)


def single_frame(codes: Codes, t: float) -> Shot:
    """One frame at any time, without the others.

    Raises:
        DiganError: a time that is not finite.
    """
    if not math.isfinite(t):
        raise DiganError(f"the time of a frame must be finite, got {t}")
    return Shot(codes, SpaceTimeGrid(torch.tensor([t], dtype=torch.float64)))


def two_motions(
    generator: Generator,
    seed: int,
    motion_seeds: Sequence[int],
    t: Tensor,  # [T]
    label: int | None = None,
    *,
    truncation: float = 1.0,
) -> Shot:
    """One content with several motions: a video for every motion seed."""
    count = len(motion_seeds)
    labels = None if label is None else [label] * count
    codes = seed_codes(generator, [seed] * count, motion_seeds, labels, truncation=truncation)
    return Shot(codes, SpaceTimeGrid(t))


def class_sweep(
    generator: Generator,
    seed: int,
    t: Tensor,  # [T]
    *,
    motion_seed: int | None = None,
    classes: Sequence[int] | None = None,
    truncation: float = 1.0,
) -> Shot:
    """One seed in every class: a video a class, with the same motion code.

    Args:
        generator: a class-conditional network.
        seed: of the content. t: time stamps.
        motion_seed: the content seed by default.
        classes: by number; all of them by default.
        truncation: psi, see `Generator.map`.

    Raises:
        DiganError: the network is not class-conditional, or has no such class.
    """
    known = generator.config.num_classes
    if not known:
        raise DiganError("the network is not class-conditional: it has no classes to show")
    chosen = list(range(known) if classes is None else classes)
    for wanted in chosen:
        if not 0 <= wanted < known:
            raise DiganError(f"class must be in 0 to {known - 1}, got {wanted}")
    motion = seed if motion_seed is None else motion_seed
    count = len(chosen)
    codes = seed_codes(generator, [seed] * count, [motion] * count, chosen, truncation=truncation)
    return Shot(codes, SpaceTimeGrid(t))


def walk(
    stops: Codes,
    t: Tensor,  # [T]
    *,
    content: bool = True,
    motion: bool = True,
    closed: bool = False,
) -> Shot:
    """One video whose codes walk from stop to stop while it plays.

    Args:
        stops: codes of the videos to pass, each leg taking the same number of frames.
        t: time stamps; equal ones show the walk alone, without the motion of time.
        content, motion: what moves, see `interpolate_codes`; the other stays the first stop's.
        closed: from the last stop back to the first. Frame T would be frame 0 again, so a video
            whose times also return is a loop without a seam.

    Raises:
        DiganError: fewer than two stops.
    """
    legs = len(stops) if closed else len(stops) - 1
    if len(stops) < 2:
        raise DiganError(f"a walk must have at least 2 stops, got {len(stops)}")
    place = progress(len(t), closed=closed) * legs
    leg = place.floor().clamp(max=legs - 1)
    parts = []
    for number in range(legs):
        weights = (place - leg)[leg == number]
        start, end = number, (number + 1) % len(stops)
        first, second = stops.take(slice(start, start + 1)), stops.take(slice(end, end + 1))
        if len(weights):
            parts.append(interpolate_codes(first, second, weights, content=content, motion=motion))
    moved = cat_codes(parts)
    if not content:
        moved = Codes(stops.ws[:1].expand(len(t), -1, -1), moved.z_motion)
    if not motion:
        moved = Codes(moved.ws, stops.z_motion[:1].expand(len(t), -1))
    return Shot(moved, SpaceTimeGrid(t), along_time=True)


def content_walk(stops: Codes, t: Tensor, *, closed: bool = False) -> Shot:
    """`walk` of the content codes in W; the motion is the first stop's."""
    return walk(stops, t, motion=False, closed=closed)


def motion_walk(stops: Codes, t: Tensor, *, closed: bool = False) -> Shot:
    """`walk` of the motion codes; the content is the first stop's."""
    return walk(stops, t, content=False, closed=closed)


def extrapolated(grid: SpaceTimeGrid) -> Tensor:
    """Which frames are outside the training clip: bool, the shape of the grid's t."""
    outside: Tensor = (grid.t < -_EDGE) | (grid.t > 1 + _EDGE)
    return outside
