"""fourier_features_at: sines and cosines of phases at scattered points.

Phases are formed in float64 whatever the dtype, see `fourier_features`, and reduced there to a
turn around zero, so that float32's sine sees a small angle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._check import check_floating, check_same_dtype, check_shape, check_wide
from digan.ops._tiles import on_cpu, tiles
from digan.ops.fourier_features import output_dtype

_TURN = 2 * math.pi


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
    check_wide(freq=freq)
    check_same_dtype(freq=freq, phase=phase, coords=coords)
    dtype = output_dtype(dtype, freq)
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


def _tile_features(
    freq: Tensor,  # [F, d], float64
    phase: Tensor,  # [F], float64
    coords: Tensor,  # [n, d]
) -> tuple[Tensor, Tensor]:
    """`_point_features` of some points of one video, [n, F] each."""
    theta = torch.addmm(phase, coords.double(), freq.t())
    if coords.dtype == torch.float64:
        return torch.sin(theta), torch.cos(theta)
    turns = torch.mul(theta, 1 / _TURN).round_()
    small = theta.sub_(turns, alpha=_TURN).to(coords.dtype)
    # Dense tensors: into a part of wider rows a sine is made number by number, six times slower.
    return torch.sin(small), small.cos_()


def _point_tiles(freq: Tensor, coords: Tensor) -> Iterator[tuple[int, slice]]:
    """Videos, and slices of points whose angles in float64 stay in cache."""
    count = coords.shape[1]
    for b in range(freq.shape[0]):
        cuts = tiles(count, 8 * freq.shape[1]) if on_cpu(freq) else [slice(0, count)]
        for cut in cuts:
            yield b, cut


def _kernel(freq: Tensor, phase: Tensor, coords: Tensor, dtype: torch.dtype) -> Tensor:
    """The formula tile by tile; not differentiable."""
    count = freq.shape[1]
    out = freq.new_empty(*coords.shape[:2], 2 * count, dtype=dtype)
    wide_freq, wide_phase = freq.double(), phase.double()
    for b, cut in _point_tiles(freq, coords):
        sine, cosine = _tile_features(wide_freq[b], wide_phase[b], coords[b, cut])
        out[b, cut, :count] = sine
        out[b, cut, count:] = cosine
    return out


def _fake(freq: Tensor, phase: Tensor, coords: Tensor, dtype: torch.dtype) -> Tensor:
    size = [coords.shape[0], coords.shape[1], 2 * freq.shape[1]]
    return freq.new_empty(size, dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *torch.ops.digan.fourier_features_at_backward(grad, *ctx.saved_tensors), None


def _gradients(
    grad: Tensor, freq: Tensor, phase: Tensor, coords: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dfreq = dtheta^T coords, dphase = sum_n dtheta, dcoords = dtheta freq. Differentiable."""
    count = freq.shape[1]
    sine, cosine = _point_features(freq, phase, coords)
    grad = grad.to(freq.dtype)
    dtheta = grad[..., :count] * cosine - grad[..., count:] * sine
    return torch.bmm(dtheta.transpose(1, 2), coords), dtheta.sum(1), torch.bmm(dtheta, freq)


def _gradients_kernel(
    grad: Tensor, freq: Tensor, phase: Tensor, coords: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`_gradients` tile by tile; not differentiable."""
    count = freq.shape[1]
    dfreq, dphase = freq.new_zeros(freq.shape), phase.new_zeros(phase.shape)
    dcoords = coords.new_empty(coords.shape)
    wide_freq, wide_phase = freq.double(), phase.double()
    for b, cut in _point_tiles(freq, coords):
        own, given = coords[b, cut], grad[b, cut].to(freq.dtype)
        sine, cosine = _tile_features(wide_freq[b], wide_phase[b], own)
        dtheta = cosine.mul_(given[:, :count]).addcmul_(given[:, count:], sine, value=-1)
        dfreq[b] += dtheta.t() @ own
        dphase[b] += dtheta.sum(0)
        torch.mm(dtheta, freq[b], out=dcoords[b, cut])
    return dfreq, dphase, dcoords


def _gradients_fake(
    grad: Tensor, freq: Tensor, phase: Tensor, coords: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return freq.new_empty(freq.shape), phase.new_empty(phase.shape), coords.new_empty(coords.shape)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    return _registry.vjp(_gradients, ctx.saved_tensors, cotangents)


def _flops(freq: list[int], phase: list[int], coords: list[int], *_: Any) -> int:
    return 2 * math.prod(freq) * coords[1]


def _gradients_flops(grad: list[int], *shapes: Any) -> int:
    return 3 * _flops(*shapes)


_registry.define(
    "fourier_features_at",
    "(Tensor freq, Tensor phase, Tensor coords, ScalarType dtype) -> Tensor",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
_registry.define(
    "fourier_features_at_backward",
    "(Tensor grad, Tensor freq, Tensor phase, Tensor coords) -> (Tensor, Tensor, Tensor)",
    _gradients_kernel,
    _gradients_fake,
    _registry.save_inputs,
    _gradients_backward,
    _gradients_flops,
)
