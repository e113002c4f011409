"""What every op is held to: values, gradients of all orders, opcheck, compilation.

Each function takes an entry of `tests.op_cases` and compares one backend with the float64
oracle. The cotangents are zero close to a kink of the activation (the leaky slope's, the
clamp's): there a rounding decides the slope, and one flipped slope weighs more than all the
roundings that are measured. Values at the kinks have tests of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from digan import ops
from tests.op_cases import (
    LOW,
    Case,
    Inputs,
    Op,
    differentiable,
    generator_of,
    laid_out,
    make_inputs,
    relative_error,
    to_float64,
)
from tests.ops import oracles

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
# Beside twice the error of plain PyTorch: the largest error of one rounding.
SLACK = {torch.bfloat16: 2**-9, torch.float16: 2**-12}
# An axis gets a few numbers, each the sum over all frames, videos and frequencies: the terms
# cancel and their roundings do not.
_CANCELLING = {"y": 5.0, "x": 5.0}
_KINK_WIDTH = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_KINKED = {"relu", "lrelu", "elu", "selu"}
ACTIVATIONS = (
    "linear",
    *sorted(_KINKED),
    *("sine", "gelu", "tanh", "sigmoid", "softplus", "swish"),
)


@dataclass(frozen=True)
class Backend:
    """A way to run an op: what is passed as `impl`, and where the tensors are."""

    name: str
    impl: ops.Impl
    device: str = "cpu"
    emulated: bool = False  # the kernels of csrc/ on CPU tensors; see the fixture in conftest.py


REFERENCE = Backend("reference", "reference")
DISPATCHED = Backend("op", "auto")
EMULATED = Backend("emulated", "auto", emulated=True)
CSRC = Path(__file__).resolve().parents[2] / "csrc"


def backends_of(op: Op) -> list[Any]:
    """The backends that exist here for an op, as pytest parameters."""
    here = [REFERENCE, DISPATCHED]
    if (CSRC / f"{op.name}.cu").is_file():
        here.append(EMULATED)
    found = [pytest.param(b, id=b.name) for b in here]
    if torch.cuda.is_available() and ops.unavailable(op.name) == "":
        found.append(
            pytest.param(Backend("cuda", "fused", "cuda"), id="cuda", marks=pytest.mark.gpu)
        )
    return found


def each_backend(*ops: Op) -> pytest.MarkDecorator:
    """`backend` of one op, or `op` and `backend` of several."""
    if len(ops) == 1:
        return pytest.mark.parametrize("backend", backends_of(ops[0]))
    runs = [
        pytest.param(op, *b.values, id=f"{op.name}-{b.id}", marks=b.marks)
        for op in ops
        for b in backends_of(op)
    ]
    return pytest.mark.parametrize(("op", "backend"), runs)


def each_case(
    op: Op, names: Iterable[str] | None = None, low: bool = False
) -> pytest.MarkDecorator:
    """All cases, those named, or those that are tried in low precision."""
    cases = [c for c in op.cases if (c.low or not low) and (names is None or c.name in names)]
    assert names is None or len(cases) == len(set(names)), f"not all of {names} are cases"
    return pytest.mark.parametrize("case", cases, ids=str)


def case_of(op: Op, name: str) -> Case:
    return next(c for c in op.cases if c.name == name)


def is_empty(op: Op, case: Case) -> bool:
    shapes = op.shapes(case.sizes)
    return any(0 in shape for name, shape in shapes.items() if name not in case.absent)


def call(op: Op, case: Case, inputs: Inputs, impl: ops.Impl = "auto", **more: Any) -> Tensor:
    """The public function, inputs by name."""
    return op.function(**inputs, **case.options, **more, impl=impl)


def oracle(op: Op, case: Case, inputs: Inputs) -> Tensor:
    return op.oracle(*inputs.values(), **case.options)


def _leaves(op: Op, inputs: Inputs) -> Inputs:
    names = differentiable(op, inputs)
    return {
        n: None if t is None else t.detach().requires_grad_(n in names) for n, t in inputs.items()
    }


def _or_zero(found: Iterable[Tensor | None], like: Iterable[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, like, strict=True)]


def gradients(
    function: Callable[[Inputs], Tensor], op: Op, inputs: Inputs, cotangent: Tensor
) -> dict[str, Tensor]:
    """The output under `out`, and the gradient of every differentiable input."""
    leaves = _leaves(op, inputs)
    names = differentiable(op, inputs)
    out = function(leaves)
    wanted: list[Any] = [leaves[n] for n in names]
    found = torch.autograd.grad(out, wanted, cotangent.to(out), allow_unused=True)
    return {"out": out.detach(), **dict(zip(names, _or_zero(found, wanted), strict=True))}


def second_gradients(
    function: Callable[[Inputs], Tensor],
    op: Op,
    inputs: Inputs,
    cotangent: Tensor,
    directions: dict[str, Tensor],
    orders: int = 2,
) -> dict[str, Tensor]:
    """Gradients of <gradients, directions> by every input and by the cotangent.

    With three orders, the gradients of half the squared norm of those.
    """
    leaves = _leaves(op, inputs)
    names = differentiable(op, inputs)
    out = function(leaves)
    dy = laid_out(cotangent.to(out), "contiguous").detach().clone().requires_grad_()
    wanted: list[Any] = [leaves[n] for n in names]
    first = torch.autograd.grad(out, wanted, dy, create_graph=True, allow_unused=True)
    loss: Any = sum(
        (g * directions[n].to(g)).sum()
        for n, g in zip(names, first, strict=True)
        if g is not None and n in directions
    )
    wanted = [*wanted, dy]
    found: Any = [None for _ in wanted]
    for order in range(2, orders + 1):
        if not (isinstance(loss, Tensor) and loss.requires_grad):  # linear in everything
            found = [None for _ in wanted]
            break
        more = order < orders
        found = torch.autograd.grad(loss, wanted, create_graph=more, allow_unused=True)
        if more:
            loss = sum(0.5 * (g**2).sum() for g in found if g is not None)
    return dict(zip([*names, "cotangent"], _or_zero(found, wanted), strict=True))


def draw_cotangent(op: Op, case: Case, inputs: Inputs, dtype: torch.dtype) -> Tensor:
    """A random cotangent in float64, zero close to the kinks, representable in `dtype`."""
    exact = to_float64(inputs)
    out = oracle(op, case, exact)
    generator = generator_of(f"cotangent {op.name} {case.name}")
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    if op.pre_activation is not None and out.numel():
        width = _KINK_WIDTH[dtype]
        z = op.pre_activation(*exact.values(), **case.options)
        if case.options.get("activation") in _KINKED:
            cotangent = torch.where(z.abs() > width * z.square().mean().sqrt(), cotangent, 0.0)
        clamp = case.options.get("clamp")
        if clamp is not None:
            free = {k: v for k, v in case.options.items() if k in ("activation", "alpha", "gain")}
            distance = (oracles.activated(z, **free).abs() - clamp).abs()
            cotangent = torch.where(distance > width * clamp, cotangent, 0.0)
    return cotangent.to(dtype).double()


def _complaints(
    found: dict[str, Tensor], truth: dict[str, Tensor], limit: Callable[[str], float]
) -> list[str]:
    errors = {n: relative_error(found[n], truth[n]) for n in truth}
    return [f"{n}: {e:.2e} > {limit(n):.2e}" for n, e in errors.items() if not e <= limit(n)]


def check_gradients(
    op: Op, case: Case, dtype: torch.dtype, backend: Backend, tolerance: float | None = None
) -> None:
    """Output and gradients against the oracle; in low precision also against plain PyTorch."""
    inputs = make_inputs(op, case, generator_of(f"{op.name} {case.name}"), dtype, backend.device)
    exact = to_float64(inputs)
    cotangent = draw_cotangent(op, case, inputs, dtype)
    truth = gradients(lambda i: oracle(op, case, i), op, exact, cotangent)
    more = {"dtype": dtype} if op.has_dtype else {}

    def run(leaves: Inputs) -> Tensor:
        return call(op, case, leaves, backend.impl, **more)

    found = gradients(run, op, inputs, laid_out(cotangent.to(dtype), case.layout))
    assert found["out"].dtype == dtype
    for name in differentiable(op, inputs):
        assert found[name].dtype == inputs[name].dtype, name  # type: ignore[union-attr]
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    factor = _CANCELLING if dtype in LOW and op.name == "coord_linear" else {}
    wrong = _complaints(found, truth, lambda n: tolerance * factor.get(n, 1.0))
    assert not wrong, f"{op.name} {case.name} {dtype}: {wrong}"
    if dtype in LOW:
        plain = gradients(
            lambda i: op.oracle(*i.values(), **case.options, **more), op, inputs, cotangent
        )
        ours = {
            n: (2 * relative_error(plain[n], truth[n]) + SLACK[dtype]) * factor.get(n, 1.0)
            for n in truth
        }
        wrong = _complaints(found, truth, ours.__getitem__)
        assert not wrong, f"{op.name} {case.name} {dtype}, against plain PyTorch: {wrong}"


def check_exact(op: Op, case: Case, dtype: torch.dtype, backend: Backend) -> None:
    """The oracle's result, bit by bit."""
    inputs = make_inputs(op, case, generator_of(f"{op.name} {case.name}"), dtype, backend.device)
    found = call(op, case, inputs, backend.impl)
    expected = oracle(op, case, {n: None if t is None else t.cpu() for n, t in inputs.items()})
    assert found.dtype == expected.dtype
    assert found.device.type == backend.device
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), expected), f"{op.name} {case.name} {dtype}"


def complaints(found: dict[str, Tensor], truth: dict[str, Tensor], dtype: torch.dtype) -> list[str]:
    """What is further from the truth than `dtype` allows."""
    return _complaints(found, truth, lambda _: TOLERANCE[dtype])


def check_second_order(
    op: Op,
    case: Case,
    dtype: torch.dtype,
    backend: Backend,
    only: str | None = None,
    orders: int = 2,
    tolerance: float | None = None,
) -> None:
    """Double differentiation, against that of the oracle.

    With `only`, through the gradient of that input alone, as R1 and eikonal losses do.
    """
    inputs = make_inputs(op, case, generator_of(f"{op.name} {case.name}"), dtype, backend.device)
    exact = to_float64(inputs)
    cotangent = draw_cotangent(op, case, inputs, dtype)
    generator = generator_of(f"directions {op.name} {case.name}")
    directions = {
        n: torch.randn(exact[n].shape, generator=generator, dtype=dtype).double()  # type: ignore
        for n in differentiable(op, inputs)
        if only in (None, n)
    }
    truth = second_gradients(
        lambda i: oracle(op, case, i), op, exact, cotangent, directions, orders
    )
    found = second_gradients(
        lambda i: call(op, case, i, backend.impl), op, inputs, cotangent, directions, orders
    )
    # Every order squares the sums of the one before, and the sums cancel.
    limit = 10 * TOLERANCE[dtype] if tolerance is None else tolerance
    wrong = _complaints(found, truth, lambda _: limit)
    assert not wrong, f"{op.name} {case.name} {dtype} order {orders}: {wrong}"


def check_error(
    function: Callable[..., Tensor],
    error: type[Exception],
    message: str,
    arguments: dict[str, Any],
    impl: ops.Impl,
) -> None:
    """The documented message, on one line."""
    with pytest.raises(error) as raised:
        function(**arguments, impl=impl)
    text = str(raised.value)
    assert text.startswith(message), text
    assert "\n" not in text


def check_gradcheck(op: Op, case: Case, backend: Backend, second: bool = True) -> None:
    """PyTorch's own finite differences, first and second order, at float64."""
    inputs = make_inputs(op, case, generator_of(f"gradcheck {case.name}"), device=backend.device)
    names = differentiable(op, inputs)
    leaves = _leaves(op, inputs)

    def run(*tensors: Tensor) -> Tensor:
        return call(op, case, {**leaves, **dict(zip(names, tensors, strict=True))}, backend.impl)

    tensors = tuple(leaves[n] for n in names)
    assert torch.autograd.gradcheck(run, tensors)
    assert not second or torch.autograd.gradgradcheck(run, tensors)


# ---------------------------------------------------------------- what properties draw

LAYOUTS = st.sampled_from(["contiguous", "cut", "transposed"])
CPU_BACKENDS = st.sampled_from([REFERENCE, DISPATCHED])


def drawn_activations() -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of the activation; signs of gain and alpha decide what is saved."""
    return st.fixed_dictionaries(
        {
            "activation": st.sampled_from(ACTIVATIONS),
            "alpha": st.sampled_from([None, 0.3, -0.4]),
            "gain": st.sampled_from([1.0, 1.4, -0.7]),
            "clamp": st.sampled_from([None, 0.8]),
        }
    )


# ---------------------------------------------------------------- the schema ops


class RecordedCalls(TorchDispatchMode):
    """Keeps every call of a `digan::` op with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    @property
    def names(self) -> list[str]:
        return [func._schema.name.removeprefix("digan::") for func, _ in self.calls]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "digan":
            assert not kwargs
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


# Arguments that carry no gradient: what the forward op saved, and the taps.
_SAVED = {
    "bias_act_backward": {"out"},
    "modulated_linear_backward": {"z", "y"},
    "coord_linear_backward": {"z", "out"},
    "fir_resample": {"filter"},
}


def record(op: Op, case: Case, device: str = "cpu") -> list[tuple[Any, tuple[Any, ...]]]:
    """The schema calls that a forward and a backward pass make, as fresh leaves."""
    generator = generator_of(f"record {case.name}")
    inputs = make_inputs(op, case, generator, torch.float32, device)
    recorded = RecordedCalls()
    with recorded:
        out = call(op, case, _leaves(op, inputs))
        out.backward(
            torch.randn(out.shape, generator=generator_of("dy"), dtype=torch.float64).to(out)
        )
    calls = []
    for func, args in recorded.calls:
        schema = func._schema
        assert len(args) == len(schema.arguments), f"{schema.name}: an argument is left to default"
        constant = _SAVED.get(schema.name.removeprefix("digan::"), set())
        leaves = tuple(
            value.detach().requires_grad_(argument.name not in constant)
            if isinstance(value, Tensor)
            else value
            for argument, value in zip(schema.arguments, args, strict=True)
        )
        calls.append((func, leaves))
    return calls


def check_schema_ops(
    op: Op, case: Case, expected: set[str], traced: bool, soak: bool, device: str = "cpu"
) -> None:
    """torch.library.opcheck on the op and its `_backward`, with every argument given.

    The compiler's part of it (`traced`, the op alone) takes seconds, and on a `_backward`
    op up to twenty for what torch.compile refuses to do, a double backward: soak only.
    """
    calls = record(op, case, device)
    assert {func._schema.name for func, _ in calls} == {f"digan::{name}" for name in expected}
    for func, args in calls:
        tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
        if soak or (traced and not func._schema.name.endswith("_backward")):
            tests.append("test_aot_dispatch_dynamic")
        torch.library.opcheck(func, args, test_utils=tests)


def check_compiled(op: Op, case: Case, impl: ops.Impl = "auto", device: str = "cpu") -> None:
    """One graph without a break, forward and backward, with the numbers of eager."""
    generator = generator_of(f"compile {case.name}")
    inputs = make_inputs(op, case, generator, torch.float32, device)
    cotangent = draw_cotangent(op, case, inputs, torch.float32)
    eager = functools.partial(call, op, case, impl=impl)
    torch._dynamo.reset()
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
    found = gradients(compiled, op, inputs, cotangent)
    truth = gradients(eager, op, inputs, cotangent)
    assert not _complaints(found, truth, lambda _: 1e-6)
