"""tf32 without its hardware: the rounding bit by bit, and which numbers are rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from digan import ops
from digan.ops._tf32 import matmul, round_to_tf32
from tests.emulation.build import emulated
from tests.emulation.linear_kinds import TF32, TF32_ERROR, TF32_WIDTH
from tests.op_cases import OPS, differentiable, generator_of, make_inputs, relative_error
from tests.ops import checks
from tests.ops.checks import DISPATCHED, EMULATED, REFERENCE, case_of

LINEAR = [
    ("modulated_linear", ("plain", "lrelu_clamp", "gelu", "negative_gain")),
    ("coord_linear", ("lrelu_clamp", "gelu", "a_warp_cut")),
]
BOTH = ("modulated_linear", "coord_linear")
HERE = pytest.mark.parametrize("backend", [REFERENCE, DISPATCHED], ids=lambda b: b.name)


def nearest(x: np.ndarray) -> np.ndarray:
    """The nearest number of 11 significant bits, halves away from zero, by arithmetic."""
    wide = x.astype(np.float64)
    exponent = np.maximum(np.frexp(wide)[1], -125)  # below it the step no longer shrinks
    step = np.ldexp(1.0, exponent - 11)
    return np.copysign(np.floor(np.abs(wide) / step + 0.5) * step, wide).astype(np.float32)


def test_rounding():
    """Of any bits: all magnitudes, subnormal numbers, exact halves, and just below them."""
    source = np.random.default_rng()
    bits = source.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    halves = bits[:50_000] & np.uint32(0xFFFFE000) | np.uint32(0x1000)
    bits = np.concatenate([bits, halves, halves - np.uint32(1), [np.uint32(0), np.uint32(1 << 31)]])
    x = bits.view(np.float32)
    out = round_to_tf32(torch.from_numpy(x)).numpy()
    finite = np.isfinite(x)
    with np.errstate(over="ignore"):
        expected = nearest(x[finite])
    np.testing.assert_array_equal(out[finite].view(np.uint32), expected.view(np.uint32))
    assert not np.any(out[finite].view(np.uint32) & 0x1FFF)
    np.testing.assert_array_equal(out[np.isinf(x)], x[np.isinf(x)])
    assert np.isnan(x).sum() > 500
    assert np.isnan(out[np.isnan(x)]).all()


def test_every_nan_stays():
    payloads = torch.tensor([0x7FFFFFFF, -1, 0x7FC00000, 0x7F800001, -0x400000], dtype=torch.int32)
    assert round_to_tf32(payloads.view(torch.float32)).isnan().all()


@HERE
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in LINEAR for case in cases]
)
def test_within_the_error_of_a_layer(name, case, backend, monkeypatch):
    """Output and all gradients against float64: under 1e-3, and not as good as float32."""
    op = OPS[name]
    case = case_of(op, case)
    monkeypatch.setitem(checks._KINK_WIDTH, torch.float32, TF32_WIDTH)
    inputs = make_inputs(op, case, generator_of(f"tf32 {name} {case.name}"), torch.float32)
    cotangent = checks.draw_cotangent(op, case, inputs, torch.float32)
    truth = checks.gradients(
        lambda i: checks.oracle(op, case, i), op, checks.to_float64(inputs), cotangent
    )
    found = checks.gradients(
        lambda i: checks.call(op, case, i, backend.impl, tf32=True), op, inputs, cotangent
    )
    for wanted in truth:
        # An axis gets a few numbers, whose terms cancel.
        limit = TF32_ERROR * (5 if wanted in ("x", "y") and name == "coord_linear" else 1)
        error = relative_error(found[wanted], truth[wanted])
        assert error < limit, wanted
        if wanted not in ("bias", "skip"):
            assert error > 1e-5, wanted


@HERE
@pytest.mark.parametrize("videos", [1, 3])
def test_all_three_products_round_both_operands(videos, backend):
    """x, W and dA = G * slope, each once and nothing else: as float64 of rounded numbers."""
    source = generator_of(f"operands {videos}")
    x = torch.randn(videos, 5, 37, 19, generator=source, requires_grad=True)
    weight = torch.randn(videos, 21, 19, generator=source, requires_grad=True)
    grad = torch.randn(videos, 5, 37, 21, generator=source)
    y = ops.modulated_linear(x, weight, activation="lrelu", tf32=True, impl=backend.impl)
    dx, dweight = torch.autograd.grad(y, (x, weight), grad)

    def exact(tensor):
        return round_to_tf32(tensor.detach()).double()

    z = torch.einsum("btpi,boi->btpo", exact(x), exact(weight))
    assert relative_error(y.detach(), torch.where(z > 0, z, 0.2 * z)) < 1e-6
    da = exact(torch.where(y.detach() > 0, grad, 0.2 * grad))
    assert relative_error(dx, torch.einsum("btpo,boi->btpi", da, exact(weight))) < 1e-6
    assert relative_error(dweight, torch.einsum("btpo,btpi->boi", da, exact(x))) < 1e-6


def test_as_the_kernels_round():
    """The emulated tensor cores and the rounding by hand differ by the order of sums alone.

    A wish and PyTorch's setting are one arithmetic there, and without either it is float32's.
    """
    op = OPS["modulated_linear"]
    source = generator_of("as the kernels")
    inputs = {
        "x": torch.randn(2, 70, 40, generator=source),
        "weight": torch.randn(2, 48, 40, generator=source),
        "bias": torch.randn(48, generator=source),
    }
    cotangent = torch.randn(2, 70, 48, generator=source)

    def run(impl, tf32):
        return checks.gradients(
            lambda i: ops.modulated_linear(**i, activation="lrelu", tf32=tf32, impl=impl),
            op, inputs, cotangent,
        )  # fmt: skip

    here = run(DISPATCHED.impl, True)
    with emulated(seed=3) as controls:
        there, wide = (run(EMULATED.impl, tf32) for tf32 in (True, None))
        with TF32.allowed():
            allowed = run(EMULATED.impl, None)
        assert controls.launches()
    for name, value in here.items():
        assert relative_error(there[name], value) < 1e-6, name
        assert torch.equal(allowed[name], there[name])
    for name in ("out", "x", "weight"):
        assert relative_error(wide[name], here[name]) > 1e-5, name


@pytest.mark.parametrize("name", BOTH)
def test_pytorch_s_setting_is_left_to_the_kernels(name):
    """It allows speed: where no kernel has any, float32 stays float32; a wish is a wish."""
    op = OPS[name]
    case = case_of(op, "lrelu_clamp")
    inputs = make_inputs(op, case, generator_of(f"setting {name}"), torch.float32)

    def found(tf32):
        return checks.call(op, case, inputs, tf32=tf32)

    narrow, wide = found(True), found(False)
    assert not torch.equal(narrow, wide)
    assert torch.equal(found(None), wide)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert torch.equal(found(None), wide)
        assert torch.equal(found(False), wide)
        assert torch.equal(found(True), narrow)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", BOTH)
@HERE
def test_other_dtypes_are_as_they_were(name, dtype, backend):
    op = OPS[name]
    case = case_of(op, "lrelu_clamp")
    inputs = make_inputs(op, case, generator_of(f"others {name}"), dtype)
    cotangent = checks.draw_cotangent(op, case, inputs, dtype)
    found, plain = (
        checks.gradients(
            lambda i, t=tf32: checks.call(op, case, i, backend.impl, tf32=t), op, inputs, cotangent
        )
        for tf32 in (True, False)
    )
    for name_of, value in found.items():
        assert torch.equal(value, plain[name_of]), name_of


@HERE
@pytest.mark.parametrize("name", BOTH)
def test_second_order(name, backend, monkeypatch):
    """Through rounded products too, within ten times a layer's error."""
    op = OPS[name]
    case = case_of(op, "lrelu_clamp")
    monkeypatch.setitem(checks._KINK_WIDTH, torch.float32, TF32_WIDTH)
    inputs = make_inputs(op, case, generator_of(f"second {name}"), torch.float32)
    exact = checks.to_float64(inputs)
    cotangent = checks.draw_cotangent(op, case, inputs, torch.float32)
    source = generator_of(f"directions {name}")
    directions = {
        n: torch.randn(exact[n].shape, generator=source, dtype=torch.float64)
        for n in differentiable(op, inputs)
        if n in ("weight", "skip", "x", "freq")
    }
    truth = checks.second_gradients(
        lambda i: checks.oracle(op, case, i), op, exact, cotangent, directions
    )
    found, plain = (
        checks.second_gradients(
            lambda i, t=tf32: checks.call(op, case, i, backend.impl, tf32=t),
            op, inputs, cotangent, directions,
        )
        for tf32 in (True, False)
    )  # fmt: skip
    for wanted, value in truth.items():
        if value.abs().max() > 0:
            assert relative_error(found[wanted], value) < 1e-2, wanted
    assert any(not torch.equal(found[n], plain[n]) for n in found)


def test_the_differentiable_product():
    """Its gradients are rounded products of rounded operands; without tf32 it is `@`."""
    source = generator_of("product")
    a, b = (torch.randn(3, 8, 8, generator=source, requires_grad=True) for _ in range(2))
    grad = torch.randn(3, 8, 8, generator=source)
    da, db = torch.autograd.grad(matmul(a, b, True), (a, b), grad)
    g, a_, b_ = (round_to_tf32(t.detach()).double() for t in (grad, a, b))
    assert relative_error(da, g @ b_.mT) < 1e-6
    assert relative_error(db, a_.mT @ g) < 1e-6
    assert torch.equal(matmul(a, b, False), a @ b)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_compiles_into_one_graph(impl):
    torch._dynamo.reset()
    source = generator_of("compiled")
    x, weight = (torch.randn(2, 9, 9, generator=source, requires_grad=True) for _ in range(2))

    def layer(x, weight):
        return ops.modulated_linear(x, weight, activation="lrelu", tf32=True, impl=impl)

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    grad = torch.randn(2, 9, 9, generator=source)
    eager, traced = (
        torch.autograd.grad(f(x, weight), (x, weight), grad) for f in (layer, compiled)
    )
    for ours, theirs in zip(traced, eager, strict=True):
        torch.testing.assert_close(ours, theirs)
