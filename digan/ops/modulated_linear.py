"""modulated_linear: one linear layer per video, with its activation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._activation import (
    ACTIVATIONS,
    activate,
    activate_,
    apply_slope,
    check_activation,
    slope_from_output,
)
from digan.ops._check import check_flag, check_floating, check_same_dtype, check_shape
from digan.ops._tf32 import matmul, operand
from digan.ops._tiles import on_cpu, product, store_activated, tiles


def modulated_linear(
    x: Tensor,  # [B, ..., I]
    weight: Tensor,  # [B, O, I]
    bias: Tensor | None = None,  # [O]
    activation: str = "linear",
    *,
    alpha: float | None = None,
    gain: float = 1.0,
    clamp: float | None = None,
    tf32: bool | None = None,
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, ..., O]
    """Applies video b's own matrix to every row of video b: a 1x1 layer on any grid.

        y[b, p] = clamp(gain * act(weight[b] @ x[b, p] + bias; alpha), -clamp, clamp)

    One batched matrix product over P = all axes between the first and the last, whatever
    they mean ([B, T, H, W, I] or [B, N, I]).

    Args:
        x, weight: one dtype (float64, float32, bfloat16, float16), any strides. Under
            autocast both take the autocast dtype.
        bias: shared by all videos; may be float32 beside lower-precision x.
        activation, alpha, gain, clamp: as in `bias_act`.
        tf32: whether products of float32, of the backward pass too, round their operands to 10
            bits of fraction; by default as PyTorch's setting has it, on a GPU. Without tensor
            cores the rounding is done one operand at a time: the numbers, not the speed.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        Contiguous tensor of x's dtype. Differentiable to any order.

    Raises:
        ValueError: shapes that do not fit, unknown activation. TypeError: mixed dtypes.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    dims: dict[str, int] = {}
    check_floating(x=x, weight=weight, bias=bias)
    alpha, gain, clamp = check_activation(activation, alpha, gain, clamp)
    if tf32 is not None:
        check_flag("tf32", tf32)
    check_shape(dims, "x", x, ("B", "*", "I"))
    check_shape(dims, "weight", weight, ("B", "O", "I"))
    if bias is not None:
        check_shape(dims, "bias", bias, ("O",))
    x, weight = _registry.autocast(x, weight)
    check_same_dtype(x=x, weight=weight)
    if _registry.takes_formula("modulated_linear", impl, x):
        return modulated_linear_reference(
            x, weight, bias, activation, alpha, gain, clamp, tf32 is True
        )
    rows = x.reshape(_row_shape(x))
    keep = not slope_from_output(activation, alpha, gain) and torch.is_grad_enabled()
    y, _ = torch.ops.digan.modulated_linear(
        rows, weight, bias, activation, alpha, gain, clamp, keep,
        _registry.rounds_to_tf32("modulated_linear", tf32, x),
    )  # fmt: skip
    out: Tensor = y.reshape(*x.shape[:-1], weight.shape[1])
    return out


def _row_shape(x: Tensor) -> tuple[int, int, int]:
    rows = 1
    for size in x.shape[1:-1]:
        rows *= size
    return x.shape[0], rows, x.shape[-1]


@_registry.outside_autocast
def modulated_linear_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool = False,
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    z = matmul(x.reshape(_row_shape(x)), weight.transpose(1, 2), tf32)
    if bias is not None:
        z = z + bias.to(z.dtype)
    y = activate(z, activation, alpha, gain, clamp)
    return y.reshape(*x.shape[:-1], weight.shape[1])


def _pre_activation(
    x: Tensor, weight: Tensor, bias: Tensor | None, tf32: bool, scale: float = 1.0
) -> Tensor:
    """scale * (x @ weight^T + bias), the scale and the bias riding on the matrix product."""
    if tf32 and x.dtype == torch.float32:
        z = matmul(x, weight.transpose(1, 2), tf32)
        return (z if bias is None else z + bias.to(z.dtype)) * scale
    if bias is None:
        zero = x.new_zeros(())
        return torch.baddbmm(zero, x, weight.transpose(1, 2), beta=0, alpha=scale)
    return torch.baddbmm(bias.to(x.dtype), x, weight.transpose(1, 2), beta=scale, alpha=scale)


def _kernel(
    x: Tensor,  # [B, P, I]
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    keep_pre_activation: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    if on_cpu(x):
        return _tiled_kernel(
            x, weight, bias, activation, alpha, gain, clamp, keep_pre_activation, tf32
        )
    if slope_from_output(activation, alpha, gain):
        # act(gain * z) = gain * act(z): the gain costs nothing inside the product.
        z = _pre_activation(x, weight, bias, tf32, gain)
        return activate_(z, activation, alpha, 1.0, clamp), x.new_empty(0)
    z = _pre_activation(x, weight, bias, tf32)
    kept = x.new_empty(0)
    if keep_pre_activation:  # homogeneous activations are applied in place, the others are not
        kept = z.clone() if ACTIVATIONS[activation].homogeneous else z
    return activate_(z, activation, alpha, gain, clamp), kept


def _tiled_kernel(
    x: Tensor,  # [B, P, I]
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    keep_pre_activation: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    keep = keep_pre_activation and not slope_from_output(activation, alpha, gain)
    plain = gain == 1 and clamp is None and not keep
    if plain and len(weight) == 1:  # the product itself is the result
        out = product(operand(x[0], tf32), operand(weight[0], tf32), bias, activation, alpha)
        return out[None], x.new_empty(0)
    out = x.new_empty(x.shape[0], x.shape[1], weight.shape[1])
    kept = torch.empty_like(out) if keep else x.new_empty(0)
    for video, matrix in enumerate(operand(weight, tf32).unbind(0)):
        for rows in tiles(x.shape[1], weight.shape[1] * x.element_size()):
            z = product(operand(x[video, rows], tf32), matrix, bias)
            if keep:
                kept[video, rows] = z
            store_activated(out[video, rows], z, activation, alpha, gain, clamp)
    return out, kept


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    keep_pre_activation: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    y = x.new_empty(x.shape[0], x.shape[1], weight.shape[1])
    keep = keep_pre_activation and not slope_from_output(activation, alpha, gain)
    return y, torch.empty_like(y) if keep else x.new_empty(0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, activation, alpha, gain, clamp, keep, tf32 = inputs
    y, kept = output
    from_output = slope_from_output(activation, alpha, gain)
    ctx.save_for_backward(
        x, weight, bias, kept if keep and not from_output else None, y if from_output else None
    )
    ctx.arguments = (activation, alpha, gain, clamp, tf32)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 9
    x, weight, bias, z, y = ctx.saved_tensors
    dx, dweight, dbias = torch.ops.digan.modulated_linear_backward(
        grad, x, weight, bias, z, y, *ctx.arguments
    )
    return dx, dweight, None if bias is None else dbias, *(None,) * 6


def _gradients(
    grad: Tensor,  # [B, P, O]
    x: Tensor,  # [B, P, I]
    weight: Tensor,  # [B, O, I]
    bias: Tensor | None,
    z: Tensor | None,  # [B, P, O] pre-activation, if kept
    y: Tensor | None,  # [B, P, O] output, if it tells the slope
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """dA = grad * act'(z); dx = dA W, dweight = dA^T x, dbias = sum dA. Differentiable."""
    if y is None and z is None and (activation != "linear" or clamp is not None):
        z = _pre_activation(x, weight, bias, tf32)
    if y is None and z is None:
        z = grad  # linear: the slope does not look at it
    da = apply_slope(grad, z, y, activation, alpha, gain, clamp)
    dbias = grad.new_zeros(0) if bias is None else da.sum((0, 1), dtype=bias.dtype)
    return matmul(da, weight, tf32), matmul(da.transpose(1, 2), x, tf32), dbias


def _gradients_kernel(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None,
    y: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`_gradients`; on a CPU in one pass over grad, x and y."""
    if not on_cpu(grad) or (y is None and z is None):
        return _gradients(grad, x, weight, bias, z, y, activation, alpha, gain, clamp, tf32)
    wide = torch.promote_types(grad.dtype, torch.float32)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    dweight = weight.new_zeros(weight.shape, dtype=wide)
    dbias = grad.new_zeros(weight.shape[1], dtype=wide)
    for video, matrix in enumerate(operand(weight, tf32).unbind(0)):
        for rows in tiles(x.shape[1], weight.shape[1] * x.element_size()):
            at = (video, rows)
            da = apply_slope(
                grad[at],
                None if z is None else z[at],
                None if y is None else y[at],
                activation,
                alpha,
                gain,
                clamp,
            )
            if bias is not None:
                dbias += da.sum(0, dtype=wide)
            da = operand(da, tf32)
            dx[at] = product(da, matrix.t())
            dweight[video] += da.t() @ operand(x[at], tf32)
    bias_gradient = grad.new_zeros(0) if bias is None else dbias.to(bias.dtype)
    return dx, dweight.to(weight.dtype), bias_gradient


def _gradients_fake(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        grad.new_empty(0) if bias is None else torch.empty_like(bias),
    )


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, x, weight, bias, _, y, *ctx.arguments = inputs
    ctx.save_for_backward(grad, x, weight, bias, y)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    *inputs, y = ctx.saved_tensors
    # A second derivative of the activation must be seen: the pre-activation is computed
    # again from the inputs. Homogeneous activations have none; the output still serves.
    z_free = y if y is not None and ACTIVATIONS[ctx.arguments[0]].homogeneous else None

    def formula(g: Tensor, x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, ...]:
        return _gradients(g, x, w, b, None, z_free, *ctx.arguments)

    return *_registry.vjp(formula, inputs, cotangents), *(None,) * 7


def _flops(x: list[int], weight: list[int], *_: Any) -> int:
    return 2 * math.prod(x) * weight[1]


def _gradients_flops(grad: list[int], x: list[int], weight: list[int], *_: Any) -> int:
    return 2 * _flops(x, weight)


_registry.define(
    "modulated_linear",
    "(Tensor x, Tensor weight, Tensor? bias, str activation, float alpha, float gain,"
    " float? clamp, bool keep_pre_activation, bool tf32) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
_registry.define(
    "modulated_linear_backward",
    "(Tensor grad, Tensor x, Tensor weight, Tensor? bias, Tensor? z, Tensor? y,"
    " str activation, float alpha, float gain, float? clamp, bool tf32)"
    " -> (Tensor, Tensor, Tensor)",
    _gradients_kernel,
    _gradients_fake,
    _gradients_setup,
    _gradients_backward,
    _gradients_flops,
)
