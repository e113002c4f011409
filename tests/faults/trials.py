"""Work that something happens to, time after time, and how it went on.

    python -m tests.faults.trials OUT.json --each 3 --seed 0 --only 'preparing: video'

This process never trains, so that it may fork those that do: a trial takes the time of its work and
not that of importing PyTorch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from digan.cli import main as digan
from tests.faults.accidents import Fault, Trial
from tests.faults.preparing import Preparing
from tests.faults.training import Training


class Work(Protocol):
    """What something happens to: see `Training` and `Preparing`."""

    name: str
    unit: str
    faults: tuple[Fault, ...]

    def data(self, folder: Path) -> Path: ...
    def command(self, trial: Trial, again: bool) -> list[str]: ...
    def counted(self, counter: Any) -> AbstractContextManager[None]: ...
    def is_done(self, trial: Trial) -> bool: ...
    def lost(self, trial: Trial, reached: int, again: int | None) -> int: ...
    def allowed(self, fault: Fault) -> int: ...
    def complaint(self, fault: Fault, trial: Trial, unbroken: Trial) -> str: ...


WORKS: tuple[Work, ...] = (Training(), Preparing())
_FORK = multiprocessing.get_context("fork")


@dataclasses.dataclass
class Outcome:
    """How a trial went.

    Attributes:
        work, fault, number: which. status: of the process that the fault befell.
        said: the last line that it wrote. reached: how far it had come.
        struck: whether it came before the end.
        lost: what had to be done again, in the work's unit. complaint: what went wrong, or "".
    """

    work: str
    fault: str
    number: int
    status: int
    said: str
    reached: int
    struck: bool
    lost: int
    complaint: str


def in_child(work: Callable[[], int], output: Path) -> int:
    """The exit status of some work in a forked process, minus its signal's number if killed."""

    def child() -> None:
        with open(output, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            sys.exit(work())  # and not os._exit: what multiprocessing holds is to be closed
        finally:
            sys.stderr.flush()

    process = _FORK.Process(target=child)
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        process.join()
        return -1000  # it hangs
    assert process.exitcode is not None
    return process.exitcode


def done(
    work: Work, trial: Trial, output: Path, prepare: Callable[[Trial], None], again: bool = False
) -> tuple[int, int]:
    """Does the work in a child; its exit status, and how far it had come."""
    reached = _FORK.Value("q", 0)
    words = work.command(trial, again)

    def inside() -> int:
        with work.counted(reached):
            prepare(trial)
            return digan(words)

    return in_child(inside, output), int(reached.value)


def judge(
    work: Work, fault: Fault, trial: Trial, unbroken: Trial, output: Path, number: int
) -> Outcome:
    """Lets a fault happen, goes on, and says what is wrong with the end."""
    status, reached = done(work, trial, output, fault.prepare)
    text = output.read_text(errors="replace")
    said = text.splitlines()[-1] if text else ""
    fault.after(trial)
    outcome = Outcome(work.name, fault.name, number, status, said, reached, True, 0, "")

    def wrong(words: str) -> Outcome:
        return dataclasses.replace(
            outcome, complaint=f"{words}\n{output.read_text(errors='replace')}"
        )

    if "Traceback" in text:
        return wrong("a traceback")
    if status == 1 and not (said.startswith("digan: error: ") and re.search(fault.error, said)):
        return wrong(f"no error of one line: {said}")
    heeds = work.name == "training" and reached > 0  # before that it could not
    if status not in (0, 1, -9) and not (status == -15 and not heeds):
        return wrong(f"exit status {status}")
    again = None
    if not work.is_done(trial):
        status, again = done(work, trial, output, lambda trial: None, again=True)
        if status != 0:
            return wrong(f"going on ended with status {status}")
    outcome.struck = fault.certain or outcome.status != 0 or bool(again)
    outcome.lost = work.lost(trial, reached, again)
    if outcome.lost > work.allowed(fault):
        return wrong(f"{outcome.lost} {work.unit} lost of {reached}")
    if complaint := work.complaint(fault, trial, unbroken):
        return wrong(complaint)
    return outcome


def run_trials(work: Work, folder: Path, each: int, seed: int, only: str = "") -> list[Outcome]:
    """Every fault some times."""
    chosen = [fault for fault in work.faults if only in f"{work.name}: {fault.name}"]
    if not chosen:
        return []
    data = work.data(folder)
    whole = Trial(data, folder / "unbroken" / "out", 0, np.random.default_rng(0))
    whole.out.parent.mkdir()
    started = time.monotonic()
    status, _ = done(work, whole, folder / "unbroken.txt", lambda trial: None)
    seconds = time.monotonic() - started
    assert status == 0, (folder / "unbroken.txt").read_text()
    found = []
    for number in range(each):
        for place, fault in enumerate(chosen):
            own = folder / f"{number}-{place}"
            shutil.copytree(data, own / data.name)
            (own / "out").mkdir()
            random = np.random.default_rng([seed, number, place])
            trial = Trial(own / data.name, own / "out", seconds, random, fault.flags)
            found.append(judge(work, fault, trial, whole, own / "output.txt", number))
            if not found[-1].complaint:
                shutil.rmtree(own)
            about = found[-1].complaint or "went on"
            print(f"{work.name}: {fault.name} {number}: {about}", flush=True)
    return found


def table(outcomes: list[Outcome]) -> str:
    """A line for every fault."""
    lines = [f"{'fault':<46}{'times':>6}{'struck':>8}{'went on':>9}{'most lost':>16}"]
    units = {work.name: work.unit for work in WORKS}
    for name in dict.fromkeys((each.work, each.fault) for each in outcomes):
        own = [each for each in outcomes if (each.work, each.fault) == name]
        good = [each for each in own if not each.complaint]
        struck = sum(each.struck for each in own)
        lost = f"{max(each.lost for each in own)} {units[name[0]]}"
        row = f"{len(own):>6}{struck:>8}{len(good):>9}{lost:>16}"
        lines.append(f"{': '.join(name):<46}{row}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    outcomes = []
    for work in WORKS:
        with tempfile.TemporaryDirectory() as name:
            outcomes += run_trials(work, Path(name), asked.each, asked.seed, asked.only)
    asked.out.write_text(json.dumps([dataclasses.asdict(each) for each in outcomes], indent=1))
    print(table(outcomes))


if __name__ == "__main__":
    main()
