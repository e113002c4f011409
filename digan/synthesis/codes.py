"""Codes: what videos are made of. From seeds, and between one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.nn import Generator, VideoINR
from digan.randomness import sample_rng


def content_latent(seed: int, latent_dim: int) -> Tensor:
    """z of a content seed, float32 [D]; a function of the seed alone."""
    return _latent(seed, "content", latent_dim)


def motion_latent(seed: int, latent_dim: int) -> Tensor:
    """z_motion of a motion seed, float32 [D]; a function of the seed alone."""
    return _latent(seed, "motion", latent_dim)


def _latent(seed: int, stream: str, latent_dim: int) -> Tensor:
    draws = sample_rng(seed, f"latent/{stream}", 0).standard_normal(latent_dim)
    return torch.from_numpy(draws.astype(np.float32))


@dataclass(frozen=True)
class Codes:
    """What B videos are made of.

    Attributes:
        ws: content [B, num_ws, D], a row per layer, see `Generator.map`.
        z_motion: motion [B, D].

    Raises:
        ValueError: shapes that do not fit.
    """

    ws: Tensor
    z_motion: Tensor

    def __post_init__(self) -> None:
        if self.ws.dim() != 3:
            raise ValueError(f"ws must be [B, num_ws, D], got {list(self.ws.shape)}")
        expected = (self.ws.shape[0], self.ws.shape[2])
        if self.z_motion.shape != expected:
            raise ValueError(f"z_motion must be {list(expected)}, got {list(self.z_motion.shape)}")

    def __len__(self) -> int:
        return len(self.ws)

    def take(self, index: slice) -> Codes:
        """Some of the videos."""
        return Codes(self.ws[index], self.z_motion[index])

    def write(self, generator: Generator) -> VideoINR:
        """The coordinate networks of the videos."""
        return generator.write(self.ws, self.z_motion)


@torch.no_grad()
def seed_codes(
    generator: Generator,
    seeds: Sequence[int],
    motion_seeds: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    *,
    truncation: float = 1.0,
) -> Codes:
    """The codes of some seeds, a video each.

    Args:
        generator: the network.
        seeds: content seeds, one a video.
        motion_seeds: one a video; the content seeds by default.
        labels: classes, one a video; conditional networks only.
        truncation: psi, see `Generator.map`.

    Raises:
        DiganError: no seed, or not as many of one kind as of the other.
        ValueError: a label is missing, out of range or not wanted.
    """
    device, dim = generator.w_avg.device, generator.config.latent_dim
    dtype = generator.w_avg.dtype
    motion_seeds = seeds if motion_seeds is None else motion_seeds
    for name, given in (("motion seeds", motion_seeds), ("labels", labels)):
        if given is not None and len(given) != len(seeds):
            raise DiganError(f"{name} must be as many as the seeds, {len(seeds)}, got {len(given)}")
    if len(seeds) == 0:
        raise DiganError("seeds must be at least one, got none")
    z = torch.stack([content_latent(s, dim) for s in seeds]).to(device, dtype)
    z_motion = torch.stack([motion_latent(s, dim) for s in motion_seeds]).to(device, dtype)
    label = None if labels is None else torch.tensor(list(labels), device=device)
    return Codes(generator.map(z, label, truncation=truncation), z_motion)


@torch.no_grad()
def write_videos(
    generator: Generator,
    seeds: Sequence[int],
    motion_seeds: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    *,
    truncation: float = 1.0,
) -> VideoINR:
    """The coordinate networks of some seeds; arguments and errors of `seed_codes`."""
    return seed_codes(generator, seeds, motion_seeds, labels, truncation=truncation).write(
        generator
    )


def cat_codes(parts: Sequence[Codes]) -> Codes:
    """The videos of several codes, one after the other."""
    return Codes(
        torch.cat([part.ws for part in parts]), torch.cat([part.z_motion for part in parts])
    )


def interpolate_codes(
    a: Codes,
    b: Codes,
    weights: Tensor,  # [n]
    *,
    content: bool = True,
    motion: bool = True,
) -> Codes:
    """Codes of n videos between two.

    Content goes straight, in W: ws = a.ws + weight * (b.ws - a.ws), where a network is
    smoothest. Motion codes are normal draws, which lie near a sphere: they go along the great
    circle, and their lengths straight. Weights 0 and 1 give a and b to the bit.

    Args:
        a, b: codes of one video each.
        weights: in [0, 1], any floating dtype; one a video.
        content, motion: what moves; the other stays a's.

    Raises:
        DiganError: codes of several videos, weights outside [0, 1].
    """
    if len(a) != 1 or len(b) != 1:
        raise DiganError(f"codes between which to go must be of one video, got {len(a)}, {len(b)}")
    if weights.dim() != 1 or not bool(((weights >= 0) & (weights <= 1)).all()):
        raise DiganError("weights must be [n] and from 0 to 1")
    steps = weights.to(a.ws.device, torch.float64)
    ws = a.ws.expand(len(steps), -1, -1)
    if content:
        ws = torch.lerp(a.ws, b.ws, steps.to(a.ws.dtype)[:, None, None])
    z_motion = a.z_motion.expand(len(steps), -1)
    if motion:
        z_motion = _along_great_circle(a.z_motion[0], b.z_motion[0], steps)
    return Codes(ws, z_motion)


def _along_great_circle(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    """[n, D] from a [D] to b [D] at steps [n] in float64; lengths go straight."""
    start, end = a.double(), b.double()
    lengths = torch.lerp(start.norm(), end.norm(), steps)
    tiny = torch.finfo(torch.float64).tiny
    start, end = start / start.norm().clamp_min(tiny), end / end.norm().clamp_min(tiny)
    along = start @ end
    aside = end - along * start
    if float(aside.norm()) < 1e-9:  # the same direction, or the opposite: any circle will do
        aside = torch.zeros_like(start)
        aside[start.abs().argmin()] = 1
        aside -= (start @ aside) * start
        angle = torch.where(along > 0, 0.0, torch.pi).to(along)
    else:
        angle = torch.atan2(aside.norm(), along)
    aside = aside / aside.norm().clamp_min(tiny)
    turns = steps * angle
    on = torch.outer(turns.cos(), start) + torch.outer(turns.sin(), aside)
    found = (lengths[:, None] * on).to(a.dtype)
    found = torch.where(steps[:, None] == 0, a, found)
    return torch.where(steps[:, None] == 1, b, found)
