"""What all ops share: the choice of the path, autocast, and manners."""

from __future__ import annotations

import inspect
import json
import logging
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from digan import native, ops
from digan.ops import _registry
from tests.exact_op_cases import EXACT_OPS
from tests.op_cases import (
    OPS,
    differentiable,
    generator_of,
    make_inputs,
    relative_error,
)
from tests.ops import checks, oracles
from tests.ops.checks import RecordedCalls, call, case_of

TYPICAL = {
    "bias_act": "lrelu_clamp_channels_last",
    "coord_linear": "lrelu_clamp",
    "factorized_modulation": "demodulated",
    "fir_resample": "up2_gain4",
    "fourier_features": "plain",
    "fourier_features_at": "in_the_plane",
    "modulated_linear": "lrelu_clamp",
}
# The inputs that take the autocast dtype; all others stay as they are.
CAST = {
    "bias_act": {"x"},
    "coord_linear": {"weight", "skip"},
    "fir_resample": {"x"},
    "modulated_linear": {"x", "weight"},
}
each_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
each_impl = pytest.mark.parametrize("impl", ["auto", "reference"])


def typical(op, dtype=torch.float32):
    """A case of the op and inputs for it."""
    case = case_of(op, TYPICAL[op.name])
    return case, make_inputs(op, case, generator_of(f"contract {op.name}"), dtype)


def test_every_op_has_cases():
    # Forward alone, with two results: tests/ops/test_coord_chain.py has its cases.
    assert {*OPS, *EXACT_OPS, "coord_chain"} == set(ops.status())
    assert set(OPS) == set(TYPICAL)
    for op in OPS.values():
        names = [case.name for case in op.cases]
        assert len(set(names)) == len(names)
        assert any(checks.is_empty(op, case) for case in op.cases)
        assert {"cut", "transposed", "shifted"} <= {case.layout for case in op.cases}


@each_op
def test_signature_and_docstring(op):
    """`impl` is by keyword and has the process's default; shapes and errors are documented."""
    impl = inspect.signature(op.function).parameters["impl"]
    assert (impl.kind, impl.default) == (inspect.Parameter.KEYWORD_ONLY, None)
    assert "Args:" in op.function.__doc__
    assert "Raises:" in op.function.__doc__
    assert callable(getattr(ops, f"{op.name}_reference"))


# ---------------------------------------------------------------- the choice of the path


def called_ops(op, impl=None):
    """The names of the schema ops that a forward and a backward pass call."""
    case, inputs = typical(op)
    names = differentiable(op, inputs)
    leaves = {n: t.requires_grad_(n in names) for n, t in inputs.items()}
    with RecordedCalls() as recorded:
        call(op, case, leaves, impl).sum().backward()
    return set(recorded.names)


@each_op
def test_auto_dispatches_and_reference_does_not(op, monkeypatch):
    backward = {op.name} if op.name == "fir_resample" else {f"{op.name}_backward"}
    assert called_ops(op) == called_ops(op, "auto") == {op.name} | backward
    assert called_ops(op, "reference") == set()
    monkeypatch.setenv("DIGAN_OPS", "reference")
    assert called_ops(op) == set()
    assert called_ops(op, "auto") == {op.name} | backward


@each_op
def test_unknown_impl(op, monkeypatch):
    case, inputs = typical(op)
    with pytest.raises(ValueError) as raised:
        call(op, case, inputs, "cuda")
    assert str(raised.value) == "impl must be one of auto, fused, reference, got 'cuda'"
    monkeypatch.setenv("DIGAN_OPS", "yes")
    with pytest.raises(ValueError) as raised:
        call(op, case, inputs, None)
    assert str(raised.value) == "DIGAN_OPS must be one of auto, fused, reference, got 'yes'"
    assert call(op, case, inputs, "reference").numel()  # the call's own choice comes first


@each_op
def test_fused_is_never_a_silent_fallback(op, monkeypatch):
    """On CPU tensors `fused` is an error that says why and what to do."""
    case, inputs = typical(op)
    reason = ops.unavailable(op.name)
    expected = f"cannot run: {reason}" if reason else "needs CUDA tensors, got one on cpu"
    assert reason == "" or "pass impl='auto'" in reason
    with pytest.raises(ops.OpUnavailableError) as raised:
        call(op, case, inputs, "fused")
    assert str(raised.value) == f"{op.name}: impl='fused' {expected}"
    assert issubclass(ops.OpUnavailableError, RuntimeError)
    monkeypatch.setenv("DIGAN_OPS", "fused")
    with pytest.raises(ops.OpUnavailableError):
        call(op, case, inputs, None)
    # With kernels, it is the tensors that must be elsewhere.
    monkeypatch.setattr(_registry, "unavailable", lambda name: "")
    with pytest.raises(ops.OpUnavailableError, match="needs CUDA tensors, got one on cpu"):
        call(op, case, inputs, "fused")


def test_fused_is_no_silent_fallback_in_a_compiled_function():
    _, inputs = typical(OPS["modulated_linear"])
    torch._dynamo.reset()

    @torch.compile(backend="eager")
    def compiled(x, weight):
        return ops.modulated_linear(x, weight, impl="fused")

    with pytest.raises(ops.OpUnavailableError, match=r"modulated_linear: impl='fused'"):
        compiled(inputs["x"], inputs["weight"])


def test_asking_for_kernels_breaks_no_graph():
    """Else `fused` could not be compiled with fullgraph=True where the kernels do run."""
    torch._dynamo.reset()

    @torch.compile(backend="eager", fullgraph=True)
    def asked(x):
        return x + 1 if ops.unavailable("bias_act") else x + 2

    x = torch.randn(3)
    assert torch.equal(asked(x), x + (1 if ops.unavailable("bias_act") else 2))


def test_reason_is_that_of_this_machine(monkeypatch):
    """Without a library, with one that lacks the op or cannot run, and without a device."""
    name = "modulated_linear"
    cure = "or leave out --fused-kernels or pass impl='auto' to use the PyTorch formulas"
    if "CUDA" not in torch._C._dispatch_dump(f"digan::{name}"):
        monkeypatch.setattr(native, "reason", lambda: "the library is not there; install it")
        assert ops.unavailable(name) == f"the library is not there; install it; {cure}"
        monkeypatch.setattr(native, "reason", lambda: "")
        lacking = f"this version of digan has no native kernel for {name}; {cure}"
        assert ops.unavailable(name) == lacking
    monkeypatch.setattr(native, "reason", lambda: "")
    with torch.library._scoped_library("digan", "IMPL") as library:
        if ops.unavailable(name) != "":
            library.impl(name, lambda *arguments: None, "CUDA", allow_override=True)
        if torch.cuda.is_available():
            assert ops.unavailable(name) == ""
            assert ops.status()[name] == "fused"
        else:
            reason = "no CUDA device is visible; run where one is, or pass impl='auto'"
            assert ops.unavailable(name) == reason
            assert ops.status()[name] == f"reference ({reason})"
        monkeypatch.setattr(native, "reason", lambda: "the card is older than the kernels")
        assert ops.unavailable(name).startswith("the card is older than the kernels; or pass impl")


def test_status_names_every_op():
    for name, text in ops.status().items():
        reason = ops.unavailable(name)
        assert text == (f"reference ({reason})" if reason else "fused")
        assert "\n" not in text


def test_the_formula_on_cuda_is_said_once(monkeypatch, caplog):
    """`auto` on CUDA tensors without kernels works, and says so once for each op."""
    monkeypatch.setattr(_registry, "_said", set())
    monkeypatch.setattr(_registry, "unavailable", lambda name: "of a reason")
    monkeypatch.setattr(_registry, "_has_kernel", lambda name: False)
    tensor = SimpleNamespace(device=torch.device("cuda"))
    with caplog.at_level(logging.WARNING, "digan.ops"):
        for _ in range(3):
            assert not _registry.takes_formula("bias_act", "auto", tensor)
    assert caplog.messages == ["bias_act runs its PyTorch formula: of a reason"]


def test_kernels_that_cannot_run_do_not_win_by_dispatch(monkeypatch):
    """Registered for CUDA, but for other cards: `auto` takes the formula past the dispatcher."""
    monkeypatch.setattr(_registry, "unavailable", lambda name: "built for another card")
    tensor = SimpleNamespace(device=torch.device("cuda"))
    for registered in (False, True):
        monkeypatch.setattr(_registry, "_has_kernel", lambda name, r=registered: r)
        assert _registry.takes_formula("bias_act", "auto", tensor) is registered


# ---------------------------------------------------------------- autocast


@each_op
@each_impl
def test_autocast_rule(op, impl):
    """x, weight and skip take the autocast dtype; frequencies, axes, biases, factors do not.

    So the result is exactly that of inputs cast by hand, and the gradients come back in the
    inputs' own dtypes, in a backward pass inside autocast as outside.
    """
    case, inputs = typical(op)
    names = differentiable(op, inputs)
    cast = CAST.get(op.name, set())
    by_hand = {n: t.bfloat16() if n in cast else t for n, t in inputs.items()}
    expected = call(op, case, by_hand, impl)
    assert expected.dtype == (torch.bfloat16 if cast else torch.float32)
    cotangent = torch.randn(expected.shape, generator=generator_of("autocast")).to(expected)
    grads = checks.gradients(lambda i: call(op, case, i, impl), op, by_hand, cotangent)

    leaves = {n: t.detach().requires_grad_(n in names) for n, t in inputs.items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = call(op, case, leaves, impl)
        found = torch.autograd.grad(out, [leaves[n] for n in names], cotangent, retain_graph=True)
    after = torch.autograd.grad(out, [leaves[n] for n in names], cotangent)
    assert out.dtype == expected.dtype
    assert torch.equal(out, expected)
    for name, outside, inside in zip(names, after, found, strict=True):
        assert outside.dtype == inside.dtype == inputs[name].dtype, name
        if impl == "auto":
            assert torch.equal(outside, inside), name
        assert torch.equal(outside, grads[name].to(outside.dtype)), name


@each_op
def test_autocast_does_not_touch_float64(op):
    case, inputs = typical(op, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        out = call(op, case, inputs)
    assert out.dtype == torch.float64
    assert torch.equal(out, call(op, case, inputs))


@each_op
def test_second_order_inside_autocast(op):
    """The formulas behind the second order run outside autocast too."""
    case, inputs = typical(op)
    cast = CAST.get(op.name, set())
    if cast:
        inputs = {n: t.bfloat16() if n in cast else t for n, t in inputs.items()}
    cotangent = checks.draw_cotangent(op, case, inputs, torch.float32)
    directions = {n: torch.ones_like(inputs[n]) for n in differentiable(op, inputs)}
    arguments = (lambda i: call(op, case, i), op, inputs, cotangent, directions)
    outside = checks.second_gradients(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        inside = checks.second_gradients(*arguments)
    assert all(torch.equal(outside[n], inside[n]) for n in outside)


# ---------------------------------------------------------------- manners


@each_op
@each_impl
def test_inputs_and_random_state_are_left_alone(op, impl):
    """Nothing is written into an input or a cotangent, and no random number is drawn."""
    case, inputs = typical(op)
    names = differentiable(op, inputs)
    leaves = {n: t.detach().requires_grad_(n in names) for n, t in inputs.items()}
    copies = {n: t.clone() for n, t in inputs.items()}
    torch_state, state = torch.get_rng_state(), random.getstate()
    out = call(op, case, leaves, impl)
    cotangent = torch.randn(out.shape, generator=generator_of("manners"))
    kept, before = cotangent.clone(), out.detach().clone()
    wanted = [leaves[n] for n in names]
    grads = torch.autograd.grad(out, wanted, cotangent, create_graph=True)
    loss = sum((g**2).sum() for g in grads)
    if loss.requires_grad:
        torch.autograd.grad(loss, wanted, allow_unused=True)
    assert torch.equal(cotangent, kept)
    assert torch.equal(out.detach(), before)
    for name, copy in copies.items():
        assert torch.equal(inputs[name], copy), name
        assert inputs[name]._version == 0, name
    assert torch.equal(torch_state, torch.get_rng_state())
    assert state == random.getstate()


@each_op
def test_results_share_no_memory(op):
    """Every result of an op is fresh memory: not an input, not a cotangent, not one another."""
    for case in op.cases:
        inputs = make_inputs(op, case, generator_of("memory"))
        if checks.is_empty(op, case):
            continue
        cotangent = checks.draw_cotangent(op, case, inputs, torch.float64)
        found = checks.gradients(lambda i, c=case: call(op, c, i), op, inputs, cotangent)
        tensors = [*found.values(), cotangent, *(t for t in inputs.values() if t is not None)]
        places = [t.untyped_storage().data_ptr() for t in tensors]
        assert len(set(places)) == len(places), case


@each_op
@each_impl
def test_gradient_of_one_input_alone(op, impl):
    """Which inputs want a gradient does not change any of them."""
    case, inputs = typical(op, torch.float64)
    cotangent = checks.draw_cotangent(op, case, inputs, torch.float64)
    everything = checks.gradients(lambda i: call(op, case, i, impl), op, inputs, cotangent)
    for name in differentiable(op, inputs):
        leaf = inputs[name].detach().requires_grad_()
        out = call(op, case, {**inputs, name: leaf}, impl)
        (alone,) = torch.autograd.grad(out, leaf, cotangent)
        assert torch.equal(alone, everything[name]), name


@each_op
@each_impl
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_same_values_without_gradients(op, impl, mode):
    case, inputs = typical(op)
    leaves = {n: t.detach().requires_grad_() for n, t in inputs.items()}
    with mode():
        quiet = call(op, case, leaves, impl)
    assert not quiet.requires_grad
    assert torch.equal(quiet, call(op, case, leaves, impl).detach())


@each_impl
@pytest.mark.parametrize("create_graph", [False, True])
def test_second_order_of_a_stack(create_graph, impl):
    """R1 through a stack: the gradient that enters an op depends on that op's own inputs.

    Walked once: a formula that followed the gradient's history back to its inputs would
    count that path twice.
    """
    _, inputs = typical(OPS["coord_linear"], torch.float64)
    generator = generator_of("stack")
    shapes = {"base": (7, 7), "left": (2, 7, 3), "right": (2, 3, 7)}
    more = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    leaves = {n: t.detach().requires_grad_() for n, t in (more | inputs).items()}

    def penalty(functions, **options):
        embed, modulate, linear, act = functions
        given = [leaves[n] for n in ("freq", "phase", "y", "x", "weight", "bias", "skip")]
        hidden = embed(*given, activation="gelu", **options)
        weight = modulate(leaves["base"], leaves["left"], leaves["right"], **options)
        hidden = linear(hidden, weight, leaves["bias"], activation="tanh", **options)
        out = act(hidden.movedim(-1, 1), leaves["bias"], activation="swish", **options)
        grads = torch.autograd.grad(out.square().sum(), list(leaves.values()), create_graph=True)
        total = sum(g.square().sum() for g in grads)
        return torch.autograd.grad(total, list(leaves.values()), create_graph=create_graph)

    names = ("coord_linear", "factorized_modulation", "modulated_linear", "bias_act")
    found = penalty([getattr(ops, n) for n in names], impl=impl)
    truth = penalty([getattr(oracles, n) for n in names])
    for name, a, b in zip(leaves, found, truth, strict=True):
        assert relative_error(a, b) < 1e-11, name


@each_op
def test_meta_tensors(op):
    """Shapes, dtypes and strides without data, of outputs and gradients."""
    case, inputs = typical(op)
    names = differentiable(op, inputs)
    real = {n: t.requires_grad_(n in names) for n, t in inputs.items()}
    meta = {n: t.detach().to("meta").requires_grad_(n in names) for n, t in inputs.items()}
    outputs = [call(op, case, leaves) for leaves in (real, meta)]
    pairs = [outputs]
    for leaves, out in zip((real, meta), outputs, strict=True):
        grads = torch.autograd.grad(out, [leaves[n] for n in names], torch.ones_like(out))
        pairs.append(list(grads))
    pairs = [tuple(outputs), *zip(*pairs[1:], strict=True)]
    for a, b in pairs:
        assert b.device.type == "meta"
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def test_only_torch_is_imported():
    """The op library stands alone: with what loads its kernels, and no package but torch's."""
    code = """
import json, sys, torch
before = set(sys.modules)
import digan.ops
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = json.loads(done.stdout)
    assert "digan.ops.bias_act" in added
    ours = {name for name in added if name.split(".")[0] == "digan"}
    others = {name.split(".")[0] for name in added} - {"digan", "torch"}
    loads_kernels = {"digan", "digan._version", "digan.native", "digan.toolkit"}
    assert {n for n in ours if not n.startswith("digan.ops")} <= loads_kernels
    assert others <= set(sys.stdlib_module_names)


# ---------------------------------------------------------------- the compiler


def test_chained_ops_compile_with_inductor():
    """A small layer stack in one graph, forward and backward as eager.

    The graph holds nothing but the ops, so that no C++ is compiled; the compiler's own code
    around them asserts the sizes and strides that the fake functions promised.
    """
    _, inputs = typical(OPS["coord_linear"])
    generator = generator_of("chain")
    shapes = {"base": (7, 7), "left": (2, 7, 3), "right": (2, 3, 7)}
    leaves = {n: torch.randn(s, generator=generator) for n, s in shapes.items()} | inputs
    leaves = {n: t.detach().requires_grad_() for n, t in leaves.items()}

    def layers(base, left, right, **given):
        hidden = ops.coord_linear(**given, activation="lrelu", gain=1.4)
        weight = ops.factorized_modulation(base, left, right)
        out = ops.modulated_linear(hidden, weight, None, "gelu")
        return ops.bias_act(out, None, "sine", alpha=2.0, dim=-1)

    cotangent = torch.randn(2, 3, 4, 6, 7, generator=generator)
    results = []
    torch._dynamo.reset()
    for function in (layers, torch.compile(layers, fullgraph=True)):
        out = function(**leaves)
        results.append([out, *torch.autograd.grad(out, list(leaves.values()), cotangent)])
    torch._dynamo.reset()
    for eager, compiled in zip(*results, strict=True):
        assert relative_error(compiled, eager) < 1e-6
