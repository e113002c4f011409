"""fourier_features: sines and cosines of space-time phases, on a grid or at points.

Phases are formed in float64 whatever the dtype: at 1e4 radians a float32 phase is wrong by
3e-4, and every frequency of a trained network drifts upwards. On a grid the phase is
separable, so only the axes need a sine; the grid follows by angle addition,

    sin(r + a) = sin r cos a + cos r sin a,    cos(r + a) = cos r cos a - sin r sin a,

with a = fx*x one angle per column and r = phase + fy*y one per frame and row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._check import check_floating, check_same_dtype, check_shape

_TURN = 2 * math.pi


def _output_dtype(dtype: torch.dtype | None, freq: Tensor) -> torch.dtype:
    dtype = freq.dtype if dtype is None else dtype
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    return dtype


def fourier_features(
    freq: Tensor,  # [B, F, 2]
    phase: Tensor,  # [B, T, F]
    y: Tensor,  # [H]
    x: Tensor,  # [W]
    *,
    dtype: torch.dtype | None = None,
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, T, H, W, 2F]
    """Fourier features of a space-time grid given by its axes; no coordinate tensor is made.

        theta[b,t,h,w,f] = freq[b,f,0]*x[w] + freq[b,f,1]*y[h] + phase[b,t,f]
        out = [sin theta ; cos theta]    sines first

    Args:
        freq: radians per unit of x (index 0) and of y (index 1); float64 or float32.
        phase: radians, one per video, time stamp and frequency.
        y, x: coordinates of the rows and the columns.
        dtype: of the output; freq's by default.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        Contiguous tensor. Differentiable by all four inputs to any order.

    Raises:
        ValueError: shapes that do not fit. TypeError: mixed dtypes.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    _check_grid(freq, phase, y, x)
    dtype = _output_dtype(dtype, freq)
    if _registry.takes_formula("fourier_features", impl, freq):
        return fourier_features_reference(freq, phase, y, x, dtype)
    out: Tensor = torch.ops.digan.fourier_features(freq, phase, y, x, dtype)
    return out


def _check_grid(freq: Tensor, phase: Tensor, y: Tensor, x: Tensor) -> None:
    dims: dict[str, int] = {}
    check_floating(freq=freq, phase=phase, y=y, x=x)
    check_shape(dims, "freq", freq, ("B", "F", 2))
    check_shape(dims, "phase", phase, ("B", "T", "F"))
    check_shape(dims, "y", y, ("H",))
    check_shape(dims, "x", x, ("W",))
    check_same_dtype(freq=freq, phase=phase, y=y, x=x)


def _sincos(angle: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.sin(angle).to(dtype), torch.cos(angle).to(dtype)


def axis_tables(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(sin, cos) of phase + fy*y, [B, T, H, F], and of fx*x, [B, W, F], in freq's dtype.

    The angles are exact to float64: the products of float32 factors fit in it.
    """
    wide = freq.double()
    columns = wide[:, None, :, 0] * x.double()[None, :, None]
    rows = wide[:, None, :, 1] * y.double()[None, :, None]
    rows = phase.double()[:, :, None] + rows[:, None]
    return _sincos(rows, freq.dtype), _sincos(columns, freq.dtype)


@_registry.outside_autocast
def fourier_features_reference(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    (sin_r, cos_r), (sin_a, cos_a) = axis_tables(freq, phase, y, x)
    sin_r, cos_r = sin_r[:, :, :, None], cos_r[:, :, :, None]
    sin_a, cos_a = sin_a[:, None, None], cos_a[:, None, None]
    sine = sin_r * cos_a + cos_r * sin_a
    cosine = cos_r * cos_a - sin_r * sin_a
    return torch.cat([sine, cosine], dim=-1).to(dtype)


def fourier_features_kernel(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype
) -> Tensor:
    """The formula without temporary tensors of the output's size; not differentiable."""
    (sin_r, cos_r), (sin_a, cos_a) = axis_tables(freq, phase, y, x)
    sin_r, cos_r = sin_r[:, :, :, None], cos_r[:, :, :, None]
    sin_a, cos_a = sin_a[:, None, None], cos_a[:, None, None]
    count = freq.shape[1]
    out = freq.new_empty(*phase.shape[:2], y.shape[0], x.shape[0], 2 * count)
    sine, cosine = out[..., :count], out[..., count:]
    torch.mul(sin_r, cos_a, out=sine).addcmul_(cos_r, sin_a)
    torch.mul(cos_r, cos_a, out=cosine).addcmul_(sin_r, sin_a, value=-1)
    return out.to(dtype)


def _fake(freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    size = [*phase.shape[:2], y.shape[0], x.shape[0], 2 * freq.shape[1]]
    return freq.new_empty(size, dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *torch.ops.digan.fourier_features_backward(grad, *ctx.saved_tensors), None


def features_gradients(
    grad: Tensor,  # [B, T, H, W, 2F]
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients by freq, phase, y and x, differentiable. The features are made again."""
    features = fourier_features_reference(freq, phase, y, x, freq.dtype)
    return angle_gradients(grad.to(freq.dtype), features, freq, y, x)


def angle_gradients(
    grad: Tensor,  # [B, T, H, W, 2F]
    features: Tensor,  # [B, T, H, W, 2F]
    freq: Tensor,
    y: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients by freq, phase, y and x from the features and theirs.

    dtheta = Gs cos theta - Gc sin theta; dphase = sum_hw dtheta; dfx = sum dtheta*x.
    """
    count = freq.shape[1]
    dtheta = grad[..., :count] * features[..., count:] - grad[..., count:] * features[..., :count]
    columns = dtheta.sum((1, 2))  # [B, W, F]
    by_row = dtheta.sum(3)  # [B, T, H, F]
    rows = by_row.sum(1)  # [B, H, F]
    dfreq = torch.stack(
        [(columns * x[None, :, None]).sum(1), (rows * y[None, :, None]).sum(1)], dim=-1
    )
    dy = (rows * freq[:, None, :, 1]).sum((0, 2))
    dx = (columns * freq[:, None, :, 0]).sum((0, 2))
    return dfreq, by_row.sum(2), dy, dx


def _gradients_fake(
    grad: Tensor, freq: Tensor, phase: Tensor, y: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        freq.new_empty(freq.shape),
        phase.new_empty(phase.shape),
        y.new_empty(y.shape),
        x.new_empty(x.shape),
    )


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    return _registry.vjp(features_gradients, ctx.saved_tensors, cotangents)


_registry.define(
    "fourier_features",
    "(Tensor freq, Tensor phase, Tensor y, Tensor x, ScalarType dtype) -> Tensor",
    fourier_features_kernel,
    _fake,
    _setup,
    _backward,
)
_registry.define(
    "fourier_features_backward",
    "(Tensor grad, Tensor freq, Tensor phase, Tensor y, Tensor x)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    features_gradients,
    _gradients_fake,
    _gradients_setup,
    _gradients_backward,
)


def fourier_features_at(
    freq: Tensor,  # [B, F, d]
    phase: Tensor,  # [B, F]
    coords: Tensor,  # [B, N, d]
    *,
    dtype: torch.dtype | None = None,
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, N, 2F]
    """Fourier features at scattered points, d = 1 to 4: what coordinate networks train on.

        theta[b,n,f] = sum_k freq[b,f,k]*coords[b,n,k] + phase[b,f]
        out = [sin theta ; cos theta]    sines first

    Args:
        freq: radians per unit of each coordinate; float64 or float32.
        phase: radians.
        coords: the points.
        dtype: of the output; freq's by default.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        Contiguous tensor. Differentiable to any order, twice by the coordinates too
        (eikonal and flow losses).

    Raises:
        ValueError: shapes that do not fit. TypeError: mixed dtypes.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    dims: dict[str, int] = {}
    check_floating(freq=freq, phase=phase, coords=coords)
    check_shape(dims, "freq", freq, ("B", "F", "d"))
    check_shape(dims, "phase", phase, ("B", "F"))
    check_shape(dims, "coords", coords, ("B", "N", "d"))
    if not 1 <= dims["d"] <= 4:
        raise ValueError(f"coords must have 1 to 4 coordinates a point, got {dims['d']}")
    check_same_dtype(freq=freq, phase=phase, coords=coords)
    dtype = _output_dtype(dtype, freq)
    if _registry.takes_formula("fourier_features_at", impl, freq):
        return fourier_features_at_reference(freq, phase, coords, dtype)
    out: Tensor = torch.ops.digan.fourier_features_at(freq, phase, coords, dtype)
    return out


def _point_features(freq: Tensor, phase: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of the phases at the points, [B, N, F] each, in freq's dtype."""
    theta = torch.bmm(coords.double(), freq.double().transpose(1, 2)) + phase.double()[:, None]
    if freq.dtype != torch.float64:
        # Reduced in float64, so that float32's sine sees a small angle.
        theta = (theta - _TURN * torch.round(theta.detach() / _TURN)).to(freq.dtype)
    return torch.sin(theta), torch.cos(theta)


@_registry.outside_autocast
def fourier_features_at_reference(
    freq: Tensor, phase: Tensor, coords: Tensor, dtype: torch.dtype
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    return torch.cat(_point_features(freq, phase, coords), dim=-1).to(dtype)


def _at_fake(freq: Tensor, phase: Tensor, coords: Tensor, dtype: torch.dtype) -> Tensor:
    size = [coords.shape[0], coords.shape[1], 2 * freq.shape[1]]
    return freq.new_empty(size, dtype=dtype)


def _at_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _at_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *torch.ops.digan.fourier_features_at_backward(grad, *ctx.saved_tensors), None


def _at_gradients(
    grad: Tensor, freq: Tensor, phase: Tensor, coords: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dfreq = dtheta^T coords, dphase = sum_n dtheta, dcoords = dtheta freq. Differentiable."""
    count = freq.shape[1]
    sine, cosine = _point_features(freq, phase, coords)
    grad = grad.to(freq.dtype)
    dtheta = grad[..., :count] * cosine - grad[..., count:] * sine
    return torch.bmm(dtheta.transpose(1, 2), coords), dtheta.sum(1), torch.bmm(dtheta, freq)


def _at_gradients_fake(
    grad: Tensor, freq: Tensor, phase: Tensor, coords: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return freq.new_empty(freq.shape), phase.new_empty(phase.shape), coords.new_empty(coords.shape)


def _at_gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    return _registry.vjp(_at_gradients, ctx.saved_tensors, cotangents)


def _at_flops(freq: list[int], phase: list[int], coords: list[int], *_: Any) -> int:
    return 2 * math.prod(freq) * coords[1]


def _at_gradients_flops(grad: list[int], *shapes: Any) -> int:
    return 3 * _at_flops(*shapes)


_registry.define(
    "fourier_features_at",
    "(Tensor freq, Tensor phase, Tensor coords, ScalarType dtype) -> Tensor",
    fourier_features_at_reference,
    _at_fake,
    _at_setup,
    _at_backward,
    _at_flops,
)
_registry.define(
    "fourier_features_at_backward",
    "(Tensor grad, Tensor freq, Tensor phase, Tensor coords) -> (Tensor, Tensor, Tensor)",
    _at_gradients,
    _at_gradients_fake,
    _gradients_setup,
    _at_gradients_backward,
    _at_gradients_flops,
)
