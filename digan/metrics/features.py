"""Feature networks of the video metrics.

`Random3d` is the network of `fd-random3d`: seeded random weights, no file to fetch. It is
not the I3D of FVD and its numbers cannot be held against published ones; it is there to see
training improve, beside the controls of `digan.metrics.controls`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digan.errors import DiganError

Videos: TypeAlias = "Tensor | np.ndarray"
"""One batch of videos, uint8 [B, T, H, W, 3]."""

Clips: TypeAlias = "Videos | Iterable[Videos]"
"""A whole set: one array [N, T, H, W, 3], or an iterable of such batches."""

_MULTIPLE = 16  # of H and W
_CHUNK_PIXELS = 16 * 16 * 32 * 32  # pixels sent through the network at once
_SLOPE = 0.2  # of the leaky relu
_ACT_GAIN = (2.0 / (1.0 + _SLOPE**2)) ** 0.5
_ENERGY_OFFSET = 0.02  # 2.5 grey levels of 255
_MEAN_GAIN = 3.0


def as_videos(videos: Videos) -> Tensor:
    """A batch as uint8 tensor [B, T, H, W, 3]; DiganError names what is wrong.

    An array that torch cannot share (read-only, as a memory map is, or reversed) is copied.
    """
    if not isinstance(videos, Tensor | np.ndarray):
        raise DiganError(f"videos must be a tensor or a numpy array, got {type(videos).__name__}")
    if videos.ndim != 5 or videos.shape[-1] != 3 or str(videos.dtype).split(".")[-1] != "uint8":
        dtype = str(videos.dtype).removeprefix("torch.")
        raise DiganError(f"videos must be uint8 [B, T, H, W, 3], got {dtype} {list(videos.shape)}")
    if isinstance(videos, Tensor):
        return videos
    return torch.from_numpy(np.require(videos, requirements=["C", "W"]))


def video_batches(clips: Clips, size: int = 64) -> Iterator[Tensor]:
    """The batches of a set, uint8 [B, T, H, W, 3]; one array is cut into `size` at a time."""
    if isinstance(clips, Tensor | np.ndarray):
        for start in range(0, len(clips), size):
            yield as_videos(clips[start : start + size])
        return
    for videos in clips:
        yield as_videos(videos)


def _random_filters(
    key: int,
    count: int,
    channels: int,
    zero_over: tuple[int, ...],
) -> np.ndarray:
    """Random 3x3x3 filters of unit norm, float64 [O, I, t, y, x] = [count, channels, 3, 3, 3].

    Every filter sums to zero over the dimensions `zero_over`. The numbers are drawn from the
    raw integers of Philox, which are the same in every numpy, and not by one of numpy's
    distributions, which may change.
    """
    raw = np.random.Philox(key=key).random_raw(count * channels * 27)
    weight = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5
    weight = weight.reshape(count, channels, 3, 3, 3)
    if zero_over:
        weight = weight - weight.mean(axis=zero_over, keepdims=True)
    norm = np.sqrt((weight**2).sum(axis=(1, 2, 3, 4), keepdims=True))
    return np.asarray(weight / norm)


class _Level(nn.Module):
    """One scale: a 3x3x3 convolution by free, edge and motion filters at spatial stride 2.

    A free filter is any random filter; an edge filter sums to zero over its 9 places; a
    motion filter sums to zero over its 3 times, so that a still video gives it nothing.
    """

    weight: Tensor

    def __init__(
        self,
        key: int,
        channels: int,
        counts: tuple[int, int, int],  # of free, edge and motion filters
        temporal_stride: int,
    ) -> None:
        super().__init__()
        zero_over: tuple[tuple[int, ...], ...] = ((), (3, 4), (2,))
        groups = [
            _random_filters(key + kind, count, channels, zero_over[kind])
            for kind, count in enumerate(counts)
        ]
        self.counts = counts
        self.stride = (temporal_stride, 2, 2)
        self.register_buffer("weight", torch.from_numpy(np.concatenate(groups)).float())

    def forward(self, x: Tensor) -> Tensor:
        """Responses [B, sum(counts), T / stride, H / 2, W / 2] to x [B, C, T, H, W]."""
        # Ends are repeated and not zero: a still video stays still at its first and last
        # frame, and the border of a frame is no edge.
        padded = F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate")
        return F.conv3d(padded, self.weight, stride=self.stride)

    def energies(self, responses: Tensor, quarter: int) -> Tensor:
        """Log energies [B, quarter]: one part free, one part edge, two parts motion filters."""
        free, edge, motion = torch.split(responses, list(self.counts), dim=1)
        part = quarter // 4
        power = torch.cat(
            [
                free[:, :part].var(dim=(2, 3, 4), correction=0),
                edge[:, :part].square().mean(dim=(2, 3, 4)),
                motion[:, : 2 * part].square().mean(dim=(2, 3, 4)),
            ],
            dim=1,
        )
        return torch.log(power.sqrt() + _ENERGY_OFFSET)


class Random3d(nn.Module):
    """Seeded random 3-D convolutions: uint8 videos to the features of `fd-random3d`.

    Pixels become x / 127.5 - 1. Three levels of 3x3x3 convolutions follow, each halving
    height and width and the last also time, with leaky relus of slope 0.2 between them. A
    level has 8 free filters, 8 edge filters (zero sum over space) and 8 or 16 motion filters
    (zero sum over time), all of unit norm and with neither bias nor normalisation, so that
    brightness, contrast and speed are seen. The features of one video are

    - 3/4 of them energies: log(0.02 + r), r the root mean square over time and space of one
      filter's response (for free filters: its standard deviation), a quarter of the width
      for each level, half of it by motion filters;
    - 1/4 means: 3 times the mean over time and space of a free filter's activation, half of
      them of level 1 and half of level 3: colour and what goes with it.

    So 24 of 64 features see motion alone and 40 see content. Features are not whitened and
    not scaled by any data: the distance is symmetric, and one data set's numbers have the
    units of another's. The logarithm is what balances it, as a ratio of energies counts the
    same for faint motion as for strong contrast: without it grain would outweigh all else,
    and after division by the data's deviation whatever the data hardly vary in. The offset,
    2.5 grey levels, bounds what a fully still or flat video can cost and keeps the rounding
    to 8 bits out of sight.

    Weights come from numpy's Philox by the seed, hence are the same on every machine, under
    every version of torch, and touch no global generator. Features of a video do not depend
    on its batch; they are computed in float32 (on CUDA without TF32), in chunks.

    Args:
        width: number of features, 16, 32, 48 or 64. A narrower network has the same filters
            and reads fewer of them.
        seed: of the weights, 0 <= seed < 2**32.

    Raises:
        DiganError: another width or seed.
    """

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        if width not in (16, 32, 48, 64):
            raise DiganError(f"the width of Random3d must be 16, 32, 48 or 64, got {width}")
        if not 0 <= seed < 1 << 32:
            raise DiganError(f"the seed of Random3d must be in [0, 2**32), got {seed}")
        self.width = width
        self.seed = seed
        plan = (((8, 8, 8), 1), ((8, 8, 16), 1), ((8, 8, 16), 2))
        levels = []
        channels = 3
        for index, (counts, temporal_stride) in enumerate(plan):
            key = (seed << 16) + (index << 8)
            levels.append(_Level(key, channels, counts, temporal_stride))
            channels = sum(counts)
        self.levels = nn.ModuleList(levels)
        self.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.buffers()).device

    def fingerprint(self) -> str:
        """Sha256 of the weights (float32, little endian, level by level), in hex."""
        digest = hashlib.sha256()
        for buffer in self.buffers():
            digest.update(buffer.cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def forward(self, videos: Videos) -> Tensor:
        """Features of a batch.

        Args:
            videos: uint8 [B, T, H, W, 3], T >= 2, H and W multiples of 16.

        Returns:
            float32 [B, width], on the network's device.

        Raises:
            DiganError: another dtype or shape.
        """
        batch = as_videos(videos)
        count, frames, height, width = batch.shape[:4]
        if frames < 2:
            raise DiganError(f"fd-random3d needs videos of at least 2 frames, got {frames}")
        if min(height, width) < _MULTIPLE or height % _MULTIPLE or width % _MULTIPLE:
            raise DiganError(
                f"fd-random3d needs a height and width that are multiples of {_MULTIPLE},"
                f" got {height}x{width}"
            )
        if count == 0:
            return torch.zeros(0, self.width, device=self.device)
        chunk = max(1, _CHUNK_PIXELS // (frames * height * width))
        # A caller's autocast or TF32 must not change a measurement.
        exact = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        with torch.autocast(self.device.type, enabled=False), exact:
            return torch.cat([self._chunk(part) for part in torch.split(batch, chunk)])

    def _chunk(self, videos: Tensor) -> Tensor:
        """Features [B, width] of videos [B, T, H, W, 3] that fit into memory together."""
        x = videos.to(self.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
        quarter = self.width // 4
        energies: list[Tensor] = []
        means: list[Tensor] = []
        for index, level in enumerate(self.levels):
            assert isinstance(level, _Level)
            responses = level(x)
            energies.append(level.energies(responses, quarter))
            x = F.leaky_relu(responses, _SLOPE) * _ACT_GAIN
            if index != 1:
                means.append(_MEAN_GAIN * x[:, : quarter // 2].mean(dim=(2, 3, 4)))
        return torch.cat(energies + means, dim=1)
