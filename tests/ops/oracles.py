"""What each op should give, written out in the plainest way.

The oracles share no line with the package and keep the dtype of their inputs: on float64
inputs they are the truth, on bfloat16 inputs they are what plain PyTorch gives at that
precision. They take the inputs of `tests.op_cases` by position and the options by name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def activated(
    z: Tensor,
    activation: str = "linear",
    alpha: float | None = None,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """clamp(gain * act(z)) by the definitions."""
    slope = 0.2 if alpha is None else alpha
    frequency = 30.0 if alpha is None else alpha
    above = z > 0
    if activation == "linear":
        y = z
    elif activation == "relu":
        y = torch.where(above, z, 0 * z)
    elif activation == "lrelu":
        y = torch.where(above, z, slope * z)
    elif activation == "sine":
        y = torch.sin(frequency * z)
    elif activation == "gelu":
        y = z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    elif activation == "tanh":
        y = (torch.exp(z) - torch.exp(-z)) / (torch.exp(z) + torch.exp(-z))
    elif activation == "sigmoid":
        y = 1 / (1 + torch.exp(-z))
    elif activation == "softplus":
        y = torch.log(1 + torch.exp(z))
    elif activation == "swish":
        y = z / (1 + torch.exp(-z))
    elif activation == "elu":
        y = torch.where(above, z, torch.exp(z) - 1)
    elif activation == "selu":
        scale, factor = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
        y = scale * torch.where(above, z, factor * (torch.exp(z) - 1))
    else:
        raise AssertionError(f"no oracle for {activation}")
    y = y * gain
    return y if clamp is None else torch.where(y > clamp, clamp, torch.where(y < -clamp, -clamp, y))


def bias_act_sum(x: Tensor, bias: Tensor | None, dim: int = 1, **_: Any) -> Tensor:
    if bias is None:
        return x
    return (x.movedim(dim, -1) + bias.to(x.dtype)).movedim(-1, dim)


def bias_act(x: Tensor, bias: Tensor | None, dim: int = 1, **activation: Any) -> Tensor:
    return activated(bias_act_sum(x, bias, dim), **activation)


def frames_to_uint8(frames: Tensor) -> Tensor:
    """In NumPy's arithmetic, which rounds every operation to its operands' type."""
    values = (frames if frames.dtype == torch.float64 else frames.float()).cpu().numpy()
    levels = np.rint((values + values.dtype.type(1)) * values.dtype.type(127.5))
    levels = np.where(np.isnan(levels), 0, np.minimum(np.maximum(levels, 0), 255))
    return torch.from_numpy(levels.astype(np.uint8))


def fir_resample(
    x: Tensor,
    filter: Tensor | None,
    up: Any = 1,
    down: Any = 1,
    padding: Any = 0,
    gain: float = 1.0,
    flip_filter: bool = False,
) -> Tensor:
    """Every tap on its own: y += tap * rows @ x @ columns, with selections made by loops."""
    up, down = ([v, v] if isinstance(v, int) else list(v) for v in (up, down))
    padding = [padding] * 4 if isinstance(padding, int) else list(padding)
    if len(padding) == 2:
        padding = [padding[0], padding[0], padding[1], padding[1]]
    taps = torch.ones(1, 1, dtype=x.dtype) if filter is None else filter
    taps = (taps[:, None] * taps[None, :] if taps.dim() == 1 else taps) * gain
    height, width = x.shape[2:]

    def selection(size: int, axis: int, length: int, tap: int) -> Tensor:
        before, after = padding[2 * axis], padding[2 * axis + 1]
        outputs = (size * up[axis] + before + after - length) // down[axis] + 1
        chosen = torch.zeros(outputs, size, dtype=x.dtype)
        reach = tap if flip_filter else length - 1 - tap
        for i in range(outputs):
            place = i * down[axis] + reach - before  # in the image with zeros inserted
            if place % up[axis] == 0 and 0 <= place < size * up[axis]:
                chosen[i, place // up[axis]] = 1
        return chosen.to(x.device)

    total: Any = 0
    for ky in range(taps.shape[0]):
        for kx in range(taps.shape[1]):
            rows = selection(height, 1, taps.shape[0], ky)
            columns = selection(width, 0, taps.shape[1], kx)
            total = total + taps[ky, kx].to(x.dtype) * (rows @ x @ columns.T)
    return total


def factorized_modulation(
    weight: Tensor, left: Tensor, right: Tensor, demodulate: bool = True
) -> Tensor:
    rank = left.shape[2]
    product = sum(left[:, :, r, None] * right[:, r, None, :] for r in range(rank))
    u = weight[None] * (1 + product / rank**0.5)
    return u / ((u**2).sum(2, keepdim=True).sqrt() + 1e-8) if demodulate else u


def modulated_sum(x: Tensor, weight: Tensor, bias: Tensor | None, **_: Any) -> Tensor:
    z = torch.einsum("b...i,boi->b...o", x, weight)
    return z if bias is None else z + bias.to(z.dtype)


def modulated_linear(x: Tensor, weight: Tensor, bias: Tensor | None, **activation: Any) -> Tensor:
    return activated(modulated_sum(x, weight, bias), **activation)


def fourier_features(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """By a coordinate tensor and the whole angle, in float64 where the inputs are."""
    coords = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # [H, W, (x, y)]
    angle = torch.einsum("hwc,bfc->bhwf", coords, freq)
    theta = angle[:, None] + phase[:, :, None, None]
    return torch.cat([torch.sin(theta), torch.cos(theta)], dim=-1).to(dtype)


def fourier_features_at(
    freq: Tensor, phase: Tensor, coords: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    theta = (freq[:, None] * coords[:, :, None]).sum(-1) + phase[:, None]
    return torch.cat([torch.sin(theta), torch.cos(theta)], dim=-1).to(dtype)


def coord_sum(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    **_: Any,
) -> Tensor:
    embedding = fourier_features(freq, phase, y, x).to(weight.dtype)
    z = torch.einsum("bthwe,boe->bthwo", embedding, weight)
    if bias is not None:
        z = z + bias.to(z.dtype)
    if skip is not None and skip.numel():
        images = skip.flatten(0, 1).movedim(-1, 1)  # [B*T, O, H/2, W/2]
        z = z + functional.interpolate(images, scale_factor=2, mode="nearest").movedim(
            1, -1
        ).unflatten(0, phase.shape[:2])
    return z


def coord_linear(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    **activation: Any,
) -> Tensor:
    return activated(coord_sum(freq, phase, y, x, weight, bias, skip), **activation)
