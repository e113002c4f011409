"""What the examples share: flags, errors in one line, and fitting networks in turns.

Whoever copies an example into another project copies this file with it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from digan.bench.flags import at_least
from digan.data.progress import progress_bar
from digan.errors import DiganError

REPORTS = 9
Figures = dict[str, float]  # by name; of one network at one step
Batch = TypeVar("Batch")


@dataclass
class Fit:
    """How one network fared."""

    curve: list[Figures] = field(default_factory=list)  # one a report, its step among them
    seconds: list[float] = field(default_factory=list)  # of each training step

    def __str__(self) -> str:
        return f"{len(self.seconds)} steps of {1e3 * statistics.median(self.seconds):.1f} ms"


def fit_in_turns(
    schedules: dict[str, LRScheduler],
    steps: int,
    draw: Callable[[], Batch],
    loss_of: Callable[[str, Batch], Tensor],
    measure: Callable[[str], Figures],
    line: Callable[[int, dict[str, Figures]], str],
) -> dict[str, Fit]:
    """Trains networks in turns, on the same batches, so that their times compare.

    `schedules` hold each network's optimizer, by name. `draw` makes a batch, `loss_of` a
    network's loss on it, `measure` a network's figures for a report and `line` its text.
    """
    fits = {name: Fit() for name in schedules}
    shown = {round(steps * i / (REPORTS - 1)) for i in range(REPORTS)}
    with progress_bar("fitting", steps, "steps", shown=True) as bar:
        for step in range(steps + 1):
            if step in shown:
                figures = {name: measure(name) for name in schedules}
                for name, found in figures.items():
                    fits[name].curve.append({"step": step, **found})
                bar.write(line(step, figures))
            if step == steps:
                break
            batch = draw()
            for name, schedule in schedules.items():
                started = time.perf_counter()
                loss = loss_of(name, batch)
                schedule.optimizer.zero_grad()
                loss.backward()
                schedule.optimizer.step()
                if loss.is_cuda:  # launched is not yet done
                    torch.cuda.synchronize()
                fits[name].seconds.append(time.perf_counter() - started)
                schedule.step()
            bar.update()
    return fits


def write_curves(path: Path, fits: dict[str, Fit], form: str = "") -> None:
    """A CSV file: network, step, and the figures in the format `form`."""
    first = next(iter(fits.values())).curve[0]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["network", *first])
        for name, fit in fits.items():
            for step, *values in (figures.values() for figures in fit.curve):
                rows.writerow([name, step, *(format(value, form) for value in values)])


def new_parser(
    text: str, *, steps: int, width: int, lr: float, outdir: str
) -> argparse.ArgumentParser:
    """The flags of every example, with one's own defaults."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=at_least(1), default=steps, help="training steps (%(default)s)")
    add("--width", type=at_least(1), default=width, help="units of a hidden layer (%(default)s)")
    add("--layers", type=at_least(1), default=2, help="hidden layers (%(default)s)")
    add("--lr", type=float, default=lr, help="first learning rate of Adam (%(default)s)")
    add("--baseline", action="store_true", help="fit plain nn.Sequential too")
    add("--seed", type=int, default=0, help="of everything drawn at random (%(default)s)")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path(outdir), help="(%(default)s)")
    return parser


def main(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> int:
    """Runs an example with what the user asked; a DiganError is one line."""
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        run(asked)
    except DiganError as error:
        print(f"{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)
        return 1
    return 0
