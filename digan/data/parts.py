"""The pieces `prepare` makes, one a source, and how they become a store.

    .parts/ab/abcd....bin    the source's frame records, one after the other
    .parts/ab/abcd....json   what became of the source; written last, so it means "finished"
    .parts/merge.json        the whole plan of a merge that has begun

Each file appears by an atomic rename, and each step of the merge can be repeated: whatever
moment a run is killed at, the next one goes on from there. Parts are laid into shards in
the order of the sources, so the result does not depend on who made which part when. A
part is deleted once its shard is safe, so a merge needs room for one shard, not for all.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from digan.data.store import (
    FRAME_ROW,
    FRAMES_FILE,
    NAMES_FILE,
    PARTS_FOLDER,
    REPORT_FILE,
    STORE_FILE,
    VIDEO_ROW,
    VIDEOS_FILE,
    Store,
    shard_name,
)
from digan.errors import DiganError
from digan.formats import from_json

SHARD_BYTES = 1 << 30
_MERGE_FILE = "merge.json"


@dataclass
class Part:
    """What became of one source. `status` is ok, partial (usable, with a flaw) or skipped."""

    path: str  # inside the source folder
    stamp: str  # of the source when it was read: size and time of change
    settings: str  # hash of everything that decides the records
    status: str
    reason: str = ""
    fps: float = 0.0
    lengths: list[int] = field(default_factory=list)  # bytes of each record
    crcs: list[int] = field(default_factory=list)  # crc32 of each record
    # The source was gone, closed or another when it had been read: it may be again as it was found.
    uncertain: bool = False

    @property
    def frames(self) -> int:
        """How many records it has."""
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        """Size of its records file."""
        return sum(self.lengths)


class Parts:
    """The folder of parts inside a store that is being made."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.root = store / PARTS_FOLDER

    def _file(self, path: str, suffix: str) -> Path:
        key = blake2b(os.fsencode(path), digest_size=16).hexdigest()
        return self.root / key[:2] / (key + suffix)

    def records_file(self, path: str) -> Path:
        """Where the records of a finished part are."""
        return self._file(path, ".bin")

    def temporary_file(self, path: str) -> Path:
        """Where to write the records before `finish` (of its own for every process)."""
        file = self._file(path, f".{os.getpid()}.tmp")
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def finish(self, part: Part, records: Path | None) -> None:
        """Make a part final; `records` is a finished temporary file, None if skipped."""
        if records is not None:
            with open(records, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(records, self.records_file(part.path))
        write_atomic(self._file(part.path, ".json"), json.dumps(asdict(part)).encode())

    def load(self, path: str, stamp: str, settings: str) -> Part | None:
        """The finished part of a source, None if there is none that still holds."""
        try:
            part = _part(from_json(self._file(path, ".json").read_bytes()))
            if (part.path, part.stamp, part.settings) != (path, stamp, settings):
                return None
            if part.frames and self.records_file(path).stat().st_size != part.bytes:
                return None
        except (OSError, ValueError, TypeError):
            return None
        return part

    def extract(self, store: Store, row: dict[str, Any], video: int) -> None:
        """Copy a source's records back out of a finished store, as a part."""
        part = Part(row["path"], row["stamp"], store.info["settings_key"], row["status"])
        part.reason, part.uncertain = row["reason"], row.get("uncertain", False)
        temporary = None
        if video >= 0:
            temporary = self.temporary_file(part.path)
            about = store.videos[video]
            part.fps = float(about["fps"])
            with open(temporary, "wb") as out:
                for index in range(int(about["first"]), int(about["first"] + about["count"])):
                    data = store.record(index)
                    part.lengths.append(len(data))
                    part.crcs.append(zlib.crc32(data))
                    out.write(data)
        self.finish(part, temporary)

    @property
    def merging(self) -> bool:
        """Whether a merge has begun and not ended."""
        return (self.root / _MERGE_FILE).is_file()

    def begin_merge(
        self,
        parts: list[Part],
        labels: dict[str, int],
        splits: dict[str, int],
        info: dict[str, Any],
    ) -> None:
        """Write the plan. From here on only `finish_merge` is needed, and always suffices.

        An older store in the folder is removed first: the parts hold all of it.
        """
        remove_store(self.store)
        shards: list[list[str]] = []
        room = 0
        for part in parts:
            if not part.frames:
                continue
            if not shards or part.bytes > room:
                shards.append([])
                room = SHARD_BYTES
            shards[-1].append(part.path)
            room -= part.bytes
        plan = {
            "info": info,
            "shards": shards,
            "sources": [
                {
                    "part": asdict(part),
                    "label": labels.get(part.path, -1),
                    "split": splits.get(part.path, -1),
                }
                for part in parts
            ],
        }
        write_atomic(self.root / _MERGE_FILE, json.dumps(plan).encode())

    def finish_merge(self) -> None:
        """Carry out the plan: shards, then the index, then store.json, then tidy up.

        Raises DiganError if the plan is damaged, or a part of it is gone.
        """
        try:
            self._carry_out(from_json((self.root / _MERGE_FILE).read_bytes()))
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError,
                FileNotFoundError) as error:  # fmt: skip
            raise DiganError(
                f"the preparation in {self.root} is damaged: delete {self.store} and prepare it "
                "anew"
            ) from error

    def _carry_out(self, plan: dict[str, Any]) -> None:
        parts = {source["part"]["path"]: _part(source["part"]) for source in plan["sources"]}
        sizes = []
        for number, paths in enumerate(plan["shards"]):
            size = sum(parts[path].bytes for path in paths)
            sizes.append(size)
            shard = self.store / shard_name(number)
            if not (shard.is_file() and shard.stat().st_size == size):
                self._join([self.records_file(path) for path in paths], shard)
            for path in paths:
                self.records_file(path).unlink(missing_ok=True)
        self._write_index(plan, sizes)
        shutil.rmtree(self.root, ignore_errors=True)

    def _join(self, files: Iterable[Path], target: Path) -> None:
        temporary = self.root / (target.name + ".tmp")
        with open(temporary, "wb") as out:
            for file in files:
                with open(file, "rb") as records:
                    shutil.copyfileobj(records, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)

    def _write_index(self, plan: dict[str, Any], sizes: list[int]) -> None:
        shard_of = {path: n for n, paths in enumerate(plan["shards"]) for path in paths}
        total = sum(len(source["part"]["lengths"]) for source in plan["sources"])
        frames = np.zeros(total, dtype=FRAME_ROW)
        videos = np.zeros(len(shard_of), dtype=VIDEO_ROW)
        names: list[str] = []
        report: list[dict[str, Any]] = []
        used = [0] * len(sizes)
        first = 0
        for source in plan["sources"]:
            part = Part(**source["part"])
            video = -1
            if part.frames:
                video, shard = len(names), shard_of[part.path]
                lengths = np.array(part.lengths, dtype=np.uint64)
                rows = frames[first : first + part.frames]
                rows["shard"], rows["length"], rows["crc"] = shard, lengths, part.crcs
                rows["offset"] = used[shard] + np.cumsum(lengths) - lengths
                used[shard] += part.bytes
                about = (first, part.frames, source["label"], source["split"], part.fps)
                videos[video] = about
                names.append(part.path)
                first += part.frames
            report.append(
                {
                    "path": part.path,
                    "status": part.status,
                    "reason": part.reason,
                    "frames": part.frames,
                    "video": video,
                    "stamp": part.stamp,
                    "uncertain": part.uncertain,
                }
            )
        known = videos["fps"][videos["fps"] > 0]
        info = {
            **plan["info"],
            "fps": float(np.median(known)) if len(known) else 0.0,
            "num_videos": len(names),
            "num_frames": total,
            "shards": sizes,
        }
        for name, table in ((FRAMES_FILE, frames), (VIDEOS_FILE, videos)):
            temporary = self.root / (name + ".tmp.npy")
            np.save(temporary, table)
            os.replace(temporary, self.store / name)
        lines = "".join(json.dumps(row) + "\n" for row in report)
        for name, text in (
            (NAMES_FILE, json.dumps(names, indent=0)),
            (REPORT_FILE, lines),
            (STORE_FILE, json.dumps(info, indent=2) + "\n"),
        ):
            write_atomic(self.store / name, text.encode(), self.root)


def _part(values: dict[str, Any]) -> Part:
    """A part from JSON. Raises ValueError, TypeError or AttributeError for what is none."""
    part = Part(**values)
    counts = [*part.lengths, *part.crcs]
    texts = (part.path, part.stamp, part.settings, part.status, part.reason)
    if (
        len(part.lengths) != len(part.crcs)
        or not all(type(count) is int and 0 <= count < 1 << 32 for count in counts)
        or not all(isinstance(text, str) for text in texts)
        or not 0 <= part.fps < 1e6
    ):
        raise ValueError("it is no part")
    return part


def remove_store(path: Path) -> None:
    """Remove a store's files, store.json first, so that no half of it looks whole."""
    (path / STORE_FILE).unlink(missing_ok=True)
    for name in (FRAMES_FILE, VIDEOS_FILE, NAMES_FILE, REPORT_FILE):
        (path / name).unlink(missing_ok=True)
    for shard in path.glob("frames-*.bin"):
        shard.unlink()


def write_atomic(path: Path, data: bytes, folder: Path | None = None) -> None:
    """Write a file so that it is there whole or not at all.

    What a killed process leaves of it lies in `folder`, by default the file's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (folder or path.parent) / f"{path.name}.{os.getpid()}.tmp"
    with open(temporary, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)
