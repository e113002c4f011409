"""What can happen to a training run, and what it must then do."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.distributed import TCPStore

from digan.training.checkpoint import LATEST
from digan.training.losses import RealPairs
from digan.training.runs import read_status
from digan.training.statistics import GradientGuard
from digan.training.step import Trainer
from tests.faults import accidents
from tests.faults.accidents import Fault, Trial, Work, end, later
from tests.tiny_runs import tiny_config, tiny_store
from tests.training.continued import command, run_in, state_differences, state_of

CONFIG = tiny_config(kimg=0.048)  # 12 iterations; states after 4, 8 and 12
SNAP = round(CONFIG.snap * 1000)  # samples between two states
TOTAL = round(CONFIG.kimg * 1000)


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


def damaged_state(trial: Trial) -> None:
    """Some bytes of the newest state change, or it ends early."""
    for run in trial.out.iterdir():
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
    shard = trial.data / "frames-00000.bin"
    shutil.copy(shard, trial.data / "whole")
    size = int(trial.random.integers(shard.stat().st_size))
    later(trial.moment(), lambda: os.truncate(shard, size))


def store_mended(trial: Trial) -> None:
    (trial.data / "whole").replace(trial.data / "frames-00000.bin")


def step_of(trial: Trial) -> int:
    """An iteration."""
    return int(trial.random.integers(TOTAL // CONFIG.batch))


def bad_gradient(trial: Trial) -> None:
    """Random entries of a random gradient are not finite in one step."""
    check, step, random = GradientGuard.check, step_of(trial), trial.random

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
    reals, step = Trainer._reals, step_of(trial)

    def poisoned(self: Trainer, *words: Any) -> RealPairs:
        pairs = reals(self, *words)
        if self.step == step:
            pairs.frames[0, 0].fill_(float("nan"))
        return pairs

    Trainer._reals = poisoned  # type: ignore[method-assign]


FAULTS = (
    Fault("killed (-9)", accidents.killed),
    Fault("killed while a state is written", killed_while_saving),
    Fault("killed while a state is renamed", killed_while_renaming),
    Fault("SIGTERM", accidents.stopped, lost=0),
    Fault("disk full: no file may grow", accidents.disk_full_by_size, error="cannot be written"),
    Fault("disk full: ENOSPC", accidents.disk_full_by_error, error="No space left on device"),
    Fault(
        "folder read-only",
        accidents.read_only_folder,
        accidents.writable_again,
        # "used", as of any path, by what opens a file between two of ours
        error="cannot be (written|used)",
    ),
    Fault("killed, newest state damaged", accidents.killed, damaged_state, lost=2),
    Fault("store truncated", truncated_store, store_mended, error="store"),
    Fault(
        "worker killed",
        accidents.dead_worker,
        error="a process that decodes frames died",
        flags=("--workers", "1"),
    ),
    Fault("NaN in a gradient", bad_gradient, exact=False, lost=0, certain=True),
    Fault("NaN in the data", bad_data, exact=False, lost=0, certain=True),
    Fault("clock jumps", accidents.jumping_clock, lost=0, certain=True),
)  # fmt: skip


_GONE = "another process of the job ended without a word"
_NEVER_MET = "the processes cannot reach one another"


def at_one(accident: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """The accident befalls one of several processes; all draw which."""

    def prepare(trial: Trial) -> None:
        if os.environ["RANK"] == str(trial.random.integers(2)):
            accident(trial)

    return prepare


class Training(Work):
    """Short runs; one that was broken off goes on with `--resume auto`."""

    name, unit, faults = "training", "samples", FAULTS
    heeds_sigterm = True

    def data(self, folder: Path) -> Path:
        """A store."""
        return tiny_store(folder)

    def command(self, trial: Trial, again: bool) -> list[str]:
        """The words after `digan`."""
        flags = ("--resume", "auto") if again else ()
        return command(trial.data, trial.out, CONFIG, *trial.flags, *flags)

    @contextmanager
    def counted(self, counter: Any) -> Iterator[None]:
        """Keeps a shared number at the samples that were seen; sheets are small."""
        advance = Trainer.advance

        def counting(self: Trainer, *words: Any) -> None:
            advance(self, *words)
            counter.value = self.seen

        few = mock.patch("digan.training.samples.grid_shape", return_value=(1, 2))
        with few, mock.patch.object(Trainer, "advance", counting):
            yield

    def is_done(self, trial: Trial) -> bool:
        """Whether there is nothing left to do."""
        return any((read_status(path) or {}).get("finished") for path in trial.folders())

    def lost(self, trial: Trial, reached: int, again: int | None) -> int:
        """Samples to be seen once more; `again` is None if it came through."""
        if again is None:
            return 0
        log = (self._run(trial) / "log.txt").read_text()
        begun = re.findall(r"(?:starts|continues) at ([\d.]+) of", log)
        return reached - round(float(begun[-1]) * 1000)

    def allowed(self, fault: Fault) -> int:
        """Samples that may be lost."""
        return fault.lost * SNAP

    def complaint(self, fault: Fault, trial: Trial, unbroken: Trial) -> str:
        """What is wrong with the end; empty if nothing is."""
        run = self._run(trial)
        if (read_status(run) or {}).get("finished") is not True:
            return "not finished"
        if left := [path.name for path in run.glob(".*")]:
            return f"half-written files left: {left}"
        if fault.exact:
            differences = state_differences(run, run_in(unbroken.out))
            return f"not the bits of an unbroken run: {differences[:3]}" if differences else ""
        if "non-finite" not in (run / "log.txt").read_text():
            return "no word of what was not finite"
        return "" if finite(state_of(run)) else "weights that are not finite"

    def _run(self, trial: Trial) -> Path:
        """The newest: one that was stopped before its first state is begun anew."""
        return max(path for path in trial.out.iterdir() if path.is_dir())


class Jobs(Training):
    """The same in two processes, as torchrun starts them."""

    name = "two processes"
    faults = (
        Fault("one killed (-9)", at_one(accidents.killed), error=f"{_GONE}|{_NEVER_MET}"),
        Fault("all killed (-9)", accidents.killed, error=f"{_GONE}|{_NEVER_MET}"),
        Fault("SIGTERM at one", at_one(accidents.stopped), lost=0, error=f"{_GONE}|{_NEVER_MET}"),
        Fault("disk full: ENOSPC", accidents.disk_full_by_error, error="No space left on device"),
        Fault("store truncated", truncated_store, store_mended, error="store"),
    )

    def variables(self) -> list[dict[str, str]]:
        """What torchrun sets. As with it, the store is in no process of the job."""
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        same = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        return [{**same, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def finite(value: Any) -> bool:
    """Whether every tensor of a state is."""
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    return bool(value.isfinite().all()) if hasattr(value, "isfinite") else True
