"""`digan prepare`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from digan.cli import parse
from digan.errors import DiganError


@dataclass(frozen=True)
class PrepareArgs:
    """Make a training store from videos: any single frame of it can be read at once.

    SRC is a folder of video files, a tree CLASS/video (the folders become labels), folders
    of numbered pictures, or one video file. Every frame is cut to its centre square and
    resized with antialias. A broken-off run continues where it stopped.

    Examples:
        digan prepare videos/ store/ --resolution 128
        digan prepare UCF-101/ ucf128/ --dataset ucf101 --workers 8
        digan prepare taichi/ taichi128/ --dataset taichi --stride 4
        digan prepare long.mp4 store/ --fps 8 --resolution 64
    """

    src: Annotated[Path, tyro.conf.Positional]
    """Folder of videos, class folders, frame folders, or one video."""
    dst: Annotated[Path, tyro.conf.Positional]
    """Folder of the store; made if it is not there."""
    resolution: int = 128
    """Side of a frame in pixels, a power of two from 32 to 1024."""
    fps: float | None = None
    """Resample to this frame rate by nearest time; every frame by default."""
    stride: int = 1
    """Keep every n-th frame, after resampling."""
    codec: Literal["png", "jpeg"] = "png"
    """png is lossless; jpeg (quality 95) is smaller, and is recorded as lossy."""
    workers: int | None = None
    """Processes that decode; one a core by default."""
    min_frames: int = 2
    """Skip videos with fewer frames."""
    dataset: Literal["ucf101", "sky", "taichi", "kinetics-food"] | None = None
    """SRC is this set as its publishers ship it; another layout is an error that shows both.
    Labels and splits follow its rules, and its published counts stand beside yours."""
    keywords: str | None = None
    """Words, with commas between, that choose the classes of kinetics-food by their names;
    the 17 published ones by default."""
    shard: str = "1/1"
    """i/n prepares every n-th file only, for n machines on one folder."""


def run(arguments: list[str]) -> int:
    """Runs the verb. Files that cannot be used are reported and do not fail it."""
    asked: PrepareArgs = parse(PrepareArgs, arguments, "prepare")
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", asked.shard)
    if match is None:
        raise DiganError(f"shard must be i/n, as 1/4, got {asked.shard[:60]!r}")
    from digan.data.prepare import prepare

    report = prepare(
        asked.src,
        asked.dst,
        resolution=asked.resolution,
        fps=asked.fps,
        stride=asked.stride,
        codec=asked.codec,
        workers=asked.workers,
        shard=(int(match[1]), int(match[2])),
        min_frames=asked.min_frames,
        dataset=asked.dataset,
        keywords=None if asked.keywords is None else asked.keywords.split(","),
    )
    print(report.format())
    return 0
