"""bias_act: bias, activation, gain and clamp in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._activation import (
    activate,
    activate_,
    apply_slope,
    check_activation,
    slope_from_output,
)
from digan.ops._check import check_floating, check_integer, check_tensor
from digan.ops._tiles import channel_blocks, has_blocks, on_cpu


def bias_act(
    x: Tensor,  # [..., C, ...]
    bias: Tensor | None = None,  # [C]
    activation: str = "linear",
    *,
    alpha: float | None = None,
    gain: float = 1.0,
    clamp: float | None = None,
    dim: int = 1,
    impl: _registry.Impl | None = None,
) -> Tensor:
    """Adds a bias along one axis and applies an activation.

        y = clamp(gain * act(x + bias; alpha), -clamp, clamp)

    Args:
        x: any shape, float64, float32, bfloat16 or float16, any strides.
        bias: one value per index of axis `dim`, cast to x's dtype; None for none.
        activation: linear, relu, lrelu, sine, gelu, tanh, sigmoid, softplus, swish, elu, selu.
        alpha: slope of lrelu below zero (0.2), w0 of sine (30); unused by the others.
        gain: factor behind the activation.
        clamp: bound on |y|; None for none.
        dim: the axis of the channels.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        Tensor of x's shape, dtype and strides. Differentiable to any order.

    Raises:
        ValueError: wrong shape, unknown activation, clamp not positive, a number beyond float32's.
        TypeError: an argument of another type.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    check_tensor("x", x)
    check_floating(x=x, bias=bias)
    alpha, gain, clamp = check_activation(activation, alpha, gain, clamp)
    dim = check_integer("dim", dim)
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be an axis of x, which has {x.dim()}, got {dim}")
    dim = dim % x.dim()
    if bias is not None and tuple(bias.shape) != (x.shape[dim],):
        raise ValueError(f"bias must be [{x.shape[dim]}] (axis {dim} of x), got {list(bias.shape)}")
    (x,) = _registry.autocast(x)
    if _registry.takes_formula("bias_act", impl, x):
        return bias_act_reference(x, bias, activation, alpha, gain, clamp, dim)
    out: Tensor = torch.ops.digan.bias_act(x, bias, activation, alpha, gain, clamp, dim)
    return out


def _pre_activation(x: Tensor, bias: Tensor | None, dim: int) -> Tensor:
    if bias is None:
        return x
    return x + bias.to(x.dtype).reshape([-1 if i == dim else 1 for i in range(x.dim())])


@_registry.outside_autocast
def bias_act_reference(
    x: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    dim: int,
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    return activate(_pre_activation(x, bias, dim), activation, alpha, gain, clamp)


def _kernel(
    x: Tensor,
    bias: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    dim: int,
) -> Tensor:
    if not (on_cpu(x) and has_blocks(x, dim)):
        z = x.clone() if bias is None else _pre_activation(x, bias, dim)
        return activate_(z, activation, alpha, gain, clamp)
    out = torch.empty_like(x)
    bias = None if bias is None else bias.to(x.dtype)
    for (x_block, out_block), own, _ in channel_blocks(dim, x, out):
        z = (
            out_block.copy_(x_block)
            if bias is None
            else torch.add(x_block, own(bias), out=out_block)
        )
        y = activate_(z, activation, alpha, gain, clamp)
        if y is not z:  # not every activation has a form in place
            out_block.copy_(y)
    return out


def _fake(x: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, activation, alpha, gain, clamp, dim = inputs
    from_output = slope_from_output(activation, alpha, gain)
    ctx.save_for_backward(None if from_output else x, bias, output if from_output else None)
    ctx.arguments = (activation, alpha, gain, clamp, dim)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, bias, out = ctx.saved_tensors
    if out is not None and not ctx.needs_input_grad[1]:
        bias = None  # a bias that rests: no sum
    dx, dbias = torch.ops.digan.bias_act_backward(grad, x, bias, out, *ctx.arguments)
    return dx, None if bias is None else dbias, None, None, None, None, None


def _gradients(
    grad: Tensor,
    x: Tensor | None,
    bias: Tensor | None,
    out: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """dx = grad * act'(x + bias), dbias = its sum over all axes but `dim`; differentiable."""
    z = None if x is None else _pre_activation(x, bias, dim)
    dx = apply_slope(grad, z, out, activation, alpha, gain, clamp)
    dx = grad.clone() if dx is grad else dx  # an op's output is never its input
    if bias is None:
        return dx, dx.new_zeros(0)
    others = [i for i in range(dx.dim()) if i != dim]
    # An empty list of axes would mean all of them.
    return dx, dx.sum(others, dtype=bias.dtype) if others else dx.to(bias.dtype, copy=True)


def _gradients_kernel(
    grad: Tensor,
    x: Tensor | None,
    bias: Tensor | None,
    out: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """`_gradients`; on a CPU in one pass where the tensors lie in memory alike."""
    arguments = (activation, alpha, gain, clamp)
    kept = x if out is None else out
    assert kept is not None
    if not (on_cpu(grad) and has_blocks(grad, dim) and grad.stride() == kept.stride()):
        return _gradients(grad, x, bias, out, *arguments, dim)
    dx = torch.empty_like(grad)
    wide = torch.promote_types(grad.dtype, torch.float32)
    dbias = grad.new_zeros(0 if bias is None else len(bias), dtype=wide)
    shift = None if bias is None else bias.to(grad.dtype)
    for (grad_block, kept_block, dx_block), own, others in channel_blocks(dim, grad, kept, dx):
        z = None
        if out is None:
            z = kept_block if shift is None else kept_block + own(shift)
        da = apply_slope(grad_block, z, kept_block if out is not None else None, *arguments)
        dx_block.copy_(da)
        if bias is not None:
            mine = own(dbias)
            mine += da.sum(others, dtype=wide).view(mine.shape)
    return dx, dx.new_zeros(0) if bias is None else dbias.to(bias.dtype)


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.arguments = inputs[4:]
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    grad, x, bias, out = ctx.saved_tensors
    by_dx, by_dbias = cotangents
    if out is not None and by_dx is not None and by_dbias is None:
        # dx is linear in grad, with a slope that the output tells: the same op once more.
        dgrad, _ = torch.ops.digan.bias_act_backward(by_dx, None, None, out, *ctx.arguments)
        return dgrad, *[None] * 8

    def formula(g: Tensor, x_: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor]:
        return _gradients(g, x_, b, out, *ctx.arguments)

    dgrad, dx, dbias = _registry.vjp(formula, (grad, x, bias), cotangents)
    return dgrad, dx, dbias, None, None, None, None, None, None


_registry.define(
    "bias_act",
    "(Tensor x, Tensor? bias, str activation, float alpha, float gain, float? clamp, int dim)"
    " -> Tensor",
    _kernel,
    _fake,
    _setup,
    _backward,
)
_registry.define(
    "bias_act_backward",
    "(Tensor grad, Tensor? x, Tensor? bias, Tensor? out, str activation, float alpha,"
    " float gain, float? clamp, int dim) -> (Tensor, Tensor)",
    _gradients_kernel,
    _gradients,  # run on fake tensors: the strides of mixed layouts are PyTorch's to choose
    _gradients_setup,
    _gradients_backward,
)
