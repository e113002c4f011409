"""The arithmetic of a training step, counted on tensors without memory.

The losses of a real iteration run on PyTorch's meta device, forward and backward: every
operation is dispatched and counted, none is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from digan.config import TrainConfig
from digan.nn import Generator, PairDiscriminator
from digan.training.augment import AugmentDraws
from digan.training.draws import FakeDraws, sample_fakes
from digan.training.losses import (
    RealPairs,
    discriminator_fake_loss,
    discriminator_real_loss,
    generator_loss,
    r1_penalty,
)

META = torch.device("meta")
PHASES = ("G", "D", "R1")


def training_phases(config: TrainConfig) -> dict[str, Callable[[], None]]:
    """Each phase's losses and gradients, on the meta device, for a batch of the configuration."""
    generator = Generator(config.generator).to(META)
    discriminator = PairDiscriminator(config.discriminator).to(META)
    size, batch = config.generator.resolution, config.batch
    labels = np.zeros(1, dtype=np.int64) if config.generator.num_classes else None

    def fakes(phase: str) -> FakeDraws:
        return sample_fakes(
            0, phase, range(batch), latent_dim=config.generator.latent_dim, size=size,
            labels=labels, augment=config.augment, device=META,
        )  # fmt: skip

    def reals() -> RealPairs:
        augment = AugmentDraws.sample(0, "R", range(batch), size, META) if config.augment else None
        frames = torch.empty(batch, 2, 3, size, size, device=META)
        label = None if labels is None else torch.empty(batch, dtype=torch.int64, device=META)
        return RealPairs(frames, torch.empty(batch, device=META), label, augment)

    def choose(moving: torch.nn.Module) -> None:
        for network in (generator, discriminator):
            network.requires_grad_(network is moving)

    def generator_phase() -> None:
        choose(generator)
        torch.autograd.backward(generator_loss(generator, discriminator, fakes("G"), batch)[0])

    def discriminator_phase() -> None:
        choose(discriminator)
        fake = discriminator_fake_loss(generator, discriminator, fakes("D"), batch)[0]
        torch.autograd.backward(fake)
        torch.autograd.backward(discriminator_real_loss(discriminator, reals(), batch)[0])

    def penalty_phase() -> None:
        choose(discriminator)
        torch.autograd.backward(r1_penalty(discriminator, reals(), 1.0, batch)[0])

    return dict(zip(PHASES, (generator_phase, discriminator_phase, penalty_phase), strict=True))
