"""Runs that something happens to, one after the other, and how they went on.

    python -m tests.faults.trials OUT.json --each 3 --seed 0 [--only NAME]

This process never trains, so that it may fork those that do: a trial takes the time of its run and
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
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from digan.cli import main as digan
from digan.training.runs import read_status
from tests.faults.faults import FAULTS, Fault, Trial, counted_steps
from tests.tiny_runs import tiny_config, tiny_store
from tests.training.continued import command, state_differences, state_of

CONFIG = tiny_config(kimg=0.048)  # 12 iterations; states after 4, 8 and 12
SNAP = round(CONFIG.snap * 1000)  # samples between two states
TOTAL = round(CONFIG.kimg * 1000)
_FORK = multiprocessing.get_context("fork")


@dataclasses.dataclass
class Outcome:
    """How a trial went.

    Attributes:
        fault, number: which. status: of the process that the fault befell.
        said: the last line that it wrote. reached: samples that it had seen.
        kept: samples of the state that the run went on from. complaint: what went wrong, or "".
    """

    fault: str
    number: int
    status: int
    said: str
    reached: int
    kept: int
    complaint: str


def in_child(work: Callable[[], int], output: Path) -> int:
    """The exit status of some work in a forked process, minus its signal's number if killed."""

    def child() -> None:
        with open(output, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = 3
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    process = _FORK.Process(target=child)
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        process.join()
        return -1000  # it hangs
    assert process.exitcode is not None
    return process.exitcode


def trained(
    trial: Trial, output: Path, prepare: Callable[[Trial], None], *flags: str
) -> tuple[int, int]:
    """Trains in a child; its exit status, and the samples that it had seen."""
    seen = _FORK.Value("q", 0)
    words = command(trial.store, trial.outdir, CONFIG, *trial.flags, *flags)

    def work() -> int:
        few = mock.patch("digan.training.samples.grid_shape", return_value=(1, 2))
        with few, counted_steps(seen):
            prepare(trial)
            return digan(words)

    return in_child(work, output), int(seen.value)


def judge(fault: Fault, trial: Trial, unbroken: Path, output: Path, number: int) -> Outcome:
    """Lets a fault happen, goes on, and says what is wrong with the end."""
    status, reached = trained(trial, output, fault.prepare)
    text = output.read_text(errors="replace")
    said = text.splitlines()[-1] if text else ""
    fault.after(trial)
    outcome = Outcome(fault.name, number, status, said, reached, 0, "")

    def wrong(words: str) -> Outcome:
        return dataclasses.replace(
            outcome, complaint=f"{words}\n{output.read_text(errors='replace')}"
        )

    if "Traceback" in text:
        return wrong("a traceback")
    if status == 1 and not (said.startswith("digan: error: ") and (fault.error or "") in said):
        return wrong(f"no error of one line: {said}")
    if status not in (0, 1, -9) and not (status == -15 and reached == 0):  # before it could heed
        return wrong(f"exit status {status}")
    runs = (
        [path for path in trial.outdir.iterdir() if path.is_dir()] if trial.outdir.is_dir() else []
    )
    if any((read_status(path) or {}).get("finished") for path in runs):
        outcome.kept = TOTAL  # it came through
    else:
        again, _ = trained(trial, output, lambda trial: None, "--resume", "auto")
        if again != 0:
            return wrong(f"going on ended with status {again}")
        log = max(path for path in trial.outdir.iterdir() if path.is_dir()) / "log.txt"
        last = re.findall(r"(starts|continues) at ([\d.]+) of", log.read_text())[-1]
        outcome.kept = round(float(last[1]) * 1000)
    run = max(path for path in trial.outdir.iterdir() if path.is_dir())
    lost = reached - outcome.kept
    if lost > fault.lost * SNAP + (SNAP if reached < SNAP else 0):
        return wrong(f"{lost} samples lost of {reached}")
    if (read_status(run) or {}).get("finished") is not True:
        return wrong("not finished")
    if left := [path.name for path in run.glob(".*")]:
        return (
            wrong(f"half-written files left: {left}")
            if fault.error is None and status == 0
            else outcome
        )
    if fault.exact and (differences := state_differences(run, unbroken)):
        return wrong(f"not the bits of an unbroken run: {differences[:3]}")
    if not fault.exact and not finite(state_of(run)):
        return wrong("weights that are not finite")
    return outcome


def finite(value: Any) -> bool:
    """Whether every tensor of a state is."""
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    return bool(value.isfinite().all()) if hasattr(value, "isfinite") else True


def run_trials(folder: Path, each: int, seed: int, only: str = "") -> list[Outcome]:
    """Every fault some times."""
    chosen = [fault for fault in FAULTS if only in fault.name]
    store = tiny_store(folder)
    whole = Trial(store, folder / "unbroken", 0, np.random.default_rng(0))
    started = time.monotonic()
    status, _ = trained(whole, folder / "unbroken.txt", lambda trial: None)
    seconds = time.monotonic() - started
    assert status == 0, (folder / "unbroken.txt").read_text()
    found = []
    for number in range(each):
        for place, fault in enumerate(chosen):
            own = folder / f"{number}-{place}"
            shutil.copytree(store, own / "skies")
            (own / "runs").mkdir()
            random = np.random.default_rng([seed, number, place])
            trial = Trial(own / "skies", own / "runs", seconds, random, fault.flags)
            found.append(judge(fault, trial, whole.run, own / "output.txt", number))
            if not found[-1].complaint:
                shutil.rmtree(own)
            print(f"{fault.name} {number}: {found[-1].complaint or 'went on'}", flush=True)
    return found


def table(outcomes: list[Outcome]) -> str:
    """A line for every fault."""
    lines = [f"{'fault':<34}{'times':>6}{'went on':>9}{'most lost, samples':>20}"]
    for name in dict.fromkeys(each.fault for each in outcomes):
        own = [each for each in outcomes if each.fault == name]
        good = [each for each in own if not each.complaint]
        lost = max((max(each.reached - each.kept, 0) for each in own), default=0)
        lines.append(f"{name:<34}{len(own):>6}{len(good):>9}{lost:>20}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        outcomes = run_trials(Path(name), asked.each, asked.seed, asked.only)
    asked.out.write_text(json.dumps([dataclasses.asdict(each) for each in outcomes], indent=1))
    print(table(outcomes))


if __name__ == "__main__":
    main()
