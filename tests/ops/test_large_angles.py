"""The coordinate ops at large angles: a float32 phase is wrong by 3e-4 at 1e4 radians.

A phase that is formed in float64 from float32 factors is exact, so the result in float32 is
as good at 1e4 radians as at 1. Angles grow through the frequencies, through the phase (time),
and through the coordinates (a zoomed-out or long video).
"""

from __future__ import annotations

import pytest
import torch

from tests.emulation.linear_kinds import BF16, F16, F32, TF32, run
from tests.op_cases import (
    COORD_LINEAR,
    FOURIER_FEATURES,
    FOURIER_FEATURES_AT,
    Case,
    generator_of,
    make_inputs,
    relative_error,
    to_float64,
)
from tests.ops import checks
from tests.ops.checks import each_backend

SIZES = {"B": 2, "T": 3, "H": 6, "W": 4, "F": 16, "O": 9, "N": 40, "d": 3}
THROUGH = {
    "frequency": ("freq",),
    "phase": ("phase",),
    "coordinates": ("y", "x", "coords"),
    "all": ("freq", "phase", "y", "x", "coords"),
}


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("largest", [50.0, 300.0, 1e4])
@each_backend(FOURIER_FEATURES, FOURIER_FEATURES_AT, COORD_LINEAR)
def test_float32_error_does_not_grow_with_the_angle(op, backend, largest, through):
    generator = generator_of(f"{op.name} {largest} {through}")
    inputs = make_inputs(op, Case("large", SIZES), generator, torch.float32, backend.device)
    # Products of two factors reach about 3 * 0.7 * 3; each factor takes its share.
    grown = [n for n in THROUGH[through] if n in inputs]
    share = {"all": 0.5}.get(through, 1.0)
    for name in grown:
        power = 1.0 if name == "phase" else share
        inputs[name] = inputs[name] * (largest / 8) ** power
    exact = to_float64(inputs)
    cotangent = checks.draw_cotangent(op, Case("large", SIZES), inputs, torch.float32)

    def largest_angle():
        freq, coords = exact["freq"].abs(), exact.get("coords", exact.get("x")).abs()
        return float(freq.max() * coords.max() + exact["phase"].abs().max())

    assert largest / 8 < largest_angle() < 20 * largest
    truth = checks.gradients(lambda i: op.oracle(*i.values()), op, exact, cotangent)
    found = checks.gradients(lambda i: op.function(**i, impl=backend.impl), op, inputs, cotangent)
    errors = {n: relative_error(found[n], truth[n]) for n in truth}
    assert all(e < 1e-6 for e in errors.values()), errors


# What a kind of arithmetic is allowed at any angle; the sums of an axis cancel.
LIMITS = {F32: 1e-6, TF32: 1e-3, BF16: 1e-2, F16: 2e-3}
TILES = {
    "large": {"B": 1, "T": 2, "H": 6, "W": 14, "F": 72, "O": 136},
    "small": {"B": 2, "T": 1, "H": 6, "W": 10, "F": 40, "O": 24},
}


@pytest.mark.parametrize("largest", [8.0, 50.0, 300.0, 1e3, 1e4])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("kind", LIMITS, ids=str)
def test_the_kernels_error_does_not_grow_with_the_angle(kind, tile, largest):
    """coord_linear's kernels in every arithmetic, also where they round their operands."""
    case = Case(f"{tile} {largest}", TILES[tile])
    inputs = make_inputs(COORD_LINEAR, case, generator_of(f"angles {tile}"), kind.dtype)
    for name, power in (("phase", 1.0), ("freq", 0.5), ("y", 0.5), ("x", 0.5)):
        inputs[name] = inputs[name] * (largest / 8) ** power
    exact = to_float64(inputs)
    angle = exact["freq"].abs().max() * exact["x"].abs().max() + exact["phase"].abs().max()
    assert largest / 4 < float(angle) < 10 * largest
    cotangent = checks.draw_cotangent(COORD_LINEAR, case, inputs, kind.dtype)
    truth = checks.gradients(
        lambda i: COORD_LINEAR.oracle(*i.values()), COORD_LINEAR, exact, cotangent
    )
    found = run(COORD_LINEAR, case, kind, inputs=inputs).found
    errors = {n: relative_error(found[n], truth[n]) / (5 if n in "yx" else 1) for n in truth}
    assert all(e < LIMITS[kind] for e in errors.values()), errors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@each_backend(FOURIER_FEATURES, FOURIER_FEATURES_AT)
def test_an_angle_without_digits_has_a_sine(op, backend, dtype):
    """Within [-1, 1], and gradients without NaN, where the reduction has lost the angle."""
    inputs = make_inputs(op, Case("lost", SIZES), generator_of("lost"), torch.float32)
    through = THROUGH["coordinates"]
    inputs = {
        n: (t * 1e30 if n in through else t).to(backend.device).requires_grad_()
        for n, t in inputs.items()
    }
    out = op.function(**inputs, dtype=dtype, impl=backend.impl)
    assert out.abs().max() <= 1.001
    found = torch.autograd.grad(out.double().square().sum(), list(inputs.values()))
    assert all(bool(gradient.isfinite().all()) for gradient in found)
