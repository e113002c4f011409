"""Training on the emulated kernels, phase by phase against a float64 run (see `teacher`)."""

from __future__ import annotations

from statistics import median

import pytest

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from tests.emulation.build import emulated
from tests.training.teacher import deviations_by_phase, teacher_states, witness

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
    with emulated(seed=5) as controls:
        student = witness(CONFIG, precision="fp32", kernels="auto")
        found = deviations_by_phase(student, states)
        launched = set(controls.kernels())
    assert sorted(found) == sorted({phase for state in states for phase in state.truth})
    for phase, of in found.items():
        for state, apart in enumerate(of):
            assert apart.loss < 1e-4, (state, phase, apart)
            assert apart.cosine > 0.999, (state, phase, apart)
            assert 0.98 < apart.ratio < 1.02, (state, phase, apart)
        # A slope whose pre-activation is rounded across zero moves a state; the middle is exact.
        assert median(apart.error for apart in of) < 1e-4, phase
    # coord_linear makes its own Fourier features.
    for name in ("bias_act", "fir_resample", "factorized_modulation"):
        assert any(name in kernel for kernel in launched), (name, launched)
