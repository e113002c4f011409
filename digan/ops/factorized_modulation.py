"""factorized_modulation: the weights of a layer from its base weight and low-rank factors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._check import check_flag, check_floating, check_same_dtype, check_shape, check_wide

EPSILON = 1e-8


def factorized_modulation(
    weight: Tensor,  # [O, I]
    left: Tensor,  # [B, O, R]
    right: Tensor,  # [B, R, I]
    demodulate: bool = True,
    *,
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, O, I]
    """Modulates one weight matrix for every video by a rank-R matrix.

        U[b] = weight * (1 + left[b] @ right[b] / sqrt(R))
        W[b] = U[b] / (norm of each row of U[b] + 1e-8)      if demodulate, else U[b]

    Factorised multiplicative modulation (INR-GAN, Skorokhodov et al. 2021; used by DIGAN).

    Args:
        weight, left, right: one dtype, float64 or float32 (row norms want full precision).
        demodulate: divide by the row norms.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Raises:
        ValueError: shapes that do not fit. TypeError: mixed dtypes.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    dims: dict[str, int] = {}
    check_floating(weight=weight, left=left, right=right)
    check_shape(dims, "weight", weight, ("O", "I"))
    check_shape(dims, "left", left, ("B", "O", "R"))
    check_shape(dims, "right", right, ("B", "R", "I"))
    if dims["R"] < 1:
        raise ValueError(f"left must be [B, O, R] with R at least 1, got {list(left.shape)}")
    check_wide(weight=weight)
    check_same_dtype(weight=weight, left=left, right=right)
    check_flag("demodulate", demodulate)
    if _registry.takes_formula("factorized_modulation", impl, weight):
        return factorized_modulation_reference(weight, left, right, demodulate)
    out: Tensor = torch.ops.digan.factorized_modulation(weight, left, right, demodulate)
    return out


@_registry.outside_autocast
def factorized_modulation_reference(
    weight: Tensor, left: Tensor, right: Tensor, demodulate: bool
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    u = weight * (1 + torch.bmm(left, right) / math.sqrt(left.shape[2]))
    if not demodulate:
        return u
    norm: Tensor = torch.linalg.vector_norm(u, dim=2, keepdim=True)
    return u / (norm + EPSILON)


def _kernel(weight: Tensor, left: Tensor, right: Tensor, demodulate: bool) -> Tensor:
    u = torch.baddbmm(weight.new_ones(()), left, right, alpha=1 / math.sqrt(left.shape[2]))
    u.mul_(weight)
    if demodulate:
        u.div_(torch.linalg.vector_norm(u, dim=2, keepdim=True) + EPSILON)
    return u


def _fake(weight: Tensor, left: Tensor, right: Tensor, demodulate: bool) -> Tensor:
    return weight.new_empty(left.shape[0], *weight.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.demodulate = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    gradients = torch.ops.digan.factorized_modulation_backward(
        grad, *ctx.saved_tensors, ctx.demodulate
    )
    return *gradients, None


def _gradients(
    grad: Tensor, weight: Tensor, left: Tensor, right: Tensor, demodulate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """dweight, dleft, dright, differentiable.

    With n = norm of a row of U and m = n + eps: dU = G/m - U * sum(G*U) / (n*m^2), 0 where
    n = 0 in the second term; dweight = sum_b dU*(1+M); dM = dU*weight/sqrt(R).
    """
    scale = 1 / math.sqrt(left.shape[2])
    factor = 1 + torch.bmm(left, right) * scale
    du = grad
    if demodulate:
        u = weight * factor
        norm = torch.linalg.vector_norm(u, dim=2, keepdim=True)
        safe = torch.where(norm == 0, 1.0, norm)
        m = norm + EPSILON
        unit = u / m  # divided first: n * m^2 of large rows is beyond float32
        du = grad / m - unit * ((grad * unit).sum(2, keepdim=True) / safe)
    dm = du * weight * scale
    return (
        (du * factor).sum(0),
        torch.bmm(dm, right.transpose(1, 2)),
        torch.bmm(left.transpose(1, 2), dm),
    )


def _gradients_fake(
    grad: Tensor, weight: Tensor, left: Tensor, right: Tensor, demodulate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        weight.new_empty(weight.shape),
        left.new_empty(left.shape),
        right.new_empty(right.shape),
    )


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.demodulate = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    def formula(*tensors: Tensor) -> tuple[Tensor, ...]:
        return _gradients(*tensors, ctx.demodulate)  # type: ignore[arg-type, call-arg]

    return *_registry.vjp(formula, ctx.saved_tensors, cotangents), None


def _flops(weight: list[int], left: list[int], *_: Any) -> int:
    return 2 * math.prod(left) * weight[1]


def _gradients_flops(grad: list[int], weight: list[int], left: list[int], *_: Any) -> int:
    return 3 * _flops(weight, left)  # the product again, and one for either factor


_registry.define(
    "factorized_modulation",
    "(Tensor weight, Tensor left, Tensor right, bool demodulate) -> Tensor",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
_registry.define(
    "factorized_modulation_backward",
    "(Tensor grad, Tensor weight, Tensor left, Tensor right, bool demodulate)"
    " -> (Tensor, Tensor, Tensor)",
    _gradients,
    _gradients_fake,
    _gradients_setup,
    _gradients_backward,
    _gradients_flops,
)
