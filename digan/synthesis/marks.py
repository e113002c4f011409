"""What is drawn on frames and beside them: boxes, differences, plain enlargements.

Pure functions on uint8 frames [T, H, W, 3]; none changes what it is given.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digan.errors import DiganError

Frames: TypeAlias = "NDArray[np.uint8]"
"""Pictures of one video, uint8 [T, H, W, 3]."""

RED = (230, 30, 30)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def line_width(side: int) -> int:
    """Pixels of a box's line on frames of that side: one in 64, at least 1."""
    return max(1, round(side / 64))


def red_box(
    frames: Frames,  # [T, H, W, 3]
    which: NDArray[np.bool_] | None = None,  # [T]
    *,
    width: int | None = None,
    colour: tuple[int, int, int] = RED,
) -> Frames:
    """A box along the border of the frames that are marked: those that are extrapolated.

    Args:
        frames: uint8. which: bool, True for a box; all by default.
        width: of the line, in pixels; by default by the frame's size.
        colour: RGB.

    Raises:
        ValueError: which is not one a frame.
    """
    marked = np.ones(len(frames), bool) if which is None else np.asarray(which, bool)
    if marked.shape != (len(frames),):
        raise ValueError(f"which must be [{len(frames)}], got {list(marked.shape)}")
    height, wide = frames.shape[1:3]
    return _boxed(
        frames, marked, (0, 0, height, wide), width or line_width(min(height, wide)), colour
    )


def square_box(
    frames: Frames,  # [T, H, W, 3]
    inner: int,
    *,
    width: int | None = None,
    colour: tuple[int, int, int] = RED,
) -> Frames:
    """A box round the training square in the centre of zoomed-out frames.

    The line lies outside the square, whose pixels stay as they are; what is beyond it is
    extrapolated. Nothing is drawn where there is nothing outside.

    Args:
        frames: uint8. inner: side of the training square in pixels.
        width: of the line, in pixels; by default by the frame's size, at most the margin.
        colour: RGB.
    """
    height, wide = frames.shape[1:3]
    top, left = (height - inner) // 2, (wide - inner) // 2
    line = min(width or line_width(min(height, wide)), top, left)
    if line < 1:
        return frames.copy()
    box = (top - line, left - line, top + inner + line, left + inner + line)
    return _boxed(frames, np.ones(len(frames), bool), box, line, colour)


def _boxed(
    frames: Frames,
    marked: NDArray[np.bool_],
    box: tuple[int, int, int, int],  # top, left, bottom, right
    line: int,
    colour: tuple[int, int, int],
) -> Frames:
    drawn = frames.copy()
    top, left, bottom, right = box
    drawn[marked, top : top + line, left:right] = colour
    drawn[marked, bottom - line : bottom, left:right] = colour
    drawn[marked, top:bottom, left : left + line] = colour
    drawn[marked, top:bottom, right - line : right] = colour
    return drawn


def difference(first: Frames, second: Frames, *, gain: float = 4.0) -> Frames:
    """Where two videos differ: black where they are equal, white where they differ most.

    gain * |first - second|, averaged over the colours, rounded, clamped; grey.

    Args:
        first, second: uint8 of one shape [..., 3]. gain: contrast.

    Raises:
        ValueError: other shapes.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"frames must be of one shape, got {list(first.shape)} and {list(second.shape)}"
        )
    apart = np.abs(first.astype(np.int16) - second.astype(np.int16)).mean(axis=-1, keepdims=True)
    grey = np.clip(np.rint(gain * apart), 0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=-1)


def resample(frames: Frames, size: int, how: str) -> Frames:  # [T, H, W, 3] -> [T, size, size, 3]
    """Frames enlarged as any picture can be: nearest, bilinear or bicubic.

    Raises:
        DiganError: another filter, a size below 1.
    """
    if how not in FILTERS:
        raise DiganError(f"the filter must be one of {', '.join(FILTERS)}, got {how!r}")
    if size < 1:
        raise DiganError(f"the size must be at least 1, got {size}")
    pictures = [Image.fromarray(frame).resize((size, size), FILTERS[how]) for frame in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def beside(*videos: Frames, gap: int = 0) -> Frames:
    """Videos of one length and height side by side, `gap` black pixels between."""
    space = np.zeros((*videos[0].shape[:2], gap, 3), np.uint8)
    row = [part for video in videos for part in (space, video)][1:]
    return np.concatenate(row, axis=2)
