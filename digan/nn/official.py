"""Names of the original implementation's tensors, and ours: one map for both directions.

The original (sihyun-yu/digan) calls its blocks b4, b8, ... and keeps 1x1 weights as
[O, I, 1, 1]; its buffers of filter taps are constants here and are dropped.
"""

from __future__ import annotations

import re

from torch import Tensor

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
