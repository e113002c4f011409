"""The arithmetic of tf32 without its hardware: operands rounded, products and sums in float32.

TF32 keeps float32's exponent and 10 of its 23 bits of fraction. The product of two such numbers
is exact in float32, so rounding the operands first gives what a GPU's tensor cores give, up to
the order of a sum. The native kernels round by `cvt.rna.tf32`: to nearest, halves away from zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_DROPPED = 13  # bits of float32's fraction that tf32 has not


def round_to_tf32(x: Tensor) -> Tensor:
    """float32 of any shape to the nearest number of tf32, halves away from zero, as float32.

    Infinities and NaN stay. Finite numbers above the largest one round to infinity.
    """
    bits = x.view(torch.int32)
    rounded = bits + (1 << (_DROPPED - 1))
    rounded &= -(1 << _DROPPED)
    # Rounding carries some NaN over into zero.
    return rounded.view(torch.float32).where(x == x, x)


def operand(x: Tensor, tf32: bool) -> Tensor:
    """What a matrix product reads of x: rounded if `tf32` and x is float32, else x itself."""
    return round_to_tf32(x) if tf32 and x.dtype == torch.float32 else x


class _RoundedProduct(torch.autograd.Function):
    """a @ b with operands in tf32, and the same of both gradients, to any order."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.matmul(round_to_tf32(a), round_to_tf32(b))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        da = matmul(grad, b.mT, True) if ctx.needs_input_grad[0] else None
        db = matmul(a.mT, grad, True) if ctx.needs_input_grad[1] else None
        return da, db


def matmul(a: Tensor, b: Tensor, tf32: bool) -> Tensor:
    """a @ b of matrices or of equal batches of them, differentiable to any order.

    With `tf32`, float32 operands of it and of its gradients are rounded.
    """
    if tf32 and a.dtype == torch.float32:
        out: Tensor = _RoundedProduct.apply(a, b)  # type: ignore[no-untyped-call]
        return out
    return torch.matmul(a, b)
