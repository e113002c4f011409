"""Files in the making: those of one video, and of several videos at once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import torch

from digan.data.sinks import FrameSink, open_sink
from digan.generate.encoding import EncoderThread
from digan.generate.stopping import whole
from digan.synthesis.marks import Frames

MOST_ENCODERS = 8
_CHUNK_PIXELS = 1 << 21  # of a GPU's chunk, where a picture has no more
_BYTES = 1 << 28  # of all chunks that wait or are encoded


def encoders_for(device: torch.device, pixels: int) -> int:
    """How many videos are encoded at a time, with so many pixels a picture.

    A GPU makes a video in less time than one encoder needs for it, and small frames leave a
    codec's own threads without work. On a CPU the network wants all cores itself.
    """
    if device.type == "cpu":
        return 1
    room = _BYTES // (2 * 3 * max(pixels, _CHUNK_PIXELS))
    return max(1, min(MOST_ENCODERS, (os.cpu_count() or 1) // 2, room))


class VideoFiles:
    """The files of one video, one a format, written in a thread.

    Args:
        paths: of the files, see `open_sink`. fps, count: of the video, and its frames.
        advance: called after every frame that is in all files; by several threads in turns.
    """

    def __init__(
        self, paths: Sequence[Path], fps: float, count: int, advance: Callable[[], object]
    ) -> None:
        self.paths, self.count, self.done = paths, count, 0
        self._advance = advance
        with contextlib.ExitStack() as stack:
            self._sinks: list[FrameSink] = [
                stack.enter_context(open_sink(path, fps, count)) for path in paths
            ]
            self._encoder = EncoderThread(self._write)
            # No file is closed while the thread writes, wherever a signal comes.
            stack.callback(self._encoder.close)
            stack.enter_context(self._encoder)
            self._stack = stack.pop_all()

    def _write(self, frame: Frames) -> None:
        for sink in self._sinks:
            sink.write(frame)
        self.done += 1
        self._advance()

    def put(self, chunk: Frames) -> None:
        """See `EncoderThread.put`."""
        self._encoder.put(chunk)

    def close(self, error: BaseException | None = None) -> None:
        """Finishes the files: after all frames, or after an error as they are.

        Of a video that has them all, an error elsewhere changes nothing.
        """
        if error is not None:
            with whole():
                self._encoder.close()
            error = None if self.done == self.count else error
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        self._stack.__exit__(kind, error, trace)

    def kept(self) -> str:
        """What is there of a video that was stopped, for people; empty for nothing."""
        kept = " ".join(str(path) for path in self.paths if path.exists())
        return f"{kept} of {self.done} frames, of {self.count}" if kept else ""


class FilesAtOnce(AbstractContextManager["FilesAtOnce"]):
    """At most so many videos in the making; one more waits for the oldest to be finished.

    On leaving, all are finished; after an error or a signal every one is closed as it is, and
    `kept` tells of those.
    """

    def __init__(self, most: int, advance: Callable[[], object]) -> None:
        self.most = most
        self.kept = ""
        self._open: list[VideoFiles] = []
        self._lock, self._told = threading.Lock(), advance

    def _advance(self) -> None:
        with self._lock:
            self._told()

    def begin(self, paths: Sequence[Path], fps: float, count: int) -> VideoFiles:
        """Opens the files of one more video.

        Raises:
            DiganError: a place that cannot be written, and what an older video's files raise.
            Stopped: a signal came, within `stoppable`.
        """
        while len(self._open) >= self.most:
            self._open[0].close()
            del self._open[0]
        with whole():  # opened and known, or neither
            self._open.append(VideoFiles(paths, fps, count, self._advance))
        return self._open[-1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        first = error
        try:
            with whole():
                for files in self._open:
                    try:
                        files.close(first)
                    except BaseException as another:
                        first = first or another
        finally:
            self.kept = "; ".join(filter(None, (files.kept() for files in self._open)))
        if first is not None and error is None:
            raise first
