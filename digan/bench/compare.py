"""Two result files side by side: ratios of medians, with their uncertainty.

The unit of evidence is the fresh process, not the sample: samples of one process share its
memory layout and its minute. With m_1 .. m_n the log medians of a file's n processes, the log
ratio is mean(m^A) - mean(m^B), its variance s_A^2/n_A + s_B^2/n_B, and its 95 % interval
Student's with Welch's degrees of freedom. With one process on either side there is no such
interval, and none is made up.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digan.bench.rows import Results, Row, read_results
from digan.errors import DiganError

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """Time of A over time of B: above 1, B is faster. NaN bounds where unknown."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What may be said."""
        if not math.isfinite(self.low):
            return "one process: no interval"
        if self.low > 1:
            return "B faster"
        return "B slower" if self.high < 1 else "no difference shown"


def time_ratio(a: Row, b: Row) -> Ratio:
    """How the medians of two rows relate."""
    logs = [np.log([np.median(p) / row.items for p in row.samples if p]) for row in (a, b)]
    difference = float(logs[0].mean() - logs[1].mean())
    if min(map(len, logs)) < 2:
        return Ratio(math.exp(difference), math.nan, math.nan)
    parts = [float(v.var(ddof=1)) / len(v) for v in logs]
    variance = sum(parts)
    if variance == 0:
        return Ratio(math.exp(difference), math.exp(difference), math.exp(difference))
    from scipy.stats import t

    freedom = variance**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, logs, strict=True))
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return Ratio(*(math.exp(difference + d) for d in (0.0, -half, half)))


def differences(a: Results, b: Results) -> list[str]:
    """What of the two machines and runs is not the same and may explain a ratio."""
    found = []
    for name in ("name", "threads", "commit"):
        if a.machine.get(name) != b.machine.get(name):
            found.append(f"{name}: {a.machine.get(name)} against {b.machine.get(name)}")
    for name in ("torch", "digan"):
        old, new = (r.machine.get("versions", {}).get(name) for r in (a, b))
        if old != new:
            found.append(f"{name}: {old} against {new}")
    for precision in a.options.get("precisions", ()):
        rates = [
            np.median([c["flops"][precision] for c in r.ceilings if precision in c["flops"]] or [0])
            for r in (a, b)
        ]
        if all(rates) and abs(math.log(rates[0] / rates[1])) > 0.05:
            found.append(
                f"matrix product {precision}: {rates[0] / 1e9:,.0f} against "
                f"{rates[1] / 1e9:,.0f} GFLOP/s"
            )
    return found


def format_comparison(a: Results, b: Results) -> str:
    """One line a row that both have, and what either has alone."""
    theirs = {row.key: row for row in b.rows if row.samples}
    shared = [(row, theirs.pop(row.key)) for row in a.rows if row.samples and row.key in theirs]
    table = [("", "A", "B", "A / B", f"{100 * LEVEL:.0f} % interval", "")]
    for old, new in shared:
        ratio = time_ratio(old, new)
        interval = f"{ratio.low:.3f} - {ratio.high:.3f}" if math.isfinite(ratio.low) else "-"
        table.append(
            (
                " | ".join(old.key),
                f"{1e3 * old.median:.4g} ms",
                f"{1e3 * new.median:.4g} ms",
                f"{ratio.value:.3f}",
                interval,
                ratio.verdict,
            )
        )
    widths = [max(len(line[i]) for line in table) for i in range(6)]
    lines = [f"A: {a.started}, B: {b.started}; A / B above 1: B is faster"]
    lines += [f"not the same: {text}" for text in differences(a, b)]
    for line in table:
        cells = [c.ljust(w) if i in (0, 5) else c.rjust(w)
                 for i, (c, w) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    alone = len([r for r in a.rows if r.samples]) - len(shared)
    if alone or theirs:
        lines.append(f"rows in A alone: {alone}, in B alone: {len(theirs)}")
    if not shared:
        lines.append("the two files have no row in common")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`benchmarks/compare.py A.json B.json`."""
    parser = argparse.ArgumentParser(
        prog="compare.py", description="Ratios of two result files, with their uncertainty."
    )
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")
    given = parser.parse_args(arguments)
    try:
        print(format_comparison(read_results(given.a), read_results(given.b)))
    except DiganError as error:
        print(f"compare.py: error: {error}", file=sys.stderr)
        return 1
    return 0
