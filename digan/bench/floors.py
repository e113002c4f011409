"""The least work of a network: operations and bytes, layer by layer.

Bytes count what a layer by layer evaluation must move: every input and every output of a layer
once. Embeddings, upsampled and concatenated tensors are not among them: they need never exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from digan.config import GeneratorConfig
from digan.grid import BASE_SIZE


@dataclass(frozen=True)
class LayerWork:
    """One layer for one frame."""

    name: str
    pixels: int
    flops: int
    numbers: int  # activations read and written


def generator_layers(config: GeneratorConfig) -> list[LayerWork]:
    """The coordinate layers of a generator, one frame; the layers to RGB are left out."""
    found: list[LayerWork] = []
    features, resolution = 2 * config.frequencies, 4
    while resolution <= config.resolution:
        out = config.channels(resolution)
        side = max(resolution, BASE_SIZE)
        pixels = side * side
        if resolution == 4:
            found.append(LayerWork("b4.0", pixels, 2 * pixels * features * out, pixels * out))
        else:
            inputs = config.channels(resolution // 2)
            low = pixels // 4 if resolution > BASE_SIZE else pixels
            flops, numbers = 2 * low * inputs * out, low * inputs + pixels * out
            if resolution > BASE_SIZE:
                flops += 2 * pixels * features * out
                numbers += 2 * low * out  # the half-resolution part, written and read
            found.append(LayerWork(f"b{resolution}.0", pixels, flops, numbers))
            for index in range(1, 3 if resolution in (128, 256) else 2):
                found.append(
                    LayerWork(
                        f"b{resolution}.{index}", pixels, 2 * pixels * out * out, 2 * pixels * out
                    )
                )
        resolution *= 2
    return found


def generator_work(
    config: GeneratorConfig, frames: int, itemsize: int, passes: int = 1
) -> list[tuple[float, float]]:
    """(flops, bytes) of every layer for some frames, for `Ceilings.floor`.

    `passes`: 3 for a forward and a backward pass, which multiplies by the weights and by the
    inputs, each time over the same activations.
    """
    return [
        (float(layer.flops * frames), float(layer.numbers * frames * itemsize))
        for layer in generator_layers(config)
        for _ in range(passes)
    ]
