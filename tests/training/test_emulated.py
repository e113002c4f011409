"""Training on the emulated kernels, phase by phase against a float64 run (see `teacher`)."""

from __future__ import annotations

import math

import pytest

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from tests.emulation.build import emulated
from tests.training.teacher import deviation, phase_gradients, teacher_states, witness

STATES, SIZE = 10, 32
# All ops and both discriminators, as small as they get: the emulator runs every thread.
CONFIG = TrainConfig(
    resolution=SIZE,
    clip_frames=4,
    batch=2,
    workers=0,
    d_reg_interval=5,
    generator=GeneratorConfig(
        resolution=SIZE, latent_dim=16, channel_base=SIZE * 4, channel_max=8, frequencies=4, rank=2
    ),
    discriminator=DiscriminatorConfig(resolution=SIZE, channel_base=SIZE * 4, channel_max=8),
)


@pytest.fixture(scope="module")
def states():
    return list(teacher_states(CONFIG, STATES))


def test_training_on_kernels(states):
    """Losses and gradients of all three phases at ten states, in float32."""
    errors: dict[str, list[float]] = {}
    with emulated(seed=5) as controls:
        student = witness(CONFIG, precision="fp32", kernels="auto")
        for state in states:
            for phase, found in phase_gradients(student, state).items():
                apart = deviation(found, state.truth[phase])
                assert apart.loss < 1e-4, (state.step, phase, apart)
                assert apart.cosine > 0.999, (state.step, phase, apart)
                assert 0.98 < apart.ratio < 1.02, (state.step, phase, apart)
                errors.setdefault(phase, []).append(apart.error)
        launched = set(controls.kernels())
    # A slope whose pre-activation is rounded across zero moves a state; the middle stays exact.
    assert all(sorted(e)[len(e) // 2] < 1e-4 and math.isfinite(sum(e)) for e in errors.values())
    # coord_linear makes its own Fourier features.
    for name in ("bias_act", "fir_resample", "factorized_modulation"):
        assert any(name in kernel for kernel in launched), (name, launched)
