"""Rendering by chained layers: blocks of one grid in one op, which keeps what lies between them.

Blocks 4 to 32 share the 32x32 grid and make one chain; every finer block is one of its own. Between
chains there are the picture and the pre-activation that the next block's upsampled half adds, and
no other activation (`digan.ops.coord_chain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from digan.ops import coord_chain, coord_chain_refusal, default_impl, modulated_linear

if TYPE_CHECKING:
    from digan.nn.generator import BlockWeights, SynthesisBlock

# A tile computes 256 outputs, whatever a layer has: below half of them single layers are faster.
FEWEST_CHANNELS = 129


def grids_of(networks: Sequence[SynthesisBlock]) -> list[slice]:
    """The blocks of one grid after the other, each run beginning with an embedding."""
    starts = [i for i, network in enumerate(networks) if network.embedding is not None]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(networks)], strict=True)]


def refusal(
    networks: Sequence[SynthesisBlock], blocks: Sequence[BlockWeights], onward: Tensor | None
) -> str:
    """Why the blocks of one grid are not chained, in one sentence; empty if they are.

    Args:
        networks, blocks: the blocks and what was written for them.
        onward: the next block's part for the upsampled activation [B, O, I]; None for the last.
    """
    freq, rgb = blocks[0].freq, blocks[0].rgb
    assert freq is not None
    impl = networks[0].impl or default_impl()
    if impl == "reference":
        return "impl='reference' computes by the formulas of single layers"
    widths = {len(bias) for block in blocks for bias in block.biases}
    if len(widths) > 1:
        return f"layers of one chain have one width, got {sorted(widths)}"
    (width,) = widths
    if width < FEWEST_CHANNELS:
        return f"single layers are faster below {FEWEST_CHANNELS} channels, got {width}"
    return coord_chain_refusal(
        rgb.device,
        rgb.dtype,
        freq.dtype,
        channels=width,
        onward=0 if onward is None else onward.shape[1],
        frequencies=freq.shape[1],
        layers=sum(len(block.layers) for block in blocks),
        pictures=len(blocks),
    )


def render_chained(
    networks: Sequence[SynthesisBlock],
    blocks: Sequence[BlockWeights],
    t: Tensor,  # [B, T]
    levels: Sequence[tuple[Tensor, Tensor]],
) -> Tensor | None:
    """The picture [B, T, H, W, 3] on the axes of every block's grid; grids that no kernel chains
    are computed block by block. None where that would be all of them.

    To be called with gradients off.
    """
    runs = grids_of(networks)
    following = [blocks[run.stop].upsampled if run.stop < len(blocks) else None for run in runs]
    chained = [
        not refusal(networks[run], blocks[run], onward)
        for run, onward in zip(runs, following, strict=True)
    ]
    if not any(chained):
        return None
    image: Tensor | None = None
    skip: Tensor | None = None
    for run, onward, is_chained in zip(runs, following, chained, strict=True):
        if is_chained:
            image, skip = _chain(
                networks[run], blocks[run], t, levels[run.start], skip, image, onward
            )
            continue
        x: Tensor | None = None
        for network, weights, axes in zip(networks[run], blocks[run], levels[run], strict=True):
            x, image = network(x, image, weights, t, axes, skip)
            skip = None
        if onward is not None:
            assert x is not None
            skip = modulated_linear(x, onward, impl=networks[run.start].impl)
    return image


def _chain(
    networks: Sequence[SynthesisBlock],
    blocks: Sequence[BlockWeights],
    t: Tensor,
    axes: tuple[Tensor, Tensor],
    skip: Tensor | None,
    image: Tensor | None,
    onward: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    first, weights = networks[0], blocks[0]
    assert first.embedding is not None
    assert weights.freq is not None
    assert weights.constant is not None
    assert weights.motion is not None
    entry, *others = [layer for block in blocks for layer in block.layers]
    videos, channels, _ = entry.shape
    hidden = torch.stack(others, 1) if others else entry.new_empty(videos, 0, channels, channels)
    ends, count = [], 0
    for block in blocks:
        count += len(block.layers)
        ends.append(count - 1)
    phase = first.embedding.phase(weights.constant, weights.motion, t)
    return coord_chain(
        weights.freq,
        phase,
        *axes,
        entry,
        hidden,
        torch.stack([bias for block in blocks for bias in block.biases]),
        torch.stack([block.rgb for block in blocks], 1),
        torch.stack([network.to_rgb.bias for network in networks]),
        skip,
        image,
        onward,
        rgb_layers=ends,
        clamp=first.clamp,
        impl=first.impl,
    )
