"""One source to its finished part: decode, choose frames, crop, resize, pack.

This is what a worker process of `prepare` does. It holds one frame at a time, so the
length of a video does not matter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from digan.data.images import JPEG_QUALITY, RESIZE_FILTER, encode_record, read_image, square
from digan.data.parts import Part, Parts
from digan.data.sources import Source, pictures_in
from digan.data.video import Frame, decode_frames
from digan.errors import DiganError

_LONGEST_GAP = 10.0  # seconds; a longer one is a broken clock, not a still picture
Progress = Callable[[int], None]  # called with the bytes of source consumed since last time


class StoppedError(Exception):
    """The main process asked its workers to stop."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the records of a source."""

    resolution: int
    fps: float | None  # None: as they are
    stride: int
    codec: str  # png (lossless) or jpeg
    min_frames: int

    @property
    def key(self) -> str:
        """Short hash: parts made with other settings are not reused."""
        about = f"1 {asdict(self)} {RESIZE_FILTER} {JPEG_QUALITY}"
        return blake2b(about.encode(), digest_size=8).hexdigest()


class SourceFrames:
    """The frames of a source that settings choose, as Frame objects, one at a time.

    After the iteration `problems` says what was wrong and `fps` how many chosen frames make
    a second (0 if unknown).
    """

    def __init__(self, source: Source, settings: Settings, progress: Progress | None = None):
        self.source = source
        self.settings = settings
        self.problems: list[str] = []
        self.fps = 0.0
        self._progress = progress or (lambda consumed: None)

    def __iter__(self) -> Iterator[Frame]:
        chosen = self._pictures() if self.source.pictures else self._video()
        for index, frame in enumerate(chosen):
            if index % self.settings.stride == 0:
                yield frame
        self.fps /= self.settings.stride

    def _pictures(self) -> Iterator[Frame]:
        names = pictures_in(self.source.path)
        broken = 0
        for index, name in enumerate(names):
            self._progress(self.source.bytes // max(len(names), 1))
            try:
                image = read_image(os.path.join(self.source.path, name))
            except DiganError:
                broken += 1
                continue
            yield Frame(index, float(index), image)
        if broken:
            self.problems.append(f"{broken} of {len(names)} pictures do not open")

    def _video(self) -> Iterator[Frame]:
        decoding = decode_frames(self.source.path)
        try:
            if self.settings.fps is None:
                yield from self._counted(decoding)
                count, last = self._count, self._last
                fps = decoding.info.fps
                measured = (count - 1) / last if last > 0 else 0.0
                # Trust the clock of the frames more than the header.
                if measured and not 0.98 < fps / measured < 1.02:
                    fps = measured
                self.fps = round(fps, 3)
            else:
                period = 1 / decoding.info.fps if decoding.info.fps else 0.04
                clocked = resample(self._counted(decoding), self.settings.fps, period)
                yield from clocked
                self.fps = self.settings.fps
            self.problems += decoding.problems
            if self._jumps:
                self.problems.append(f"its clock jumps by more than 10 s {self._jumps} times")
        finally:
            decoding.close()

    def _counted(self, decoding: Iterator[Frame]) -> Iterator[Frame]:
        self._count, self._last, self._jumps = 0, 0.0, 0
        before, skipped, told = 0.0, 0.0, 0
        for frame in decoding:
            if frame.time - before > _LONGEST_GAP:
                self._jumps += 1
                skipped += frame.time - before - 0.04
            before = frame.time
            self._count += 1
            self._last = frame.time - skipped
            position: int = getattr(decoding, "position", 0)
            if position > told:
                self._progress(position - told)
                told = position
            yield Frame(frame.index, self._last, frame.image)


def resample(frames: Iterator[Frame], fps: float, period: float) -> Iterator[Frame]:
    """For each time 0, 1/fps, 2/fps, ... the frame nearest to it in presentation time.

    `period` is the duration of the last frame in seconds, which the times do not tell. A
    frame is yielded again (the same object) where it is nearest to several times.
    """
    target = 0
    before: Frame | None = None
    for frame in frames:
        if before is not None:
            while target / fps <= (before.time + frame.time) / 2 + 1e-6:
                yield before
                target += 1
        before = frame
    if before is not None:
        while target / fps < before.time + period - 1e-3 or target == 0:
            yield before
            target += 1


def make_part(
    store: Path,
    source: Source,
    settings: Settings,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Part:
    """Read a source and leave its finished part. Bad sources become parts with a reason.

    Raises DiganError only where no source could be handled: a full disk, a store folder
    that cannot be written; and StoppedError as soon as `stopped()` is true.
    """
    told = 0

    def tell(consumed: int) -> None:
        nonlocal told
        told += consumed
        if progress is not None:
            progress(consumed)

    parts = Parts(store)
    part = Part(source.name, source.stamp, settings.key, "ok")
    with _writing(store):
        temporary = parts.temporary_file(source.name)
        try:
            with open(temporary, "wb") as out:
                problems = _copy_frames(SourceFrames(source, settings, tell), part, out, stopped)
            if part.frames < settings.min_frames:
                if part.frames or not problems:
                    few = "1 frame" if part.frames == 1 else f"{part.frames} frames"
                    problems.insert(0, f"only {few}, at least {settings.min_frames} wanted")
                part.status, part.lengths, part.crcs = "skipped", [], []
            elif problems:
                part.status = "partial"
            part.reason = "; ".join(problems)
            part.uncertain = not source.is_as_found()
            parts.finish(part, temporary if part.frames else None)
        finally:
            with contextlib.suppress(OSError):  # the error in flight matters more
                temporary.unlink(missing_ok=True)
    tell(source.bytes - told)  # headers, and what was not read of a broken file
    return part


def _copy_frames(
    frames: SourceFrames, part: Part, out: BinaryIO, stopped: Callable[[], bool]
) -> list[str]:
    """Writes the records of all frames that can be read; what is wrong with the source."""
    settings = frames.settings
    problems: list[str] = []
    last: NDArray[np.uint8] | None = None
    data = b""
    iterator = iter(frames)
    while True:
        if stopped():
            raise StoppedError
        try:
            frame = next(iterator)
            if frame.image is not last:
                data = encode_record(square(frame.image, settings.resolution), settings.codec)
                last = frame.image
        except StopIteration:
            break
        except DiganError as error:
            problems.append(str(error).removeprefix(f"{frames.source.path} is "))
            break
        except Exception as error:  # a codec's surprise must not stop the others
            problems.append(f"{type(error).__name__}: {error}".splitlines()[0])
            break
        out.write(data)
        part.lengths.append(len(data))
        part.crcs.append(zlib.crc32(data))
    part.fps = frames.fps
    return problems + frames.problems


@contextlib.contextmanager
def _writing(store: Path) -> Iterator[None]:
    """Turns a failure to write into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Path, error: OSError) -> DiganError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiganError(
            f"the disk of {store} is full; what is finished is kept: make room and run the same "
            "`digan prepare` again"
        )
    return DiganError(f"{store} cannot be written: {error.strerror or error}")
