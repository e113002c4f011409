"""Training on the emulated kernels, phase by phase against a float64 run (see `teacher`)."""

from __future__ import annotations

from statistics import median

import pytest

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from tests.emulation.build import emulated
from tests.training.teacher import Deviation, State, deviations_by_phase, teacher_states, witness

STATES = 10


def small_config(size: int, width: int, frequencies: int) -> TrainConfig:
    """Both discriminators and all kinds of layers; `width` channels at the finest grid."""
    return TrainConfig(
        resolution=size,
        clip_frames=4,
        batch=2,
        workers=0,
        d_reg_interval=5,
        generator=GeneratorConfig(
            resolution=size, latent_dim=16, channel_base=size * width, channel_max=2 * width,
            frequencies=frequencies, rank=2,
        ),
        discriminator=DiscriminatorConfig(
            resolution=size, channel_base=size * width, channel_max=2 * width
        ),
    )  # fmt: skip


# As small as they get: the emulator runs every thread.
SMALL = small_config(32, 4, 4)
# Layers that upsample, and whole 16-byte chunks for the tensor cores.
LARGER = small_config(64, 16, 16)
# coord_linear makes its own Fourier features.
KERNELS = (
    "bias_act_kernel", "bias_act_rows", "fir_resample", "factorized_modulation_kernel",
    "modulated_linear_kernel", "modulated_linear_dx", "modulated_linear_dweight",
    "modulated_linear_narrow_kernel", "modulated_linear_narrow_backward",
    "coord_linear_kernel", "coord_linear_dphase", "coord_linear_dweight",
)  # fmt: skip


def on_kernels(
    config: TrainConfig, states: list[State], precision: str
) -> dict[str, list[Deviation]]:
    """How far training on the kernels is from the teacher, by phase, at each of the states."""
    with emulated(seed=5) as controls:
        student = witness(config, precision=precision, kernels="auto")
        found = deviations_by_phase(student, states)
        launched = {launch["kernel"] for launch in controls.launches()}
    assert len(states) == STATES
    assert sorted(found) == sorted({phase for state in states for phase in state.truth})
    for name in KERNELS:
        assert any(name in kernel for kernel in launched), (name, launched)
    return found


@pytest.mark.soak
def test_float32(soak):
    """Losses and gradients of all three phases at ten states."""
    config = LARGER if soak else SMALL
    found = on_kernels(config, list(teacher_states(config, STATES)), "fp32")
    for phase, of in found.items():
        for state, apart in enumerate(of):
            assert apart.loss < 1e-4, (state, phase, apart)
            assert apart.cosine > 0.999, (state, phase, apart)
            assert 0.98 < apart.ratio < 1.02, (state, phase, apart)
        # A slope whose pre-activation is rounded across zero moves a state; the middle is exact.
        assert median(apart.error for apart in of) < 1e-4, phase


@pytest.mark.soak
def test_bfloat16(soak):
    """The generator's layers and the finest block of both discriminators on bfloat16 kernels.

    What parts them are slopes whose pre-activation changed its sign. Where a layer has four
    channels a single one turns the gradient; `test_teacher_forced` says the same of the formulas.
    """
    config, middle, least = (LARGER, 0.999, 0.99) if soak else (SMALL, 0.998, 0.97)
    found = on_kernels(config, list(teacher_states(config, STATES)), "bf16")
    for phase, of in found.items():
        assert median(apart.cosine for apart in of) > middle, (phase, of)
        assert 0.98 < median(apart.ratio for apart in of) < 1.02, (phase, of)
        for state, apart in enumerate(of):
            assert apart.cosine > least, (state, phase, apart)
            assert apart.loss < 0.05, (state, phase, apart)
