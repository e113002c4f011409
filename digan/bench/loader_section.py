"""The clip loader: training pairs from long clips, against decoding whole clips.

The floor of a pair is the decompression of its two records, which no reader of the store can
leave out. A worker's whole batch, and its copy into the memory that a GPU reads from, are timed
apart: `digan.bench.data_wait` makes of them how long training would wait for its data.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digan.bench.cases import Case, Context
from digan.bench.data_wait import COPIED, DECODED, TOGETHER, WORKER_CASE

VIDEOS = 4
PAIRS = 8  # of one call in one process
BATCH = 64
BATCHES = 16  # of one call, more than the workers hold ready
ONE_PROCESS = ("store", "-")
INFLATED = ("inflate alone", "-")
WHOLE_CLIPS = ("whole clips", "-")


def cases(context: Context) -> Iterator[Case]:
    """Random pairs in one process, from a store of PNG records and from H.264 files."""
    from digan.data.datasets import ClipPairs, pair_loader
    from digan.data.store import Store

    options = context.options
    videos, folder = _clips(context)
    store = Store(folder)
    pairs = ClipPairs(store, options.frames, seed=0)
    position = 0

    def from_store() -> None:
        nonlocal position
        for index in range(position, position + PAIRS):
            pairs[index]
        position += PAIRS

    draw = np.random.default_rng(0)
    packed = [compressed_pixels(store.record(i)) for i in range(store.num_frames)]

    def inflated() -> None:
        for number in draw.integers(len(packed), size=2 * PAIRS):
            zlib.decompress(packed[number])

    def from_files() -> None:
        for _ in range(PAIRS):
            clip = _decoded(videos[draw.integers(len(videos))])
            first, second = draw.integers(len(clip), size=2)
            np.stack([clip[first], clip[second]])

    name = f"N={options.frames} {options.resolution}x{options.resolution}"
    yield Case(
        f"one process, {name}",
        {ONE_PROCESS: from_store, INFLATED: inflated, WHOLE_CLIPS: from_files},
        unit="pairs",
        items=PAIRS,
        floor_by={ONE_PROCESS: INFLATED},
    )
    yield worker_case(context, pairs, name)
    workers = _cores()
    numbers = ([*range(start, start + BATCH)] for start in range(1 << 20, 1 << 62, BATCH))
    batches = pair_loader(pairs, numbers, workers=workers)

    def from_workers() -> None:
        for _ in range(BATCHES):
            next(batches)

    yield Case(
        f"{workers} workers, batches of {BATCH}, {name}",
        {(TOGETHER, "-"): from_workers},
        unit="pairs",
        items=BATCHES * BATCH,
    )


def worker_case(context: Context, pairs: Any, name: str) -> Case:
    """What a worker does for a batch, and what the main process does with it."""
    from digan.data.datasets import _Batches

    source, number = _Batches(pairs), 1 << 40

    def decoded() -> Any:
        nonlocal number
        number += BATCH
        return source.__getitems__([*range(number - BATCH, number)])

    return Case(
        f"{WORKER_CASE} {BATCH} pairs, {name}",
        {(DECODED, "-"): decoded, (COPIED, "-"): _copy(decoded().frames, context.device)},
        unit="pairs",
        items=BATCH,
        notes={(COPIED, "-"): "into memory that is there" + _kind_of_memory(context.device)},
    )


def _copy(frames: torch.Tensor, device: torch.device) -> Callable[[], Any]:
    """Into page-locked memory where there is a GPU, else into plain memory."""
    target = torch.empty_like(frames, pin_memory=device.type == "cuda")
    return lambda: target.copy_(frames)


def _kind_of_memory(device: torch.device) -> str:
    return ", page-locked" if device.type == "cuda" else ""


def compressed_pixels(record: bytes) -> bytes:
    """The zlib stream of a PNG file: its IDAT chunks, joined.

    Each chunk is a length of 4 bytes, a name of 4, the content and a checksum of 4.
    """
    found, place = b"", 8  # behind the signature
    while place < len(record):
        length = int.from_bytes(record[place : place + 4], "big")
        if record[place + 4 : place + 8] == b"IDAT":
            found += record[place + 8 : place + 8 + length]
        place += 12 + length
    return found


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
