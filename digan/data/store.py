"""The store: a folder that gives any single frame of many videos at once.

    store.json          format, resolution, codec, filter, fps policy, counts, classes, splits
    index-frames.npy    one row a frame: shard, offset, length, crc32 (memory-mapped)
    index-videos.npy    one row a video: first frame, count, label, split, fps
    names.json          the videos' paths inside the source
    report.jsonl        one line a source file: what became of it
    frames-00000.bin    frame records (PNG or JPEG), one after the other, about 1 GiB a file

store.json is written last: a folder without it is no finished store.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digan.data.images import decode_record
from digan.errors import DiganError
from digan.formats import from_json

FORMAT = "digan-store"
VERSION = 1
STORE_FILE = "store.json"
FRAMES_FILE = "index-frames.npy"
VIDEOS_FILE = "index-videos.npy"
NAMES_FILE = "names.json"
REPORT_FILE = "report.jsonl"
PARTS_FOLDER = ".parts"

_KEPT_OPEN = 256  # shards
_PIECE = 1 << 20  # rows of an index that are read at once

FRAME_ROW = np.dtype([("shard", "<u4"), ("length", "<u4"), ("offset", "<u8"), ("crc", "<u4")])
VIDEO_ROW = np.dtype(
    [("first", "<i8"), ("count", "<i8"), ("label", "<i4"), ("split", "<i4"), ("fps", "<f8")]
)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"frames-{number:05d}.bin"


class Store:
    """An open store. Cheap to open and to pickle (workers), safe to share among threads.

    Attributes:
        videos: rows of `VIDEO_ROW`, one a video: `first` (number of its first frame),
            `count` (frames), `label` (into `classes`, -1 without), `split` (into `splits`,
            -1 without), `fps` (frames a second as stored; 0 if unknown).
        resolution: height and width of every frame, pixels.
        fps: the median of the videos' fps, 0 if unknown.
        classes, splits: names, in order of their numbers.
        num_videos, num_frames: counts.
        dataset: the known set it was prepared as (`digan prepare --dataset`), "" for none.
        lossy: whether the records are JPEG.
        info: everything in store.json.
        decoded: how many records this object has decoded so far.

    Raises DiganError if the folder is no finished store of this format, or is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.info = read_info(self.path)
        self.resolution: int = self.info["resolution"]
        self.fps: float = self.info["fps"]
        self.classes: tuple[str, ...] = tuple(self.info["classes"])
        self.splits: tuple[str, ...] = tuple(self.info["splits"])
        self.num_videos: int = self.info["num_videos"]
        self.num_frames: int = self.info["num_frames"]
        self.dataset: str = self.info.get("dataset") or ""
        self.lossy: bool = self.info["lossy"]
        self.videos = self._index(VIDEOS_FILE, VIDEO_ROW, self.num_videos)
        self._frames = self._index(FRAMES_FILE, FRAME_ROW, self.num_frames)
        self._check_videos()
        for number, size in enumerate(self.info["shards"]):
            shard = self.path / shard_name(number)
            found = shard.stat().st_size if shard.is_file() else None
            if found != size:
                came = "it is missing" if found is None else f"it has {found} bytes"
                raise DiganError(
                    f"store {self.path} is damaged: {shard.name} must have {size} bytes, {came}; "
                    "copy it again, or delete it and prepare it anew"
                )
        self._open()

    def _open(self) -> None:
        self.decoded = 0
        self._lock = threading.Lock()
        self._descriptors: dict[int, int] = {}

    def _index(self, name: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
        try:
            table: NDArray[Any] = np.load(self.path / name, mmap_mode="r")
        except Exception as error:  # numpy runs a damaged header through a tokenizer, and more
            raise DiganError(f"store {self.path} is damaged: {name} cannot be read") from error
        if table.dtype != dtype or table.shape != (rows,):
            raise DiganError(
                f"store {self.path} is damaged: {name} must have {rows} rows of {dtype}, "
                f"got {list(table.shape)} of {table.dtype}"
            )
        return table

    def _check_videos(self) -> None:
        """Raises DiganError unless the videos follow each other and all numbers are in range."""
        videos = self.videos
        ends = np.cumsum(videos["count"])
        good = (
            (videos["count"] > 0).all()
            and (videos["first"] == ends - videos["count"]).all()
            and ends[-1] == self.num_frames
            and ((videos["fps"] >= 0) & (videos["fps"] < 1e6)).all()
            and ((videos["label"] >= -1) & (videos["label"] < len(self.classes))).all()
            and ((videos["split"] >= -1) & (videos["split"] < len(self.splits))).all()
        )
        if not good:
            raise DiganError(f"store {self.path} is damaged: {VIDEOS_FILE} contradicts itself")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return (
            f"Store({str(self.path)!r}: {self.num_videos} videos, {self.num_frames} frames, "
            f"{self.resolution}x{self.resolution}, {self.info['codec']})"
        )

    def close(self) -> None:
        """Close the shards. The next `frame` opens them again."""
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()

    def __del__(self) -> None:
        if hasattr(self, "_descriptors"):
            self.close()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The videos' paths inside the source, "/" between folders."""
        try:
            names = from_json((self.path / NAMES_FILE).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DiganError(
                f"store {self.path} is damaged: {NAMES_FILE} cannot be read"
            ) from error
        if not _are_texts(names) or len(names) != self.num_videos:
            raise DiganError(
                f"store {self.path} is damaged: {NAMES_FILE} must have {self.num_videos} names"
            )
        return tuple(names)

    def report(self) -> Iterator[dict[str, Any]]:
        """The lines of report.jsonl: path, status ok / skipped / partial, reason, frames."""
        try:
            with open(self.path / REPORT_FILE, encoding="utf-8") as lines:
                for line in lines:
                    row = from_json(line)
                    if not _is_report_row(row, self.num_videos):
                        raise ValueError("a row of something else")
                    yield row
        except (OSError, ValueError) as error:
            raise DiganError(
                f"store {self.path} is damaged: {REPORT_FILE} cannot be read"
            ) from error

    def videos_of_splits(self) -> dict[str, int]:
        """How many videos each split has; empty if the store knows no splits."""
        of = self.videos["split"]
        return {name: int((of == number).sum()) for number, name in enumerate(self.splits)}

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the content: counts, and a checksum over the records' checksums.

        It reads the whole index, which is gigabytes for millions of clips: once, in pieces.
        """
        crc = 0
        for first in range(0, self.num_frames, _PIECE):
            piece = self._frames["crc"][first : first + _PIECE]
            crc = zlib.crc32(piece.tobytes(), crc)
        return f"{self.num_videos} videos, {self.num_frames} frames, crc {crc:08x}"

    @property
    def frame_checksums(self) -> NDArray[np.uint32]:
        """The crc32 of every record, uint32 [num_frames]."""
        checksums: NDArray[np.uint32] = self._frames["crc"]
        return checksums

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame number `index` of the whole store, uint8 [H, W, 3]. Decodes one record.

        Raises IndexError outside [0, num_frames) and DiganError, naming video and frame,
        if the record is damaged.
        """
        data = self.record(index)
        try:
            image = decode_record(data, self.resolution)
        except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
            raise self._damaged(index, "it does not decode") from error
        with self._lock:
            self.decoded += 1
        return image

    def record(self, index: int) -> bytes:
        """The bytes of frame number `index`, checked against length and checksum."""
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame must be in [0, {self.num_frames}), got {index}")
        row = self._frames[index]
        shard, length, offset = int(row["shard"]), int(row["length"]), int(row["offset"])
        sizes = self.info["shards"]
        if not (shard < len(sizes) and offset + length <= sizes[shard]):
            raise self._damaged(index, "the index places it outside the shards")
        try:
            with self._descriptor(shard) as descriptor:
                data = os.pread(descriptor, length, offset)
        except OSError as error:
            raise self._damaged(index, f"it cannot be read ({error.strerror})") from error
        if len(data) != length:
            raise self._damaged(index, f"{len(data)} of {length} bytes are there")
        if zlib.crc32(data) != int(row["crc"]):
            raise self._damaged(index, "its checksum differs")
        return data

    def video_frames(self, video: int, indices: Sequence[int] | range) -> NDArray[np.uint8]:
        """Frames `indices` of one video, counted from its first: uint8 [T, H, W, 3]."""
        row = self.videos[video]
        first, count = int(row["first"]), int(row["count"])
        out = np.empty((len(indices), self.resolution, self.resolution, 3), dtype=np.uint8)
        for t, index in enumerate(indices):
            if not 0 <= index < count:
                raise IndexError(f"frame of video {video} must be in [0, {count}), got {index}")
            out[t] = self.frame(first + int(index))
        return out

    @contextlib.contextmanager
    def _descriptor(self, shard: int) -> Iterator[int]:
        """An open shard. Those opened first stay open, the others only as long as they are read.

        So threads never find a shard closed by another, and a store of thousands of shards stays
        below the limit of open files, which is often 1,024.
        """
        with self._lock:
            kept = self._descriptors.get(shard)
            descriptor = (
                os.open(self.path / shard_name(shard), os.O_RDONLY) if kept is None else kept
            )
            if kept is None and len(self._descriptors) < _KEPT_OPEN:
                self._descriptors[shard] = kept = descriptor
        try:
            yield descriptor
        finally:
            if kept is None:
                os.close(descriptor)

    def _damaged(self, index: int, what: str) -> DiganError:
        video = int(np.searchsorted(self.videos["first"], index, side="right")) - 1
        frame = index - int(self.videos[video]["first"])
        return DiganError(
            f"store {self.path} is damaged: the record of video {self.names[video]}, "
            f"frame {frame}: {what}; `digan data check` lists all such records"
        )


def read_info(path: Path) -> dict[str, Any]:
    """store.json as a dict. Raises DiganError if `path` is no finished store."""
    if not path.exists():
        raise DiganError(f"{path} does not exist: a prepared store was expected there")
    if not path.is_dir():
        raise DiganError(
            f"{path} is a file, not a prepared store: `digan prepare {path} STORE` makes one"
        )
    file = path / STORE_FILE
    if not file.is_file():
        if (path / PARTS_FOLDER).is_dir():
            raise DiganError(
                f"store {path} is not finished: run the same `digan prepare` again to go on"
            )
        raise DiganError(
            f"{path} is no prepared store (it has no {STORE_FILE}): "
            f"`digan prepare {path} STORE` makes one"
        )
    try:
        info = from_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DiganError(f"store {path} is damaged: {STORE_FILE} cannot be read") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DiganError(f"{path} is no prepared store: its {STORE_FILE} is of another program")
    if info.get("version") != VERSION:
        version = " ".join(str(info.get("version")).split())[:60]
        raise DiganError(
            f"store {path} has format version {version}, this digan reads "
            f"version {VERSION}: prepare it again, into another folder"
        )
    for name, right in _ENTRIES.items():
        if not right(info.get(name)):
            raise DiganError(
                f"store {path} is damaged: {STORE_FILE} has no {name} that could be: "
                f"{str(info.get(name))[:60]!r}"
            )
    return info


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_report_row(row: Any, videos: int) -> bool:
    """Whether a row of the report has what `Parts` writes."""
    return (
        isinstance(row, dict)
        and all(_is_text(row.get(name)) for name in ("path", "status", "reason", "stamp"))
        and _is_count(row.get("frames"))
        and type(row.get("video")) is int
        and -1 <= row["video"] < videos
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


# What store.json must hold for a store to be opened.
_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "resolution": lambda value: _is_count(value) and 0 < value <= 1 << 14,
    "fps": lambda value: type(value) in (int, float) and 0 <= value < 1e6,
    "classes": _are_texts,
    "splits": _are_texts,
    "num_videos": lambda value: _is_count(value) and value > 0,
    "num_frames": lambda value: _is_count(value) and value > 0,
    "lossy": lambda value: type(value) is bool,
    "shards": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "codec": _is_text,
    "stride": lambda value: _is_count(value) and value > 0,
    "settings": lambda value: isinstance(value, dict),
    "settings_key": _is_text,
    "assignment": _is_text,
    "dataset": lambda value: value is None or _is_text(value),
}
