"""coord_linear against a layer on written-out Fourier features, and the identity it rests on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from digan import ops
from tests.op_cases import COORD_LINEAR as OP
from tests.op_cases import LOW, Case, generator_of, make_inputs, relative_error
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
    """Weight and skip in low precision; frequencies, phases, axes and bias in float32."""
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_second_order(case, dtype, backend):
    checks.check_second_order(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("only", ["freq", "phase", "y", "x", "weight", "bias", "skip"])
@each_case(OP, ["lrelu_clamp", "gelu"])
def test_second_order_through_one_gradient(case, only, backend):
    checks.check_second_order(OP, case, torch.float64, backend, only=only)


@each_backend(OP)
@each_case(OP, ["lrelu_clamp", "gelu"])
def test_third_order(case, backend):
    checks.check_second_order(OP, case, torch.float64, backend, orders=3)


@each_backend(OP)
@pytest.mark.parametrize("activation", ["linear", "gelu"])
def test_gradcheck(activation, backend):
    sizes = {"B": 1, "T": 2, "H": 2, "W": 2, "F": 2, "O": 2}
    case = Case(f"check {activation}", sizes, {"activation": activation, "gain": 1.3})
    checks.check_gradcheck(OP, case, backend)


@each_case(OP)
def test_opcheck(case, soak):
    traced = case.name in ("one_cell_of_skip", "gelu")
    expected = {"coord_linear", "coord_linear_backward"}
    checks.check_schema_ops(OP, case, expected, traced, soak)


@each_case(OP, ["lrelu_clamp", "gelu"])
def test_compiles_into_one_graph(case):
    checks.check_compiled(OP, case)


@given(
    sizes=st.fixed_dictionaries(
        {
            "B": st.integers(0, 3),
            "T": st.integers(0, 4),
            "H": st.integers(0, 6),
            "W": st.integers(0, 6),
            "F": st.integers(0, 17),
            "O": st.integers(1, 34),
        }
    ),
    options=checks.drawn_activations(),
    bias=st.booleans(),
    skip=st.booleans(),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn(sizes, options, bias, skip, layout, backend):
    if skip:
        sizes = {**sizes, "H": sizes["H"] // 2 * 2, "W": sizes["W"] // 2 * 2}
    absent = tuple(n for n, given in (("bias", bias), ("skip", skip)) if not given)
    case = Case(f"drawn {sizes} {options}", sizes, options, absent, layout)
    checks.check_gradients(OP, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(OP, case, torch.float64, backend, tolerance=1e-9)


@each_backend(OP)
@pytest.mark.parametrize(
    ("grid", "weight"),
    [
        (torch.float64, torch.float32),
        (torch.float64, torch.bfloat16),
        (torch.float64, torch.float16),
        (torch.float32, torch.float64),
    ],
    ids=str,
)
@each_case(OP, ["lrelu_clamp", "gelu"])
def test_number_types_of_grid_and_weight(case, grid, weight, backend):
    """Frequencies and axes in float64 beside any weight, and in float32 beside float64."""
    wide = torch.float64 if weight == torch.float64 else torch.float32
    types = {"weight": weight, "skip": weight, "bias": wide}
    inputs = make_inputs(OP, case, generator_of(f"types {grid} {weight}"))
    inputs = {n: t.to(backend.device, types.get(n, grid)) for n, t in inputs.items()}
    cotangent = checks.draw_cotangent(OP, case, inputs, weight)
    truth = checks.gradients(
        lambda i: checks.oracle(OP, case, i), OP, checks.to_float64(inputs), cotangent
    )
    found = checks.gradients(
        lambda i: checks.call(OP, case, i, backend.impl), OP, inputs, cotangent
    )
    assert {n: found[n].dtype for n in inputs} == {n: t.dtype for n, t in inputs.items()}
    # The sums of an axis cancel, and their roundings do not.
    worse = max((grid, weight), key=checks.TOLERANCE.__getitem__)
    wrong = checks.complaints({**found, "y": truth["y"], "x": truth["x"]}, truth, worse)
    wrong += [n for n in "yx" if relative_error(found[n], truth[n]) > 5 * checks.TOLERANCE[worse]]
    assert wrong == []
    if backend.emulated:  # tables are as exact as their factors
        assert relative_error(found["out"], truth["out"]) < checks.TOLERANCE[weight]


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_frequencies_are_never_in_16_bits(dtype, impl):
    inputs = make_inputs(OP, case_of(OP, "plain"), generator_of("narrow"))
    inputs = {n: t if t is None or n == "weight" else t.to(dtype) for n, t in inputs.items()}
    message = f"freq must be float64 or float32, got {dtype}"
    checks.check_error(ops.coord_linear, TypeError, message, inputs, impl)


# ---------------------------------------------------------------- the identity


@each_backend(OP)
def test_layer_commutes_with_nearest_upsampling(backend):
    """W [up(x); e] = up(Wx x) + We e: the order of computation that the generator uses.

    The left side is the original's order: upsample, concatenate with the written-out
    embedding, then one layer with the whole matrix.
    """
    b, t, h, w, f, i, o = 2, 3, 6, 4, 5, 7, 8
    generator = generator_of("identity")

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    freq, phase, y, x = 3 * draw(b, f, 2), draw(b, t, f), draw(h), draw(w)
    activations, weight, bias = draw(b, t, h // 2, w // 2, i), draw(b, o, i + 2 * f), draw(o)
    tail = {"activation": "lrelu", "gain": 2**0.5, "clamp": 4.0, "impl": backend.impl}

    images = activations.flatten(0, 1).movedim(-1, 1)
    upsampled = functional.interpolate(images, scale_factor=2, mode="nearest")
    upsampled = upsampled.movedim(1, -1).reshape(b, t, h, w, i)
    embedding = ops.fourier_features(freq, phase, y, x, impl=backend.impl)
    whole = torch.cat([upsampled, embedding], dim=-1)
    expected = ops.modulated_linear(whole, weight, bias, **tail)

    skip = ops.modulated_linear(activations, weight[..., :i], impl=backend.impl)
    found = ops.coord_linear(freq, phase, y, x, weight[..., i:], bias, skip, **tail)
    assert relative_error(found, expected) < 1e-12


# ---------------------------------------------------------------- conventions


def constant_layer(value, impl, clamp, dtype=torch.float32, **options):
    """Output and the gradient by bias of a layer whose pre-activation is its bias."""
    zero = torch.zeros(1, 1, 2)
    bias = torch.tensor([value], requires_grad=True)
    weight = torch.zeros(1, 1, 2, dtype=dtype)
    y = ops.coord_linear(
        zero, torch.zeros(1, 1, 1), zero[0, 0, :1], zero[0, 0, :1], weight, bias,
        clamp=clamp, impl=impl, **options,
    )  # fmt: skip
    (dbias,) = torch.autograd.grad(y.sum(), bias)
    return y.item(), dbias.item()


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
    assert constant_layer(value, "auto", 1.5, **options)[1] == 0
    assert constant_layer(value, "reference", 1.5, **options)[1] == slope


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"gain": -1.0}], ids=str)
def test_bound_is_rounded_to_the_output(options):
    """181.02 is 181.0 in bfloat16."""
    for value in (181.0, 190.0):
        y, slope = constant_layer(value, "auto", 181.02, torch.bfloat16, **options)
        assert (abs(y), slope) == (181.0, 0.0)
    assert abs(constant_layer(180.0, "auto", 181.02, torch.bfloat16, **options)[1]) == 1.0


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("gain", [2.0, -2.0])
def test_slope_of_lrelu_at_zero_is_alpha(gain, impl):
    assert constant_layer(0.0, impl, None, activation="lrelu", alpha=0.25, gain=gain) == (
        0.0,
        0.25 * gain,
    )


def test_pre_activation_is_kept_only_where_it_is_needed():
    """The second output of the schema op is memory: empty unless the slope cannot be read off."""
    inputs = make_inputs(OP, case_of(OP, "plain"), generator_of("kept"))

    def kept(activation, gain, keep=True):
        op = torch.ops.digan.coord_linear
        return op(*inputs.values(), activation, 0.2, gain, None, keep, False)[1].numel()

    assert kept("lrelu", 1.4) == kept("relu", 1.0) == kept("linear", 0.5) == 0
    assert kept("lrelu", -1.4) == kept("gelu", 1.0) > 0
    assert kept("gelu", 1.0, keep=False) == 0


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "freq must be [B, F, 2], got [3, 2]", {"freq": torch.ones(3, 2)}),
        (
            ValueError,
            "phase must be [B, T, F] with B = 2, F = 3",
            {"phase": torch.ones(1, 5, 3)},
        ),
        (ValueError, "y must be [H], got [4, 1]", {"y": torch.ones(4, 1)}),
        (ValueError, "weight must be [B, O, 6] with B = 2", {"weight": torch.ones(2, 7, 3)}),
        (ValueError, "bias must be [O] with O = 7, got [6]", {"bias": torch.ones(6)}),
        (
            ValueError,
            "a grid with skip must have even sides, got 4 x 5",
            {"x": torch.ones(5), "skip": torch.ones(2, 5, 2, 2, 7)},
        ),
        (
            ValueError,
            "skip must be [B, T, 2, 3, O] with B = 2, T = 5, O = 7, got [2, 5, 4, 6, 7]",
            {"skip": torch.ones(2, 5, 4, 6, 7)},
        ),
        (ValueError, "activation must be one of linear, relu,", {"activation": "sin"}),
        (ValueError, "clamp must be positive or None, got 0.0", {"clamp": 0.0}),
        (TypeError, "phase must have the dtype of freq", {"phase": torch.ones(2, 5, 3).double()}),
        (
            TypeError,
            "skip must have the dtype of weight",
            {"skip": torch.ones(2, 5, 2, 3, 7).half()},
        ),
        (TypeError, "bias must be a floating-point tensor", {"bias": torch.ones(7).int()}),
        (
            ValueError,
            "weight must be on the device of freq (cpu), got meta",
            {"weight": torch.ones(2, 7, 6, device="meta")},
        ),
    ],
)
def test_errors(error, message, arguments, impl):
    given = {
        "freq": torch.randn(2, 3, 2),
        "phase": torch.randn(2, 5, 3),
        "y": torch.randn(4),
        "x": torch.randn(6),
        "weight": torch.randn(2, 7, 6),
        **arguments,
    }
    checks.check_error(ops.coord_linear, error, message, given, impl)
