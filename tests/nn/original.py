"""The networks of the golden files, with the original's parameters in our names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from digan.config import DiscriminatorConfig, GeneratorConfig
from digan.nn import Generator, PairDiscriminator, generator
from digan.nn.layers import FullyConnected
from digan.nn.official import (
    discriminator_name,
    discriminator_state,
    generator_name,
    generator_state,
)
from tests.golden_numbers import Numbers, moments, moments_error, relative

# What a float64 run may differ by. It reaches 2e-14; conditioning, not luck, sets this bound.
EXACT = 1e-12
FLOAT32 = 1e-5


def tensor(numbers: Numbers, name: str, dtype: torch.dtype) -> Tensor:
    """An input as a leaf that wants a gradient."""
    return torch.from_numpy(np.array(numbers[name])).to(dtype).requires_grad_()


def official_state(numbers: Numbers, dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameters and buffers under the original's names."""
    return {
        name.split("/", 1)[1]: torch.from_numpy(np.array(numbers[name])).to(dtype)
        for name in numbers
        if name.startswith(("param/", "buffer/"))
    }


def original_generator(numbers: Numbers, dtype: torch.dtype) -> Generator:
    call = json.loads(str(numbers["kwargs_json"]))
    synthesis = call["synthesis_kwargs"]
    config = GeneratorConfig(
        resolution=call["img_resolution"],
        num_classes=call["c_dim"],
        latent_dim=call["z_dim"],
        channel_base=synthesis["channel_base"],
        channel_max=synthesis["channel_max"],
        frequencies=call["cfg"]["coords"]["low_res_cfg"]["predictable_emb_size"],
        rank=call["cfg"]["fmm"]["rank"],
        mapping_layers=call["mapping_kwargs"]["num_layers"],
        clamp=synthesis["conv_clamp"],
    )
    network = Generator(config).to(dtype)
    network.load_state_dict(generator_state(official_state(numbers, dtype)))
    return network


def original_discriminators(numbers: Numbers, dtype: torch.dtype) -> PairDiscriminator:
    call = json.loads(str(numbers["kwargs_json"]))
    config = DiscriminatorConfig(
        resolution=call["img_resolution"],
        num_classes=call["c_dim"],
        channel_base=call["channel_base"],
        channel_max=call["channel_max"],
        group_size=call["epilogue_kwargs"]["mbstd_group_size"],
        clamp=call["conv_clamp"],
    )
    network = PairDiscriminator(config).to(dtype)
    network.load_state_dict(
        discriminator_state(official_state(numbers, dtype), call["img_resolution"])
    )
    return network


def gradient_errors(
    numbers: Numbers, prefix: str, gradients: dict[str, Tensor], resolution: int | None = None
) -> dict[str, float]:
    """Errors of all parameter gradients; `resolution` for the discriminators.

    Raises:
        ValueError: the two do not name the same parameters.
    """
    ours = {
        name: generator_name(name) if resolution is None else discriminator_name(name, resolution)
        for name in numbers.names(prefix)
    }
    if sorted(ours.values()) != sorted(gradients):
        raise ValueError(f"gradients must be of {sorted(gradients)}, got {sorted(ours.values())}")
    return {
        name: numbers.error(prefix + name, gradients[mine].reshape(numbers.shape(prefix + name)))
        for name, mine in ours.items()
    }


def spatial_error(numbers: Numbers, name: str, ours: Tensor) -> float:
    """Error of an output [N, C, H, W] against `<name>_sub` and `<name>_moments`."""
    stride = int(numbers["sub_stride"])
    of_sub = numbers.error(f"{name}_sub", ours[..., ::stride, ::stride])
    sums = numbers[f"{name}_moments"]
    np.testing.assert_equal(moments(ours).shape, sums.shape)
    return max(of_sub, moments_error(ours, sums))


@contextmanager
def recorded_kinks(network: Generator) -> Iterator[list[Tensor]]:
    """Everything that enters a kink of the generator, or leaves it with the same sign."""
    found: list[Tensor] = []

    def recording(op):
        def run(*args, **kwargs):
            out = op(*args, **kwargs)
            if "lrelu" in args:
                found.append(out.detach())
            return out

        return run

    def keep(_, __, out: Tensor) -> None:
        found.append(out.detach())

    hooks = [
        module.register_forward_hook(keep)
        for name, module in network.named_modules()
        if isinstance(module, FullyConnected)
        and (module.activation == "lrelu" or name.endswith("motion_affine"))
    ]
    patches = [
        mock.patch.object(generator, name, recording(getattr(generator, name)))
        for name in ("modulated_linear", "coord_linear")
    ]
    try:
        with patches[0], patches[1]:
            yield found
    finally:
        for hook in hooks:
            hook.remove()


def crossings(narrow: list[Tensor], wide: list[Tensor]) -> list[float]:
    """Float64 values at which the float32 run is on the other side of the kink."""
    assert [x.shape for x in narrow] == [x.shape for x in wide]
    pairs = zip(narrow, wide, strict=True)
    return [float(v) for x, y in pairs for v in y[(x > 0) != (y > 0)]]


__all__ = [
    "EXACT",
    "FLOAT32",
    "crossings",
    "gradient_errors",
    "original_discriminators",
    "original_generator",
    "recorded_kinks",
    "relative",
    "spatial_error",
    "tensor",
]
