"""What every reader must do with what it is given: read it, or refuse it in one line."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from digan.errors import DiganError

MOST_SECONDS = 10
MOST_LETTERS = 1000


class TooLong(BaseException):
    """It took more processor time than it may; no `except Exception` swallows it."""


@contextmanager
def in_time(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Raises `TooLong` in what takes more processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def in_memory(megabytes: float = 500) -> Iterator[None]:
    """Complains if the process's peak of memory grows by more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < megabytes


def refused_or_read(read: Callable[[], Any]) -> Any:
    """What is read, or None for a DiganError of one line; any other exception comes out.

    So does more than ten seconds of processor time, or 500 MB of memory.
    """
    try:
        with in_time(), in_memory():
            return read()
    except DiganError as error:
        said = str(error).removesuffix(error.detail).rstrip("\n")
        assert "\n" not in said
        assert 0 < len(said) < MOST_LETTERS, len(said)
        return None
