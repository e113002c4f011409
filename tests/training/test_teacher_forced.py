"""Tuned iterations against a plain float64 run, phase by phase, at ten states of it.

Free runs are no measure: rounding alone parts them (see `tests.training.teacher`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import pytest
import torch

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from digan.training.environment import Environment
from tests.requirements import require
from tests.training.teacher import (
    Deviation,
    deviation,
    deviations_by_phase,
    phase_gradients,
    teacher_states,
    witness,
)

STATES, SIZE, WIDTH = 10, 64, 32
# The official structure at 64 pixels: half the width at the finest grid, R1 every third
# iteration. In bfloat16 are the generator's layers and the discriminators' block at 64.
CONFIG = TrainConfig(
    resolution=SIZE,
    clip_frames=8,
    batch=4,
    workers=0,
    d_reg_interval=3,
    generator=GeneratorConfig(
        resolution=SIZE, latent_dim=128, channel_base=SIZE * WIDTH, channel_max=2 * WIDTH,
        frequencies=WIDTH,
    ),
    discriminator=DiscriminatorConfig(
        resolution=SIZE, channel_base=SIZE * WIDTH // 2, channel_max=WIDTH
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def states():
    return list(teacher_states(CONFIG, STATES))


def deviations(states, **settings) -> dict[str, list[Deviation]]:
    return deviations_by_phase(witness(CONFIG, **settings), states)


def worst(found: dict[str, list[Deviation]]) -> str:
    return "; ".join(
        f"{phase}: cosine {min(d.cosine for d in of):.6f}, ratio {min(d.ratio for d in of):.4f} to "
        f"{max(d.ratio for d in of):.4f}, loss {max(d.loss for d in of):.1e}, error "
        f"{max(d.error for d in of):.1e}"
        for phase, of in found.items()
    )


def test_the_states_are_ten_and_have_every_phase(states):
    phases = [phase for state in states for phase in state.truth]
    assert {p: phases.count(p) for p in set(phases)} == {"G": 10, "D": 10, "R1": 4}
    losses = [v for state in states for p in state.truth.values() for v in p.losses.values()]
    assert all(math.isfinite(value) and value != 0 for value in losses)


def test_float64(states):
    """The tuned path is the plain path: weights prepared once, sums of parts, kernels' orders."""
    found = deviations_by_phase(witness(CONFIG, torch.float64), states)
    assert max(d.error for of in found.values() for d in of) < 1e-10, worst(found)
    assert max(d.loss for of in found.values() for d in of) < 1e-10, worst(found)


def check_narrow(found: dict[str, list[Deviation]]) -> None:
    """Gradient vectors in the same direction and of the same length, losses alike.

    What parts them are slopes whose pre-activation changed its sign, by far the most of them in
    one state; so the middle of the states is held more tightly than each.
    """
    for phase, of in found.items():
        cosines, ratios = ([getattr(d, name) for d in of] for name in ("cosine", "ratio"))
        assert min(cosines) > 0.997, worst(found)
        assert median(cosines) > 0.999, worst(found)
        assert all(0.97 < ratio < 1.03 for ratio in ratios), worst(found)
        assert 0.98 < median(ratios) < 1.02, worst(found)
        assert max(d.loss for d in of) < (0.05 if phase == "R1" else 0.02), worst(found)


def check_wide(found: dict[str, list[Deviation]]) -> None:
    """Rounding alone; a pre-activation that changes its sign moves a gradient by more."""
    for of in found.values():
        errors = sorted(d.error for d in of)
        assert errors[len(errors) // 2] < 1e-4, worst(found)
        assert errors[-1] < 5e-3, worst(found)
        assert max(d.loss for d in of) < 1e-4, worst(found)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_bfloat16(states, kernels):
    check_narrow(deviations(states, precision="bf16", kernels=kernels))


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_float32(states, kernels):
    check_wide(deviations(states, precision="fp32", kernels=kernels))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu(states, precision):
    """With the kernels and the discriminators' float16 that a GPU has."""
    if not torch.cuda.is_available():
        require("gpu", "no CUDA device is visible")
    with Environment(replace(CONFIG, precision=precision)):
        found = deviations(states, precision=precision, device="cuda")
    (check_wide if precision == "fp32" else check_narrow)(found)


# The least cosine of gradients, the median, and the largest error of a loss.
GENERATOR = {
    "tf32": (0.998, 0.9998, 1e-3),
    "bf16": (0.997, 0.999, 0.02),
    "fp16": (0.998, 0.9998, 1e-3),
}


@pytest.mark.parametrize("precision", list(GENERATOR))
def test_generator_precision(states, precision):
    """Of the generator alone; the discriminators' gradients see it through its frames."""
    found = deviations(states, precision="fp32", generator_precision=precision)
    least, middle, loss = GENERATOR[precision]
    for phase in ("G", "D"):
        cosines = [d.cosine for d in found[phase]]
        assert min(cosines) > least, worst(found)
        assert median(cosines) > middle, worst(found)
        assert all(0.97 < d.ratio < 1.03 for d in found[phase]), worst(found)
        assert max(d.loss for d in found[phase]) < loss, worst(found)
    assert max(d.error for d in found["R1"]) < 5e-3, worst(found)  # no generator in it
    assert median(d.error for d in found["G"]) > 1e-3, worst(found)  # else it was float32


def test_other_weights_are_told_apart(states):
    """The measure can fail: a tenth more on the discriminators' weights shows."""
    state = states[1]
    moved = {
        phase: {
            "generator": weights["generator"],
            "discriminator": {k: 1.1 * v for k, v in weights["discriminator"].items()},
        }
        for phase, weights in state.weights.items()
    }
    student = witness(CONFIG, precision="fp32", kernels="reference")
    found = phase_gradients(student, type(state)(state.step, moved, state.truth))
    assert not 0.98 < deviation(found["D"], state.truth["D"]).ratio < 1.02
