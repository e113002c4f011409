"""factorized_modulation against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digan import ops
from tests.op_cases import FACTORIZED_MODULATION as OP
from tests.op_cases import Case, generator_of, make_inputs, relative_error
from tests.ops import checks
from tests.ops.checks import case_of, each_backend, each_case

WIDE = (torch.float64, torch.float32)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_values_and_gradients(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_second_order(case, dtype, backend):
    checks.check_second_order(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("only", ["weight", "left", "right"])
@each_case(OP, ["demodulated"])
def test_second_order_through_one_gradient(case, only, backend):
    checks.check_second_order(OP, case, torch.float64, backend, only=only)


@each_backend(OP)
@each_case(OP, ["demodulated", "not_demodulated"])
def test_third_order(case, backend):
    checks.check_second_order(OP, case, torch.float64, backend, orders=3)


@each_backend(OP)
@pytest.mark.parametrize("demodulate", [True, False])
def test_gradcheck(demodulate, backend):
    case = Case("check", {"B": 2, "O": 2, "I": 3, "R": 2}, {"demodulate": demodulate})
    checks.check_gradcheck(OP, case, backend)


@each_case(OP)
def test_opcheck(case, soak):
    traced = case.name in ("a_warp_cut",)
    expected = {"factorized_modulation", "factorized_modulation_backward"}
    checks.check_schema_ops(OP, case, expected, traced, soak)


@each_case(OP, ["demodulated"])
def test_compiles_into_one_graph(case):
    checks.check_compiled(OP, case)


@given(
    # One input a row, demodulated, is a sign: no gradient to compare.
    sizes=st.fixed_dictionaries(
        {
            "B": st.integers(0, 3),
            "O": st.integers(0, 34),
            "I": st.integers(2, 34),
            "R": st.integers(1, 12),
        }
    ),
    demodulate=st.booleans(),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn(sizes, demodulate, layout, backend):
    case = Case(f"drawn {sizes}", sizes, {"demodulate": demodulate}, (), layout)
    checks.check_gradients(OP, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(OP, case, torch.float64, backend, tolerance=1e-8)


# ---------------------------------------------------------------- conventions


@each_backend(OP)
def test_rows_have_unit_norm(backend):
    inputs = make_inputs(OP, case_of(OP, "above_a_warp_transposed"), generator_of("norm"))
    w = ops.factorized_modulation(**inputs, impl=backend.impl)
    assert (w.norm(dim=2) - 1).abs().max() < 1e-7


@each_backend(OP)
def test_epsilon_counts_for_tiny_rows(backend):
    """A row of norm 1e-8 comes out with norm 1/2, as the original's 1e-8 makes it."""
    weight = torch.tensor([[6e-9, 8e-9]], dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    w = ops.factorized_modulation(weight, zero, zero.expand(1, 1, 2), impl=backend.impl)
    assert relative_error(w, torch.tensor([[[0.3, 0.4]]], dtype=torch.float64)) < 1e-12


@each_backend(OP)
def test_a_row_of_zeros(backend):
    """Zero comes out, and the gradient is that of U / 1e-8: finite, not NaN."""
    weight = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    left = torch.randn(2, 1, 2, dtype=torch.float64, generator=generator_of("l"))
    right = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator_of("r"))
    grad = torch.randn(2, 1, 3, dtype=torch.float64, generator=generator_of("g"))
    w = ops.factorized_modulation(weight, left, right, impl=backend.impl)
    assert torch.equal(w, torch.zeros_like(w))
    (found,) = torch.autograd.grad(w, weight, grad)
    factor = 1 + left @ right / 2**0.5
    assert relative_error(found, (grad * factor).sum(0) / 1e-8) < 1e-12


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "weight must be [O, I], got [1, 5, 4]", {"weight": torch.ones(1, 5, 4)}),
        (ValueError, "left must be [B, O, R] with O = 5", {"left": torch.ones(2, 4, 3)}),
        (ValueError, "left must be [B, O, R] with O = 5", {"left": torch.ones(5, 3)}),
        (
            ValueError,
            "right must be [B, R, I] with I = 4, B = 2, R = 3",
            {"right": torch.ones(2, 2, 4)},
        ),
        (ValueError, "right must be [B, R, I] with I = 4", {"right": torch.ones(2, 3, 5)}),
        (
            ValueError,
            "left must be [B, O, R] with R at least 1, got [2, 5, 0]",
            {"left": torch.ones(2, 5, 0), "right": torch.ones(2, 0, 4)},
        ),
        (
            TypeError,
            "right must have the dtype of weight (torch.float32), got torch.float64",
            {"right": torch.ones(2, 3, 4).double()},
        ),
        (TypeError, "left must be a floating-point tensor", {"left": torch.ones(2, 5, 3).int()}),
        (
            ValueError,
            "left must be on the device of weight (cpu), got meta",
            {"left": torch.ones(2, 5, 3, device="meta")},
        ),
    ],
)
def test_errors(error, message, arguments, impl):
    given = {
        "weight": torch.randn(5, 4),
        "left": torch.randn(2, 5, 3),
        "right": torch.randn(2, 3, 4),
        **arguments,
    }
    checks.check_error(ops.factorized_modulation, error, message, given, impl)
