"""What can happen to a process at a random point of its work.

An accident prepares a process that is about to work; some then do more from outside, after its end
and before the work is continued.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass
class Trial:
    """One piece of work that something happens to.

    Attributes:
        data: what it reads, a copy of its own. out: the folder that it writes to.
        seconds: that the work takes when nothing happens.
        random: where and when. flags: more words for its command.
    """

    data: Path
    out: Path
    seconds: float
    random: np.random.Generator
    flags: tuple[str, ...] = ()

    def moment(self) -> float:
        """Seconds from now, before the work would end."""
        return float(self.random.uniform(0, self.seconds))

    def folders(self) -> Iterator[Path]:
        """What was made in the folder that it writes to, from the top down."""
        return (path for path in sorted(self.out.rglob("*")) if path.is_dir())


@dataclass(frozen=True)
class Fault:
    """A kind of accident.

    Attributes:
        name: for the table. prepare: in the process that is about to train.
        after: from outside, when the process has ended.
        exact: whether the end must have the bits of unbroken work.
        lost: pieces of work that may be lost: states' worth of a run, videos.
        error: what the last line of a process that ends by itself must say, a regular expression.
        flags: more words for the command.
        certain: it strikes in any case, and not at a moment that may come too late.
    """

    name: str
    prepare: Callable[[Trial], None]
    after: Callable[[Trial], None] = lambda trial: None
    exact: bool = True
    lost: int = 1
    error: str = ""
    flags: tuple[str, ...] = ()
    certain: bool = False


class Work(Protocol):
    """What something happens to: see `Training` and `Preparing`."""

    name: str
    unit: str
    faults: tuple[Fault, ...]
    heeds_sigterm: bool

    def variables(self) -> list[dict[str, str]]:
        """Of the environments of its processes; it has one."""
        return [{}]

    def data(self, folder: Path) -> Path: ...
    def command(self, trial: Trial, again: bool) -> list[str]: ...
    def counted(self, counter: Any) -> AbstractContextManager[None]: ...
    def is_done(self, trial: Trial) -> bool: ...
    def lost(self, trial: Trial, reached: int, again: int | None) -> int: ...
    def allowed(self, fault: Fault) -> int: ...
    def complaint(self, fault: Fault, trial: Trial, unbroken: Trial) -> str: ...


def later(seconds: float, act: Callable[[], Any]) -> None:
    """Lets something happen in this process, wherever it then is."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def end(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def killed(trial: Trial) -> None:
    later(trial.moment(), end)


def stopped(trial: Trial) -> None:
    later(trial.moment(), lambda: end(signal.SIGTERM))


def disk_full_by_size(trial: Trial) -> None:
    """From some moment on no file may grow beyond a size that most files need."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = int(trial.random.integers(100_000))
    later(trial.moment(), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard)))


def disk_full_by_error(trial: Trial) -> None:
    """One of the calls that make a file safe answers that there is no space."""
    name = ("fsync", "replace")[int(trial.random.integers(2))]
    original, which, calls = getattr(os, name), int(trial.random.integers(12)), itertools.count()

    def full(*words: Any) -> Any:
        if next(calls) == which:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*words)

    setattr(os, name, full)


def heed_permissions() -> None:
    """Root may write anywhere by a capability, which this thread and its children give up."""
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, high words
    overrides = 0b1110  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    if libc.capget(header, sets) == 0:
        sets[0] &= ~overrides
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities cannot be given up")


def read_only_folder(trial: Trial) -> None:
    """What was made can no longer be written."""
    heed_permissions()

    def close() -> None:
        for folder in trial.folders():
            folder.chmod(0o555)

    later(trial.moment(), close)


def writable_again(trial: Trial) -> None:
    for folder in trial.folders():
        folder.chmod(0o755)


def dead_worker(trial: Trial) -> None:
    """Some time after the first of them was started, all worker processes are killed."""

    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.01)
        time.sleep(trial.moment())
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    later(0, kill)


def jumping_clock(trial: Trial) -> None:
    """The time of day jumps by up to a year, to and fro."""
    now, random = time.time, trial.random
    time.time = lambda: now() + float(random.uniform(-3e7, 3e7))
