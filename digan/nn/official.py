"""Names of the original implementation's tensors, and ours: one map for both directions.

The original (sihyun-yu/digan) calls its blocks b4, b8, ... and keeps 1x1 weights as
[O, I, 1, 1]; its buffers of filter taps are constants here and are dropped.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from digan.config import DiscriminatorConfig, GeneratorConfig
from digan.grid import BASE_SIZE

# The low-pass filter of all resampling: a constant of ours, a buffer of the original's.
_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
RESAMPLE_FILTER = torch.outer(_TAPS, _TAPS) / _TAPS.sum() ** 2

_TENSOR = r"(weight|bias)"
_MODULATED = r"((?:affine\.)?(?:weight|bias))"
_EMBEDDING = r"synthesis\.(b\d+)\.(?:input\.input\.)?coord_fuser"
# Whole names; a name that fits no pattern is not one of the original's.
_GENERATOR = [
    (r"mapping\.w_avg", "w_avg"),
    (rf"mapping\.fc(\d+)\.{_TENSOR}", r"mapping.layers.\1.\2"),
    (rf"mapping\.embed\.{_TENSOR}", r"mapping.embed.\1"),
    (rf"{_EMBEDDING}\.xyaffine\.{_TENSOR}", r"\1.embedding.xy_affine.\2"),
    (rf"{_EMBEDDING}\.affine\.{_TENSOR}", r"\1.embedding.motion_affine.\2"),
    (rf"{_EMBEDDING}\.motion_mlp\.([01])\.{_TENSOR}", r"\1.embedding.motion_mlp.\2.\3"),
    (rf"synthesis\.(b\d+)\.torgb\.{_MODULATED}", r"\1.to_rgb.\2"),
    (rf"synthesis\.b4\.conv1\.{_MODULATED}", r"b4.layers.0.\1"),
    (rf"synthesis\.(b\d+)\.conv([01])\.{_MODULATED}", r"\1.layers.\2.\3"),
    (rf"synthesis\.(b\d+)\.extra_convs\.0\.{_MODULATED}", r"\1.layers.2.\2"),
]
_DISCRIMINATOR = [
    (rf"mapping\.fc(\d+)\.{_TENSOR}", r"mapping.layers.\1.\2"),
    (rf"mapping\.embed\.{_TENSOR}", r"mapping.embed.\1"),
    (rf"b\d+\.fromrgb\.{_TENSOR}", r"from_rgb.\1"),
    (rf"b4\.(conv|fc|out)\.{_TENSOR}", r"epilogue.\1.\2"),
    (rf"(b\d+)\.(conv[01])\.{_TENSOR}", r"\1.\2.\3"),
    (r"(b\d+)\.skip\.weight", r"\1.skip.weight"),
]


def _is_constant(name: str) -> bool:
    return name.endswith("resample_filter")


def _pointwise(tensor: Tensor) -> Tensor:
    return tensor[:, :, 0, 0] if tensor.dim() == 4 else tensor


def _renamed(name: str, patterns: list[tuple[str, str]], blocks: list[int]) -> str:
    """Our name by the first pattern that fits; `b<resolution>` becomes its place in blocks."""
    for pattern, ours in patterns:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        new = match.expand(ours)
        block = re.match(r"b(\d+)\.", new)
        if block is None:
            return new
        if int(block[1]) in blocks:
            return f"blocks.{blocks.index(int(block[1]))}.{new[block.end() :]}"
    raise KeyError(name)


def generator_name(name: str) -> str:
    """Our name of a tensor of the original generator. Raises KeyError for unknown names."""
    return _renamed(name, _GENERATOR, [4 << i for i in range(9)])


def discriminator_name(name: str, resolution: int) -> str:
    """Our name of a tensor of the original's pair of discriminators. Raises KeyError."""
    match = re.fullmatch(r"(video|image)D\.(.*)", name)
    if match is None:
        raise KeyError(name)
    blocks = [resolution >> i for i in range(resolution.bit_length() - 3)]
    return f"{match[1]}.{_renamed(match[2], _DISCRIMINATOR, blocks)}"


def generator_state(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of our Generator from the original's."""
    return {
        generator_name(name): _pointwise(tensor)
        for name, tensor in official.items()
        if not _is_constant(name)
    }


def discriminator_state(official: dict[str, Tensor], resolution: int) -> dict[str, Tensor]:
    """State dict of our PairDiscriminator from the original's."""
    return {
        discriminator_name(name, resolution): tensor
        for name, tensor in official.items()
        if not _is_constant(name)
    }


def _both(*layers: str) -> list[str]:
    return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def _mapping_names(layers: int, classes: int) -> list[str]:
    return _both(*["embed"] * bool(classes), *[f"fc{i}" for i in range(layers)])


def generator_names(config: GeneratorConfig) -> list[str]:
    """Every tensor of the original generator of these sizes, filters included."""
    names = []
    for r in [4 << i for i in range((config.resolution // 4).bit_length())]:
        block = ["resample_filter"]
        if r == 4 or r > BASE_SIZE:
            fuser = "input.input.coord_fuser" if r == 4 else "coord_fuser"
            parts = ("xyaffine", "affine", "motion_mlp.0", "motion_mlp.1")
            block += _both(*[f"{fuser}.{part}" for part in parts])
        layers = ["conv1"] if r == 4 else ["conv0", "conv1"]
        layers += ["extra_convs.0"] if r in (128, 256) else []
        for layer in layers:
            block += [*_both(layer), f"{layer}.resample_filter", *_both(f"{layer}.affine")]
        block += _both("torgb", "torgb.affine")
        names += [f"synthesis.b{r}.{name}" for name in block]
    mapping = ["w_avg", *_mapping_names(config.mapping_layers, config.num_classes)]
    return names + [f"mapping.{name}" for name in mapping]


def plain_discriminator_names(config: DiscriminatorConfig) -> list[str]:
    """Every tensor of one of the original's discriminators, and of a StyleGAN2 one."""
    names = []
    for r in [config.resolution >> i for i in range((config.resolution // 8).bit_length())]:
        block = ["resample_filter"]
        for layer in ["fromrgb"] * (r == config.resolution) + ["conv0", "conv1"]:
            block += [*_both(layer), f"{layer}.resample_filter"]
        block += ["skip.weight", "skip.resample_filter"]
        names += [f"b{r}.{name}" for name in block]
    names += [f"b4.{name}" for name in [*_both("conv"), "conv.resample_filter"]]
    names += [f"b4.{name}" for name in _both("fc", "out")]
    if config.num_classes:
        mapping = _mapping_names(config.mapping_layers, config.num_classes)
        names += [f"mapping.{name}" for name in mapping]
    return names


def discriminator_names(config: DiscriminatorConfig) -> list[str]:
    """Every tensor of the original's pair of discriminators, filters included."""
    names = plain_discriminator_names(config)
    return [f"{net}D.{name}" for net in ("video", "image") for name in names]


def _official(name: str, tensor: Tensor) -> Tensor:
    """Our tensor in the original's shape: 1x1 weights of the generator get kernel axes."""
    pointwise = re.fullmatch(r"synthesis\.b\d+\.(conv\d|extra_convs\.0|torgb)\.weight", name)
    return (tensor[:, :, None, None] if pointwise else tensor).detach().cpu().clone()


def official_generator_state(
    state: dict[str, Tensor], config: GeneratorConfig
) -> dict[str, Tensor]:
    """The inverse of `generator_state`: the original's complete state dict, filters included.

    It loads into the original's generator of these sizes with `strict=True`.
    """
    return {
        name: RESAMPLE_FILTER.clone()
        if _is_constant(name)
        else _official(name, state[generator_name(name)])
        for name in generator_names(config)
    }


def official_discriminator_state(
    state: dict[str, Tensor], config: DiscriminatorConfig
) -> dict[str, Tensor]:
    """The inverse of `discriminator_state`: the original's complete state dict."""
    return {
        name: RESAMPLE_FILTER.clone()
        if _is_constant(name)
        else _official(name, state[discriminator_name(name, config.resolution)])
        for name in discriminator_names(config)
    }
