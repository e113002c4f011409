"""The discriminators' strided convolution, with a weight gradient that is fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

STRIDE = 2


def strided_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """conv2d with stride 2 and no padding, [N, I, H, W] and [O, I, k, k]; all orders of gradients.

    In float32 on a CPU oneDNN's weight gradient of a strided convolution is two to three times
    slower on channels-last memory than on plain memory, copies included; the forward and the
    input's gradient are not. So that one gradient is taken on plain copies.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and weight.requires_grad:
        out: Tensor = _Strided.apply(x, weight)  # type: ignore[no-untyped-call]
        return out
    return functional.conv2d(x, weight, stride=STRIDE)


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, stride=STRIDE)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = _gradient(grad, x, weight, 0)
        if ctx.needs_input_grad[1]:
            dweight = _gradient(grad.contiguous(), x.contiguous(), weight.contiguous(), 1)
            dweight = dweight.contiguous(memory_format=torch.channels_last)
        return dx, dweight


def _gradient(grad: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
    """PyTorch's own backward, itself differentiable: by x (0) or by weight (1)."""
    mask = [which == 0, which == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [STRIDE, STRIDE], [0, 0], [1, 1], False, [0, 0], 1, mask
    )[which]
    return found
