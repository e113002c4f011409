"""Time curves: how fast time passes while a video plays.

A curve maps progress u in [0, 1] of the playback to progress of time, in [0, 1] again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from digan.errors import DiganError

Curve: TypeAlias = "Callable[[Tensor], Tensor]"
"""Progress of playback to progress of time: float64 to float64 of the same shape."""

_SLOWED = 0.85  # by how much of the speed the middle of slow-middle is slower


def linear(u: Tensor) -> Tensor:
    """Constant speed."""
    return u.clone()


def ease(u: Tensor) -> Tensor:
    """Starts and ends at rest: 3u^2 - 2u^3."""
    return u * u * (3 - 2 * u)


def slow_middle(u: Tensor) -> Tensor:
    """Slow in the middle, 0.15 of the mean speed, and fast at both ends."""
    return u + _SLOWED * torch.sin(2 * math.pi * u) / (2 * math.pi)


def ping_pong(u: Tensor) -> Tensor:
    """There and back at constant speed."""
    return 1 - (1 - 2 * u).abs()


def swing(u: Tensor) -> Tensor:
    """There and back like a pendulum, at rest where it turns."""
    return (1 - torch.cos(2 * math.pi * u)) / 2


CURVES: dict[str, Curve] = {
    "linear": linear,
    "ease": ease,
    "slow-middle": slow_middle,
    "ping-pong": ping_pong,
    "swing": swing,
}
"""By the names of `--time-curve`."""


def curve_through(points: Sequence[tuple[float, float]]) -> Curve:
    """A smooth curve through points (progress of playback, progress of time).

    Between points it never overshoots them (monotone cubic pieces, Fritsch and Carlson 1980).

    Raises:
        DiganError: fewer than two points, playback that does not rise from 0 to 1, values that
            are not finite.
    """
    played = [float(u) for u, _ in points]
    passed = [float(p) for _, p in points]
    if not all(math.isfinite(value) for value in played + passed):
        raise DiganError(f"points of a time curve must be finite, got {list(points)}")
    rising = all(a < b for a, b in pairwise(played))
    if len(points) < 2 or not rising or played[0] != 0 or played[-1] != 1:
        raise DiganError(
            f"points of a time curve must rise from 0 to 1 in playback, got {list(points)}"
        )
    through = PchipInterpolator(played, passed)
    return lambda u: torch.from_numpy(through(u.numpy()))


def parse_curve(text: str) -> Curve:
    """A curve by name, or through points written 0:0,0.4:0.1,1:1.

    Raises:
        DiganError: neither.
    """
    if text in CURVES:
        return CURVES[text]
    try:
        points = [(float(u), float(p)) for u, p in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise DiganError(
            f"time-curve must be one of {', '.join(CURVES)}, or points as 0:0,0.4:0.1,1:1, "
            f"got {text!r}"
        ) from error
    return curve_through(points)


def progress(frames: int, *, closed: bool = False) -> Tensor:
    """Playback progress u of every frame, float64 [T].

    Args:
        frames: T. closed: of a loop, whose frame T would be frame 0 again: u = i/T, not i/(T-1).

    Raises:
        DiganError: no frames.
    """
    if frames < 1:
        raise DiganError(f"the number of frames must be at least 1, got {frames}")
    steps = torch.arange(frames, dtype=torch.float64)
    return steps / (frames if closed else max(frames - 1, 1))


def curve_times(
    curve: Curve,
    frames: int,
    t_start: float = 0.0,
    t_end: float = 1.0,
    *,
    closed: bool = False,
) -> Tensor:
    """Time stamps along a curve, float64 [T].

    Args:
        curve: a function of this module, or of your own.
        frames: T.
        t_start, t_end: times where the curve is 0 and 1.
        closed: see `progress`.

    Raises:
        DiganError: no frames, a reversed or non-finite time range.
    """
    if not (math.isfinite(t_start) and math.isfinite(t_end)):
        raise DiganError(f"the time range must be finite, got {t_start} to {t_end}")
    if t_end < t_start:
        raise DiganError(f"the time range must not be reversed, got {t_start} to {t_end}")
    return t_start + (t_end - t_start) * curve(progress(frames, closed=closed))
