"""I3D: Inception-v1 with all filters inflated to three dimensions, 400 Kinetics logits.

The state dicts that FVD implementations share name their tensors `Conv3d_1a_7x7.conv3d.weight`,
`Mixed_3b.b1a.bn.running_mean`, `logits.conv3d.bias`. The architecture here has those names, so
that such a file loads as it is.

Source: Carreira and Zisserman (2017), figure 3; Szegedy et al. (2015), table 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
MIN_FRAMES = 9  # time is halved three times, rounding up, and then pooled over 2
NUM_LOGITS = 400
_EPS = 1e-5

# Channels of a mixed block: of its 1x1x1 branch; of the 1x1x1 reduction and the 3x3x3
# convolution of two branches; of the 1x1x1 behind the pooling.
_Mixed = tuple[int, int, int, int, int, int]
_MIXED: dict[str, _Mixed] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# What is pooled before a block: window and stride of (t, y, x).
_POOLED_BEFORE = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def pad_same(x: Tensor, window: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros round [B, C, T, H, W] so that each size becomes ceil(size / stride).

    An odd number of zeros has the greater part at the end.
    """
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(window), reversed(stride), strict=True):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


def pool_same(x: Tensor, window: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Maximum over windows of [B, C, T, H, W], with the zeros of `pad_same`."""
    return F.max_pool3d(pad_same(x, window, stride), tuple(window), tuple(stride))


class _Unit(nn.Module):
    """Convolution, batch normalisation with running statistics, ReLU."""

    def __init__(self, channels: int, out: int, window: int, stride: int = 1) -> None:
        super().__init__()
        self.window, self.stride = (window,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out, window, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, out, T / stride, H / stride, W / stride], rounded up."""
        y: Tensor = self.bn(self.conv3d(pad_same(x, self.window, self.stride)))
        return y.relu_()


class _Logits(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, 1)


class _MixedBlock(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, widths: _Mixed) -> None:
        super().__init__()
        plain, reduce_a, conv_a, reduce_b, conv_b, pooled = widths
        self.b0 = _Unit(channels, plain, 1)
        self.b1a = _Unit(channels, reduce_a, 1)
        self.b1b = _Unit(reduce_a, conv_a, 3)
        self.b2a = _Unit(channels, reduce_b, 1)
        self.b2b = _Unit(reduce_b, conv_b, 3)
        self.b3b = _Unit(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to as many places."""
        branches = [
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(pool_same(x, (3, 3, 3), (1, 1, 1))),
        ]
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """The network; make it in evaluation mode, as statistics of batches would enter otherwise.

    Args:
        num_logits: classes.
    """

    def __init__(self, num_logits: int = NUM_LOGITS) -> None:
        super().__init__()
        self.stages: list[str] = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *_MIXED]
        self.add_module("Conv3d_1a_7x7", _Unit(3, 64, 7, 2))
        self.add_module("Conv3d_2b_1x1", _Unit(64, 64, 1))
        self.add_module("Conv3d_2c_3x3", _Unit(64, 192, 3))
        channels = 192
        for name, widths in _MIXED.items():
            self.add_module(name, _MixedBlock(channels, widths))
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = _Logits(channels, num_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_logits], averaged over time, of videos.

        Args:
            x: [B, 3, T, 224, 224] in [-1, 1], T >= 9.
        """
        for name in self.stages:
            if name in _POOLED_BEFORE:
                x = pool_same(x, *_POOLED_BEFORE[name])
            x = self.get_submodule(name)(x)
        pooled = F.avg_pool3d(x, (2, 7, 7), 1)  # [B, 1024, T / 8 - 1, 1, 1]
        logits: Tensor = self.logits.conv3d(pooled)
        return logits.flatten(3).squeeze(3).mean(dim=2)


def i3d_input(videos: Tensor, size: int = SIZE) -> Tensor:
    """What the original FVD scripts of DIGAN feed to I3D.

    The shorter side is brought to `size` by bilinear interpolation without antialias (pixel
    centres at half integers), the longer one rounded up; then comes the centre square.

    Args:
        videos: uint8 [B, T, H, W, 3].
        size: side of the square.

    Returns:
        float32 [B, 3, T, size, size], x / 127.5 - 1 as (x / 255 - 0.5) * 2.
    """
    count, frames, height, width = videos.shape[:4]
    x = videos.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
    scale = size / min(height, width)
    if height < width:
        target = (size, math.ceil(width * scale))
    else:
        target = (math.ceil(height * scale), size)
    x = F.interpolate(x, target, mode="bilinear", align_corners=False)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    x = x[:, :, top : top + size, left : left + size]
    centred: Tensor = (x - 0.5) * 2.0
    return centred.reshape(count, frames, *centred.shape[1:]).transpose(1, 2)
