"""How much videos differ from each other and from frame to frame, in grey levels.

Two figures that a Fréchet distance can hide: a generator that makes one video, and one that
makes stills. Sums are kept in integers, so that the figures are exact and the same for
every way of cutting a set into batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from digan.errors import DiganError
from digan.metrics.features import Clips, Videos, as_videos, video_batches
from digan.processes import World


class PixelStatistics:
    """Sums over the videos of a set, which all have one shape [T, H, W, 3].

    Attributes:
        count: number of videos seen.
        total: int64 [T, H, W, 3], sum of the videos.
        squares: int64 [T, H, W, 3], sum of their squares.
        change: sum of |x[t + 1] - x[t]| over everything.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.total: Tensor = torch.zeros(0, 0, 0, 3, dtype=torch.int64)
        self.squares: Tensor = torch.zeros(0, 0, 0, 3, dtype=torch.int64)
        self.change: int = 0

    @classmethod
    def from_clips(cls, clips: Clips) -> PixelStatistics:
        """Statistics of a whole set."""
        statistics = cls()
        for videos in video_batches(clips):
            statistics.update(videos)
        return statistics

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, H and W of the videos."""
        frames, height, width = self.total.shape[:3]
        return frames, height, width

    def update(self, videos: Videos) -> PixelStatistics:
        """Adds a batch, uint8 [B, T, H, W, 3] (B may be 0), and returns self.

        Raises:
            DiganError: another dtype or shape, also other T, H, W than before.
        """
        batch = as_videos(videos)
        if len(batch) == 0:
            return self
        frames, height, width = batch.shape[1:4]
        if self.count == 0:
            self.total = torch.zeros(frames, height, width, 3, dtype=torch.int64)
            self.squares = torch.zeros_like(self.total)
        elif self.shape != (frames, height, width):
            raise DiganError(
                "videos of one set must be of one shape,"
                f" got {[frames, height, width]} after {list(self.shape)} (frames, height, width)"
            )
        wide = batch.to(torch.int32)
        self.count += len(batch)
        self.total += wide.sum(dim=0, dtype=torch.int64).cpu()
        self.squares += wide.square().sum(dim=0, dtype=torch.int64).cpu()
        self.change += int(wide.diff(dim=1).abs().sum(dtype=torch.int64))
        return self

    def of_all(self, world: World) -> PixelStatistics:
        """The statistics of what all processes have seen together."""
        if world.size == 1:
            return self
        shapes = [tuple(s) for s in world.gather(list(self.total.shape)) if all(s)]
        if len(set(shapes)) > 1:
            raise DiganError(f"videos of one set must be of one shape, got {sorted(set(shapes))}")
        both = PixelStatistics()
        if not shapes:
            return both
        own = self.count > 0
        both.total = self.total.clone() if own else torch.zeros(shapes[0], dtype=torch.int64)
        both.squares = self.squares.clone() if own else torch.zeros_like(both.total)
        world.sum_([both.total, both.squares])
        sums = world.gather([self.count, self.change])
        both.count, both.change = (sum(column) for column in zip(*sums, strict=True))
        return both

    def mean_frame(self) -> Tensor:
        """The mean over all videos and all their frames, rounded, uint8 [H, W, 3]."""
        if self.count == 0:
            raise DiganError("a mean frame needs at least 1 video, got 0")
        mean = self.total.sum(dim=0).double() / (self.count * self.shape[0])
        return mean.round().to(torch.uint8)

    def mean_pairwise_distance(self) -> float:
        """Root mean square difference of two different videos of the set, in grey levels.

            sqrt(mean over pairs i != j, times, places and channels of (x_i - x_j)^2)

        over all pairs: it equals the square root of twice the unbiased variance between
        videos, averaged over the pixels. 0 when all videos are the same. Needs 2 videos.
        """
        if self.count < 2:
            raise DiganError(f"a pairwise distance needs at least 2 videos, got {self.count}")
        spread = self.squares * self.count - self.total.square()  # n (n - 1) times the variance
        pairs = self.count * (self.count - 1)
        return float((2.0 * spread.double().mean() / pairs).sqrt())

    def mean_frame_change(self) -> float:
        """Mean of |x[t + 1] - x[t]| over videos, times, places and channels, in grey levels."""
        frames = self.shape[0]
        if self.count == 0 or frames < 2:
            raise DiganError(
                "a change per frame needs at least 1 video of at least 2 frames,"
                f" got {self.count} of {frames}"
            )
        per_video = self.total.numel() // frames * (frames - 1)
        return self.change / (self.count * per_video)


def mean_pairwise_distance(clips: Clips) -> float:
    """See `PixelStatistics.mean_pairwise_distance`; clips uint8 [N, T, H, W, 3] or batches."""
    return PixelStatistics.from_clips(clips).mean_pairwise_distance()


def mean_frame_change(clips: Clips) -> float:
    """See `PixelStatistics.mean_frame_change`; clips uint8 [N, T, H, W, 3] or batches."""
    return PixelStatistics.from_clips(clips).mean_frame_change()
