"""Clips that a network itself made, whose codes nobody tells the inversion."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from digan.grid import SpaceTimeGrid, frame_times
from digan.inversion import Clip
from digan.nn import Generator
from digan.synthesis import Codes, Shot, render, seed_codes, to_uint8


def frames_of(generator: Generator, codes: Codes, t) -> np.ndarray:
    """The frames of one video, uint8 [T, S, S, 3]."""
    return to_uint8(render(generator, Shot(codes, SpaceTimeGrid(t))))[0].numpy()


def made_clip(
    generator: Generator, seed: int, frames: int, observe: Iterable[int] | None = None
) -> Clip:
    """A clip of `frames` frames, times 0 to 1, by a seed."""
    classes = generator.config.num_classes
    codes = seed_codes(generator, [seed], labels=[seed % classes] if classes else None)
    t = frame_times(frames, frames)
    observed = np.ones(frames, bool)
    if observe is not None:
        observed[:] = False
        observed[list(observe)] = True
    return Clip(frames_of(generator, codes, t), t, observed, 12.0, f"seed {seed}")
