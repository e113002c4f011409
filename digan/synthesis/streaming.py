"""Codes to frames, in chunks of bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.nn import Generator, VideoINR
from digan.ops import Impl, frames_to_uint8
from digan.synthesis.codes import write_videos
from digan.synthesis.replay import Capture, ChunkRunner, capture_graph
from digan.synthesis.shots import Shot
from digan.synthesis.transfer import Copies, copies_for, to_host

CHUNK_PIXELS = 1 << 17  # pixels evaluated at once on a CPU: 8 frames of 128x128
# On a GPU 128 such frames: every layer then has rows for all multiprocessors many times over, and
# its launches take the host far less time than the device. A chunk of pictures is 25 MB, and 6 MB
# as bytes; what the layers in between take is bounded by `digan.nn.pieces`.
GPU_CHUNK_PIXELS = 1 << 21


def chunk_frames(
    videos: int, frame_size: int, device: torch.device | str = "cpu", least: int = 1
) -> int:
    """Frames of every video that are evaluated at once on a device; at least `least`."""
    on_cpu = torch.device(device).type == "cpu"
    pixels = CHUNK_PIXELS if on_cpu else GPU_CHUNK_PIXELS
    return max(least, pixels // (videos * frame_size * frame_size))


@torch.no_grad()
def stream(generator: Generator, shot: Shot, *, chunk: int | None = None) -> Iterator[Tensor]:
    """Renders a shot chunk by chunk; memory does not grow with the number of frames.

    Args:
        generator: the network. shot: what to show.
        chunk: frames at once; by default `chunk_frames` of them. Without effect on them.

    Yields:
        uint8 [B, n, H, W, 3] on the CPU, in order of time. On a GPU the next chunk is being
        computed by then (`digan.synthesis.transfer`).
    """
    grid, device = shot.grid, generator.w_avg.device
    if chunk is None:
        side = grid.frame_size(generator.config.resolution)
        chunk = chunk_frames(shot.videos, side, device)
    if not shot.along_time:
        inr = shot.codes.write(generator)
        yield from stream_frames(inr, grid.t, density=grid.density, zoom=grid.zoom, chunk=chunk)
        return
    starts = range(0, shot.frames, chunk)
    chunks = (_along_time(generator, shot, slice(start, start + chunk)) for start in starts)
    impl = path_of(generator)
    yield from to_host((to_uint8(frames, impl) for frames in chunks), copies_for(device))


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
    copies: Copies | None = None,
    capture: Capture | None = None,
) -> Iterator[Tensor]:
    """Renders videos chunk by chunk; memory does not grow with the number of frames.

    On a GPU the bytes are made there, chunk i is copied and used while chunk i + 1 is computed,
    and full chunks are replayed as a CUDA graph where they are many (`ChunkRunner`).

    Args:
        inr: coordinate networks of B videos.
        t: time stamps [T], float64.
        density, zoom: see `SpaceTimeGrid`.
        chunk: frames at once; by default `chunk_frames` of them.
        copies, capture: other ways to copy and to keep a chunk's computation than a GPU's own.

    Yields:
        uint8 [B, n, H, W, 3] on the CPU, in order of time.
    """
    config = inr.generator.config
    grid = SpaceTimeGrid(t, density, zoom)
    first = inr.blocks[0].freq
    assert first is not None
    device = first.device
    if chunk is None:
        chunk = chunk_frames(first.shape[0], grid.frame_size(config.resolution), device)
    if device.type == "cuda":
        copies, capture = copies or copies_for(device), capture or capture_graph
    run = ChunkRunner(_chunk_of(inr, density, zoom), chunk, len(t) // chunk, capture)
    # All times go to the device at once: each chunk's own would wait for the chunk before.
    yield from to_host((run(piece) for piece in torch.split(t.to(device), chunk)), copies)


def _chunk_of(inr: VideoINR, density: int, zoom: float) -> Callable[[Tensor], Tensor]:
    """Times [n] -> bytes [B, n, H, W, 3]."""
    impl = path_of(inr.generator)

    def bytes_of(t: Tensor) -> Tensor:
        return to_uint8(inr.render(SpaceTimeGrid(t, density, zoom)), impl)

    return bytes_of


def path_of(generator: Generator) -> Impl | None:
    """The path that its ops take."""
    return generator.synthesis_blocks()[0].impl


def to_uint8(frames: Tensor, impl: Impl | None = None) -> Tensor:
    """[-1, 1] to 0..255, on the device of the frames: see `digan.ops.frames_to_uint8`."""
    return frames_to_uint8(frames, impl=impl)


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
