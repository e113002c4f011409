"""Files are written in a thread of their own, while the next frames are computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from digan.generate.stopping import asked, whole
from digan.synthesis.marks import Frames

WAITING = 1  # chunks that wait beside the one that is being encoded
_PATIENCE = 0.05  # seconds between two looks at the other thread and at signals


class EncoderThread(AbstractContextManager["EncoderThread"]):
    """Gives every frame to `write`, one after the other, in a thread of its own.

        with EncoderThread(write) as encoder:
            for chunk in chunks:
                encoder.put(chunk)  # returns as soon as there is room

    Encoders work outside Python's lock, so both sides run at once. At most one chunk waits, so
    memory does not grow where the encoder is the slower side. On leaving, all that was put has
    been written, and the thread is gone; `write` then is no longer called, whatever has happened:

    - `write` raises: the next `put`, or the end, raises the same in the caller's thread, and
      nothing more is written;
    - the body raises, or a signal comes within `stoppable`: the frame that is being written is
      finished, those that wait are not begun.
    """

    def __init__(self, write: Callable[[Frames], None]) -> None:
        self._write = write
        self._chunks: queue.Queue[Frames | None] = queue.Queue(WAITING)
        self._stopped, self._over = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)

    def __enter__(self) -> EncoderThread:
        self._thread.start()
        return self

    def put(self, chunk: Frames) -> None:
        """Hands on frames [n, H, W, 3] that nobody changes any more.

        Raises:
            BaseException: what `write` raised.
            Stopped: a signal came, within `stoppable`.
        """
        given = False
        while not given and not self._over.is_set():
            with whole():  # a signal must not leave the queue half changed
                given = self._give(chunk)
        self._raise()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with whole():  # raises Stopped at its end, when the thread is gone
            self.close(at_once=kind is not None)
        if kind is None:
            self._raise()

    def close(self, at_once: bool = True) -> None:
        """Ends the thread: after the frame that is being written, or after all. Again: nothing."""
        if at_once:
            self._stopped.set()
        given = self._thread.ident is None
        while not given and not self._over.is_set():
            given = self._give(None)
            if asked():
                self._stopped.set()
        while self._thread.is_alive():
            self._thread.join(_PATIENCE)
            if asked():
                self._stopped.set()

    def _give(self, chunk: Frames | None) -> bool:
        try:
            self._chunks.put(chunk, timeout=_PATIENCE)
        except queue.Full:
            return False
        return True

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while (chunk := self._chunks.get()) is not None:
                for frame in chunk:
                    if self._stopped.is_set():
                        return
                    self._write(frame)
                del chunk, frame  # or they would stay while the queue is waited for
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()
