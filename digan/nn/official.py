"""Names of the original implementation's tensors, and ours: one map for both directions.

The original (sihyun-yu/digan) calls its blocks b4, b8, ... and keeps 1x1 weights as
[O, I, 1, 1]; its buffers of filter taps are constants here and are dropped.
"""

from __future__ import annotations

import re

from torch import Tensor

# The first pattern that matches is rewritten.
_GENERATOR = [
    (r"^mapping\.w_avg$", "w_avg"),
    (r"^mapping\.fc(\d+)\.", r"mapping.layers.\1."),
    (r"^mapping\.embed\.", "mapping.embed."),
    (r"^synthesis\.(b\d+)\.input\.input\.coord_fuser\.", r"\1.embedding."),
    (r"^synthesis\.(b\d+)\.coord_fuser\.", r"\1.embedding."),
    (r"^synthesis\.(b\d+)\.torgb\.", r"\1.to_rgb."),
    (r"^synthesis\.b4\.conv1\.", "b4.layers.0."),
    (r"^synthesis\.(b\d+)\.conv([01])\.", r"\1.layers.\2."),
    (r"^synthesis\.(b\d+)\.extra_convs\.0\.", r"\1.layers.2."),
]
_EMBEDDING = [
    (r"\.embedding\.xyaffine\.", ".embedding.xy_affine."),
    (r"\.embedding\.affine\.", ".embedding.motion_affine."),
]


def _is_constant(name: str) -> bool:
    return name.endswith("resample_filter")


def _pointwise(tensor: Tensor) -> Tensor:
    return tensor[:, :, 0, 0] if tensor.dim() == 4 else tensor


def generator_name(name: str) -> str:
    """Our name of a tensor of the original generator. Raises KeyError for unknown names."""
    for pattern, ours in _GENERATOR:
        new, count = re.subn(pattern, ours, name)
        if count:
            for old, replacement in _EMBEDDING:
                new = re.sub(old, replacement, new)
            block = re.match(r"b(\d+)\.", new)
            if block is None:
                return new
            index = int(block[1]).bit_length() - 3
            return f"blocks.{index}.{new[block.end() :]}"
    raise KeyError(name)


def discriminator_name(name: str, resolution: int) -> str:
    """Our name of a tensor of the original's pair of discriminators. Raises KeyError."""
    match = re.match(r"^(video|image)D\.(.*)$", name)
    if match is None:
        raise KeyError(name)
    net, rest = match.groups()
    rest = re.sub(r"^mapping\.fc(\d+)\.", r"mapping.layers.\1.", rest)
    rest = re.sub(r"^b4\.", "epilogue.", rest)
    rest = re.sub(r"^b\d+\.fromrgb\.", "from_rgb.", rest)
    block = re.match(r"^b(\d+)\.", rest)
    if block is not None:
        index = resolution.bit_length() - int(block[1]).bit_length()
        rest = f"blocks.{index}.{rest[block.end() :]}"
    return f"{net}.{rest}"


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
