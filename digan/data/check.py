"""`digan data check`: what a store holds, what is wrong with it, and how it looks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from digan.data.catalog import compare
from digan.data.images import write_frame_sheet
from digan.data.progress import progress_bar
from digan.data.store import Store
from digan.errors import DiganError

_SHEET_VIDEOS = 12
_SHEET_FRAMES = 8


@dataclass
class CheckReport:
    """What `check` found."""

    store: Path
    resolution: int
    codec: str
    videos: int
    frames: int
    bytes: int
    fps: tuple[float, float, float]  # min, median, max over the videos; 0 unknown
    lengths: tuple[int, int, int]  # min, median, max frames of a video
    histogram: list[tuple[int, int, int]]  # (from, to inclusive, videos)
    classes: dict[str, int]  # videos of each class
    splits: dict[str, int]  # videos of each split
    unreadable: list[str]  # one sentence each
    problems: list[tuple[str, str, str]]  # (path, status, reason) of the source files
    clip_frames: int | None = None
    clips: int = 0  # windows of clip_frames, stride 1
    too_short: list[str] = field(default_factory=list)  # videos shorter than the clip
    sheet: Path | None = None
    stride: int = 1  # of the frames kept
    expected: list[str] = field(default_factory=list)  # published counts beside the store's

    @property
    def good(self) -> bool:
        """Whether every record is readable."""
        return not self.unreadable

    def format(self, most: int = 20) -> str:
        """Readable text; of each list at most `most` entries."""
        low, middle, high = self.lengths
        lines = [
            f"{self.store}: {self.videos} videos, {self.frames} frames of "
            f"{self.resolution}x{self.resolution}, {self.bytes / 1e6:,.1f} MB as {self.codec}"
            + (" (lossy)" if self.codec == "jpeg" else " (lossless)"),
            *self.expected,
            f"frames a video: min {low}, median {middle}, max {high}",
        ]
        most_videos = max((n for _, _, n in self.histogram), default=1)
        for start, end, n in self.histogram:
            lines.append(f"  {start:>7}-{end:<7} {n:>7} {'#' * -(-30 * n // most_videos)}")
        if self.fps[2] > 0:
            lines.append("fps: min {:g}, median {:g}, max {:g}".format(*self.fps))
        else:
            lines.append("fps: unknown")
        if self.stride > 1:
            lines.append(f"stride: {self.stride}, of the source's frames")
        if self.clip_frames is not None:
            lines.append(
                f"clips of {self.clip_frames} frames: {self.clips} windows in "
                f"{self.videos - len(self.too_short)} videos; {len(self.too_short)} videos are "
                "shorter"
            )
            lines += _list([f"  short    {name}" for name in self.too_short], most)
        for what, table in (("class", self.classes), ("split", self.splits)):
            if table:
                lines.append(f"videos of each {what}:")
                lines += _list([f"  {name:24} {n:>7}" for name, n in table.items()], 2 * most)
        if not self.classes:
            lines.append("no classes")
        if self.problems:
            lines.append(f"{len(self.problems)} source files with problems:")
            lines += _list([f"  {s:8} {path}: {reason}" for path, s, reason in self.problems], most)
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} UNREADABLE records:")
            lines += _list(["  " + text for text in self.unreadable], most)
        else:
            lines.append("every record is readable")
        if self.sheet is not None:
            lines.append(f"contact sheet: {self.sheet}")
        return "\n".join(lines)


def _list(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[:most], f"  ... and {len(lines) - most} more"]


def check(
    store_path: str | os.PathLike[str],
    *,
    clip_frames: int | None = None,
    sheet: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> CheckReport:
    """Read a whole store and say what is in it.

    Every record's length and checksum are verified; the first and the last frame of every
    video are decoded too (a record whose checksum holds is what `prepare` wrote). With
    `clip_frames` also counts the clips and names the videos that are too short; with
    `sheet` writes a PNG of frames of up to 12 videos. Raises DiganError if the store cannot
    be opened at all.
    """
    if clip_frames is not None and clip_frames < 1:
        raise DiganError(f"clip_frames must be at least 1, got {clip_frames}")
    store = Store(store_path)
    counts = np.array(store.videos["count"], dtype=np.int64)
    unreadable = _verify(store, progress)
    fps = store.videos["fps"]
    splits = store.videos_of_splits()
    report = CheckReport(
        store=store.path,
        resolution=store.resolution,
        codec=store.info["codec"],
        videos=store.num_videos,
        frames=store.num_frames,
        bytes=sum(store.info["shards"]),
        fps=(float(fps.min()), float(np.median(fps)), float(fps.max())),
        lengths=(int(counts.min()), int(np.median(counts)), int(counts.max())),
        histogram=_histogram(counts),
        classes={
            name: int((store.videos["label"] == i).sum()) for i, name in enumerate(store.classes)
        },
        splits=splits,
        unreadable=unreadable,
        stride=store.info["stride"],
        expected=compare(store.dataset, store.num_videos, len(store.classes), splits),
        problems=[
            (row["path"], row["status"], row["reason"])
            for row in store.report()
            if row["status"] != "ok"
        ],
    )
    if clip_frames is not None:
        report.clip_frames = clip_frames
        report.clips = int(np.maximum(counts - clip_frames + 1, 0).sum())
        report.too_short = [store.names[i] for i in np.flatnonzero(counts < clip_frames)]
    if sheet is not None:
        report.sheet = Path(sheet)
        _write_sheet(store, report.sheet)
    return report


def _verify(store: Store, progress: bool) -> list[str]:
    unreadable = []
    with progress_bar("check", store.num_frames, "frame", progress) as bar:
        for row in store.videos:
            first, count = int(row["first"]), int(row["count"])
            for index in range(first, first + count):
                try:
                    if index in (first, first + count - 1):
                        store.frame(index)
                    else:
                        store.record(index)
                except DiganError as error:
                    unreadable.append(str(error).split("; `digan")[0])
            bar.update(count)
    return unreadable


def _histogram(counts: np.ndarray) -> list[tuple[int, int, int]]:
    """Videos by length, in ranges that double: 1, 2-3, 4-7, ..."""
    powers = np.floor(np.log2(counts)).astype(int)
    return [
        (2**p, 2 ** (p + 1) - 1, int((powers == p).sum()))
        for p in range(powers.min(), powers.max() + 1)
    ]


def _write_sheet(store: Store, path: Path) -> None:
    chosen = np.unique(np.linspace(0, store.num_videos - 1, _SHEET_VIDEOS).round().astype(int))
    grey = np.full((store.resolution, store.resolution, 3), 128, dtype=np.uint8)
    rows = []
    for video in chosen:
        first, count = int(store.videos[video]["first"]), int(store.videos[video]["count"])
        row = []
        for t in np.linspace(0, count - 1, _SHEET_FRAMES).round().astype(int):
            try:
                row.append(store.frame(first + int(t)))
            except DiganError:
                row.append(grey)  # counted above
        rows.append(np.stack(row))
    write_frame_sheet(path, np.stack(rows), columns=_SHEET_FRAMES)
