"""The generator on the emulated kernels against numbers of the original implementation.

In float32, and in float64, which the plain form of the same kernels serves: there every number of
the original is met to its last digits.
"""

from __future__ import annotations

import pytest
import torch

from tests.emulation.build import emulated
from tests.nn.original import EXACT, FLOAT32, crossings, spatial_error
from tests.nn.test_golden_generator import Run, frames, run

BOUND = {torch.float64: EXACT, torch.float32: FLOAT32}


def on_kernels(name: str, dtype: torch.dtype) -> Run:
    """A run of the committed subset whose every op launched kernels."""
    with emulated(seed=17) as controls:
        made = run.__wrapped__("subset", name, dtype)
        kernels = set(controls.kernels())
    for op in ("modulated_linear_kernel", "coord_linear_kernel", "modulated_linear_narrow_kernel"):
        assert any(op in kernel for kernel in kernels), kernels
    return made


def check_pictures(made: Run, bound: float) -> None:
    """Activations and picture of every block, and the pixels."""
    for block, (x, image) in zip(made.network.blocks, made.blocks, strict=True):
        for part, ours in (("x", x), ("img", image)):
            name = f"f64/b{block.resolution}/{part}"
            assert spatial_error(made.numbers, name, frames(ours)) < bound, name
    assert made.numbers.error("f64/img", made.image) < bound


@pytest.mark.parametrize("dtype", BOUND, ids=["float64", "float32"])
def test_forward(dtype):
    """128 pixels, the finest block with its third layer."""
    check_pictures(on_kernels("a1_generator_128_uncond", dtype), BOUND[dtype])


@pytest.mark.soak
def test_gradients(soak):
    """Of every parameter and of every input, where float32 can tell the side of a kink."""
    names = ("b2_generator_64_cond5", "a2_generator_64_uncond")
    for name in names if soak else names[:1]:
        for dtype in BOUND if soak else (torch.float32,):
            check_gradients(name, dtype)


def check_gradients(name: str, dtype: torch.dtype) -> None:
    made = on_kernels(name, dtype)
    check_pictures(made, BOUND[dtype])
    found = {**made.input_errors(), **made.parameter_errors()}
    assert len(found) > len(list(made.network.parameters()))
    crossed = crossings(made.kinks, run("subset", name, torch.float64).kinks)
    assert dtype == torch.float32 or not crossed
    assert all(abs(value) < 1e-6 for value in crossed), crossed
    assert max(found.values()) < (5e-3 if crossed else BOUND[dtype]), (found, crossed)
