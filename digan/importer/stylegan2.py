"""StyleGAN2 discriminators as a starting point for the pair of discriminators.

The blocks have the architecture of StyleGAN2's residual discriminator, so a discriminator of
images, trained by stylegan2-ada-pytorch, fits them by name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from digan.config import DiscriminatorConfig
from digan.errors import DiganError
from digan.files import check_archive
from digan.importer.networks import discriminator_config, official_tensors, own_names
from digan.importer.snapshot import read_snapshot
from digan.nn import PairDiscriminator
from digan.nn.discriminator import Discriminator
from digan.nn.official import discriminator_name, discriminator_state, plain_discriminator_names


def start_from_stylegan2(
    state: dict[str, Tensor], config: DiscriminatorConfig | None = None
) -> PairDiscriminator:
    """A pair of discriminators whose both networks start from a StyleGAN2 discriminator.

    The image network is the given one. The video network sees 7 channels in place of 3: both
    frames get the weights of the given one, each half, and the plane of the time difference
    gets 0, so a pair of twice the same frame is judged as that frame is; the factor
    sqrt(7 / 3) makes up for the layer's own 1 / sqrt(channels).

    Args:
        state: its tensors by stylegan2-ada-pytorch's names (b128.fromrgb.weight, ...).
        config: its sizes; read from the shapes by default.

    Raises:
        DiganError: a tensor is missing or does not fit.
    """
    if config is None:
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        config = discriminator_config(shapes, {}, "the state dict")
    official = {f"imageD.{name}": value for name, value in state.items()}
    official |= {f"videoD.{name}": value for name, value in state.items()}
    colours = f"videoD.b{config.resolution}.fromrgb.weight"
    if colours not in official:
        raise DiganError(f"the state dict has no tensor b{config.resolution}.fromrgb.weight")
    weight = official[colours] * (math.sqrt(7 / 3) / 2)
    pair = weight.new_zeros(weight.shape[0], 7, 1, 1)
    pair[:, :3] = pair[:, 3:6] = weight
    official[colours] = pair
    network = PairDiscriminator(config)
    try:
        network.load_state_dict(discriminator_state(official, config.resolution))
    except KeyError as error:
        raise DiganError(f"the state dict has a tensor {error} that has no place") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"the state dict does not fit its sizes: {reason}") from error
    return network.eval().requires_grad_(False)


def import_stylegan2_discriminator(path: Path) -> PairDiscriminator:
    """`start_from_stylegan2` of a file.

    Args:
        path: a snapshot of stylegan2-ada-pytorch (.pkl), read like all others, or a plain state
            dict of its discriminator (.safetensors; .pt or .pth, read with weights_only).

    Raises:
        DiganError: no such file, refused, or no residual discriminator.
    """
    if path.suffix in (".safetensors", ".pt", ".pth"):
        return start_from_stylegan2(_state_dict(path))
    snapshot = read_snapshot(path)
    module = snapshot.module("D")
    shapes = {name: tensor.shape for name, tensor in module.tensors.items()}
    where = f"the network D of {path}"
    config = discriminator_config(shapes, module.arguments, where)
    names = {
        name: discriminator_name(f"imageD.{name}", config.resolution).removeprefix("image.")
        for name in own_names(plain_discriminator_names(config))
    }
    state = official_tensors(snapshot, module, names, lambda: Discriminator(3, config))
    return start_from_stylegan2(state, config)


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            check_archive(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes raise almost anything
        reason = " ".join(str(error).split())[:120]
        raise DiganError(f"{path} is no plain state dict: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DiganError(f"{path} is no plain state dict of tensors by name")
    return {str(name): value for name, value in state.items()}
