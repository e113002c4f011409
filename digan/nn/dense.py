"""Many frames with gradients: memory that does not grow with their number.

Two forms. `VideoINR.render(grid, recompute=True)` gives all frames to any loss; what is kept is
the frames. `loss_over_time` is for losses that are sums over frames, whose own activations may be
large: a chunk's frames, and all that the loss makes of them, live while that chunk is worked on.

The unit of recomputation is a piece of frames and not a block. Beside its inputs a piece keeps
nothing, where blocks would keep their borders, and one block's activations, for all frames: four
fifths of everything. The arithmetic is the same, one forward pass more (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.nn.pieces import Piece, pieces, strip_of
from digan.nn.recompute import recomputed

if TYPE_CHECKING:
    from digan.nn.generator import BlockWeights, Generator, VideoINR

Axes = tuple[Tensor, Tensor]  # y, x

# Of a chunk of `loss_over_time`: 8 frames of 128x128.
_CHUNK_PIXELS = 1 << 17


def loss_over_time(
    video: VideoINR,
    t: Tensor,
    loss: Callable[[Tensor, slice], Tensor],
    *,
    frames: int | None = None,
    captured: Sequence[Tensor] = (),
) -> Tensor:
    """A loss over all frames of B videos, chunk by chunk, whose gradient is exact.

        L = sum over chunks c of loss(video at t[c], c)

    Both passes hold the activations of one chunk, the loss's included: beside the weights of
    the B networks nothing grows with T. The backward pass runs each chunk forward again.

    Args:
        video: from `Generator.write`. t: times in clip units, [T] or [B, T]; float64.
        loss: of frames [B, n, H, W, 3] and their place among all T, a number; pure, without
            random draws. To be a mean over all frames it divides by T itself.
        frames: n, frames of every video in a chunk; by default about 8 of 128x128.
        captured: the parameters of networks that the loss uses, if they are to get gradients.

    Returns:
        L, [], differentiable to any order by all that the video was written from.

    Raises:
        ValueError: no frames. RuntimeError: in the backward pass, if the loss uses parameters
            with gradients that `captured` does not name.
    """
    count = t.shape[-1]
    if count == 0 or (frames is not None and frames < 1):
        raise ValueError(f"t and frames must be of 1 frame or more, got {count} and {frames}")
    side = video.generator.config.resolution
    step = frames or max(1, _CHUNK_PIXELS // (len(video.blocks[0].rgb) * side * side))
    known = [*captured, *_captured(video.generator)]
    total: Tensor | None = None
    for start in range(0, count, step):
        place = slice(start, min(start + step, count))

        def of_chunk(times: Tensor, *weights: Tensor, place: slice = place) -> Tensor:
            own = replace(video, blocks=_again(video.blocks, weights))
            return loss(own.render(SpaceTimeGrid(times), recompute=False), place)

        part = recomputed(of_chunk, [t[..., place], *_tensors(video.blocks)], known)
        total = part if total is None else total + part
    assert total is not None
    return total


def render_recomputed(
    video: VideoINR,
    evaluate: Callable[[list[BlockWeights], Tensor, list[Axes]], Tensor],
    t: Tensor,
    levels: list[Axes],
) -> Tensor:
    """`evaluate` of some videos at times [B, T] on the axes of every block's grid, piece by piece.

    The backward pass makes each piece's activations again.
    """
    rows, height, width = len(levels[0][0]), len(levels[-1][0]), len(levels[-1][1])
    sizes = (t.shape[0], t.shape[1], rows, height // rows * width)
    cut = list(pieces(*sizes, t.device, video.blocks[0].rgb.dtype, kept=True))
    step = cut[0].videos.stop
    shares = list(zip(*(_split(weights, step) for weights in video.blocks), strict=True))
    captured = _captured(video.generator)

    def frames(piece: Piece) -> Tensor:
        number = piece.videos.start // step
        strips = [(strip_of(y, piece.rows, rows), x) for y, x in levels]

        def of_piece(times: Tensor, *weights: Tensor) -> Tensor:
            return evaluate(_again(shares[number], weights), times, strips)

        own = [t[piece.videos, piece.frames], *_tensors(shares[number])]
        return recomputed(of_piece, own, captured)

    # Pieces come row after row of some frames, these in turn for some videos.
    videos = []
    for _, of_videos in groupby(cut, lambda piece: piece.videos.start):
        times = [
            torch.cat([frames(piece) for piece in of_times], dim=2)
            for _, of_times in groupby(of_videos, lambda piece: piece.frames.start)
        ]
        videos.append(torch.cat(times, dim=1))
    return torch.cat(videos)


def _captured(generator: Generator) -> list[Tensor]:
    """What evaluation reads of the blocks beside the weights that were written."""
    found: list[Tensor] = []
    for block in generator.synthesis_blocks():
        found.append(block.to_rgb.bias)
        if block.embedding is not None:
            found += block.embedding.motion_mlp.parameters()
    return found


def _tensors(blocks: Sequence[BlockWeights]) -> list[Tensor]:
    """All tensors of some blocks' weights."""
    found: list[Tensor] = []
    for own in blocks:
        some = (own.freq, own.constant, own.motion, own.upsampled)
        found += [t for t in some if t is not None]
        found += [*own.layers, *own.biases, own.rgb]
    return found


def _again(blocks: Sequence[BlockWeights], tensors: Sequence[Tensor]) -> list[BlockWeights]:
    """The same weights with other tensors, in the order of `_tensors`."""
    left = iter(tensors)

    def other(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else next(left)

    return [
        replace(
            own,
            freq=other(own.freq),
            constant=other(own.constant),
            motion=other(own.motion),
            upsampled=other(own.upsampled),
            layers=[next(left) for _ in own.layers],
            biases=[next(left) for _ in own.biases],
            rgb=next(left),
        )
        for own in blocks
    ]


def _split(weights: BlockWeights, videos: int) -> list[BlockWeights]:
    """So many videos at a time; its gradient is one concatenation a tensor, no sums of parts."""
    none = [None] * -(-len(weights.rgb) // videos)
    freq, constant, motion, upsampled = (
        none if tensor is None else tensor.split(videos)
        for tensor in (weights.freq, weights.constant, weights.motion, weights.upsampled)
    )
    layers = zip(*(layer.split(videos) for layer in weights.layers), strict=True)
    rows = zip(freq, constant, motion, upsampled, layers, weights.rgb.split(videos), strict=True)
    return [
        replace(weights, freq=f, constant=c, motion=m, upsampled=u, layers=list(own), rgb=rgb)
        for f, c, m, u, own, rgb in rows
    ]
