"""How near frames are to the truth, and what one would guess without a network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


def psnr(found: Frames, truth: Frames) -> float:
    """10 log10(255^2 / mean square error) in dB, over all frames; infinite for equal ones.

    Args:
        found, truth: uint8 of one shape.

    Raises:
        ValueError: other shapes, or no frames.
    """
    if found.shape != truth.shape or not found.size:
        raise ValueError(
            f"frames must be of one shape and not none, "
            f"got {list(found.shape)} and {list(truth.shape)}"
        )
    error = np.square(found.astype(np.float64) - truth.astype(np.float64)).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def repeat_frames(
    frames: Frames,  # [T, H, W, 3]
    t: NDArray[np.float64],  # [T]
    wanted: NDArray[np.float64],  # [n]
) -> Frames:
    """For each wanted time the nearest frame: beyond the ends, the first or last one stays."""
    nearest = np.abs(wanted[:, None] - t[None]).argmin(axis=1)
    held: Frames = frames[nearest]
    return held


def blend_frames(
    frames: Frames,  # [T, H, W, 3]
    t: NDArray[np.float64],  # [T], increasing
    wanted: NDArray[np.float64],  # [n]
) -> Frames:
    """For each wanted time the straight mixture of the frames before and after it."""
    place = np.interp(wanted, t, np.arange(len(t)))
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, len(t) - 1)
    share = (place - before)[:, None, None, None]
    mixed = (1 - share) * frames[before] + share * frames[after]
    blended: Frames = np.rint(mixed).astype(np.uint8)
    return blended
