"""`digan generate`: videos from a network file, streamed into files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from digan.config import Kernels, Precision
from digan.data.sinks import FORMATS, FrameSink, SheetFile, open_sink, tile_frames
from digan.errors import DiganError
from digan.execution import COMPUTE_DTYPES, choose_device, choose_impl
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, load_network
from digan.ranges import parse_seeds
from digan.synthesis import chunk_frames, stream_frames, write_videos

MOST_PIXELS = 16384  # of a side; H.264 holds no more


@dataclass(frozen=True)
class Video:
    """One video to make."""

    seed: int
    motion_seed: int
    label: int | None
    name: str


def choose_videos(
    info: NetworkInfo,
    seeds: Sequence[int],
    motion_seeds: Sequence[int] | None,
    classes: Sequence[int] | None,
) -> list[Video]:
    """Every combination that was asked for, each with its file name.

    Seeds and motion seeds of equal number go together; one of either goes with all of the
    other. Every class is made of every seed; a conditional network that is given no class
    takes them in turn by the seed.

    Raises:
        DiganError: numbers that do not fit, a class out of range, classes for an
            unconditional network.
    """
    known = info.generator.num_classes
    if classes is not None and not known:
        raise DiganError("the network is not class-conditional: leave out --class")
    for wanted in classes or ():
        if not 0 <= wanted < known:
            raise DiganError(f"class must be in 0 to {known - 1}, got {wanted}")
    motions = list(seeds if motion_seeds is None else motion_seeds)
    contents = list(seeds)
    if len(contents) == 1:
        contents *= len(motions)
    if len(motions) == 1:
        motions *= len(contents)
    if len(contents) != len(motions):
        raise DiganError(
            f"seeds and motion seeds must be equally many, or one of either, "
            f"got {len(contents)} and {len(motions)}"
        )
    videos = []
    chosen: list[int | None] = list(classes) if classes else [None]
    for label in chosen:
        for seed, motion in zip(contents, motions, strict=True):
            name = f"seed{seed:04d}"
            name += "" if motion_seeds is None else f"-motion{motion:04d}"
            name += "" if label is None else f"-class{label}"
            own = seed % known if known and label is None else label
            videos.append(Video(seed, motion, own, name))
    return videos


def parse_classes(text: str, info: NetworkInfo) -> list[int]:
    """Class numbers from numbers, ranges or names.

    Raises:
        DiganError: a name that the network does not have, with the names it has.
    """
    found: list[int] = []
    for part in text.split(","):
        if part.strip() in info.classes:
            found.append(info.classes.index(part.strip()))
        elif part.strip()[:1].isdigit():
            found += parse_seeds(part, "class")
        else:
            have = ", ".join(info.classes) or "none with a name"
            raise DiganError(f"class must be a number or one of {have}, got {part.strip()!r}")
    return found


@dataclass(frozen=True)
class Request:
    """What to render of every video, and how to write it."""

    t: Tensor
    fps: float
    density: int = 1
    zoom: float = 1.0
    truncation: float = 1.0
    chunk: int | None = None
    formats: tuple[str, ...] = ("mp4",)
    outdir: Path = Path("out")


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Raises DiganError for a format that is not known, or twice the same."""
    for name in formats:
        if name not in FORMATS:
            raise DiganError(f"format must be of {', '.join(FORMATS)}, got {name!r}")
    return tuple(dict.fromkeys(formats))


def density_of(size: int | None, resolution: int) -> int:
    """How many times denser than training `size` pixels are.

    Raises:
        DiganError: size is no multiple of the network's resolution.
    """
    if size is None:
        return 1
    if size < resolution or size % resolution:
        raise DiganError(
            f"size must be a multiple of the network's resolution of {resolution}, got {size}"
        )
    return size // resolution


def render_files(
    generator: Generator,
    videos: Sequence[Video],
    request: Request,
    grid: tuple[int, int] | None = None,
    *,
    progress: bool = True,
) -> list[Path]:
    """Writes the videos, one file each or one grid of all; returns the paths.

    Raises:
        DiganError: a grid with fewer places than videos, a place that cannot be written.
    """
    columns = 1
    if grid is not None:
        columns, rows = grid
        if columns * rows < len(videos):
            raise DiganError(
                f"a grid of {columns}x{rows} holds {columns * rows} videos, got {len(videos)}"
            )
    side = SpaceTimeGrid(request.t, request.density, request.zoom).frame_size(
        generator.config.resolution
    )
    if side > MOST_PIXELS:
        raise DiganError(f"frames must be at most {MOST_PIXELS} pixels a side, got {side}")
    writable_folder(request.outdir)
    groups = [list(videos)] if grid is not None else [[video] for video in videos]
    paths: list[Path] = []
    total = len(request.t) * len(groups)
    with tqdm(total=total, unit="frame", disable=not progress, file=sys.stderr) as bar:
        for group in groups:
            stem = group[0].name if grid is None else f"grid{group[0].name}"
            stem = stem if len(group) == 1 or grid is None else f"{stem}-{group[-1].name}"
            paths += _render_group(generator, group, request, stem, columns, bar)
    return paths


def _render_group(
    generator: Generator,
    group: Sequence[Video],
    request: Request,
    stem: str,
    columns: int,
    bar: Any,
) -> list[Path]:
    paths = [request.outdir / _file_name(stem, kind) for kind in request.formats]
    with contextlib.ExitStack() as stack:
        sinks: list[FrameSink] = [
            stack.enter_context(open_sink(path, request.fps, len(request.t))) for path in paths
        ]
        for frames in _tiles(generator, group, request, columns):
            for frame in frames:
                for sink in sinks:
                    sink.write(frame)
            bar.update(len(frames))
    return paths


def _file_name(stem: str, kind: str) -> str:
    return {"png": stem, "sheet": f"{stem}{SheetFile.ENDING}"}.get(kind, f"{stem}.{kind}")


def _tiles(
    generator: Generator, group: Sequence[Video], request: Request, columns: int
) -> Iterator[NDArray[np.uint8]]:
    """Chunks [n, H, W, 3] of the group's videos side by side, each rendered on its own.

    A video's numbers then do not depend on its neighbours in the grid.
    """
    size = SpaceTimeGrid(request.t, request.density, request.zoom).frame_size(
        generator.config.resolution
    )
    chunk = request.chunk or chunk_frames(1, size)
    streams = [
        stream_frames(
            write_videos(
                generator,
                [video.seed],
                [video.motion_seed],
                None if video.label is None else [video.label],
                truncation=request.truncation,
            ),
            request.t,
            density=request.density,
            zoom=request.zoom,
            chunk=chunk,
        )
        for video in group
    ]
    for pieces in zip(*streams, strict=True):
        if len(pieces) == 1:
            yield pieces[0][0].numpy()
        else:
            together = torch.cat(list(pieces)).numpy()  # [N, n, H, W, 3]
            yield np.stack([tile_frames(frames, columns) for frames in together.swapaxes(0, 1)])


def open_network(
    name: str,
    *,
    precision: Precision = "fp32",
    kernels: Kernels = "auto",
    device: str | None = None,
) -> tuple[Generator, NetworkInfo]:
    """The generator of a network file, on the GPU where there is one.

    Raises:
        DiganError: a file that cannot be read, kernels demanded that cannot run.
    """
    chosen = choose_device(device)
    return load_network(
        name,
        impl=choose_impl(kernels, chosen),
        dtype=COMPUTE_DTYPES[precision],
        device=chosen,
    )


def request_times(
    info: NetworkInfo,
    frames: int | None,
    t_start: float,
    t_end: float | None,
    time_density: int,
) -> Tensor:
    """Time stamps for the flags of `digan generate`."""
    count = info.clip_frames if frames is None else frames
    return frame_times(
        count, info.clip_frames, t_start=t_start, t_end=t_end, time_density=time_density
    )
