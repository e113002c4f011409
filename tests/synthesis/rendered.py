"""Frames as numbers that can be subtracted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from digan.nn import Generator, VideoINR
from digan.synthesis import Shot, stream, stream_frames

CLIP = 5  # frames of a training clip


def together(pieces: list[Tensor]) -> np.ndarray:
    """Chunks as one array [B, T, H, W, 3] of signed integers."""
    assert all(piece.dtype == torch.uint8 for piece in pieces)
    return torch.cat(pieces, dim=1).numpy().astype(np.int16)


def frames_of(inr: VideoINR, t: Tensor, **options: object) -> np.ndarray:
    """All frames of coordinate networks."""
    return together(list(stream_frames(inr, t, **options)))


def shown(network: Generator, shot: Shot, **options: object) -> np.ndarray:
    """All frames of a shot."""
    return together(list(stream(network, shot, **options)))


def furthest(ours: np.ndarray, expected: np.ndarray) -> int:
    """The largest difference, of 255; the shapes must be equal."""
    assert ours.shape == expected.shape
    return int(np.abs(ours.astype(np.int64) - expected).max())
