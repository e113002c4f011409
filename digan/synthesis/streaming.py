"""Codes to frames, in chunks of bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.nn import Generator, VideoINR
from digan.synthesis.codes import write_videos
from digan.synthesis.shots import Shot

CHUNK_PIXELS = 1 << 17  # pixels evaluated at once: 8 frames of 128x128


def chunk_frames(videos: int, frame_size: int, chunk_pixels: int = CHUNK_PIXELS) -> int:
    """Frames of every video that are evaluated at once; at least 1."""
    return max(1, chunk_pixels // (videos * frame_size * frame_size))


@torch.no_grad()
def stream(generator: Generator, shot: Shot, *, chunk: int | None = None) -> Iterator[Tensor]:
    """Renders a shot chunk by chunk; memory does not grow with the number of frames.

    Args:
        generator: the network. shot: what to show.
        chunk: frames at once; by default as many as fit CHUNK_PIXELS. Without effect on them.

    Yields:
        uint8 [B, n, H, W, 3] on the CPU, in order of time.
    """
    grid = shot.grid
    if chunk is None:
        chunk = chunk_frames(shot.videos, grid.frame_size(generator.config.resolution))
    if not shot.along_time:
        inr = shot.codes.write(generator)
        yield from stream_frames(inr, grid.t, density=grid.density, zoom=grid.zoom, chunk=chunk)
        return
    for start in range(0, shot.frames, chunk):
        yield to_uint8(_along_time(generator, shot, slice(start, start + chunk))).cpu()


@torch.no_grad()
def render(generator: Generator, shot: Shot) -> Tensor:
    """All frames of a shot at once: [B, T, H, W, 3], about [-1, 1], without gradients."""
    if shot.along_time:
        return _along_time(generator, shot, slice(None))
    return shot.codes.write(generator).render(shot.grid)


def _along_time(generator: Generator, shot: Shot, some: slice) -> Tensor:
    """Some frames [1, n, H, W, 3], each of its own code."""
    grid = dataclasses.replace(shot.grid, t=shot.grid.t[some, None])
    return shot.codes.take(some).write(generator).render(grid).transpose(0, 1)


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
    levels = frames + 1  # the one copy: frames of 2048x2048 are large
    return levels.mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


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
