"""fourier_features: sines and cosines of space-time phases, on a grid.

Phases are formed in float64 whatever the dtype: at 1e4 radians a float32 phase is wrong by
3e-4, and every frequency of a trained network drifts upwards. On a grid the phase is
separable, so only the axes need a sine; the grid follows by angle addition,

    sin(r + a) = sin r cos a + cos r sin a,    cos(r + a) = cos r cos a - sin r sin a,

with a = fx*x one angle per column and r = phase + fy*y one per frame and row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._check import (
    DTYPES,
    check_floating,
    check_same_dtype,
    check_shape,
    check_wide,
    described,
)
from digan.ops._tiles import on_cpu, tiles

Table = tuple[Tensor, Tensor]  # sines and cosines


def output_dtype(dtype: torch.dtype | None, freq: Tensor) -> torch.dtype:
    """The dtype asked for, freq's by default; TypeError where it is no floating-point one."""
    dtype = freq.dtype if dtype is None else dtype
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype or None, got {described(dtype)}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be float64, float32, bfloat16 or float16, got {dtype}")
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
    dtype = output_dtype(dtype, freq)
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
    check_wide(freq=freq)
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


def _rotate(rows: Table, columns: Table, sine: Tensor, cosine: Tensor) -> None:
    """Angle addition into two given tensors, for tables that broadcast to them."""
    (sin_r, cos_r), (sin_a, cos_a) = rows, columns
    torch.mul(sin_r, cos_a, out=sine).addcmul_(cos_r, sin_a)
    torch.mul(cos_r, cos_a, out=cosine).addcmul_(sin_r, sin_a, value=-1)


def _row_tiles(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor
) -> Iterator[tuple[int, slice, Table, Table]]:
    """The grid in tiles of rows that stay in cache; all rows at once where there is no need.

    Yields:
        The video; a slice of its T*H rows; the tables of these rows, [n, 1, F], and of the
        columns, [W, F].
    """
    rows, columns = axis_tables(freq, phase, y, x)
    count = phase.shape[1] * y.shape[0]
    row_bytes = x.shape[0] * 2 * freq.shape[1] * freq.element_size()
    for b in range(freq.shape[0]):
        whole = [table[b].reshape(count, 1, freq.shape[1]) for table in rows]
        own = (columns[0][b], columns[1][b])
        cuts = tiles(count, row_bytes, multiple=1) if on_cpu(freq) else [slice(0, count)]
        for cut in cuts:
            yield b, cut, (whole[0][cut], whole[1][cut]), own


def fourier_features_kernel(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype
) -> Tensor:
    """The formula without temporary tensors of the output's size; not differentiable."""
    count = freq.shape[1]
    out = freq.new_empty(_features_size(freq, phase, y, x), dtype=dtype)
    for b, cut, rows, columns in _row_tiles(freq, phase, y, x):
        target = out[b].flatten(0, 1)[cut]
        tile = target if dtype == freq.dtype else torch.empty_like(target, dtype=freq.dtype)
        _rotate(rows, columns, tile[..., :count], tile[..., count:])
        if tile is not target:
            target.copy_(tile)
    return out


def _features_size(freq: Tensor, phase: Tensor, y: Tensor, x: Tensor) -> list[int]:
    return [*phase.shape[:2], y.shape[0], x.shape[0], 2 * freq.shape[1]]


def _fake(freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    return freq.new_empty(_features_size(freq, phase, y, x), dtype=dtype)


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
    return _from_sums(dtheta.sum((1, 2)), dtheta.sum(3), freq, y, x)


def _from_sums(
    by_column: Tensor,  # [B, W, F]: dtheta summed over frames and rows
    by_row: Tensor,  # [B, T, H, F]: dtheta summed over columns
    freq: Tensor,
    y: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = by_row.sum(1)  # [B, H, F]
    dfreq = torch.stack(
        [(by_column * x[None, :, None]).sum(1), (rows * y[None, :, None]).sum(1)], dim=-1
    )
    dy = (rows * freq[:, None, :, 1]).sum((0, 2))
    dx = (by_column * freq[:, None, :, 0]).sum((0, 2))
    return dfreq, by_row.sum(2), dy, dx


def _gradients_kernel(
    grad: Tensor, freq: Tensor, phase: Tensor, y: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`features_gradients` tile by tile; not differentiable."""
    count = freq.shape[1]
    by_row = freq.new_empty(*phase.shape[:2], y.shape[0], count)
    by_column = freq.new_zeros(freq.shape[0], x.shape[0], count)
    for b, cut, rows, columns in _row_tiles(freq, phase, y, x):
        given = grad[b].flatten(0, 1)[cut].to(freq.dtype)
        sine, cosine = (torch.empty_like(given[..., :count]) for _ in range(2))
        _rotate(rows, columns, sine, cosine)
        dtheta = cosine.mul_(given[..., :count]).addcmul_(given[..., count:], sine, value=-1)
        by_row[b].flatten(0, 1)[cut] = dtheta.sum(1)
        by_column[b] += dtheta.sum(0)
    return _from_sums(by_column, by_row, freq, y, x)


def _gradients_fake(
    grad: Tensor, freq: Tensor, phase: Tensor, y: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        freq.new_empty(freq.shape),
        phase.new_empty(phase.shape),
        y.new_empty(y.shape),
        x.new_empty(x.shape),
    )


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
    _gradients_kernel,
    _gradients_fake,
    _registry.save_inputs,
    _gradients_backward,
)
