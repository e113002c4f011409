"""fourier_features on grids and at points, against a coordinate tensor and the whole angle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digan import ops
from tests.op_cases import (
    FOURIER_FEATURES,
    FOURIER_FEATURES_AT,
    LOW,
    Case,
    generator_of,
    make_inputs,
    relative_error,
)
from tests.ops import checks
from tests.ops.checks import case_of, each_backend

WIDE = (torch.float64, torch.float32)
BOTH = (FOURIER_FEATURES, FOURIER_FEATURES_AT)
EVERY_CASE = [pytest.param(op, case, id=f"{op.name}-{case}") for op in BOTH for case in op.cases]
EVERY_RUN = [
    pytest.param(op, case, *b.values, id=f"{op.name}-{case}-{b.id}", marks=b.marks)
    for op in BOTH
    for case in op.cases
    for b in checks.backends_of(op)
]


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize(("op", "case", "backend"), EVERY_RUN)
def test_values_and_gradients(op, case, backend, dtype):
    checks.check_gradients(op, case, dtype, backend)


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize(("op", "case", "backend"), EVERY_RUN)
def test_low_precision_output(op, case, backend, dtype):
    """float32 coordinates and frequencies, output and its cotangent in low precision."""
    checks.check_gradients(op, case, dtype, backend)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize(("op", "case", "backend"), EVERY_RUN)
def test_second_order(op, case, backend, dtype):
    checks.check_second_order(op, case, dtype, backend)


@pytest.mark.parametrize("only", ["freq", "phase", "y", "x"])
@each_backend(FOURIER_FEATURES)
def test_second_order_through_one_gradient(only, backend):
    case = case_of(FOURIER_FEATURES, "plain")
    checks.check_second_order(FOURIER_FEATURES, case, torch.float64, backend, only=only)


@pytest.mark.parametrize("only", ["freq", "phase", "coords"])
@each_backend(FOURIER_FEATURES_AT)
def test_second_order_at_points_through_one_gradient(only, backend):
    """Eikonal losses differentiate the gradient by the coordinates alone."""
    case = case_of(FOURIER_FEATURES_AT, "in_space_cut")
    checks.check_second_order(FOURIER_FEATURES_AT, case, torch.float64, backend, only=only)


@each_backend(*BOTH)
def test_third_order(op, backend):
    checks.check_second_order(op, op.cases[0], torch.float64, backend, orders=3)


@each_backend(*BOTH)
def test_gradcheck(op, backend):
    """By all inputs, the coordinates too, twice."""
    sizes = {"B": 2, "T": 2, "H": 2, "W": 1, "F": 2, "N": 2, "d": 3}
    checks.check_gradcheck(op, Case("check", sizes), backend)


@each_backend(FOURIER_FEATURES_AT)
def test_laplacian_of_plane_waves(backend):
    """Summed second derivatives by the coordinates of a wave are -|freq|^2 times the wave."""
    inputs = make_inputs(
        FOURIER_FEATURES_AT, Case("wave", {"B": 1, "N": 6, "F": 1, "d": 3}), generator_of("wave")
    )
    coords = inputs["coords"].requires_grad_()
    wave = ops.fourier_features_at(**inputs, impl=backend.impl)[..., 0]
    (slope,) = torch.autograd.grad(wave.sum(), coords, create_graph=True)
    laplacian = sum(
        torch.autograd.grad(slope[..., k].sum(), coords, retain_graph=True)[0][..., k]
        for k in range(3)
    )
    assert relative_error(laplacian, -inputs["freq"].square().sum() * wave) < 1e-12


@pytest.mark.parametrize(("op", "case"), EVERY_CASE)
def test_opcheck(op, case, soak):
    traced = case.name in ("a_warp_cut", "in_space_cut")
    expected = {op.name, f"{op.name}_backward"}
    checks.check_schema_ops(op, case, expected, traced, soak)


@pytest.mark.parametrize("op", BOTH, ids=lambda op: op.name)
def test_compiles_into_one_graph(op):
    checks.check_compiled(op, op.cases[0])


SIZE = st.integers(0, 6)


@given(
    sizes=st.fixed_dictionaries(
        {"B": st.integers(0, 3), "T": SIZE, "H": SIZE, "W": SIZE, "F": st.integers(0, 34)}
    ),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn_grids(sizes, layout, backend):
    case = Case(f"drawn {sizes}", sizes, layout=layout)
    checks.check_gradients(FOURIER_FEATURES, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(FOURIER_FEATURES, case, torch.float64, backend, tolerance=1e-9)


@given(
    sizes=st.fixed_dictionaries(
        {
            "B": st.integers(0, 3),
            "N": st.integers(0, 20),
            "F": st.integers(0, 34),
            "d": st.integers(1, 4),
        }
    ),
    layout=checks.LAYOUTS,
    backend=checks.CPU_BACKENDS,
)
def test_drawn_points(sizes, layout, backend):
    case = Case(f"drawn {sizes}", sizes, layout=layout)
    checks.check_gradients(FOURIER_FEATURES_AT, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(FOURIER_FEATURES_AT, case, torch.float64, backend, tolerance=1e-9)


# A thousand blocks fill the largest GPU; only beyond that a thread takes several rows or points.
@each_backend(FOURIER_FEATURES)
def test_more_rows_than_blocks(backend):
    case = Case("many rows", {"B": 1, "T": 2, "H": 1030, "W": 1, "F": 3})
    checks.check_gradients(FOURIER_FEATURES, case, torch.float32, backend)


@each_backend(FOURIER_FEATURES_AT)
def test_more_points_than_blocks(backend):
    case = Case("many points", {"B": 1024, "N": 10, "F": 31, "d": 1})
    checks.check_gradients(FOURIER_FEATURES_AT, case, torch.float32, backend)


# ---------------------------------------------------------------- conventions


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_grid_and_points_agree(impl):
    """freq holds x first: the points of a grid are (x, y), and columns are the last axis."""
    inputs = make_inputs(FOURIER_FEATURES, case_of(FOURIER_FEATURES, "plain"), generator_of("g"))
    freq, phase, y, x = inputs.values()
    grid = ops.fourier_features(freq, phase, y, x, impl=impl)
    for t, h, w in [(0, 0, 0), (2, 3, 4), (1, 0, 3)]:
        points = torch.stack([x[w], y[h]]).expand(2, 1, 2)
        at = ops.fourier_features_at(freq, phase[:, t], points, impl=impl)
        assert relative_error(grid[:, t, h, w], at[:, 0]) < 1e-14


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("op", BOTH, ids=lambda op: op.name)
def test_output_dtype(op, impl):
    inputs = make_inputs(op, op.cases[0], generator_of("dtype"), torch.float32)
    for dtype in (torch.float64, torch.float32, *LOW):
        out = op.function(**inputs, dtype=dtype, impl=impl)
        assert out.dtype == dtype
        assert out.is_contiguous()
    assert op.function(**inputs, impl=impl).dtype == torch.float32


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "freq must be [B, F, 2], got [4, 128]", {"freq": torch.ones(4, 128)}),
        (
            ValueError,
            "freq must be [B, F, 2] with B = 2, F = 3, got [2, 3, 3]",
            {"freq": torch.ones(2, 3, 3)},
        ),
        (ValueError, "phase must be [B, T, F] with B = 2, F = 3", {"phase": torch.ones(2, 3)}),
        (ValueError, "phase must be [B, T, F] with B = 2, F = 3", {"phase": torch.ones(2, 5, 4)}),
        (ValueError, "y must be [H], got [4, 1]", {"y": torch.ones(4, 1)}),
        (ValueError, "x must be [W], got []", {"x": torch.ones(())}),
        (
            TypeError,
            "dtype must be a floating-point dtype, got torch.int32",
            {"dtype": torch.int32},
        ),
        (TypeError, "y must have the dtype of freq (torch.float32)", {"y": torch.ones(4).double()}),
        (TypeError, "x must be a floating-point tensor, got torch.int64", {"x": torch.arange(6)}),
        (
            ValueError,
            "y must be on the device of freq (cpu), got meta",
            {"y": torch.ones(4, device="meta")},
        ),
    ],
)
def test_errors_on_the_grid(error, message, arguments, impl):
    given = {
        "freq": torch.randn(2, 3, 2),
        "phase": torch.randn(2, 5, 3),
        "y": torch.randn(4),
        "x": torch.randn(6),
        **arguments,
    }
    checks.check_error(ops.fourier_features, error, message, given, impl)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "freq must be [B, F, d], got [3, 2]", {"freq": torch.ones(3, 2)}),
        (ValueError, "phase must be [B, F] with B = 2, F = 3", {"phase": torch.ones(2, 1, 3)}),
        (ValueError, "coords must be [B, N, d] with B = 2, d = 2", {"coords": torch.ones(2, 5, 3)}),
        (
            ValueError,
            "coords must have 1 to 4 coordinates a point, got 5",
            {"freq": torch.ones(2, 3, 5), "coords": torch.ones(2, 4, 5)},
        ),
        (
            ValueError,
            "coords must have 1 to 4 coordinates a point, got 0",
            {"freq": torch.ones(2, 3, 0), "coords": torch.ones(2, 4, 0)},
        ),
        (TypeError, "coords must have the dtype of freq", {"coords": torch.ones(2, 4, 2).double()}),
        (TypeError, "dtype must be a floating-point dtype", {"dtype": torch.bool}),
        (
            ValueError,
            "phase must be on the device of freq (cpu)",
            {"phase": torch.ones(2, 3, device="meta")},
        ),
    ],
)
def test_errors_at_points(error, message, arguments, impl):
    given = {
        "freq": torch.randn(2, 3, 2),
        "phase": torch.randn(2, 3),
        "coords": torch.randn(2, 4, 2),
        **arguments,
    }
    checks.check_error(ops.fourier_features_at, error, message, given, impl)
