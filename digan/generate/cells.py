"""Frames of one place of a grid: a video, a walk, a pair with its difference, a comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from digan.generate.request import Request
from digan.generate.videos import Cell, Video
from digan.grid import SpaceTimeGrid
from digan.nn import Generator
from digan.synthesis import (
    Codes,
    Shot,
    beside,
    cat_codes,
    chunk_frames,
    difference,
    extrapolated,
    red_box,
    resample,
    seed_codes,
    square_box,
    stream,
    walk,
)
from digan.synthesis.marks import FILTERS, Frames

# Frames of a video that share what is made once for them, see `digan.nn.pieces`.
_SHARING_FRAMES = 8
# A short video is cut in as many chunks, so that the first is encoded while the last is computed.
_PARTS = 4


def chunk_of(generator: Generator, places: int, request: Request) -> int:
    """How many frames of each of so many places of a grid are computed at once.

    A GPU's chunks are large, and a grid waits for one of every place: they share it.
    """
    side, device = request.grid.frame_size(generator.config.resolution), generator.w_avg.device
    if request.chunk is not None:
        return request.chunk
    if device.type == "cpu":
        part = max(_SHARING_FRAMES, -(-len(request.t) // _PARTS))
        return min(chunk_frames(1, side), part)
    return chunk_frames(places, side, device, least=min(_SHARING_FRAMES, chunk_frames(1, side)))


def cell_frames(generator: Generator, cell: Cell, request: Request, chunk: int) -> Iterator[Frames]:
    """Chunks [n, H, W, 3] of a cell, every video rendered on its own.

    A video's numbers then do not depend on its neighbours. On a GPU nothing is lost by it: at 128
    frames of 128x128 every layer of one video has 1,000 tiles of rows and more for 132
    multiprocessors.
    """
    shots = _shots(generator, cell.videos, request)
    # What plain enlargements start from: the same frames on the training grid.
    coarse = [] if not request.compare else [dataclasses.replace(s, grid=_plain(s)) for s in shots]
    streams = [stream(generator, shot, chunk=chunk) for shot in [*shots, *coarse]]
    outside = extrapolated(request.grid).numpy()
    done = 0
    for pieces in zip(*streams, strict=True):
        frames = [piece[0].numpy() for piece in pieces]
        marked = outside[done : done + len(frames[0])]
        done += len(frames[0])
        yield _composed(frames, marked, request, generator.config.resolution)


def _plain(shot: Shot) -> SpaceTimeGrid:
    return dataclasses.replace(shot.grid, density=1)


def _shots(generator: Generator, videos: Sequence[Video], request: Request) -> list[Shot]:
    codes = [_codes(generator, video, request.truncation) for video in videos]
    if request.walk is None:
        return [Shot(each, request.grid) for each in codes]
    path = walk(
        cat_codes(codes),
        request.t,
        content=request.walk != "motion",
        motion=request.walk != "content",
        closed=request.closed,
    )
    return [dataclasses.replace(path, grid=request.grid)]


def _codes(generator: Generator, video: Video, truncation: float) -> Codes:
    if video.codes is not None:
        ws = generator.w_avg.lerp(video.codes.ws, truncation)
        return video.codes if truncation == 1 else Codes(ws, video.codes.z_motion)
    labels = None if video.label is None else [video.label]
    return seed_codes(generator, [video.seed], [video.motion_seed], labels, truncation=truncation)


def _composed(
    frames: list[Frames],
    outside: NDArray[np.bool_],  # [n], which frames are extrapolated
    request: Request,
    resolution: int,
) -> Frames:
    """One picture a frame of a cell's videos, boxes drawn last."""
    columns = frames
    if request.compare:
        shown = len(frames) // 2
        columns = []
        for model, coarse in zip(frames[:shown], frames[shown:], strict=True):
            columns += [resample(coarse, model.shape[1], how) for how in FILTERS] + [model]
    apart = [difference(*frames[:2])] if request.difference else []
    if request.mark:
        inner = request.density * resolution
        columns = [red_box(square_box(column, inner), outside) for column in columns]
    return beside(*columns, *apart) if len(columns) + len(apart) > 1 else columns[0]


def panels(request: Request) -> int:
    """How many pictures a cell has side by side."""
    each = 1 + (len(FILTERS) if request.compare else 0)
    return 2 * each + 1 if request.difference else each
