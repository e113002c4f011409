"""bias_act against its definition, and against numbers of the original implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from digan import ops
from tests.op_cases import BIAS_ACT as OP
from tests.op_cases import LOW, Case, relative_error
from tests.ops import checks
from tests.ops.checks import each_backend, each_case

WIDE = (torch.float64, torch.float32)
SMOOTH = ("linear", "sine", "gelu", "tanh", "sigmoid", "softplus", "swish")
GOLDEN_ARGUMENTS = {
    "lrelu_default": {"activation": "lrelu", "gain": math.sqrt(2)},
    "lrelu_gain_clamp": {"activation": "lrelu", "gain": 1.0, "clamp": 0.9},
    "lrelu_alpha": {"activation": "lrelu", "alpha": 0.1, "gain": 1.3},
    "linear_default": {},
    "linear_gain_clamp": {"gain": 0.5, "clamp": 0.4},
    "relu": {"activation": "relu", "gain": math.sqrt(2)},
    "swish": {"activation": "swish", "gain": math.sqrt(2), "clamp": 1.0},
    **{n: {"activation": n} for n in ("softplus", "sigmoid", "tanh", "elu", "selu")},
}


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_values_and_gradients(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", LOW, ids=str)
@each_case(OP, low=True)
def test_low_precision(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_second_order(case, dtype, backend):
    checks.check_second_order(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("only", ["x", "bias"])
@each_case(OP, ["lrelu_clamp_channels_last", "channels_first_axis", "gelu_gain_clamp"])
def test_second_order_through_one_gradient(case, only, backend):
    """R1 differentiates the gradient by x alone: the other cotangents are absent."""
    checks.check_second_order(OP, case, torch.float64, backend, only=only)


@each_backend(OP)
@each_case(OP, ["plain", "lrelu_clamp_channels_last", "transposed", "slow_sine", "vector"])
def test_third_order(case, backend):
    checks.check_second_order(OP, case, torch.float64, backend, orders=3)


@each_backend(OP)
@pytest.mark.parametrize("activation", SMOOTH)
def test_gradcheck(activation, backend):
    options = {"activation": activation, "gain": 1.3, "alpha": 1.2}
    checks.check_gradcheck(OP, Case(f"check {activation}", {"shape": (2, 3)}, options), backend)


@each_case(OP)
def test_opcheck(case, soak):
    traced = case.name in ("lrelu_clamp_channels_last", "gelu_gain_clamp")
    expected = {"bias_act", "bias_act_backward"}
    checks.check_schema_ops(OP, case, expected, traced, soak)


@each_case(OP, ["lrelu_clamp_channels_last", "swish_gain_clamp"])
def test_compiles_into_one_graph(case):
    checks.check_compiled(OP, case)


@given(
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=5).map(tuple),
    axis=st.integers(0, 4),
    from_the_end=st.booleans(),
    options=checks.drawn_activations(),
    bias=st.booleans(),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn(shape, axis, from_the_end, options, bias, layout, backend):
    dim = axis % len(shape) - len(shape) * from_the_end
    case = Case(
        f"drawn {shape} {options} {layout}",
        {"shape": shape, "dim": dim},
        {**options, "dim": dim},
        () if bias else ("bias",),
        layout,
    )
    checks.check_gradients(OP, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(OP, case, torch.float64, backend, tolerance=1e-9)


# ---------------------------------------------------------------- numbers of the original


@pytest.mark.parametrize("name", GOLDEN_ARGUMENTS)
@each_backend(OP)
def test_original(name, backend, golden_file):
    """First and second order in float64, with exact zeros at the kink of lrelu."""
    with np.load(golden_file("e_ops_f64")) as file:
        numbers = {
            k.split("/")[-1]: torch.from_numpy(file[k]).double().to(backend.device)
            for k in file
            if k.startswith(("ba_", f"bias_act/{name}/"))
        }
    x, bias = numbers["ba_x"].requires_grad_(), numbers["ba_b"].requires_grad_()
    dy = numbers["dy"].requires_grad_()
    y = ops.bias_act(x, bias, **GOLDEN_ARGUMENTS[name], impl=backend.impl)
    dx, db = torch.autograd.grad(y, (x, bias), dy, create_graph=True)
    loss = (dx * numbers["v"]).sum() + (db * numbers["u"]).sum()
    second = torch.autograd.grad(loss, (dy, x, bias), allow_unused=True)
    found = {"y": y, "dx": dx, "db": db}
    for key, like, value in zip(("ddy", "ddx", "ddb"), (dy, x, bias), second, strict=True):
        found[key] = torch.zeros_like(like) if value is None else value
    errors = {k: relative_error(v, numbers[k]) for k, v in found.items()}
    assert all(e <= 1e-9 for e in errors.values()), errors


def test_every_original_case_is_tried(golden_file):
    with np.load(golden_file("e_ops_f64")) as file:
        assert {k.split("/")[1] for k in file if k.startswith("bias_act/")} == set(GOLDEN_ARGUMENTS)


# ---------------------------------------------------------------- conventions


def slope_at(value, dtype=torch.float32, impl="auto", **options):
    """The op's value and derivative at one number."""
    x = torch.tensor([[value]], dtype=dtype, requires_grad=True)
    y = ops.bias_act(x, **options, impl=impl)
    (dx,) = torch.autograd.grad(y.sum(), x)
    return y.item(), dx.item()


@each_backend(OP)
def test_slope_of_lrelu_at_zero_is_alpha(backend):
    assert slope_at(0.0, impl=backend.impl, activation="lrelu", alpha=0.25, gain=2.0) == (0.0, 0.5)
    assert slope_at(0.0, impl=backend.impl, activation="relu") == (0.0, 0.0)
    # The path that keeps the pre-activation, for the output does not tell its sign.
    assert slope_at(0.0, impl=backend.impl, activation="lrelu", alpha=0.25, gain=-2.0)[1] == -0.5


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("value", "options"),
    [
        (1.5, {}),
        (1.5, {"activation": "lrelu", "alpha": 1.0}),
        (-1.5, {"gain": -1.0}),
    ],
    ids=["linear", "lrelu", "negative_gain"],
)
def test_gradient_at_the_bound(value, options, sign):
    """At |y| = clamp the op gives 0 and the formula passes: the only point where they differ."""
    y, slope = slope_at(sign * value, clamp=1.5, **options)
    assert (y, slope) == (sign * 1.5, 0.0)
    y, slope = slope_at(sign * value, clamp=1.5, impl="reference", **options)
    assert (y, slope) == (sign * 1.5, options.get("gain", 1.0))
    for impl in ("auto", "reference"):
        assert slope_at(1.001 * value, clamp=1.5, impl=impl, **options)[1] == 0
        assert slope_at(0.999 * value, clamp=1.5, impl=impl, **options)[1] != 0


@pytest.mark.parametrize("options", [{}, {"activation": "lrelu"}, {"gain": -1.0}], ids=str)
def test_bound_is_rounded_to_the_output(options):
    """181.02 is 181.0 in bfloat16: an output of 181.0 is clamped though 181.0 < 181.02."""
    for value in (181.0, 190.0):
        y, slope = slope_at(value, torch.bfloat16, clamp=181.02, **options)
        assert (abs(y), slope) == (181.0, 0.0)
    assert abs(slope_at(180.0, torch.bfloat16, clamp=181.02, **options)[1]) == 1.0


@each_backend(OP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("activation", checks.ACTIVATIONS)
def test_saturated_values_stay_finite(activation, dtype, backend):
    """Where an exponential overflows, up to the second order."""
    x = torch.tensor([[-200.0, -20.0, 20.0, 200.0]], dtype=dtype, requires_grad=True)
    y = ops.bias_act(x, None, activation, alpha=0.2, impl=backend.impl)
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert torch.isfinite(y).all()
    assert torch.isfinite(dx).all()
    if dx.requires_grad:
        (ddx,) = torch.autograd.grad(dx.sum(), x, allow_unused=True)
        assert ddx is None or torch.isfinite(ddx).all()


class Seen(TorchDispatchMode):
    """Operations by name, with the shapes of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sums = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.append(func._schema.name)
        if func is torch.ops.digan.bias_act_backward.default:
            self.sums += out[1].numel() > 0
        return out


def test_the_second_order_of_a_slope_is_the_op_itself():
    """As R1 has it, by x alone: one pass over memory, no formula."""
    x = torch.randn(2, 5, 4, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True)
    y = ops.bias_act(x, bias, "lrelu", gain=1.3, clamp=0.9)
    grad = torch.randn_like(y).requires_grad_()
    (dx,) = torch.autograd.grad(y, x, grad, create_graph=True)
    v = torch.randn_like(dx)
    with Seen() as seen:
        torch.autograd.grad(dx, grad, v)
    assert seen.names.count("digan::bias_act_backward") == 1
    assert not [n for n in seen.names if n.startswith("aten::") and "detach" not in n]


@pytest.mark.parametrize("rests", [False, True])
def test_a_bias_that_rests_is_not_summed(rests):
    x = torch.randn(2, 5, 4, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=not rests)
    y = ops.bias_act(x, bias, "lrelu")
    with Seen() as seen:
        y.backward(torch.randn_like(y))
    assert seen.sums == (0 if rests else 1)


def test_strides_are_kept():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    out = ops.bias_act(x, torch.randn(3), "lrelu")
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert ops.bias_act(x, torch.randn(3), "tanh").stride() == x.stride()


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "bias must be [3] (axis 1 of x), got [4]", {"bias": torch.randn(4)}),
        (ValueError, "bias must be [3] (axis 1 of x), got [3, 1]", {"bias": torch.randn(3, 1)}),
        (ValueError, "bias must be [2] (axis 0 of x), got [3]", {"bias": torch.ones(3), "dim": -2}),
        (ValueError, "dim must be an axis of x, which has 2, got 2", {"dim": 2}),
        (ValueError, "dim must be an axis of x, which has 2, got -3", {"dim": -3}),
        (ValueError, "activation must be one of linear, relu, lrelu,", {"activation": "mish"}),
        (ValueError, "clamp must be positive or None, got 0", {"clamp": 0}),
        (ValueError, "clamp must be positive or None, got nan", {"clamp": math.nan}),
        (
            TypeError,
            "x must be a floating-point tensor, got torch.int64",
            {"x": torch.ones(2).long()},
        ),
        (
            TypeError,
            "bias must be a floating-point tensor, got torch.bool",
            {"bias": torch.ones(3) > 0},
        ),
        (
            ValueError,
            "bias must be on the device of x (cpu), got meta",
            {"bias": torch.ones(3, device="meta")},
        ),
    ],
)
def test_errors(error, message, arguments, impl):
    checks.check_error(ops.bias_act, error, message, {"x": torch.randn(2, 3), **arguments}, impl)
