"""What can happen to a run, each at a random point of it.

A fault prepares a process that is about to train; some then do more from outside, after its end and
before the run is continued.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from digan.training.checkpoint import LATEST
from digan.training.losses import RealPairs
from digan.training.runs import read_status
from digan.training.statistics import GradientGuard
from digan.training.step import Trainer


@dataclass
class Trial:
    """One run that something happens to.

    Attributes:
        store: a copy of its own. outdir: of its run. seconds: that an unbroken one takes.
        random: where and when. flags: more words for its command.
    """

    store: Path
    outdir: Path
    seconds: float
    random: np.random.Generator
    flags: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """The only run of its folder."""
        (run,) = (path for path in self.outdir.iterdir() if path.is_dir())
        return run

    def moment(self) -> float:
        """Seconds from now, before the run would end."""
        return float(self.random.uniform(0, self.seconds))

    def step(self, steps: int = 12) -> int:
        """An iteration."""
        return int(self.random.integers(steps))


@dataclass(frozen=True)
class Fault:
    """A kind of accident.

    Attributes:
        name: for the table. prepare: in the process that is about to train.
        after: from outside, when the process has ended.
        exact: whether the continued run must end with the bits of an unbroken one.
        lost: snapshots' worth of work that may be lost.
        error: what the last line of a process that ends by itself must say; None if it may end
            well or without a word.
        flags: more words for the command.
    """

    name: str
    prepare: Callable[[Trial], None]
    after: Callable[[Trial], None] = lambda trial: None
    exact: bool = True
    lost: int = 1
    error: str | None = None
    flags: tuple[str, ...] = ()


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


def killed_while_saving(trial: Trial) -> None:
    """Between two bytes of a state."""
    save, which, share = torch.save, int(trial.random.integers(3)), trial.random.random()
    calls = itertools.count()

    def cut(state: object, path: Path) -> None:
        save(state, path)
        if next(calls) == which:
            os.truncate(path, int(share * path.stat().st_size))
            end()

    torch.save = cut  # type: ignore[assignment]


def killed_while_renaming(trial: Trial) -> None:
    """Before or after one of the steps by which a state gets its name."""
    names = ("unlink", "hardlink_to")
    which, after = int(trial.random.integers(3 * len(names))), bool(trial.random.integers(2))
    calls = itertools.count()

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Path, *words: Any, **more: Any) -> Any:
            mine = "training-state" in self.name and next(calls) == which
            if mine and not after:
                end()
            result = original(self, *words, **more)
            if mine:
                end()
            return result

        return call

    for name in names:
        setattr(Path, name, wrapped(getattr(Path, name)))


def disk_full_by_size(trial: Trial) -> None:
    """From some moment on no file may grow beyond a size below a state's."""
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
    """The run's folder can no longer be written."""
    heed_permissions()

    def close() -> None:
        for run in trial.outdir.iterdir():
            run.chmod(0o555)

    later(trial.moment(), close)


def writable_again(trial: Trial) -> None:
    for run in trial.outdir.iterdir():
        run.chmod(0o755)


def damaged_state(trial: Trial) -> None:
    """Some bytes of the newest state change, or it ends early."""
    for run in trial.outdir.iterdir():
        path = run / LATEST
        if not path.exists() or (read_status(run) or {}).get("finished"):
            continue
        content = bytearray(path.read_bytes())
        if trial.random.integers(2):
            content = content[: int(trial.random.integers(len(content)))]
        else:
            for place in trial.random.integers(len(content), size=1 + trial.random.integers(8)):
                content[place] ^= int(trial.random.integers(1, 256))
        path.write_bytes(content)


def truncated_store(trial: Trial) -> None:
    shard = trial.store / "frames-00000.bin"
    shutil.copy(shard, trial.store / "whole")
    size = int(trial.random.integers(shard.stat().st_size))
    later(trial.moment(), lambda: os.truncate(shard, size))


def store_mended(trial: Trial) -> None:
    (trial.store / "whole").replace(trial.store / "frames-00000.bin")


def dead_worker(trial: Trial) -> None:
    def kill() -> None:
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    later(trial.moment(), kill)


def bad_gradient(trial: Trial) -> None:
    """Random entries of a random gradient are not finite in one step."""
    check, step, random = GradientGuard.check, trial.step(), trial.random

    def poisoned(self: GradientGuard, number: Any) -> Any:
        if int(number) == step:
            parameters = list(self.parameters.values())
            grad = parameters[int(random.integers(len(parameters)))].grad
            assert grad is not None
            place = int(random.integers(grad.numel()))
            grad.view(-1)[place] = float(random.choice([np.nan, np.inf, -np.inf]))
        return check(self, number)

    GradientGuard.check = poisoned  # type: ignore[method-assign]


def bad_data(trial: Trial) -> None:
    """A frame of one batch is not finite."""
    reals, step = Trainer._reals, trial.step()

    def poisoned(self: Trainer, *words: Any) -> RealPairs:
        pairs = reals(self, *words)
        if self.step == step:
            pairs.frames[0, 0].fill_(float("nan"))
        return pairs

    Trainer._reals = poisoned  # type: ignore[method-assign]


def jumping_clock(trial: Trial) -> None:
    """The time of day jumps by up to a year, to and fro."""
    now, random = time.time, trial.random
    time.time = lambda: now() + float(random.uniform(-3e7, 3e7))


FAULTS = (
    Fault("killed (-9)", killed),
    Fault("killed while a state is written", killed_while_saving),
    Fault("killed while a state is renamed", killed_while_renaming),
    Fault("SIGTERM", stopped, lost=0),
    Fault("disk full: no file may grow", disk_full_by_size, error="cannot be written"),
    Fault("disk full: ENOSPC", disk_full_by_error, error="No space left on device"),
    Fault("folder read-only", read_only_folder, writable_again, error="cannot be written"),
    Fault("killed, newest state damaged", killed, damaged_state, lost=2),
    Fault("store truncated", truncated_store, store_mended, error="store"),
    Fault(
        "worker killed",
        dead_worker,
        error="a process that decodes frames died",
        flags=("--workers", "1"),
    ),
    Fault("NaN in a gradient", bad_gradient, exact=False, lost=0),
    Fault("NaN in the data", bad_data, exact=False, lost=0),
    Fault("clock jumps", jumping_clock, lost=0),
)  # fmt: skip


@contextmanager
def counted_steps(counter: Any) -> Iterator[None]:
    """Keeps a shared number at the samples that this process has seen."""
    advance = Trainer.advance

    def counted(self: Trainer, *words: Any) -> None:
        advance(self, *words)
        counter.value = self.seen

    with mock.patch.object(Trainer, "advance", counted):
        yield
