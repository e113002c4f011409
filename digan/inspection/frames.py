"""What changes from a frame to the next, and what a row of pixels shows over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from digan.data.progress import progress_bar
from digan.nn import VideoINR
from digan.synthesis import stream_frames


@dataclass(frozen=True)
class FrameChange:
    """How B videos change over time."""

    t: NDArray[np.float64]
    """[T], clip units."""
    change: NDArray[np.float64]
    """[B, T - 1]: mean |frame[i + 1] - frame[i]| over pixels and colours, of 255."""
    slices: NDArray[np.uint8]
    """[B, T, W, 3]: the middle row of every frame."""

    def mean_change(self, first: float, last: float) -> NDArray[np.float64] | None:
        """The mean change [B] over steps within [first, last]; None where there is no step."""
        inside = (self.t[:-1] >= first - 1e-9) & (self.t[1:] <= last + 1e-9)
        if not inside.any():
            return None
        found: NDArray[np.float64] = self.change[:, inside].mean(axis=1)
        return found


def frame_change(
    inr: VideoINR, t: Tensor, *, chunk: int | None = None, progress: bool = False
) -> FrameChange:
    """Renders videos over time, in chunks, and keeps what is needed of them.

    Args:
        inr: coordinate networks of B videos.
        t: [T], clip units; float64.
        chunk: frames at once, see `digan.synthesis.stream_frames`.
        progress: a bar on standard error.
    """
    changes, slices = [], []
    last: NDArray[np.int16] | None = None
    with progress_bar("rendering", len(t), "frames", shown=progress) as bar:
        for piece in stream_frames(inr, t, chunk=chunk):
            frames = piece.numpy().astype(np.int16)  # [B, n, H, W, 3]
            slices.append(frames[:, :, frames.shape[2] // 2].astype(np.uint8))
            joined = frames if last is None else np.concatenate([last, frames], axis=1)
            changes.append(np.abs(np.diff(joined, axis=1)).mean(axis=(2, 3, 4), dtype=np.float64))
            last = frames[:, -1:]
            bar.update(frames.shape[1])
    return FrameChange(
        t.double().cpu().numpy(),
        np.concatenate(changes, axis=1),
        np.concatenate(slices, axis=1),
    )
