"""Activations that are made again in the backward pass instead of being kept.

A custom node and not `torch.utils.checkpoint`, because of R1: where a gradient is itself
differentiated, that one's recomputed activations are all held by the gradient's graph, and nothing
is saved where most is needed. Here the gradient is a recomputed work too, whose own gradient makes
it again, and so on to any order. No random numbers are drawn in these works, so no state of a
generator is kept, and CUDA graphs capture them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

# What a recomputed slice of the discriminators' batch should fill at least: 4 images of 128x128.
_SLICE_PIXELS = 1 << 16

Work = Callable[..., tuple[Tensor, ...]]


def recomputed(
    run: Callable[..., Tensor], inputs: Sequence[Tensor], captured: Sequence[Tensor]
) -> Tensor:
    """run(*inputs), differentiable to any order, of which only arguments and result are kept.

    Args:
        run: draws no random numbers, changes nothing in place, returns the same each time.
        inputs: its arguments.
        captured: every tensor with a gradient that `run` knows beside them: parameters, or tensors
            of which no two have a common past. Whatever else it uses belongs to `inputs`.

    Raises:
        RuntimeError: in the backward pass, if `run` knows parameters that were not named, whose
            gradients would be lost.
    """
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *captured))):
        return run(*inputs)
    device = next(t.device.type for t in (*inputs, *captured))
    casts = _Casts.of(device)

    def work(*arguments: Tensor) -> tuple[Tensor, ...]:
        with casts.again():
            return (run(*arguments),)

    (out,) = _Recomputed.apply(work, len(inputs), *inputs, *captured)  # type: ignore[no-untyped-call]
    found: Tensor = out
    return found


def slice_size(pixels: int) -> int:
    """Images of a recomputed slice of a discriminator's batch, of so many pixels each."""
    return max(1, _SLICE_PIXELS // pixels)


@dataclass(frozen=True)
class _Casts:
    """Autocast as it was; the backward pass runs without."""

    device: str
    dtype: torch.dtype | None  # None where it was off

    @staticmethod
    def of(device: str) -> _Casts:
        known = torch.amp.is_autocast_available(device)
        enabled = known and torch.is_autocast_enabled(device)
        return _Casts(device, torch.get_autocast_dtype(device) if enabled else None)

    def again(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype is None:
            return contextlib.nullcontext()
        # A cast that was cached while gradients were off would have none.
        return torch.autocast(self.device, self.dtype, cache_enabled=False)


@dataclass(frozen=True)
class _Gradient:
    """The vector-Jacobian product of a work, as a work: (cotangents, inputs) -> gradients.

    Attributes:
        work: what is differentiated. captured: the tensors with gradients that it knows.
        given: numbers of its results that have cotangents.
        wanted: numbers, in (*inputs, *captured), of the tensors whose gradients are its results.
    """

    work: Work
    captured: tuple[Tensor, ...]
    given: tuple[int, ...]
    wanted: tuple[int, ...]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        higher = torch.is_grad_enabled()  # then the caller differentiates this one in turn
        cotangents, inputs = tensors[: len(self.given)], tensors[len(self.given) :]
        with torch.enable_grad():
            if not higher:
                inputs = _leaves(inputs)
            results = self.work(*inputs)
            _check_captured(results, (*inputs, *self.captured))
            known = (*inputs, *self.captured)
            targets = [known[i] for i in self.wanted]
            pairs = [(results[i], c) for i, c in zip(self.given, cotangents, strict=True)]
            pairs = [(result, c) for result, c in pairs if result.requires_grad]
            if not pairs:
                return tuple(torch.zeros_like(t) for t in targets)
            return torch.autograd.grad(
                [result for result, _ in pairs],
                targets,
                [c for _, c in pairs],
                create_graph=higher,
                materialize_grads=True,
            )


def _leaves(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors without their past, so that a gradient ends at them."""
    return tuple(t.detach().requires_grad_(t.requires_grad) for t in tensors)


def _check_captured(results: Sequence[Tensor], known: Sequence[Tensor]) -> None:
    """Follows the graph of a work back to the tensors it was told of: no other parameter is there.

    Other leaves may be: ops make some of their own for gradients of high order.
    """
    leaves = {id(t) for t in known if t.grad_fn is None}
    seen: set[Any] = {t.grad_fn for t in known if t.grad_fn is not None}
    ahead = [t.grad_fn for t in results if t.grad_fn is not None]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in leaves:
            raise RuntimeError(
                "captured must name every tensor with a gradient that the recomputed work uses, "
                f"got none that is the parameter of shape {list(leaf.shape)}"
            )
        ahead += [before for before, _ in node.next_functions if before is not None]


class _Recomputed(torch.autograd.Function):
    """A work, whose gradient is a work of the same kind."""

    @staticmethod
    def forward(ctx: Any, work: Work, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.work, ctx.count = work, count
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return work(*tensors[:count])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        given = tuple(i for i, c in enumerate(cotangents) if c is not None)
        wanted = tuple(i for i, need in enumerate(ctx.needs_input_grad[2:]) if need)
        tensors = ctx.saved_tensors
        inputs, captured = tensors[: ctx.count], tensors[ctx.count :]
        work = ctx.work
        if isinstance(work, _Gradient):  # of its results make only those that are asked for
            work = replace(work, wanted=tuple(work.wanted[i] for i in given))
            given = tuple(range(len(given)))
        gradient = _Gradient(work, captured, given, wanted)
        arguments = (*(c for c in cotangents if c is not None), *inputs)
        if torch.is_grad_enabled():
            found = _Recomputed.apply(gradient, len(arguments), *arguments, *captured)  # type: ignore[no-untyped-call]
        else:
            found = gradient(*arguments)
        by_number = dict(zip(wanted, found, strict=True))
        return None, None, *(by_number.get(i) for i in range(len(tensors)))
