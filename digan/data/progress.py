"""One way to show progress with the remaining time, on terminals and in log files."""

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
