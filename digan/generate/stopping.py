"""Being asked to stop: SIGINT and SIGTERM end the work between two frames, with files whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the work to stop. No Exception: nothing that goes on after errors holds it.

    Attributes:
        number: of the signal. done: what had been written by then, for people.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.done = ""


class _State(threading.local):
    """Of the main thread, the only one that signals reach."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: int | None = None


_state = _State()


def _stop(number: int, frame: FrameType | None) -> None:
    # The files are being finished from here on; who cannot wait asks a second time.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    if _state.held:
        _state.waiting = number
    else:
        raise Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM raises `Stopped`; the second kills.

    Python takes signals in its main thread only; in any other this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, _stop)
        yield
    finally:
        _state.waiting = None
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """True within `whole` if a signal waits for its end."""
    return _state.waiting is not None


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """What is within is finished first: a signal that comes meanwhile raises at the outer end.

    Raises:
        Stopped: a signal came.
    """
    outer, _state.held = _state.held, True
    try:
        yield
    finally:
        _state.held = outer
    if outer:
        return
    number, _state.waiting = _state.waiting, None
    if number is not None:
        raise Stopped(number)
