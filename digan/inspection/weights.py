"""How much of what a generator writes depends on the content."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from digan.nn import VideoINR


def content_share(values: NDArray[np.float64]) -> float:
    """How much of some numbers differs between contents: 0 nothing, 1 all of it.

        sqrt(mean of the unbiased variance over B / mean square)

    Args:
        values: [B, ...], B at least 2. Independent numbers of mean 0 give about 1.
    """
    variance = float(values.var(axis=0, ddof=1).mean())
    square = float(np.square(values).mean())
    return float(np.sqrt(variance / square)) if square > 0 else 0.0


def weight_shares(inr: VideoINR) -> dict[str, float]:
    """Content's share of the written weights, by layer: b8.0, b8.1, b8.rgb and so on.

    Args:
        inr: coordinate networks of B contents, B at least 2.
    """
    found = {}
    for block, weights in zip(inr.generator.synthesis_blocks(), inr.blocks, strict=True):
        for i, written in enumerate(weights.layers):
            matrix = written
            if i == 0 and weights.upsampled is not None:
                matrix = torch.cat([weights.upsampled, written], dim=2)
            found[f"b{block.resolution}.{i}"] = content_share(matrix.double().cpu().numpy())
        rgb = weights.rgb.double().cpu().numpy()
        found[f"b{block.resolution}.rgb"] = content_share(rgb)
    return found
