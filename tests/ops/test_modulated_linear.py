"""modulated_linear against one matrix-vector product a row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digan import ops
from tests.op_cases import LOW, Case, generator_of, make_inputs, relative_error
from tests.op_cases import MODULATED_LINEAR as OP
from tests.ops import checks
from tests.ops.checks import case_of, each_backend, each_case

WIDE = (torch.float64, torch.float32)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_values_and_gradients(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", LOW, ids=str)
@each_case(OP, low=True)
def test_low_precision(case, dtype, backend):
    """The bias stays float32 beside bfloat16 and float16."""
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_second_order(case, dtype, backend):
    """Both ways to know the slope: from the output, and from the pre-activation made again."""
    checks.check_second_order(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("only", ["x", "weight", "bias"])
@each_case(OP, ["lrelu_clamp", "gelu", "negative_gain"])
def test_second_order_through_one_gradient(case, only, backend):
    checks.check_second_order(OP, case, torch.float64, backend, only=only)


@each_backend(OP)
@each_case(OP, ["plain", "lrelu_clamp", "gelu", "slow_sine", "negative_gain"])
def test_third_order(case, backend):
    checks.check_second_order(OP, case, torch.float64, backend, orders=3)


@each_backend(OP)
@pytest.mark.parametrize("activation", ["linear", "sine", "gelu"])
def test_gradcheck(activation, backend):
    sizes = {"B": 2, "I": 3, "O": 2, "rows": (2,)}
    case = Case(f"check {activation}", sizes, {"activation": activation, "alpha": 1.2, "gain": 1.3})
    checks.check_gradcheck(OP, case, backend)


@each_case(OP)
def test_opcheck(case, soak):
    traced = case.name in ("a_warp_cut", "gelu")
    expected = {"modulated_linear", "modulated_linear_backward"}
    checks.check_schema_ops(OP, case, expected, traced, soak)


@each_case(OP, ["lrelu_clamp", "gelu", "to_rgb_linear_clamp"])
def test_compiles_into_one_graph(case):
    checks.check_compiled(OP, case)


@given(
    sizes=st.fixed_dictionaries(
        {
            "B": st.integers(0, 3),
            "I": st.integers(0, 34),
            "O": st.integers(1, 34),
            "rows": st.lists(st.integers(0, 5), max_size=3).map(tuple),
        }
    ),
    options=checks.drawn_activations(),
    bias=st.booleans(),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn(sizes, options, bias, layout, backend):
    name = f"drawn {sizes} {options} {layout}"
    case = Case(name, sizes, options, () if bias else ("bias",), layout)
    checks.check_gradients(OP, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(OP, case, torch.float64, backend, tolerance=1e-9)


# ---------------------------------------------------------------- conventions


@each_backend(OP)
def test_each_video_has_its_own_matrix(backend):
    """A change of one video's weight changes that video's rows and no others."""
    inputs = make_inputs(OP, case_of(OP, "lrelu"), generator_of("own"), torch.float64)
    before = ops.modulated_linear(**inputs, impl=backend.impl)
    inputs["weight"][1] *= 2
    after = ops.modulated_linear(**inputs, impl=backend.impl)
    assert torch.equal(before[0], after[0])
    assert (before[1] != after[1]).all()


def saturated(value, clamp, impl, dtype=torch.float32, **options):
    """Output and dx of a 1x1 layer with weight 1."""
    x = torch.full((1, 1, 1), value, dtype=dtype, requires_grad=True)
    weight = torch.ones(1, 1, 1, dtype=dtype)
    y = ops.modulated_linear(x, weight, None, clamp=clamp, impl=impl, **options)
    (dx,) = torch.autograd.grad(y.sum(), x)
    return y.item(), dx.item()


@pytest.mark.parametrize(
    ("value", "options", "slope"),
    [
        (1.5, {}, 1.0),
        (-1.5, {}, 1.0),
        (1.5, {"activation": "lrelu"}, 1.0),
        (1.5, {"gain": -1.0}, -1.0),
    ],
    ids=["above", "below", "lrelu", "negative_gain"],
)
def test_gradient_at_the_bound(value, options, slope):
    """At |y| = clamp the op gives 0 and the formula passes: the only point where they differ."""
    assert saturated(value, 1.5, "auto", **options)[1] == 0
    assert saturated(value, 1.5, "reference", **options)[1] == slope


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"gain": -1.0}], ids=str)
def test_bound_is_rounded_to_the_output(options):
    """181.02 is 181.0 in bfloat16."""
    for value in (181.0, 190.0):
        y, slope = saturated(value, 181.02, "auto", torch.bfloat16, **options)
        assert (abs(y), slope) == (181.0, 0.0)
    assert abs(saturated(180.0, 181.02, "auto", torch.bfloat16, **options)[1]) == 1.0


@each_backend(OP)
@pytest.mark.parametrize("gain", [2.0, -2.0])
def test_slope_of_lrelu_at_zero_is_alpha(gain, backend):
    x = torch.zeros(1, 2, 3, requires_grad=True)
    weight = torch.randn(1, 1, 3, generator=generator_of("zero"))
    y = ops.modulated_linear(x, weight, None, "lrelu", alpha=0.25, gain=gain, impl=backend.impl)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert relative_error(dx, 0.25 * gain * weight.expand(1, 2, 3)) < 1e-6


def test_pre_activation_is_kept_only_where_it_is_needed():
    """The second output of the schema op is memory: empty unless the slope cannot be read off."""
    x, weight = torch.randn(1, 4, 3), torch.randn(1, 2, 3)

    def kept(activation, gain, alpha=0.2, keep=True):
        op = torch.ops.digan.modulated_linear
        return op(x, weight, None, activation, alpha, gain, None, keep, False)[1].numel()

    assert kept("lrelu", 1.4) == kept("relu", 1.0) == kept("linear", 0.5) == 0
    assert kept("lrelu", -1.4) == kept("lrelu", 1.4, -0.1) == kept("gelu", 1.0) == 8
    assert kept("gelu", 1.0, keep=False) == 0


def test_output_is_contiguous():
    inputs = make_inputs(OP, case_of(OP, "above_a_warp_transposed"), generator_of("strides"))
    assert not inputs["x"].is_contiguous()
    assert ops.modulated_linear(**inputs).is_contiguous()


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "x must be [B, ..., I], got [4]", {"x": torch.ones(4)}),
        (
            ValueError,
            "weight must be [B, O, I] with B = 2, I = 4, O = 5, got [2, 5, 3]",
            {"weight": torch.ones(2, 5, 3)},
        ),
        (ValueError, "weight must be [B, O, I] with B = 2, I = 4", {"weight": torch.ones(5, 4)}),
        (ValueError, "weight must be [B, O, I] with B = 2", {"weight": torch.ones(1, 5, 4)}),
        (ValueError, "bias must be [O] with O = 5, got [4]", {"bias": torch.ones(4)}),
        (ValueError, "bias must be [O] with O = 5, got [2, 5]", {"bias": torch.ones(2, 5)}),
        (ValueError, "activation must be one of linear, relu,", {"activation": "LReLU"}),
        (ValueError, "clamp must be positive or None, got -1", {"clamp": -1.0}),
        (
            TypeError,
            "weight must have the dtype of x (torch.float32), got torch.float64",
            {"weight": torch.ones(2, 5, 4).double()},
        ),
        (
            TypeError,
            "x must be a floating-point tensor, got torch.int64",
            {"x": torch.ones(2, 3, 4).long()},
        ),
        (
            ValueError,
            "weight must be on the device of x (cpu), got meta",
            {"weight": torch.ones(2, 5, 4, device="meta")},
        ),
    ],
)
def test_errors(error, message, arguments, impl):
    given = {"x": torch.randn(2, 3, 4), "weight": torch.randn(2, 5, 4), **arguments}
    checks.check_error(ops.modulated_linear, error, message, given, impl)
