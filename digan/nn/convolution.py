"""The discriminators' convolution, with gradients taken where and how they are cheap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def convolve(
    x: Tensor,  # [N, I, H, W]
    weight: Tensor,  # [O, I, k, k]
    *,
    stride: int = 1,
    padding: int = 0,
    backward_dtype: torch.dtype | None = None,
) -> Tensor:
    """conv2d, differentiable to any order. Two things set its gradients apart from PyTorch's:

    With `backward_dtype` all products of the backward pass, of every order, have operands of that
    dtype. The output, and with it the sign of every pre-activation, is that of full precision.

    In float32 on a CPU oneDNN's weight gradient of a strided convolution is two to three times
    slower on channels-last memory than on plain memory, copies included; the forward and the
    input's gradient are not. So that one gradient is taken on plain copies.

    Both are differentiated by what they are, products that are linear in either operand, and not
    by PyTorch's double backward, as is every convolution on a GPU. PyTorch makes the weight's
    gradient of R1 by a convolution whose kernel is as large as the image: cuDNN has no fast
    algorithm for that, and oneDNN gives wrong numbers in bfloat16 on CPUs with AMX (PyTorch 2.13,
    relative error 1).
    """
    plain = (
        stride > 1
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.requires_grad
        and backward_dtype is None
    )
    if plain or x.device.type != "cpu" or backward_dtype not in (None, x.dtype):
        how = _How(stride, padding, backward_dtype or x.dtype, plain)
        out: Tensor = _Convolution.apply(x, weight, how, x.dtype)  # type: ignore[no-untyped-call]
        return out
    return functional.conv2d(x, weight, stride=stride, padding=padding)


@dataclass(frozen=True)
class _How:
    stride: int
    padding: int
    dtype: torch.dtype  # of operands in the backward pass
    plain: bool  # memory of a weight gradient's operands

    def gradient(self, grad: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
        """By x (0) or by weight (1), whose own numbers are then not read."""
        mask = [which == 0, which == 1, False]
        padding, stride = [self.padding] * 2, [self.stride] * 2
        operands = [t.to(self.dtype) for t in (grad, x, weight)]
        if which == 1 and self.plain:
            operands = [t.contiguous() for t in operands]
        found: Tensor = torch.ops.aten.convolution_backward(
            *operands, None, stride, padding, [1, 1], False, [0, 0], 1, mask
        )[which]
        return found


def _wanted(ctx: Any) -> list[bool]:
    """Which of the first two inputs' gradients this backward pass asks for.

    R1 first differentiates by pictures alone. That the weights could have a gradient is no reason
    to compute one, which autograd's own `needs_input_grad` would have it.
    """
    return [ctx.needs_input_grad[i] and _will_run(ctx.next_functions[i][0]) for i in (0, 1)]


def _will_run(node: Any) -> bool:
    if torch.compiler.is_compiling():
        return True
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf by which autograd.grad differentiates
        return True


# Three products, each linear in two operands, whose gradients are the other two.


class _Convolution(torch.autograd.Function):
    """x with weight, operands rounded to `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, how: _How, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        out = functional.conv2d(
            x.to(dtype), weight.to(dtype), stride=how.stride, padding=how.padding
        )
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x, by_weight = _wanted(ctx)
        return (
            _ByInput.apply(grad, weight, x, ctx.how) if by_x else None,  # type: ignore[no-untyped-call]
            _ByWeight.apply(grad, x, weight, ctx.how) if by_weight else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )


class _ByInput(torch.autograd.Function):
    """grad with weight: the gradient by an input that is laid out like `x`."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, weight: Tensor, x: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.how = how
        return how.gradient(grad, x.detach(), weight, 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        by_grad, by_weight = _wanted(ctx)
        return (
            _Convolution.apply(v, weight, ctx.how, ctx.how.dtype) if by_grad else None,  # type: ignore[no-untyped-call]
            _ByWeight.apply(grad, v, weight, ctx.how) if by_weight else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )


class _ByWeight(torch.autograd.Function):
    """grad with x: the gradient by a weight of the shape of `weight`."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.how = how
        dweight = how.gradient(grad, x, weight.detach(), 1).to(weight.dtype)
        return dweight.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        grad, x = ctx.saved_tensors
        by_grad, by_x = _wanted(ctx)
        return (
            _Convolution.apply(x, v, ctx.how, ctx.how.dtype) if by_grad else None,  # type: ignore[no-untyped-call]
            _ByInput.apply(grad, v, x, ctx.how) if by_x else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )
