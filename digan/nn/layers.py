"""The layers of generator and discriminators."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from digan.nn.convolution import convolve
from digan.ops import Impl, bias_act, factorized_modulation, fir_resample

LRELU_GAIN = math.sqrt(2)


def normalize_second_moment(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-8) over the last axis."""
    return x * (x.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """Equalised linear layer: y = act(x @ (weight * lr / sqrt(I))^T + bias * lr).

    `weight` [O, I] is stored as N(0, 1) / lr, so that all layers learn at one rate; lrelu has
    slope 0.2 and gain sqrt(2).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        *,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))

    def forward(self, x: Tensor) -> Tensor:  # [..., I] -> [..., O]
        """Applies the layer."""
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        # The gain goes to the few rows of x: the weights are many times larger.
        y = functional.linear(x * self.weight_gain, self.weight, bias)
        if self.activation == "lrelu":
            return functional.leaky_relu(y, 0.2) * LRELU_GAIN
        return y


class ModulatedLayer(nn.Module):
    """A 1x1 layer whose matrix a content code writes, by factorised modulation of rank R.

    [left | right] = affine(w), W = demodulate(weight * (1 + left @ right / sqrt(R))).
    """

    def __init__(
        self, in_channels: int, out_channels: int, latent_dim: int, rank: int, impl: Impl | None
    ) -> None:
        super().__init__()
        self.rank = rank
        self.impl = impl
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = FullyConnected(latent_dim, (in_channels + out_channels) * rank)

    def write(self, w: Tensor) -> Tensor:  # [B, D] -> [B, O, I]
        """The layer's matrix for every video."""
        out_channels, in_channels = self.weight.shape
        left, right = self.affine(w).split(
            [out_channels * self.rank, in_channels * self.rank], dim=1
        )
        left = left.reshape(-1, out_channels, self.rank)
        right = right.reshape(-1, self.rank, in_channels)
        return factorized_modulation(self.weight, left, right, impl=self.impl)


class ToRGB(nn.Module):
    """The 1x1 layer to colours: weight * style, no demodulation and no activation."""

    def __init__(self, in_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.randn(3, in_channels))
        self.bias = nn.Parameter(torch.zeros(3))
        self.affine = FullyConnected(latent_dim, in_channels, bias_init=1.0)

    def write(self, w: Tensor) -> Tensor:  # [B, D] -> [B, 3, I]
        """The layer's matrix for every video."""
        style = self.affine(w) * self.weight_gain
        matrix: Tensor = self.weight * style[:, None]
        return matrix


class MotionEmbedding(nn.Module):
    """Frequencies and phases of a Fourier embedding; only the phase depends on time.

    [A | b] = xy_affine(w), freq = sqrt(10) * A
    m = motion_affine([w ; z_motion]), phase(t) = b + mlp(leaky_relu(scale * m * t, 0.01))
    """

    FOURIER_SCALE = math.sqrt(10)

    def __init__(self, frequencies: int, latent_dim: int, motion_scale: float = 0.25) -> None:
        super().__init__()
        self.motion_scale = motion_scale
        self.frequencies = frequencies
        self.xy_affine = FullyConnected(latent_dim, 3 * frequencies)
        self.motion_affine = FullyConnected(2 * latent_dim, frequencies)
        self.motion_mlp = nn.Sequential(
            FullyConnected(frequencies, frequencies, "lrelu"),
            FullyConnected(frequencies, frequencies),
        )

    def write(self, w: Tensor, z_motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """freq [B, F, 2], the phase's constant part b [B, F], and the motion code m [B, F]."""
        count = self.frequencies
        amplitudes, constant = self.xy_affine(w).split([2 * count, count], dim=1)
        freq = amplitudes.reshape(-1, count, 2) * self.FOURIER_SCALE
        return freq, constant, self.motion_affine(torch.cat([w, z_motion], dim=1))

    def phase(self, constant: Tensor, motion: Tensor, t: Tensor) -> Tensor:
        """The phases [B, T, F] at times t [B, T]."""
        m = motion[:, None] * t[:, :, None] * self.motion_scale
        moved: Tensor = self.motion_mlp(functional.leaky_relu(m, 0.01))
        return constant[:, None] + moved


class Convolution(nn.Module):
    """Convolution of the discriminators, optionally low-pass filtered and decimated by 2.

    weight * 1/sqrt(I*k*k); with `down`, FIR [1, 3, 3, 1]/8 on both axes goes first; then bias,
    lrelu (gain sqrt(2) * gain) and a clamp at clamp * gain. `dtype` is that of x, the weight's own
    if None; `backward_dtype` that of the products of the backward pass, x's own if None.

    `prepared` stands for the scaled weight while `digan.nn.prepared` keeps one.
    """

    prepared: Tensor | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        impl: Impl | None,
        *,
        activation: str = "lrelu",
        bias: bool = True,
        down: bool = False,
        clamp: float | None = None,
        dtype: torch.dtype | None = None,
        backward_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.backward_dtype = backward_dtype
        self.kernel_size = kernel_size
        self.impl = impl
        self.activation = activation
        self.down = down
        self.clamp = clamp
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = LRELU_GAIN if activation == "lrelu" else 1.0
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        if down:
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
            self.register_buffer("filter", taps / taps.sum(), persistent=False)

    def prepare(self) -> Tensor:
        """The weight as the products read it: scaled, in `dtype`, channels-last."""
        dtype, layout = self.dtype or self.weight.dtype, torch.channels_last
        if self.weight.requires_grad and torch.is_grad_enabled():
            scaled = (self.weight * self.weight_gain).to(dtype)
            return scaled.contiguous(memory_format=layout)
        out = torch.empty_like(self.weight, dtype=dtype, memory_format=layout)
        return torch.mul(self.weight.detach(), self.weight_gain, out=out)  # one pass

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:  # [N, I, H, W]
        """Applies the layer; `gain` multiplies its output, and its clamp."""
        weight = self.prepare() if self.prepared is None else self.prepared
        pad = self.kernel_size // 2
        if not self.down:
            x = convolve(x, weight, padding=pad, backward_dtype=self.backward_dtype)
        elif self.kernel_size == 1:
            # A 1x1 layer commutes with decimation: filter and decimate first.
            x = fir_resample(x, self._filter, down=2, padding=1, impl=self.impl)
            x = convolve(x, weight)
        else:
            x = fir_resample(x, self._filter, padding=pad + 1, impl=self.impl)
            x = convolve(x, weight, stride=2, backward_dtype=self.backward_dtype)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(
            x,
            self.bias,
            self.activation,
            gain=self.act_gain * gain,
            clamp=clamp,
            dim=1,
            impl=self.impl,
        )

    @property
    def _filter(self) -> Tensor:
        taps = self.filter
        assert isinstance(taps, Tensor)
        return taps
