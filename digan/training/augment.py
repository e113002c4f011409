"""DiffAugment, colour and translation, with one draw for both frames of a pair.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020), as DIGAN
uses it: the time difference is not augmented, and the draws are arguments, not global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digan.randomness import sample_rng

TRANSLATION = 0.125  # largest shift as a share of the side


@dataclass(frozen=True)
class AugmentDraws:
    """Random numbers of a batch of pairs.

    Attributes:
        color: brightness, saturation and contrast draws in [0, 1), [B, 3].
        shift: rows and columns, integers in [-s, s], [B, 2].
    """

    color: Tensor
    shift: Tensor

    def take(self, index: Tensor) -> AugmentDraws:
        """The draws of some samples of the batch."""
        return AugmentDraws(self.color[index], self.shift[index])

    @staticmethod
    def sample(
        seed: int, stream: str, indices: Sequence[int], size: int, device: torch.device
    ) -> AugmentDraws:
        """Draws of the samples with the given numbers, for frames of `size` pixels a side."""
        color = np.empty((len(indices), 3), dtype=np.float32)
        shift = np.empty((len(indices), 2), dtype=np.int64)
        reach = int(size * TRANSLATION + 0.5)
        for row, index in enumerate(indices):
            rng = sample_rng(seed, stream, index)
            color[row] = rng.random(3)
            shift[row] = rng.integers(-reach, reach + 1, size=2)
        return AugmentDraws(torch.from_numpy(color).to(device), torch.from_numpy(shift).to(device))


def diff_augment(frames: Tensor, draws: AugmentDraws | None) -> Tensor:
    """Augments pairs [B, 2, 3, H, W]; differentiable by the frames. None leaves them as they are.

    In this order, u being the pair's own draw in [0, 1):
        brightness   x + (u - 0.5)
        saturation   m = mean over channels; (x - m) * 2u + m
        contrast     m = mean over channels and pixels of each frame; (x - m) * (u + 0.5) + m
        translation  out[i, j] = x[i + rows, j + columns], zero outside
    """
    if draws is None:
        return frames
    u = draws.color.to(frames.dtype)[:, :, None, None, None, None]  # [B, 3, 1, 1, 1, 1]
    x = frames + (u[:, 0] - 0.5)
    mean = x.mean(dim=2, keepdim=True)
    x = (x - mean) * (u[:, 1] * 2) + mean
    mean = x.mean(dim=(2, 3, 4), keepdim=True)
    x = (x - mean) * (u[:, 2] + 0.5) + mean
    return _translate(x, draws.shift)


def _translate(x: Tensor, shift: Tensor) -> Tensor:
    """out[b, ..., i, j] = x[b, ..., i + shift[b, 0], j + shift[b, 1]], zero outside."""
    height, width = x.shape[-2:]
    for axis, size in ((-2, height), (-1, width)):
        index = torch.arange(size, device=x.device) + shift[:, 2 + axis, None]  # [B, size]
        inside = (index >= 0) & (index < size)
        index = index.clamp(0, size - 1)
        view = [x.shape[0], 1, 1, 1, 1]
        view[axis] = size
        index, inside = index.view(view), inside.view(view)
        x = torch.gather(x, x.dim() + axis, index.expand(x.shape)) * inside
    return x
