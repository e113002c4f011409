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
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from digan.cli import main as digan
from tests.faults.accidents import Fault, Trial, Work
from tests.faults.preparing import Preparing
from tests.faults.training import Jobs, Training

WORKS: tuple[Work, ...] = (Training(), Jobs(), Preparing())
_FORK = multiprocessing.get_context("fork")
_LONGEST, _LAST_WORDS = 120.0, 20.0  # seconds: of a piece of work, and after a failure
_HANGS = -1000


@dataclasses.dataclass
class Outcome:
    """How a trial went.

    Attributes:
        work, fault, number: which. statuses: of the processes that the fault befell.
        said: the last line that they wrote. reached: how far it had come.
        struck: whether it came before the end.
        lost: what had to be done again, in the work's unit. complaint: what went wrong, or "".
    """

    work: str
    fault: str
    number: int
    statuses: list[int]
    said: str
    reached: int
    struck: bool
    lost: int
    complaint: str


def started(work: Callable[[], int], output: Path, variables: dict[str, str]) -> BaseProcess:
    """A forked process that does some work."""

    def child() -> None:
        os.environ.update(variables)
        with open(output, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            sys.exit(work())  # and not os._exit: what multiprocessing holds is to be closed
        finally:
            sys.stderr.flush()

    process = _FORK.Process(target=child)
    process.start()
    return process


def ended(processes: list[BaseProcess]) -> list[int]:
    """Their exit statuses, minus the number of the signal that killed one.

    When one has failed the others end by themselves. A while later they get the signal that
    torchrun sends then: one that has not met the others yet waits for them.
    """
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end and any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            wait_for([p.sentinel for p in processes if p.is_alive()], timeout=_LAST_WORDS)
            for process in processes:
                if process.is_alive() and len(processes) > 1:
                    process.terminate()
                process.join(_LAST_WORDS)
            break
        wait_for([p.sentinel for p in processes if p.is_alive()], timeout=1)
    statuses = [_HANGS if p.is_alive() else p.exitcode or 0 for p in processes]
    for process in processes:
        process.kill()
        process.join()
    return statuses


def done(
    work: Work, trial: Trial, output: Path, prepare: Callable[[Trial], None], again: bool = False
) -> tuple[list[int], int]:
    """Does the work in children; their exit statuses, and how far it had come."""
    reached = _FORK.Value("q", 0)
    words = work.command(trial, again)

    def inside() -> int:
        with work.counted(reached):
            prepare(trial)
            return digan(words)

    processes = [started(inside, output, variables) for variables in work.variables()]
    return ended(processes), int(reached.value)


def judge(
    work: Work, fault: Fault, trial: Trial, unbroken: Trial, output: Path, number: int
) -> Outcome:
    """Lets a fault happen, goes on, and says what is wrong with the end."""
    statuses, reached = done(work, trial, output, fault.prepare)
    text = output.read_text(errors="replace")
    said = text.splitlines()[-1] if text else ""
    fault.after(trial)
    outcome = Outcome(work.name, fault.name, number, statuses, said, reached, True, 0, "")

    def wrong(words: str) -> Outcome:
        return dataclasses.replace(
            outcome, complaint=f"{words}\n{output.read_text(errors='replace')}"
        )

    if "Traceback" in text:
        return wrong("a traceback")
    if 1 in statuses and not (said.startswith("digan: error: ") and re.search(fault.error, said)):
        return wrong(f"no error of one line: {said}")
    allowed = {0, 1, -9} if work.heeds_sigterm and reached else {0, 1, -9, -15}
    if not allowed.issuperset(statuses):
        return wrong(f"exit statuses {statuses}")
    again = None
    if not work.is_done(trial):
        statuses, again = done(work, trial, output, lambda trial: None, again=True)
        if any(statuses):
            return wrong(f"going on ended with {statuses}")
    outcome.struck = fault.certain or any(outcome.statuses) or bool(again)
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
    begun = time.monotonic()
    statuses, _ = done(work, whole, folder / "unbroken.txt", lambda trial: None)
    seconds = time.monotonic() - begun
    assert not any(statuses), (folder / "unbroken.txt").read_text()
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
    """A line for every fault, as docs/reliability.md shows it."""
    lines = ["| accident | times | struck | went on | most lost |", "|---|---:|---:|---:|---:|"]
    units = {work.name: work.unit for work in WORKS}
    for name in dict.fromkeys((each.work, each.fault) for each in outcomes):
        own = [each for each in outcomes if (each.work, each.fault) == name]
        good = [each for each in own if not each.complaint]
        struck = sum(each.struck for each in own)
        most = max(each.lost for each in own)
        unit = units[name[0]].removesuffix("s" if most == 1 else "")
        lost = f"{most} {unit}" if most else "0"
        lines.append(f"| {': '.join(name)} | {len(own)} | {struck} | {len(good)} | {lost} |")
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
