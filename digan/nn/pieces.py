"""How a rendering is cut: every piece of a few frames and rows is independent of the others.

All layers are pointwise and nearest upsampling is nested, so rows [r, r+n) of the coarsest grid
and the rows above them on every finer grid need nothing else. Pieces bound the memory whatever
the number of frames and pixels, and on a CPU a piece's activations stay in cache from layer to
layer.

Videos are the outermost order, so that one video's matrices (5.4 MB in bfloat16 at 128x128)
serve all of its pieces before the next one's are read: they stay in a GPU's L2 cache (50 MB of an
H200) and a CPU's last level. Where a GPU's piece holds several short videos, a launch goes through
them one after the other too, and at most a few matrices of one layer, 0.5 MB each, are in use at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Bytes of one channel of a piece. On a CPU the 256 channels of a layer then take 16 MB, half of
# a small last-level cache. A GPU wants enough work to fill it: 128 frames of 128x128 in bfloat16,
# whose layers of 256 channels then take 1.1 GB, with two of them alive at a time.
_CPU_BYTES = 1 << 16
_GPU_BYTES = 1 << 22
# With all activations of a piece held, 16 frames of 128x128 in float32: 1.4 GB.
_GPU_KEPT_BYTES = 1 << 20
# An embedding is made once per piece and shared by its frames: as many as this make its cost
# small even where pixels are few.
_SHARING_FRAMES = 8
# But no more than fill a few pieces, where one row alone has more pixels than a piece should.
_SHARED_PIECES = 4


@dataclass(frozen=True)
class Piece:
    """Some videos, some frames, and some rows of the coarsest grid."""

    videos: slice
    frames: slice
    rows: slice


def pieces(
    videos: int,
    frames: int,
    rows: int,
    row_pixels: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    kept: bool = False,
) -> Iterator[Piece]:
    """Cuts a rendering.

    Args:
        videos, frames: B and T. rows: of the coarsest grid.
        row_pixels: pixels of the finest grid above one of these rows.
        device, dtype: of the activations; they decide how large a piece should be.
        kept: whether a piece's activations are all held at once, for its gradient.
    """
    on_gpu = _GPU_KEPT_BYTES if kept else _GPU_BYTES
    budget = (_CPU_BYTES if device.type == "cpu" else on_gpu) // dtype.itemsize
    whole = rows * row_pixels
    some_videos = max(1, min(videos, budget // max(frames * whole, 1)))
    sharing = min(_SHARING_FRAMES, _SHARED_PIECES * budget // row_pixels)
    some_frames = max(1, min(frames, max(sharing, budget // whole)))
    some_rows = max(1, min(rows, budget // (some_videos * some_frames * row_pixels)))
    for v in range(0, videos, some_videos):
        for t in range(0, frames, some_frames):
            for r in range(0, rows, some_rows):
                yield Piece(
                    slice(v, min(v + some_videos, videos)),
                    slice(t, min(t + some_frames, frames)),
                    slice(r, min(r + some_rows, rows)),
                )


def strip_of(axis: Tensor, rows: slice, count: int) -> Tensor:
    """The part of a finer level's y axis above some of the coarsest level's `count` rows."""
    factor = len(axis) // count
    part: Tensor = axis[rows.start * factor : rows.stop * factor]
    return part
