"""SpaceTimeGrid: where a video is evaluated. The meaning of time and space lives here only.

Space. S pixels on an axis lie at x_i = 2*i/S - 1: left edges, not centres, 1 is never
reached. Rows run downwards and y is the same table flipped, so row 0 has the largest y.
`density` s makes every grid s times denser over the same extent; `zoom` z keeps the spacing
and widens the extent to about [-z, z), its centre being exactly the training frame.

Time. A training clip of N frames spans t in [0, 1], so one training frame is a step of
1/(N-1). Times are formed in float64 and cast once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from digan.errors import DiganError

BASE_SIZE = 32  # the coarsest grid of the generator; all blocks up to 32x32 run on it


def frame_times(
    frames: int,
    clip_frames: int,
    *,
    t_start: float = 0.0,
    t_end: float | None = None,
    time_density: int = 1,
) -> Tensor:
    """Time stamps of a video, float64.

    Args:
        frames: number n of frames at training speed.
        clip_frames: N, the frames of a training clip.
        t_start: time of the first frame.
        t_end: time of the last; the n frames are then evenly spaced over [t_start, t_end].
            None continues at training speed, t_i = t_start + i/(N-1), beyond 1 if n > N.
        time_density: k divides the step; k*(n-1)+1 frames that contain the n exactly.

    Raises:
        DiganError: a count below 1, a non-finite or reversed time range.
    """
    if frames < 1:
        raise DiganError(f"the number of frames must be at least 1, got {frames}")
    if time_density < 1:
        raise DiganError(f"the time density must be at least 1, got {time_density}")
    if clip_frames < 2:
        raise DiganError(f"a clip must have at least 2 frames, got {clip_frames}")
    if not math.isfinite(t_start) or (t_end is not None and not math.isfinite(t_end)):
        raise DiganError(f"the time range must be finite, got {t_start} to {t_end}")
    count = time_density * (frames - 1) + 1
    steps = torch.arange(count, dtype=torch.float64)
    if t_end is None:
        return t_start + steps / ((clip_frames - 1) * time_density)
    if t_end < t_start:
        raise DiganError(f"the time range must not be reversed, got {t_start} to {t_end}")
    if count == 1:
        return torch.full((1,), t_start, dtype=torch.float64)
    return t_start + (t_end - t_start) * (steps / (count - 1))


@dataclass(frozen=True)
class SpaceTimeGrid:
    """The axes t, y, x on which a generator is evaluated.

    Attributes:
        t: times in clip units, [T] shared by all videos or [B, T]; float64.
        density: s, how many times denser than the training grid; 1 or more.
        zoom: z, how many times wider than the training square.
    """

    t: Tensor
    density: int = 1
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if self.t.dim() not in (1, 2):
            raise ValueError(f"t must be [T] or [B, T], got {list(self.t.shape)}")
        if self.density < 1:
            raise DiganError(f"the density of the grid must be at least 1, got {self.density}")
        if not (math.isfinite(self.zoom) and self.zoom > 0):
            raise DiganError(f"the zoom must be a positive number, got {self.zoom}")

    def times(self, batch: int, like: Tensor) -> Tensor:
        """t as [B, T] with the dtype and device of `like`.

        Raises:
            ValueError: t is [B, T] with another B.
        """
        t = self.t if self.t.dim() == 2 else self.t.expand(batch, -1)
        if t.shape[0] != batch:
            raise ValueError(f"t must be [T] or [{batch}, T], got {list(self.t.shape)}")
        return t.to(device=like.device, dtype=like.dtype)

    @property
    def margin(self) -> int:
        """Cells of the 32-grid added on each side; negative when zoomed in."""
        return max(math.ceil(BASE_SIZE / 2 * (self.zoom - 1)), 1 - BASE_SIZE // 2)

    def axes(self, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """y and x coordinates of the level whose training grid is size x size.

        Both are [s*(size + 2*margin*size/32)], exact in float64 and cast once to like's dtype.
        """
        margin = self.margin * size // BASE_SIZE
        count = self.density * (size + 2 * margin)
        # Made where it is used: a copy from the CPU would wait for the GPU, and bar CUDA graphs.
        index = torch.arange(count, dtype=torch.float64, device=like.device)
        x = (2 * (index - self.density * margin) / (self.density * size) - 1).to(like.dtype)
        return x.flip(0), x

    def frame_size(self, resolution: int) -> int:
        """Side of the frames in pixels: s * 2*round(S*z/2)."""
        return self.density * 2 * max(round(resolution * self.zoom / 2), 1)

    def crop(self, image: Tensor, resolution: int) -> Tensor:
        """Cuts [B, T, H, W, C] to frame_size; the centre stays the centre."""
        size = self.frame_size(resolution)
        edge = (image.shape[2] - size) // 2
        return image[:, :, edge : edge + size, edge : edge + size]
