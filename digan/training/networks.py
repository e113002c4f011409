"""The networks of a run, made as its settings say."""

from __future__ import annotations

from typing import Any

import torch

from digan.config import TrainConfig
from digan.execution import discriminator_dtype, generator_arithmetic
from digan.nn import Generator, PairDiscriminator
from digan.ops import Impl


def make_networks(
    config: TrainConfig, device: torch.device, impl: Impl | None = None
) -> tuple[Generator, PairDiscriminator]:
    """The generator and the discriminators, where PyTorch's defaults put them.

    Args:
        config: resolved settings. device: they will run on, which decides what bf16 means.
        impl: path of the ops, see `digan.ops`.
    """
    how: Any = {"impl": impl, "recompute": config.recompute}
    arithmetic = generator_arithmetic(config.precision_of_generator)
    judging = discriminator_dtype(config.precision, device)
    return (
        Generator(config.generator, dtype=arithmetic.dtype, tf32=arithmetic.tf32, **how),
        PairDiscriminator(config.discriminator, dtype=judging, **how),
    )
