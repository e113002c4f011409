"""Networks of a few thousand parameters, every one of which is random, biases included."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from digan.config import DiscriminatorConfig, GeneratorConfig
from digan.nn import Generator, PairDiscriminator


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Zero biases and a zero w_avg would hide mistakes."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(network.state_dict().items()):
            noise = torch.randn(value.shape, generator=source)
            value.copy_(0.3 * noise + value.mean() if name.endswith("bias") else noise)
            if "mapping.layers" in name and name.endswith("weight"):
                value.mul_(100)
            if name == "w_avg":
                value.mul_(0.3)
    return network


def tiny_generator(
    resolution: int = 64,
    *,
    classes: int = 0,
    clamp: float | None = None,
    wide: bool = False,
    seed: int = 0,
    frequencies: int = 8,
    **arguments,
) -> Generator:
    """`wide` casts the parameters to float64; further arguments are the network's own."""
    config = GeneratorConfig(
        resolution=resolution, num_classes=classes, latent_dim=12, channel_base=512,
        channel_max=8, frequencies=frequencies, rank=3, clamp=clamp,
    )  # fmt: skip
    network = randomised(Generator(config, **arguments), seed)
    assert isinstance(network, Generator)
    return network.double() if wide else network


def tiny_discriminators(
    resolution: int = 32,
    *,
    classes: int = 0,
    clamp: float | None = 256.0,
    wide: bool = False,
    seed: int = 0,
    **arguments,
) -> PairDiscriminator:
    """See `tiny_generator`."""
    config = DiscriminatorConfig(
        resolution=resolution, num_classes=classes, channel_base=512, channel_max=8,
        mapping_layers=2, clamp=clamp,
    )  # fmt: skip
    network = randomised(PairDiscriminator(config, **arguments), seed)
    assert isinstance(network, PairDiscriminator)
    return network.double() if wide else network


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers, the same in every dtype but for rounding."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64).to(dtype)
