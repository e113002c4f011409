"""`digan watch`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from digan.cli import parse
from digan.errors import DiganError


@dataclass(frozen=True)
class WatchArgs:
    """Show a run as it goes: position, losses, gradients, metrics, waiting, memory, warnings.

    On a terminal it stays and refreshes until the run ends or Ctrl-C; elsewhere it prints once.
    It only reads, on this machine or over a shared folder. A run also leaves all of it as
    RUN/report.html, with curves and samples, at every snapshot and when it stops.

    Examples:
        digan watch runs
        digan watch runs/00003-clouds-res128-frames128-batch64 --page clouds.html
        digan watch runs --once
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a folder of runs, of which the newest is shown."""
    every: float = 5.0
    """Seconds between two looks."""
    once: bool = False
    """Look once, also on a terminal."""
    page: Path | None = None
    """Write the run's page here too, at every look."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: WatchArgs = parse(WatchArgs, arguments, "watch")
    if not 0 < asked.every < float("inf"):
        raise DiganError(f"every must be positive and finite, got {asked.every}")
    from digan.watching import describe_run, read_history, write_report
    from digan.watching.history import find_run

    folder = find_run(asked.run)
    lively = sys.stdout.isatty() and not asked.once
    while True:
        history = read_history(folder)
        text = "\n".join(describe_run(history))
        # Home, each line cleared behind its end, then everything below: nothing flickers.
        print("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[K\x1b[J" if lively else text)
        sys.stdout.flush()
        if asked.page is not None:
            write_report(folder, asked.page)
        if not lively or history.state not in ("running", "starting"):
            return 0
        time.sleep(asked.every)
