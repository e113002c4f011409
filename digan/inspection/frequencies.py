"""The spatial frequencies that content codes choose, per embedding, in cycles per image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digan.inspection.weights import content_share
from digan.nn import VideoINR


@dataclass(frozen=True)
class Frequencies:
    """The frequencies of one embedding for B contents."""

    block: str
    """The block that it belongs to, as b4."""
    grid: int
    """S: pixels a side of the block's grid."""
    cycles: NDArray[np.float64]
    """[B, F, 2]: (fx, fy) in cycles per image; y points up."""

    @property
    def nyquist(self) -> float:
        """The most cycles per image, on either axis, that S pixels can show: S / 2."""
        return self.grid / 2

    @property
    def length(self) -> NDArray[np.float64]:
        """|f| [B, F] in cycles per image."""
        found: NDArray[np.float64] = np.linalg.norm(self.cycles, axis=-1)
        return found

    @property
    def deviation(self) -> NDArray[np.float64]:
        """How far a frequency lies from its mean over the contents: rms, [F], cycles per image."""
        centred = self.cycles - self.cycles.mean(axis=0)
        found: NDArray[np.float64] = np.sqrt(np.square(centred).sum(axis=-1).mean(axis=0))
        return found

    @property
    def beyond(self) -> float:
        """Share of the waves that the grid cannot show: |fx| or |fy| above S / 2."""
        return float((np.abs(self.cycles).max(axis=-1) > self.nyquist).mean())

    @property
    def share(self) -> float:
        """Content's share, see `digan.inspection.content_share`."""
        return content_share(self.cycles)


def spatial_frequencies(inr: VideoINR) -> list[Frequencies]:
    """The frequencies of every embedding, coarsest grid first.

    A wave of f radians per unit has f / pi cycles per image, as the image is 2 units wide.
    """
    found = []
    for block, weights in zip(inr.generator.synthesis_blocks(), inr.blocks, strict=True):
        if weights.freq is not None:
            cycles = weights.freq.double().cpu().numpy() / math.pi
            found.append(Frequencies(f"b{block.resolution}", block.grid_size, cycles))
    return found
