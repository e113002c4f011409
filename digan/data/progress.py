"""One way to show progress and time, on terminals and in log files."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(what: str, total: int, unit: str, shown: bool) -> tqdm[Any]:
    """A tqdm bar on stderr: lively on a terminal, a line every ten seconds elsewhere.

    `unit` "B" counts in kB, MB, GB; with `shown` False nothing is printed.
    """
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        desc=what,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        mininterval=interval,
        disable=not shown,
    )


def duration(seconds: float) -> str:
    """1h 02m 03s."""
    total = round(seconds)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    if hours:
        return f"{hours}h {minutes:02d}m {rest:02d}s"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
