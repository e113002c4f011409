"""The clip loader: training pairs from long clips, against decoding whole clips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digan.bench.cases import Case, Context

VIDEOS = 4
PAIRS = 8  # of one call in one process
BATCH = 64
BATCHES = 16  # of one call, more than the workers hold ready
ONE_PROCESS = ("store", "-")
WHOLE_CLIPS = ("whole clips", "-")


def cases(context: Context) -> Iterator[Case]:
    """Random pairs in one process, from a store of PNG records and from H.264 files."""
    from digan.data.datasets import ClipPairs, pair_loader
    from digan.data.store import Store

    options = context.options
    videos, store = _clips(context)
    pairs = ClipPairs(Store(store), options.frames, seed=0)
    position = 0

    def from_store() -> None:
        nonlocal position
        for index in range(position, position + PAIRS):
            pairs[index]
        position += PAIRS

    draw = np.random.default_rng(0)

    def from_files() -> None:
        for _ in range(PAIRS):
            clip = _decoded(videos[draw.integers(len(videos))])
            first, second = draw.integers(len(clip), size=2)
            np.stack([clip[first], clip[second]])

    name = f"N={options.frames} {options.resolution}x{options.resolution}"
    yield Case(
        f"one process, {name}",
        {ONE_PROCESS: from_store, WHOLE_CLIPS: from_files},
        unit="pairs",
        items=PAIRS,
    )
    workers = _cores()
    numbers = ([*range(start, start + BATCH)] for start in range(1 << 20, 1 << 62, BATCH))
    batches = pair_loader(pairs, numbers, workers=workers)

    def from_workers() -> None:
        for _ in range(BATCHES):
            next(batches)

    yield Case(
        f"{workers} workers, batches of {BATCH}, {name}",
        {ONE_PROCESS: from_workers},
        unit="pairs",
        items=BATCHES * BATCH,
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decoded(path: Path) -> list[Any]:
    """All frames, as a loader of video files gets them: PyAV and nothing around it."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _clips(context: Context) -> tuple[list[Path], Path]:
    """H.264 videos of drifting clouds, N frames each, and the store made of them."""
    from digan.data.prepare import prepare
    from digan.data.synthetic import write_clouds

    options = context.options
    videos, store = context.folder / "videos", context.folder / "store"
    if not store.exists():
        write_clouds(
            videos,
            videos=VIDEOS,
            size=options.resolution,
            frames=options.frames,
            seed=0,
            progress=False,
        )
        prepare(videos, store, resolution=options.resolution, progress=False)
    return sorted(videos.rglob("*.mp4")), store
