"""Frames from a network: seeds to codes, codes to frames, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.nn import Generator, VideoINR
from digan.randomness import sample_rng

CHUNK_PIXELS = 1 << 17  # pixels evaluated at once: 8 frames of 128x128


def content_latent(seed: int, latent_dim: int) -> Tensor:
    """z of a content seed, float32 [D]; a function of the seed alone."""
    return _latent(seed, "content", latent_dim)


def motion_latent(seed: int, latent_dim: int) -> Tensor:
    """z_motion of a motion seed, float32 [D]; a function of the seed alone."""
    return _latent(seed, "motion", latent_dim)


def _latent(seed: int, stream: str, latent_dim: int) -> Tensor:
    draws = sample_rng(seed, f"latent/{stream}", 0).standard_normal(latent_dim)
    return torch.from_numpy(draws.astype(np.float32))


@torch.no_grad()
def write_videos(
    generator: Generator,
    seeds: Sequence[int],
    motion_seeds: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    *,
    truncation: float = 1.0,
) -> VideoINR:
    """The coordinate networks of some seeds.

    Args:
        generator: the network.
        seeds: content seeds, one a video.
        motion_seeds: one a video; the content seeds by default.
        labels: classes, one a video; conditional networks only.
        truncation: psi, see `Generator.map`.
    """
    device, dim = generator.w_avg.device, generator.config.latent_dim
    dtype = generator.w_avg.dtype
    motion_seeds = seeds if motion_seeds is None else motion_seeds
    z = torch.stack([content_latent(s, dim) for s in seeds]).to(device, dtype)
    z_motion = torch.stack([motion_latent(s, dim) for s in motion_seeds]).to(device, dtype)
    label = None if labels is None else torch.tensor(list(labels), device=device)
    return generator.write(generator.map(z, label, truncation=truncation), z_motion)


def chunk_frames(videos: int, frame_size: int, chunk_pixels: int = CHUNK_PIXELS) -> int:
    """Frames of every video that are evaluated at once; at least 1."""
    return max(1, chunk_pixels // (videos * frame_size * frame_size))


@torch.no_grad()
def stream_frames(
    inr: VideoINR,
    t: Tensor,
    *,
    density: int = 1,
    zoom: float = 1.0,
    chunk: int | None = None,
) -> Iterator[Tensor]:
    """Renders videos chunk by chunk; memory does not grow with the number of frames.

    Args:
        inr: coordinate networks of B videos.
        t: time stamps [T], float64.
        density, zoom: see `SpaceTimeGrid`.
        chunk: frames at once; by default as many as fit CHUNK_PIXELS.

    Yields:
        uint8 [B, n, H, W, 3] on the CPU, in order of time.
    """
    config = inr.generator.config
    grid = SpaceTimeGrid(t, density, zoom)
    if chunk is None:
        first = inr.blocks[0].freq
        assert first is not None
        chunk = chunk_frames(first.shape[0], grid.frame_size(config.resolution))
    for piece in torch.split(t, chunk):
        yield to_uint8(inr.render(SpaceTimeGrid(piece, density, zoom))).cpu()


def to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] to 0..255: (x + 1) * 127.5, rounded, clamped."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def clips(
    generator: Generator,
    seeds: Sequence[int],
    t: Tensor,
    labels: Sequence[int] | None = None,
    *,
    batch: int = 16,
) -> Iterator[np.ndarray]:
    """Whole clips of many seeds, in batches: uint8 [n, T, H, W, 3]."""
    for start in range(0, len(seeds), batch):
        own = seeds[start : start + batch]
        own_labels = None if labels is None else labels[start : start + batch]
        inr = write_videos(generator, own, labels=own_labels)
        yield torch.cat(list(stream_frames(inr, t)), dim=1).numpy()
