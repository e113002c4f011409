"""The picture block by block: what each one's layer to RGB adds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.nn import VideoINR


@torch.no_grad()
def block_pictures(inr: VideoINR, t: Tensor) -> dict[str, NDArray[np.float64]]:
    """The picture as it stands after every block; the last one is what `render` returns.

    Args:
        inr: coordinate networks of B videos.
        t: [T], clip units.

    Returns:
        [B, T, S, S, 3], about [-1, 1], S being that of the block's grid; by block, as b4.
    """
    grid = SpaceTimeGrid(t)
    like = inr.blocks[0].freq
    assert like is not None
    times = grid.times(len(like), like)
    x: Tensor | None = None
    picture: Tensor | None = None
    found = {}
    for block, weights in zip(inr.generator.synthesis_blocks(), inr.blocks, strict=True):
        x, picture = block(x, picture, weights, times, grid.axes(block.grid_size, like))
        assert picture is not None
        found[f"b{block.resolution}"] = picture.double().cpu().numpy()
    return found


def added_by_block(pictures: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """What every block added to the picture before it, [B, T, S, S, 3].

    Enlarged to the last grid by repeating pixels, the parts sum to the last picture.
    """
    found: dict[str, NDArray[np.float64]] = {}
    before: NDArray[np.float64] | None = None
    for name, picture in pictures.items():
        if before is None:
            found[name] = picture
        else:
            factor = picture.shape[2] // before.shape[2]
            found[name] = picture - before.repeat(factor, axis=2).repeat(factor, axis=3)
        before = picture
    return found
