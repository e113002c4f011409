"""The op namespace `torch.ops.digan`, and the choice of the path that a call takes.

Every op is one schema. Its default kernel is the PyTorch formula of the op's own file,
registered under CompositeExplicitAutograd, so the op exists on every device; a native
library registers CUDA kernels for the same schemas and then wins by dispatch.

`impl` of every op, and the environment variable DIGAN_OPS as the process's default:

    reference   the differentiable Python formula, never the dispatcher
    fused       the native kernels, or OpUnavailableError: never a silent fallback
    auto        the native kernels where they can serve the call, the formula elsewhere
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from digan import native

Impl = Literal["auto", "fused", "reference"]
IMPLS: tuple[str, ...] = ("auto", "fused", "reference")

LIBRARY = torch.library.Library("digan", "FRAGMENT")

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger("digan.ops")
_ops: list[str] = []
_kernels: dict[str, Callable[..., Any]] = {}
_said: set[str] = set()


class OpUnavailableError(RuntimeError):
    """`impl="fused"` was asked for and the native kernels cannot serve the call."""


def define(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    flops: Callable[..., int] | None = None,
) -> None:
    """Registers `digan::name`: schema, default kernel, fake function and autograd formula.

    `schema` is everything behind the name, `(Tensor x, ...) -> Tensor`. `backward` returns
    one gradient per schema argument; without it the op has none. `flops` counts the arithmetic
    of the op's matrix products and convolutions from its arguments, shapes in place of tensors,
    for `torch.utils.flop_counter`; None for ops without any.
    """
    LIBRARY.define(name + schema)
    _kernels[name] = outside_autocast(kernel)
    LIBRARY.impl(name, _kernels[name], "CompositeExplicitAutograd")
    if flops is not None:
        register_flop_formula(getattr(torch.ops.digan, name))(_from_shapes(flops))
    torch.library.register_fake(f"digan::{name}", fake, lib=LIBRARY)
    if backward is not None:
        torch.library.register_autograd(
            f"digan::{name}", backward, setup_context=setup_context, lib=LIBRARY
        )
    if not name.endswith("_backward"):
        _ops.append(name)


def _from_shapes(flops: Callable[..., int]) -> Callable[..., int]:
    def count(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return flops(*args)

    return count


def default_kernel(name: str) -> Callable[..., Any]:
    """The PyTorch kernel of an op, for tools that must see the operations inside."""
    return _kernels[name]


def _has_kernel(name: str, device: str = "CUDA") -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"digan::{name}", device)


def has_kernel(name: str, device: torch.device) -> bool:
    """True if kernels of an op are registered for a device's tensors, and can run there."""
    if device.type == "cuda":
        return unavailable(name) == ""
    if device.type == "meta":  # its tensors hold no numbers, so that nothing runs there
        return False
    key = device.type.upper()
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"digan::{name}", key))


def unavailable(name: str) -> str:
    """Why the native kernels of an op cannot run here, with the cure; empty if they can."""
    if not _has_kernel(name):
        why = native.reason() or f"this version of digan has no native kernel for {name}"
        return (
            f"{why}; or leave out --fused-kernels or pass impl='auto' to use the PyTorch formulas"
        )
    if why := native.reason():
        return f"{why}; or pass impl='auto' to use the PyTorch formulas"
    if not torch.cuda.is_available():
        return "no CUDA device is visible; run where one is, or pass impl='auto'"
    return ""


def allows_tf32() -> bool:
    """True if PyTorch's setting lets products of float32 round their operands to tf32."""
    return torch.get_float32_matmul_precision() != "highest"


def rounds_to_tf32(name: str, wish: bool | None, tensor: Tensor) -> bool:
    """Whether a call's products of float32 round their operands to tf32: as wished, if it is.

    Left to PyTorch's setting only the kernels of the tensor's device do: the setting allows
    speed, and rounding by hand has none. PyTorch's own products look at it themselves.
    """
    if wish is None:
        key = {"cuda": "CUDA", "cpu": "CPU"}.get(tensor.device.type)
        return key is not None and allows_tf32() and _has_kernel(name, key)
    return wish


# What torch.compiler.assume_constant_result sets, without its import of the compiler: a graph
# that is being traced asks now and keeps the answer, so that `fused` is an error there too.
unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]
_has_kernel._dynamo_marked_constant = True  # type: ignore[attr-defined]
has_kernel._dynamo_marked_constant = True  # type: ignore[attr-defined]
allows_tf32._dynamo_marked_constant = True  # type: ignore[attr-defined]


def status() -> dict[str, str]:
    """For every op, `fused` or `reference (reason)`: what `impl="auto"` runs here."""
    return {name: f"reference ({why})" if (why := unavailable(name)) else "fused" for name in _ops}


def default_impl() -> str:
    """The process's default, from DIGAN_OPS; `auto` if unset."""
    impl = os.environ.get("DIGAN_OPS", "auto")
    if impl not in IMPLS:
        raise ValueError(f"DIGAN_OPS must be one of {', '.join(IMPLS)}, got {impl!r}")
    return impl


def takes_formula(name: str, impl: str | None, tensor: Tensor) -> bool:
    """True if the call goes to the Python formula, False if it goes to the dispatcher.

    Raises:
        ValueError: `impl` is none of the three.
        OpUnavailableError: `impl` is `fused` and the kernels cannot serve the call.
    """
    impl = default_impl() if impl is None else impl
    if impl not in IMPLS:
        raise ValueError(f"impl must be one of {', '.join(IMPLS)}, got {impl!r}")
    if impl == "reference":
        return True
    if impl == "fused":
        reason = unavailable(name)
        if reason:
            raise OpUnavailableError(f"{name}: impl='fused' cannot run: {reason}")
        if tensor.device.type != "cuda":
            raise OpUnavailableError(
                f"{name}: impl='fused' needs CUDA tensors, got one on {tensor.device}"
            )
    elif tensor.device.type == "cuda":
        reason = unavailable(name)
        if reason and name not in _said and not torch.compiler.is_compiling():
            _said.add(name)
            _log.warning("%s runs its PyTorch formula: %s", name, reason)
        # Kernels that are registered and cannot run on this card would win by dispatch.
        return bool(reason) and _has_kernel(name)
    return False


def _autocast_is_on(device: str) -> bool:
    # Devices without autocast, such as meta, refuse the second question.
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _autocast_off(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    device = tensor.device.type
    if not _autocast_is_on(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def outside_autocast(formula: Callable[_P, _R]) -> Callable[_P, _R]:
    """The formula with autocast off: its tensors have taken their dtypes before.

    Dispatch leaves autocast on inside a kernel, where it would cast the frequencies and the
    modulated weights for every matrix product.
    """

    @functools.wraps(formula)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _autocast_off(next(a for a in args if isinstance(a, Tensor))):
            return formula(*args, **kwargs)

    return run


def autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The package's autocast rule: the given tensors take the autocast dtype, others stay.

    Frequencies, phases, axes and biases are never given here: they stay float32.
    """
    device = next(t for t in tensors if t is not None).device.type
    if not _autocast_is_on(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    )


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """The set-up of a `_backward` op whose own gradient needs its inputs and nothing else."""
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)  # a cotangent that nobody asked for stays None


def vjp(
    formula: Callable[..., tuple[Tensor | None, ...]],
    inputs: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Vector-Jacobian product of a differentiable formula, itself differentiable to any order.

    The autograd formula of the `_backward` ops. Inputs are aliased first, so that one input's
    own history (it may depend on another) is not walked a second time.
    """
    higher_order = torch.is_grad_enabled()
    with torch.enable_grad(), _autocast_off(next(x for x in inputs if x is not None)):
        fresh = [
            None
            if x is None
            else x.view_as(x)
            if higher_order and x.requires_grad
            else x.detach().requires_grad_()
            for x in inputs
        ]
        outputs = formula(*fresh)
        pairs = [
            (y, g)
            for y, g in zip(outputs, cotangents, strict=True)
            if y is not None and g is not None and y.requires_grad
        ]
        wanted = [x for x in fresh if x is not None]
        if not pairs:
            return tuple(None for _ in inputs)
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                wanted,
                [g for _, g in pairs],
                create_graph=higher_order,
                allow_unused=True,
            )
        )
    return tuple(None if x is None else next(found) for x in fresh)
