"""Signs of life among the processes of a job: one that falls silent ends it within a minute.

A process that dies breaks its connections, and the others hear of it at once. Not so a machine
that loses its power or its network, a process that is stopped, and one whose connections belong to
a GPU's messages: those would be waited for until a limit that long work needs. So every process
counts up a number of its own in the job's store, and watches its neighbour's.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

ERROR_KEY = "digan/error"  # of the store: the last words of the process that failed first
SILENCE = 40.0  # seconds; a process that reads from a slow disk may hold its threads for some
_AFTER_SILENCE, _AFTER_WORDS = 10.0, 30.0  # seconds until a process that cannot end is ended
_BEATS = 10  # in the time of a silence
_IN_PEACE = 1 << 40  # added to the count of a process that ended well
_LONGEST_SLEEP = 1e-3  # seconds between two looks at a message


class Pulse:
    """This process's sign of life, and its watch over the next one.

    Args:
        store: a connection of its own to the job's store, for the thread that uses it.
        rank, size: this process's place. silence: seconds after which a process is given up.

    Attributes:
        words: why the job is over; empty while it is not.
    """

    def __init__(self, store: Store, rank: int, size: int, silence: float = SILENCE) -> None:
        self.words = ""
        self._store, self._rank, self._size, self._silence = store, rank, size, silence
        self._ended, self._noticed = threading.Event(), threading.Event()
        self._count, self._heard, self._reached = -1, time.monotonic(), time.monotonic()
        for work in (self._beat, self._watch):
            threading.Thread(target=work, name="digan-pulse", daemon=True).start()

    @property
    def neighbour(self) -> int:
        """The process that this one watches."""
        return (self._rank + 1) % self._size

    def wait(self, is_done: Callable[[], bool]) -> bool:
        """Waits for something that happens together; False if the job is over instead."""
        sleep = 0.0
        while not is_done():
            if self.words:
                self.notice()
                return False
            time.sleep(sleep)
            sleep = min(sleep + 1e-5, _LONGEST_SLEEP)
        return True

    def notice(self) -> None:
        """This process knows that the job is over, and ends by itself."""
        self._noticed.set()

    def end(self) -> None:
        """Ends in peace, so that nobody misses this process."""
        self._ended.set()
        with contextlib.suppress(RuntimeError):  # the store may have gone with its process
            self._store.add(self._key(self._rank), _IN_PEACE)

    def _key(self, rank: int) -> str:
        return f"digan/pulse/{rank}"

    def _beat(self) -> None:
        """Counts up, and reads what the others say. The store may never answer."""
        while not self._ended.wait(self._silence / _BEATS):
            try:
                self._store.add(self._key(self._rank), 1)
                count = self._store.add(self._key(self.neighbour), 0)
                words = self._store.get(ERROR_KEY) if self._store.check([ERROR_KEY]) else b""
            except RuntimeError:
                return  # `_watch` says so, unless the job is ending
            now = time.monotonic()
            if count != self._count or count >= _IN_PEACE:
                self._count, self._heard = count, now
            self._reached = now
            if words:
                self._over(words.decode(), _AFTER_WORDS)
                return

    def _watch(self) -> None:
        """Gives up on who is silent. This process's own sleep is nobody's silence."""
        step = self._silence / _BEATS
        before = time.monotonic()
        while not self._ended.wait(step):
            now = time.monotonic()
            if now - before > 3 * step:  # the machine slept, or this process was stopped
                self._heard = self._reached = now
            before = now
            if now - self._reached > self._silence:
                what = "the job's store, on the first process's machine, does not answer"
            elif now - self._heard > self._silence:
                what = f"process {self.neighbour} of {self._size} gives no sign of life"
            else:
                continue
            words = f"{what} since {self._silence:.0f} s: its machine or network may be down"
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._tell, args=(words,), daemon=True).start()
            self._over(words, _AFTER_SILENCE)
            return

    def _tell(self, words: str) -> None:
        """In a thread of its own, as the store may never answer."""
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(ERROR_KEY, "", words)

    def _over(self, words: str, patience: float) -> None:
        """Lets the main thread end; ends the process where it cannot, waiting for a GPU, say."""
        self.words = self.words or words
        if self._noticed.wait(patience) or self._ended.is_set():
            return
        print(f"digan: error: {self.words}", file=sys.stderr, flush=True)
        os._exit(1)
