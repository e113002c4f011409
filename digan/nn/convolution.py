"""The discriminators' convolution, with gradients taken where and how they are cheap."""

from __future__ import annotations

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
    """
    plain = (
        stride > 1
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.requires_grad
        and backward_dtype is None
    )
    if plain or backward_dtype not in (None, x.dtype):
        out: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            x, weight, stride, padding, backward_dtype or x.dtype, plain
        )
        return out
    return functional.conv2d(x, weight, stride=stride, padding=padding)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: int,
        padding: int,
        dtype: torch.dtype,
        plain: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.arguments = (stride, padding)
        ctx.dtype, ctx.plain = dtype, plain
        return functional.conv2d(x, weight, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        given = (x.dtype, weight.dtype)
        grad, x, weight = (t.to(ctx.dtype) for t in (grad, x, weight))
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = _gradient(grad, x, weight, 0, *ctx.arguments).to(given[0])
        if ctx.needs_input_grad[1]:
            if ctx.plain:
                grad, x, weight = (t.contiguous() for t in (grad, x, weight))
            dweight = _gradient(grad, x, weight, 1, *ctx.arguments).to(given[1])
            dweight = dweight.contiguous(memory_format=torch.channels_last)
        return dx, dweight, None, None, None, None


def _gradient(
    grad: Tensor, x: Tensor, weight: Tensor, which: int, stride: int, padding: int
) -> Tensor:
    """PyTorch's own backward, itself differentiable: by x (0) or by weight (1)."""
    mask = [which == 0, which == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
    )[which]
    return found
