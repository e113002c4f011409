"""Videos from a network, streamed into files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from digan.config import GeneratorPrecision, Kernels
from digan.data.sinks import SheetFile, tile_frames
from digan.errors import DiganError
from digan.execution import choose_device, choose_impl, generator_arithmetic
from digan.files import writable_folder
from digan.generate.cells import cell_frames, chunk_of, panels
from digan.generate.request import MOST_PIXELS, Request
from digan.generate.stopping import Stopped
from digan.generate.videos import Cell, Video, choose_cells
from digan.generate.writing import FilesAtOnce, encoders_for
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, load_network
from digan.processes import World

_NO_FRAMES = torch.empty(0, 0, 0, 0, 3, dtype=torch.uint8)


def render_files(
    generator: Generator,
    videos: Sequence[Video],
    request: Request,
    grid: tuple[int, int] | None = None,
    *,
    progress: bool = True,
    encoders: int | None = None,
    world: World | None = None,
) -> list[Path]:
    """Writes the videos, one file each or one grid of all; returns the paths.

    Several processes make their share of the files each; of a grid they make their share of the
    places, and the first one writes it. Paths are of this process's files.

    Frames are encoded while the next are computed, those of `encoders` videos at once (by default
    `encoders_for` the device). Within `stoppable`, a signal ends the work with files that play
    (an npz goes).

    Raises:
        DiganError: a grid with fewer places than videos, a place that cannot be written, what
            `choose_cells` raises, a comparison at the network's own size.
        Stopped: a signal came.
    """
    cells = choose_cells(videos, walk=request.walk, difference=request.difference)
    columns, pixels = _checked(generator, cells, request, grid)
    writable_folder(request.outdir)
    world = world or World()
    apart = [[cell] for cell in cells]
    groups = [cells] if grid is not None else world.share(apart)
    paths: list[Path] = []
    count = len(request.t)
    most = encoders_for(generator.w_avg.device, pixels) if encoders is None else encoders
    total = count * len(groups)
    shown = progress and world.is_first
    with tqdm(total=total, unit="frame", disable=not shown, file=sys.stderr) as bar:
        at_once = FilesAtOnce(most, bar.update)
        try:
            with at_once:
                for group in groups:
                    stem = group[0].name if grid is None else f"grid{group[0].name}"
                    stem = stem if len(group) == 1 or grid is None else f"{stem}-{group[-1].name}"
                    tiles = _tiles(generator, group, request, columns, world if grid else World())
                    if grid is not None and not world.is_first:
                        for _ in tiles:  # made for the first process
                            pass
                        continue
                    own = [request.outdir / _file_name(stem, kind) for kind in request.formats]
                    files = at_once.begin(own, request.fps, count)
                    for frames in tiles:
                        files.put(frames)
                    paths += own
        except Stopped as stopped:
            stopped.done = at_once.kept
            raise
    return paths


def _checked(
    generator: Generator, cells: Sequence[Cell], request: Request, grid: tuple[int, int] | None
) -> tuple[int, int]:
    """The grid's columns, and the pixels of a picture, once everything fits."""
    columns, rows = grid or (1, 1)
    if grid is not None and columns * rows < len(cells):
        raise DiganError(
            f"a grid of {columns}x{rows} holds {columns * rows} videos, got {len(cells)}"
        )
    resolution = generator.config.resolution
    if request.compare and request.density == 1:
        raise DiganError(f"--compare needs a --size above the network's resolution of {resolution}")
    side = request.grid.frame_size(resolution)
    width, height = side * panels(request) * columns, side * (rows if grid else 1)
    if side > MOST_PIXELS:
        raise DiganError(f"frames must be at most {MOST_PIXELS} pixels a side, got {side}")
    if max(width, height) > MOST_PIXELS:
        raise DiganError(
            f"pictures must be at most {MOST_PIXELS} pixels a side, got {width}x{height}: "
            f"choose a smaller --size or --grid"
        )
    return columns, width * height


def _file_name(stem: str, kind: str) -> str:
    return {"png": stem, "sheet": f"{stem}{SheetFile.ENDING}"}.get(kind, f"{stem}.{kind}")


def _tiles(
    generator: Generator, group: Sequence[Cell], request: Request, columns: int, world: World
) -> Iterator[NDArray[np.uint8]]:
    """Chunks [n, H, W, 3] of the group's cells side by side, each made by one of the processes."""
    chunk = chunk_of(generator, len(group), request)
    streams = [cell_frames(generator, cell, request, chunk) for cell in world.share(group)]
    rounds: Iterable[Sequence[NDArray[np.uint8]]] = zip(*streams, strict=True)
    if not streams:  # more processes than places
        rounds = repeat((), math.ceil(len(request.t) / chunk))
    for pieces in rounds:
        if world.size > 1:
            made = torch.from_numpy(np.stack(pieces)) if pieces else _NO_FRAMES
            pieces = world.deal([list(each.numpy()) for each in world.gather_tensors(made)])
        if len(pieces) == 1:
            yield pieces[0]
        else:
            together = np.stack(pieces).swapaxes(0, 1)  # [n, N, H, W, 3]
            yield np.stack([tile_frames(frames, columns) for frames in together])


def open_network(
    name: str,
    *,
    precision: GeneratorPrecision = "fp32",
    kernels: Kernels = "auto",
    device: str | None = None,
) -> tuple[Generator, NetworkInfo]:
    """The generator of a network file, on the GPU where there is one.

    Raises:
        DiganError: a file that cannot be read, kernels demanded that cannot run.
    """
    chosen = choose_device(device)
    arithmetic = generator_arithmetic(precision)
    return load_network(
        name,
        impl=choose_impl(kernels, chosen),
        dtype=arithmetic.dtype,
        tf32=arithmetic.tf32,
        device=chosen,
    )
