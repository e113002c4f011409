"""Phases over time: how the motion network moves the waves of an embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digan.errors import DiganError
from digan.grid import frame_times
from digan.nn import VideoINR

MOST_FRAMES = 100_000


def inspection_times(clip_frames: int, before: float, after: float) -> Tensor:
    """Times at training speed around a clip, float64 [T]; 0 and 1 are among them exactly.

    Args:
        clip_frames: N, frames of a training clip.
        before, after: clip lengths before its first frame and after its last, at least so many.

    Raises:
        DiganError: negative or not finite, or more than 100,000 frames.
    """
    for name, value in (("before", before), ("after", after)):
        if not (math.isfinite(value) and value >= 0):
            raise DiganError(f"{name} must be finite and at least 0, got {value}")
    step = clip_frames - 1
    early, late = (math.ceil(value * step - 1e-9) for value in (before, after))
    count = early + clip_frames + late
    if count > MOST_FRAMES:
        raise DiganError(f"before and after must leave at most {MOST_FRAMES} frames, got {count}")
    backwards = -frame_times(early + 1, clip_frames)[1:].flip(0)
    return torch.cat([backwards, frame_times(clip_frames + late, clip_frames)])


@dataclass(frozen=True)
class Phases:
    """The phases of one embedding over time, for B videos."""

    block: str
    """The block that it belongs to, as b4."""
    grid: int
    """S: pixels a side of the block's grid."""
    t: NDArray[np.float64]
    """[T], clip units."""
    phase: NDArray[np.float64]
    """[B, T, F], radians: the content's constant part and what the motion network adds."""
    moved: NDArray[np.float64]
    """[B, T, F], radians: the phase less that at time 0. Not reduced to one turn."""

    @property
    def speed(self) -> NDArray[np.float64]:
        """Radians from a frame to the next, rms over the waves: [B, T - 1]."""
        found: NDArray[np.float64] = np.sqrt(np.square(np.diff(self.phase, axis=1)).mean(axis=-1))
        return found

    @property
    def too_fast(self) -> float:
        """Share of steps above half a turn a frame, whose direction no viewer can tell."""
        return float((np.abs(np.diff(self.phase, axis=1)) > math.pi).mean())


@torch.no_grad()
def phase_trajectories(inr: VideoINR, t: Tensor) -> list[Phases]:
    """The phases of every embedding, coarsest grid first.

    Args:
        inr: coordinate networks of B videos.
        t: [T], clip units.
    """
    found = []
    for block, weights in zip(inr.generator.synthesis_blocks(), inr.blocks, strict=True):
        if block.embedding is None:
            continue
        assert weights.constant is not None
        assert weights.motion is not None
        like = weights.constant
        times = torch.cat([t, t.new_zeros(1)]).to(like)  # the last one: time 0
        phase = block.embedding.phase(
            weights.constant, weights.motion, times.expand(len(like), -1)
        ).double()
        phase = phase.cpu()
        found.append(
            Phases(
                f"b{block.resolution}",
                block.grid_size,
                t.double().cpu().numpy(),
                phase[:, :-1].numpy(),
                (phase[:, :-1] - phase[:, -1:]).numpy(),
            )
        )
    return found


def translation(
    cycles: NDArray[np.float64], moved: NDArray[np.float64], grid: int
) -> tuple[NDArray[np.float64], float]:
    """The shift of the whole picture that explains most of some waves' phase changes.

    A picture shifted by v has every wave f changed by -2 pi f v. The shift is the least-squares
    one over the waves.

    Args:
        cycles: [F, 2], cycles per image. moved: [F], radians. grid: S, to count in its pixels.

    Returns:
        The shift [2] in pixels, x to the right and y up, and the share of the squared phase
        changes that it explains: 1 for a pure shift, near 0 for any other motion.
    """
    waves = -2 * math.pi * cycles / grid
    shift = np.asarray(np.linalg.lstsq(waves, moved, rcond=None)[0], dtype=np.float64)
    whole = float(np.square(moved).sum())
    left = float(np.square(moved - waves @ shift).sum())
    return shift, 1 - left / whole if whole > 0 else 0.0
