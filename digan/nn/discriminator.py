"""The discriminators: one looks at single frames, one at pairs with their time difference."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from digan.config import DiscriminatorConfig
from digan.nn.layers import Convolution, FullyConnected
from digan.nn.mapping import Mapping
from digan.nn.recompute import recomputed, slice_size
from digan.ops import Impl

_HALF = math.sqrt(0.5)


class ResidualBlock(nn.Module):
    """[N, I, H, W] to [N, O, H/2, W/2]: two convolutions beside a decimated 1x1 skip."""

    def __init__(
        self,
        resolution: int,
        config: DiscriminatorConfig,
        impl: Impl | None,
        dtype: torch.dtype | None,
        backward_dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        width, out = config.channels(resolution), config.channels(resolution // 2)
        more: Any = {"clamp": config.clamp, "dtype": dtype, "backward_dtype": backward_dtype}
        self.conv0 = Convolution(width, width, 3, impl, **more)
        self.conv1 = Convolution(width, out, 3, impl, down=True, **more)
        self.skip = Convolution(
            width, out, 1, impl, activation="linear", bias=False, down=True, dtype=dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        """Halves the resolution."""
        y: Tensor = self.skip(x, gain=_HALF)
        x = self.conv1(self.conv0(x), gain=_HALF)
        return y + x


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    """Appends one channel with the mean standard deviation over groups of samples.

    G = min(group_size, N); sample i belongs to group i mod (N/G); biased variance over the
    group, sqrt(var + 1e-8), mean over channels and pixels.

    Raises:
        ValueError: N is no multiple of G.
    """
    n, _, h, w = x.shape
    size = min(group_size, n)
    if n % size:
        raise ValueError(f"the batch must be a multiple of the group of {size}, got {n}")
    y = x.reshape(size, n // size, *x.shape[1:])
    y = y - y.mean(dim=0)
    y = (y.square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    y = y.repeat(size).reshape(n, 1, 1, 1).expand(n, 1, h, w)
    return torch.cat([x, y], dim=1)


class Epilogue(nn.Module):
    """[N, C, 4, 4] to logits [N]: minibatch statistic, convolution, two linear layers."""

    def __init__(self, config: DiscriminatorConfig, impl: Impl | None) -> None:
        super().__init__()
        self.group_size = config.group_size
        width = config.channels(4)
        self.width = width
        self.conv = Convolution(width + 1, width, 3, impl, clamp=config.clamp)
        self.fc = FullyConnected(width * 16, width, "lrelu")
        self.out = FullyConnected(width, width if config.num_classes else 1)

    def forward(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Logits; `code` [N, width] is the mapped label of a conditional network."""
        x = self.conv(minibatch_std(x, self.group_size))
        # flatten(1) reads channel by channel whatever the memory format.
        x = self.out(self.fc(x.flatten(1)))
        if code is None:
            return x[:, 0]
        return (x * code).sum(dim=1) / math.sqrt(self.width)


class Discriminator(nn.Module):
    """A residual discriminator: images [N, C, H, W] to logits [N].

    Args:
        channels: C of its input. config, impl: as elsewhere.
        dtype: arithmetic, None for the parameters' own. float16 is that of the blocks above
            8x8, bfloat16 that of the backward pass through the 3x3 convolutions of all blocks;
            the rest is always in the parameters' dtype.
        recompute: whether gradients of every order make activations again, some images at a
            time, instead of keeping them (`digan.nn.recompute`): one forward pass more, and
            memory that does not grow with N.
    """

    def __init__(
        self,
        channels: int,
        config: DiscriminatorConfig,
        *,
        impl: Impl | None = None,
        dtype: torch.dtype | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        # bfloat16's 8 bits flip the signs of pre-activations, and with them the slopes by which
        # gradients pass; in the products of the backward pass they merely round. So the forward
        # pass keeps full precision there (docs/performance.md has the figures).
        self.compute_dtype = None if dtype == torch.bfloat16 else dtype
        backward_dtype = dtype if dtype == torch.bfloat16 else None
        self.input_shape = (channels, config.resolution, config.resolution)
        first = config.channels(config.resolution)
        narrow = self.compute_dtype
        self.from_rgb = Convolution(channels, first, 1, impl, clamp=config.clamp, dtype=narrow)
        resolutions = [config.resolution >> i for i in range((config.resolution // 8).bit_length())]
        self.blocks = nn.ModuleList(
            ResidualBlock(r, config, impl, narrow if r > 8 else None, backward_dtype)
            for r in resolutions
        )
        width = config.channels(4)
        self.mapping = (
            Mapping(0, config.num_classes, width, config.mapping_layers)
            if config.num_classes
            else None
        )
        self.epilogue = Epilogue(config, impl)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits [N].

        Raises:
            ValueError: x or label does not fit; N is no multiple of the group size.
        """
        if x.shape[1:] != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(f"x must be [N, {wanted}], got {list(x.shape)}")
        if self.mapping is None and label is not None:
            raise ValueError("label must be None for an unconditional network")
        x = self._recomputed(x) if self.recompute else self._trunk(x)
        code = None if self.mapping is None else self.mapping(None, label)
        logits: Tensor = self.epilogue(x, code)
        return logits

    def _trunk(self, x: Tensor) -> Tensor:
        """All blocks, [N, C, 4, 4]: every image by itself."""
        full = self.epilogue.out.weight.dtype
        x = x.to(self.compute_dtype or full).contiguous(memory_format=torch.channels_last)
        x = self.from_rgb(x)
        for block in self.blocks[:-1]:
            x = block(x)
        out: Tensor = self.blocks[-1](x.to(full))
        return out

    def _recomputed(self, x: Tensor) -> Tensor:
        layers = [m for m in [self.from_rgb, *self.blocks.modules()] if isinstance(m, Convolution)]
        # What the trunk reads: while weights are prepared, those, and not the parameters.
        known = [m.weight if m.prepared is None else m.prepared for m in layers]
        known += [m.bias for m in layers if m.bias is not None]
        slices = x.split(slice_size(x.shape[-2] * x.shape[-1]))
        return torch.cat([recomputed(self._trunk, [part], known) for part in slices])


def pair_input(frames: Tensor, dt: Tensor) -> Tensor:
    """[frame 1 RGB, frame 2 RGB, plane of the time difference], [B, 7, H, W].

    Args:
        frames: [B, 2, 3, H, W]. dt: t2 - t1, [B] or a plane [B, 1, H, W].
    """
    b, _, _, h, w = frames.shape
    plane = dt.reshape(b, 1, 1, 1).expand(b, 1, h, w) if dt.dim() == 1 else dt
    return torch.cat([frames[:, 0], frames[:, 1], plane.to(frames.dtype)], dim=1)


class PairDiscriminator(nn.Module):
    """The two discriminators of DIGAN: `video` for pairs of frames, `image` for single frames."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        *,
        impl: Impl | None = None,
        dtype: torch.dtype | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        more: Any = {"impl": impl, "dtype": dtype, "recompute": recompute}
        self.video = Discriminator(7, config, **more)
        self.image = Discriminator(3, config, **more)

    def judge_images(self, frames: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits [2B] of frames [B, 2, 3, H, W], in the order (b t)."""
        if label is not None:
            label = label.repeat_interleave(2, dim=0)
        logits: Tensor = self.image(frames.flatten(0, 1), label)
        return logits

    def forward(
        self, frames: Tensor, dt: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of pairs [B] and of frames [2B].

        Args:
            frames: [B, 2, 3, H, W] in [-1, 1]. dt: t2 - t1 in clip units, [B].
            label: classes [B], conditional networks only.
        """
        return self.video(pair_input(frames, dt), label), self.judge_images(frames, label)
