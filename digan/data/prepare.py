"""`digan prepare`: any folder of videos to one store, resumable at any moment.

Each source becomes a finished part (parts.py) in a worker process; when all parts are
there they are merged, in the order of the sources. A run that is killed, with -9 too, goes
on where it was; the result is the same to the byte whatever the number of workers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from digan.data.catalog import KNOWN_SETS, compare
from digan.data.check import CheckReport, check
from digan.data.estimate import estimate
from digan.data.images import JPEG_QUALITY, RESIZE_FILTER
from digan.data.layouts import find_dataset
from digan.data.parts import SHARD_BYTES, Part, Parts
from digan.data.progress import progress_bar
from digan.data.reading import Settings
from digan.data.sources import Found, Source, find_sources
from digan.data.store import FORMAT, PARTS_FOLDER, STORE_FILE, VERSION, Store
from digan.data.workers import run_workers
from digan.errors import DiganError

__all__ = ["CheckReport", "PrepareReport", "check", "prepare"]


@dataclass
class PrepareReport:
    """What `prepare` did. `problems` are (path, status, reason) of all that is not ok."""

    store: Path
    layout: str
    finished: bool = False  # the store is complete (False: other shards are still to come)
    up_to_date: bool = False  # nothing had to be done
    videos: int = 0
    frames: int = 0
    bytes: int = 0
    ok: int = 0
    partial: int = 0
    skipped: int = 0
    missing: int = 0  # sources whose parts other shards have yet to make
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    stride: int = 1
    fps: float = 0.0  # median of the videos as stored, 0 if unknown
    expected: list[str] = field(default_factory=list)  # published counts beside the store's
    seconds: float = 0.0

    def format(self, most: int = 20) -> str:
        """Readable text; at most `most` problems are listed (report.jsonl has all)."""
        lines = []
        if self.up_to_date:
            lines.append(f"{self.store} is up to date")
        elif self.finished:
            lines.append(f"{self.store} is ready ({self.seconds:.0f} s)")
        else:
            lines.append(
                f"this shard's parts are ready; {self.missing} sources are left to other shards"
            )
        if self.finished:
            lines.append(
                f"{self.videos} videos, {self.frames} frames, {self.bytes / 1e6:,.1f} MB"
                + (f", {len(self.classes)} classes" if self.classes else "")
                + (f", splits {', '.join(self.splits)}" if self.splits else "")
                + f", stride {self.stride}"
                + (f", {self.fps:g} fps" if self.fps else ", fps unknown")
            )
            lines += self.expected
        lines.append(f"{self.ok} files ok, {self.partial} partly used, {self.skipped} skipped")
        for path, status, reason in self.problems[:most]:
            lines.append(f"  {status:8} {path}: {reason}")
        if len(self.problems) > most:
            lines.append(f"  ... and {len(self.problems) - most} more, see report.jsonl")
        return "\n".join(lines)


def prepare(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    resolution: int = 128,
    fps: float | None = None,
    stride: int = 1,
    codec: str = "png",
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    min_frames: int = 2,
    dataset: str | None = None,
    keywords: Sequence[str] | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Make a store at `dst` from the videos of `src` (see sources.py for the layouts).

    With `dataset` (ucf101, sky, taichi, kinetics-food) `src` must be that set as published
    (layouts.py); labels and splits follow its rules, and the counts are compared with the
    published ones. `keywords` choose the classes of kinetics-food.

    Every frame is cut to its centre square and resized to `resolution` (a power of two,
    32 to 1024) by Lanczos with antialias. `fps` resamples to that rate by nearest
    presentation time, None keeps all frames; of the result every `stride`-th is kept.
    `codec` is "png" (lossless) or "jpeg" (quality 95, recorded as lossy). Files with fewer
    than `min_frames` frames are skipped. `workers` processes decode (None: one a core).
    `shard` (i, n), 1 <= i <= n, prepares every n-th source only, for n runs on one folder;
    the run that finds all parts finished makes the store.

    Files that do not decode, break off or lie are counted and named in the report, never
    raised. Raises DiganError for wrong arguments, a source without videos or of another
    layout than `dataset`, split lists that cannot be read, a `dst` that
    cannot be written or holds something else, and a disk that is too small, before work.
    """
    started = time.monotonic()
    settings = _settings(resolution, fps, stride, codec, min_frames)
    number, of = shard
    if not 1 <= number <= of:
        raise DiganError(f"shard must be i/n with 1 <= i <= n, got {number}/{of}")
    if workers is not None and workers < 1:
        raise DiganError(f"workers must be at least 1, got {workers}")
    source, store = Path(src), Path(dst)
    _check_destination(source, store)
    if dataset is not None:
        found = find_dataset(dataset, source, store, keywords)
    elif keywords is not None:
        raise DiganError("keywords choose classes of the dataset kinetics-food, none was given")
    else:
        found = find_sources(source, exclude=store)
    if fps is not None and any(s.pictures for s in found.sources):
        raise DiganError("fps cannot be set for folders of pictures, which have none: use stride")
    say: Callable[[str], None] = _say if progress else lambda text: None
    say(found.format())
    if (advice := _stride_advice(found, stride)) is not None:
        say(advice)
    parts = Parts(store)
    if not parts.merging and (done := _finished(store, found, settings)) is not None:
        return _timed(done, started)
    try:
        parts.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiganError(f"{store} cannot be written: {error.strerror}") from error
    with _lock(store, f"shard-{number}-of-{of}"):
        with _lock(store, "merge", wait=True):
            if parts.merging:  # a run was killed while it merged
                parts.finish_merge()
            done = _finished(store, found, settings)
        if done is not None:
            return _timed(done, started)
        if (store / STORE_FILE).is_file():
            _reuse(store, found, parts, settings)
        mine = found.sources[number - 1 :: of]
        todo = [s for s in mine if _is_to_be_read(parts.load(s.name, s.stamp, settings.key))]
        if len(todo) < len(mine):
            say(f"{len(mine) - len(todo)} of {len(mine)} files were finished by an earlier run")
        _check_room(store, todo, settings, say)
        total = sum(s.bytes for s in todo)
        with progress_bar("prepare", total, "B", progress) as bar:
            run_workers(store, todo, settings, workers, bar)
        with _lock(store, "merge", wait=True):
            # Another shard may have finished the store while this one waited.
            report = _finished(store, found, settings)
            if report is None:
                report = _merge(store, found, settings, parts, source.resolve().name, mine)
            else:
                report.up_to_date = False
    return _timed(report, started)


def _stride_advice(found: Found, stride: int) -> str | None:
    """A line where the paper samples a set with another stride. Nothing is set for the user."""
    known = KNOWN_SETS.get(found.dataset or "")
    if known is None or known.stride == stride:
        return None
    return (
        f"stride {stride}; the published results on {known.title} are of stride {known.stride}: "
        f"--stride {known.stride} keeps every {known.stride}th frame"
    )


def _timed(report: PrepareReport, started: float) -> PrepareReport:
    report.seconds = time.monotonic() - started
    return report


def _settings(
    resolution: int, fps: float | None, stride: int, codec: str, min_frames: int
) -> Settings:
    if not 32 <= resolution <= 1024 or resolution & (resolution - 1):
        raise DiganError(f"resolution must be a power of two from 32 to 1024, got {resolution}")
    if fps is not None and not 0 < fps <= 1000:
        raise DiganError(f"fps must be above 0 and at most 1000, got {fps:g}")
    if stride < 1:
        raise DiganError(f"stride must be at least 1, got {stride}")
    if codec not in ("png", "jpeg"):
        raise DiganError(f"codec must be png or jpeg, got {codec}")
    if min_frames < 1:
        raise DiganError(f"min_frames must be at least 1, got {min_frames}")
    return Settings(resolution, None if fps is None else float(fps), stride, codec, min_frames)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _check_destination(source: Path, store: Path) -> None:
    if store.exists() and not store.is_dir():
        raise DiganError(f"{store} cannot be the store: it is a file, and a folder is needed")
    here, there = source.resolve(), store.resolve()
    if here == there or there in here.parents:
        raise DiganError(f"{store} cannot be the store: the source {source} is or lies inside it")
    if store.is_dir() and not (store / STORE_FILE).exists():
        try:
            others = [p.name for p in store.iterdir() if p.name != PARTS_FOLDER]
        except OSError as error:
            raise DiganError(f"{store} cannot be read: {error.strerror}") from error
        if others and not (store / PARTS_FOLDER).is_dir():
            raise DiganError(
                f"{store} cannot be the store: it already holds other files ({others[0]}, ...); "
                "give a new or empty folder"
            )


@contextmanager
def _lock(store: Path, name: str, wait: bool = False) -> Iterator[None]:
    """A lock that ends with the process that holds it, however that ends."""
    file = store / PARTS_FOLDER / f"{name}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise DiganError(f"another `digan prepare` is writing to {store}") from error
            yield
    except PermissionError as error:
        raise DiganError(f"{store} cannot be written: {error.strerror}") from error


def _is_to_be_read(part: Part | None) -> bool:
    """Whether a source was never read, or was not what had been found."""
    return part is None or part.uncertain


def _finished(store: Path, found: Found, settings: Settings) -> PrepareReport | None:
    """The report of a finished store that is up to date, None if there is work to do."""
    if not (store / STORE_FILE).is_file():
        return None
    opened = Store(store)
    if opened.info["settings_key"] != settings.key:
        made = ", ".join(f"{name} {value}" for name, value in opened.info["settings"].items())
        raise DiganError(
            f"{store} was made with other settings ({made}): give another folder, or delete it"
        )
    rows = list(opened.report())
    if [(r["path"], r["stamp"]) for r in rows] != [(s.name, s.stamp) for s in found.sources]:
        return None
    if opened.info["assignment"] != _assignment(found):
        return None
    uncertain = {row["path"] for row in rows if row.get("uncertain")}
    if any(s.name in uncertain and s.is_as_found() for s in found.sources):
        return None  # one that was away, closed or cut short then is whole now
    shutil.rmtree(store / PARTS_FOLDER, ignore_errors=True)
    report = PrepareReport(store, found.layout, finished=True, up_to_date=True)
    _sum_up(report, opened)
    _count(report, [(r["path"], r["status"], r["reason"]) for r in rows])
    return report


def _sum_up(report: PrepareReport, store: Store) -> None:
    """What a finished store holds."""
    report.videos, report.frames = store.num_videos, store.num_frames
    report.bytes = sum(store.info["shards"])
    report.classes, report.splits = store.classes, store.splits
    report.stride, report.fps = store.info["stride"], store.fps
    counts = store.videos_of_splits()
    report.expected = compare(store.dataset, store.num_videos, len(store.classes), counts)


def _count(report: PrepareReport, rows: list[tuple[str, str, str]]) -> None:
    counts = Counter(status for _, status, _ in rows)
    report.ok, report.partial = counts["ok"], counts["partial"]
    report.skipped = counts["skipped"]
    report.problems = [row for row in rows if row[1] != "ok"]


def _assignment(found: Found) -> str:
    """Hash of every source's class and split: they can change while the files do not."""
    text = "\0".join(f"{s.name}\0{s.label}\0{s.split}" for s in found.sources)
    if found.dataset is not None:
        text += f"\0{found.dataset}\0{found.keywords}\0{found.classes}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _reuse(store: Path, found: Found, parts: Parts, settings: Settings) -> None:
    """Take the unchanged sources of a finished store back out of it, as parts."""
    wanted = {(s.name, s.stamp) for s in found.sources}
    opened = Store(store)
    _need(store, sum(opened.info["shards"]), settings)
    for row in opened.report():
        if (row["path"], row["stamp"]) in wanted and (
            parts.load(row["path"], row["stamp"], settings.key) is None
        ):
            parts.extract(opened, row, row["video"])


def _check_room(
    store: Path, todo: list[Source], settings: Settings, say: Callable[[str], None]
) -> None:
    """Say how large the records will be; raise if the disk cannot hold them."""
    if not todo:
        return
    size = estimate(todo, settings)
    say(f"about {size.frames:,} frames, {_human(size.bytes)} as {settings.codec.upper()} records")
    # A merge holds one shard twice.
    _need(store, int(size.bytes * 1.05) + min(size.bytes, SHARD_BYTES), settings)


def _need(store: Path, need: int, settings: Settings) -> None:
    free = shutil.disk_usage(store).free
    if need > free:
        raise DiganError(
            f"the disk of {store} is too small: about {_human(need)} are needed at resolution "
            f"{settings.resolution}, {_human(free)} are free"
        )


def _human(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _merge(
    store: Path, found: Found, settings: Settings, parts: Parts, name: str, mine: list[Source]
) -> PrepareReport:
    loaded = [parts.load(s.name, s.stamp, settings.key) for s in found.sources]
    ready = [part for part in loaded if part is not None]
    report = PrepareReport(store, found.layout, missing=len(loaded) - len(ready))
    names = {s.name for s in mine}
    if report.missing:
        _count(report, [(p.path, p.status, p.reason) for p in ready if p.path in names])
        return report
    usable = [part for part in ready if part.frames]
    if not usable:
        reasons = "; ".join(f"{p.path}: {p.reason}" for p in ready[:3])
        raise DiganError(f"none of the {len(ready)} files can be used ({reasons})")
    label_of = {c: i for i, c in enumerate(found.classes)}
    split_of = {s: i for i, s in enumerate(found.splits)}
    try:
        parts.begin_merge(
            ready,
            {s.name: label_of[s.label] for s in found.sources if s.label is not None},
            {s.name: split_of[s.split] for s in found.sources if s.split is not None},
            _describe(found, settings, name),
        )
        parts.finish_merge()
    except OSError as error:
        raise DiganError(
            f"{store} cannot be written: {error.strerror or error}; run the same "
            "`digan prepare` again to go on"
        ) from error
    report.finished = True
    _sum_up(report, Store(store))
    _count(report, [(p.path, p.status, p.reason) for p in ready])
    return report


def _describe(found: Found, settings: Settings, name: str) -> dict[str, Any]:
    """What store.json says, but for the counts."""
    named: dict[str, Any] = {}
    if found.dataset is not None:
        named["dataset"] = found.dataset
    if found.keywords:
        named["keywords"] = list(found.keywords)
    return {
        "format": FORMAT,
        "version": VERSION,
        "resolution": settings.resolution,
        "codec": settings.codec,
        "lossy": settings.codec == "jpeg",
        "quality": JPEG_QUALITY if settings.codec == "jpeg" else None,
        "crop": "centre square",
        "filter": RESIZE_FILTER,
        "target_fps": settings.fps,
        "stride": settings.stride,
        "settings": {
            "resolution": settings.resolution,
            "fps": settings.fps or "native",
            "stride": settings.stride,
            "codec": settings.codec,
            "min-frames": settings.min_frames,
        },
        "settings_key": settings.key,
        "assignment": _assignment(found),
        "classes": list(found.classes),
        "splits": list(found.splits),
        "source": {"name": name, "layout": found.layout, "notes": found.notes},
        **named,
    }
