"""Trainers whose every number can be looked at: float64, fixed real pairs, recorded values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from digan.processes import World
from digan.training.losses import RealPairs
from digan.training.step import Trainer
from tests.nn.tiny import randomised

BATCH = 16
SIZE = 32
LABELS = np.array([0, 1, 2, 2])


def stage_config(**changes: Any) -> TrainConfig:
    """32 pixels, batch 16, R1 every other iteration; three classes where `cond`."""
    classes = 3 if changes.get("cond") else 0
    base = TrainConfig(
        resolution=SIZE,
        clip_frames=8,
        batch=BATCH,
        d_reg_interval=2,
        generator=GeneratorConfig(
            resolution=SIZE, num_classes=classes, latent_dim=8, channel_base=256, channel_max=4,
            frequencies=4, rank=2,
        ),
        discriminator=DiscriminatorConfig(
            resolution=SIZE, num_classes=classes, channel_base=256, channel_max=4, mapping_layers=2
        ),
    )  # fmt: skip
    return replace(base, **changes)


def stage_trainer(
    world: World | None = None, dtype: torch.dtype = torch.float64, **changes: Any
) -> Trainer:
    """A trainer with random biases, so that no term of a gradient is zero by luck."""
    config = stage_config(**changes)
    trainer = Trainer(config, labels=LABELS, world=world, dtype=dtype)
    randomised(trainer.generator, 1)
    randomised(trainer.discriminator, 2)
    trainer.average.load_state_dict(trainer.generator.state_dict())
    return trainer


def real_batch(batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 frames, time differences, labels."""
    source = np.random.default_rng(5)
    frames = source.integers(0, 256, (batch, 2, 3, SIZE, SIZE), dtype=np.uint8)
    return (
        torch.from_numpy(frames),
        torch.from_numpy(source.random(batch)),
        torch.from_numpy(source.integers(0, 3, batch)),
    )


def real_pairs(trainer: Trainer) -> RealPairs:
    """Those of `real_batch`, as the trainer sees them."""
    batch = trainer.config.batch
    return trainer._reals(*real_batch(batch), "D/real", range(batch))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    return found


def distance(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative error over all tensors; zeros must be met by zeros."""
    assert ours.keys() == expected.keys()
    worst = 0.0
    for name, value in expected.items():
        size = float(value.norm())
        error = float((ours[name] - value).norm())
        worst = max(worst, error / size if size else (0.0 if error == 0 else float("inf")))
    return worst
