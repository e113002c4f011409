"""What training and sampling should reach on an H200, beside what a run has measured.

A figure of another machine is shown and not judged, but where the machine makes no difference.
`python benchmarks/targets.py FILE...` puts result files of one machine together.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digan.bench.data_wait import waits_of
from digan.bench.generator_section import UNCHAINED
from digan.bench.report import whole_iterations
from digan.bench.rows import Results, Row, merge, read_results
from digan.errors import DiganError

MACHINE = "H200"
OURS = ("fused", "compiled", "reference")
NARROW = "bf16"
MET, NOT_MET = "met", "not met"
FOREIGN = f"not judged: the target is an {MACHINE}'s"
UNMEASURED = f"not measured: needs an {MACHINE}"


@dataclass(frozen=True)
class Found:
    """A measured value, how it is written, and why it cannot be judged, if so."""

    value: float
    text: str
    unfair: str = ""


@dataclass(frozen=True)
class Target:
    """A figure that should be reached.

    Attributes:
        section: of the benchmark that measures it. figure, wanted: in words.
        bound: of the value; None is reported and not judged.
        measure: the value from results, or None.
        most: the bound is the most that the value may be, not the least.
        anywhere: any machine may be judged by it.
    """

    section: str
    figure: str
    wanted: str
    bound: float | None
    measure: Callable[[Results], Found | None]
    most: bool = False
    anywhere: bool = False

    def row(self, results: Results) -> dict[str, Any]:
        """figure, target, measured and verdict, as JSON values."""
        found = self.measure(results)
        return {
            "section": self.section,
            "figure": self.figure,
            "target": self.wanted,
            "value": None if found is None else found.value,
            "measured": "" if found is None else found.text,
            "verdict": self._verdict(results, found),
        }

    def _verdict(self, results: Results, found: Found | None) -> str:
        there = MACHINE in results.machine["name"]
        if found is None:
            if there or self.anywhere:
                return f"not measured: section {self.section} has no such row"
            return UNMEASURED
        if found.unfair:
            return f"not judged: {found.unfair}"
        if self.bound is None:
            return "reported"
        if not (there or self.anywhere):
            return FOREIGN
        reached = found.value <= self.bound if self.most else found.value >= self.bound
        return MET if reached else NOT_MET


def targets_of(results: Results, sections: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of every target of the given sections; None takes all."""
    return [t.row(results) for t in TARGETS if sections is None or t.section in sections]


# ------------------------------------------------------------------------------- measures


def _rows(results: Results, section: str, *, providers: Sequence[str] = OURS) -> list[Row]:
    """Timed rows of our providers, whatever setting of the environment they are labelled with."""
    return [
        row
        for row in results.rows
        if row.section == section and row.samples and row.provider.split()[0] in providers
    ]


def _best(rows: list[Row]) -> Row | None:
    return min(rows, key=lambda row: row.median / row.items, default=None)


def _rate(results: Results, section: str, precision: str) -> float:
    """The matrix-product rate of the section's own processes."""
    found = [
        c["flops"][precision]
        for c in results.ceilings
        if precision in c["flops"] and c["section"] == section
    ]
    return float(np.median(found)) if found else float("nan")


def _percent(value: float, what: str) -> Found:
    return Found(value, f"{100 * value:.1f} % ({what})")


def _iterations(results: Results) -> list[Any]:
    """Whole iterations of ours, fastest first."""
    ours = [w for w in whole_iterations(results) if w.row.provider in OURS]
    return sorted(
        (w for w in ours if w.row.precision == NARROW), key=lambda w: w.seconds / w.row.items
    )


def training_share(results: Results) -> Found | None:
    """Operations of an iteration, R1 at its interval, over time and matrix-product rate."""
    for whole in _iterations(results)[:1]:
        rate = _rate(results, "training", NARROW)
        if whole.flops and rate == rate:
            return _percent(whole.flops / whole.seconds / rate, whole.row.provider)
    return None


def training_rate(results: Results) -> Found | None:
    """Samples a second, R1 at its interval."""
    for whole in _iterations(results)[:1]:
        rate = whole.row.items / whole.seconds
        return Found(rate, f"{rate:,.3g} samples/s ({whole.row.provider})")
    return None


def against_original(name: str) -> Callable[[Results], Found | None]:
    """How many times faster than the original's iteration, with its own plugins active."""

    def measure(results: Results) -> Found | None:
        theirs = [w for w in whole_iterations(results) if w.row.provider == name]
        ours = _iterations(results)
        if not theirs or not ours:
            return None
        best = min(w.seconds for w in theirs)
        ratio = best / theirs[0].row.items / (ours[0].seconds / ours[0].row.items)
        paths = results.original.get("paths", {})
        plugins = [paths.get(op, "") for op in ("bias_act", "upfirdn2d")]
        active = all(path == "its CUDA plugin" for path in plugins)
        return Found(
            ratio,
            f"{ratio:.2f}x, its plugins {'active' if active else 'NOT active'}",
            "" if active else "the original ran without its plugins",
        )

    return measure


def layer_share(results: Results) -> Found | None:
    """modulated_linear, 512 to 512, forward: percent of the matrix-product rate."""
    rows = [
        row
        for row in _rows(results, "ops", providers=("fused", "reference"))
        if row.precision == NARROW and row.case.startswith("modulated_linear ")
        and row.case.endswith(" I=512 O=512") and row.flops
    ]  # fmt: skip
    return _share(results, "ops", _best(rows))


def _share(results: Results, section: str, row: Row | None) -> Found | None:
    rate = _rate(results, section, NARROW)
    if row is None or not row.flops or rate != rate:
        return None
    return _percent(row.flops / row.median / rate, row.provider)


def _generator(results: Results, prefix: str) -> list[Row]:
    rows = _rows(results, "generator")
    return [r for r in rows if r.precision == NARROW and r.case.startswith(prefix)]


def frames_rate(*, chained: bool) -> Callable[[Results], Found | None]:
    """Frames a second of 128 frames of a video, with layers chained or not.

    Only where the kernels were also timed layer by layer do their own rows have chains.
    """

    def measure(results: Results) -> Found | None:
        rows = _generator(results, "T=128 ")
        apart = [
            r for r in results.rows
            if r.section == "generator" and r.provider == UNCHAINED and r.samples
            and r.precision == NARROW and r.case.startswith("T=128 ")
        ]  # fmt: skip
        if chained:
            rows = [r for r in rows if apart and r.provider.split()[0] == "fused"]
        row = _best(rows if chained else apart or rows)
        if row is None:
            return None
        rate = row.items / row.median
        return Found(rate, f"{rate:,.0f} frames/s ({row.provider})")

    return measure


def step_share(results: Results) -> Found | None:
    """The generator forward and backward: percent of the matrix-product rate."""
    rows = [r for r in _generator(results, "T=2 ") if r.case.endswith(" +backward")]
    return _share(results, "generator", _best(rows))


def against_compiled(results: Results) -> Found | None:
    """The generator forward and backward against torch.compile of its formulas."""
    rows = [r for r in _generator(results, "T=2 ") if r.case.endswith(" +backward")]
    ours = _best([r for r in rows if r.provider.split()[0] == "fused"])
    theirs = _best([r for r in rows if r.provider == "compiled"])
    if ours is None or theirs is None:
        return None
    ratio = theirs.median / ours.median
    return Found(ratio, f"{ratio:.2f}x")


def video_time(results: Results) -> Found | None:
    """Milliseconds of the GPU for a 128-frame video that becomes an mp4 file: what it does itself.

    Encoding, which runs beside it on the host, is not among its parts.
    """
    parts = {
        row.provider: 1e3 * row.median
        for row in results.rows
        if row.section == "sampling" and row.case.startswith("its parts, 128 of 128x128")
        and row.precision == NARROW and row.samples and row.provider in ("network", "bytes", "copy")
    }  # fmt: skip
    if len(parts) < 3 or results.machine["device"] != "cuda":
        return None
    said = ", ".join(f"{name} {value:.3g}" for name, value in parts.items())
    return Found(sum(parts.values()), f"{sum(parts.values()):.3g} ms ({said})")


def idle_share(results: Results) -> Found | None:
    """Of a training iteration, timed without the profiler."""
    found = [
        p for p in results.tables.get("profile", [])
        if p["idle_share_untraced"] is not None and p["precision"] == NARROW
        and p["label"] == "iteration"
    ]  # fmt: skip
    if not found:
        return None
    return _percent(float(found[0]["idle_share_untraced"]), found[0]["provider"])


def data_wait(results: Results) -> Found | None:
    """Calculated for 8 workers from measured times."""
    found = [w for w in waits_of(results) if w["workers"] == 8]
    if not found:
        return None
    return Found(found[0]["share"], f"{100 * found[0]['share']:.2f} % (calculated)")


def dense_memory(results: Results) -> Found | None:
    """Peak of gradients of all frames of one clip, activations recomputed or frames in chunks."""
    peaks = [
        (row.peak, f"{row.provider}, {row.precision}")
        for row in results.rows
        if row.section == "gradients" and row.peak and row.case.startswith("T=128 B=1 128x128")
        and row.provider in ("recomputed", "chunks")
    ]  # fmt: skip
    if not peaks or results.machine["device"] != "cuda":
        return None
    peak, who = min(peaks)
    return Found(peak / 1e9, f"{peak / 1e9:.3g} GB ({who})")


TARGETS = (
    Target("training", "training, bf16: share of the matrix-product rate", "45 %", 0.45,
           training_share),
    Target("training", "training, bf16: samples a second", "200", 200.0, training_rate),
    Target("training", "training against the original", "4x", 4.0, against_original("original")),
    Target("training", "training against the original with TF32", "reported", None,
           against_original("original-tf32")),
    Target("ops", "modulated_linear 512 to 512, bf16: share of the matrix-product rate", "75 %",
           0.75, layer_share),
    Target("generator", "generator, 128 frames, bf16: layer by layer", "26,000 frames/s", 26e3,
           frames_rate(chained=False)),
    Target("generator", "generator, 128 frames, bf16: layers chained", "40,000 frames/s", 40e3,
           frames_rate(chained=True)),
    Target("generator", "generator forward and backward, T=2, bf16: share of the matrix-product "
           "rate", "45 %", 0.45, step_share),
    Target("generator", "generator forward and backward against torch.compile", "1.5x", 1.5,
           against_compiled),
    Target("sampling", "a 128-frame video to an mp4 file, on the GPU", "20 ms", 20.0, video_time,
           most=True),
    Target("profile", "idle share of a training iteration", "under 5 %", 0.05, idle_share,
           most=True),
    Target("loader", "data wait, 8 workers at 200 samples/s", "under 2 %", 0.02, data_wait,
           most=True, anywhere=True),
    Target("gradients", "training on all 128 frames of a clip, B=1, recomputed", "24 GB", 24.0,
           dense_memory, most=True),
)  # fmt: skip


# ------------------------------------------------------------------------------- the table


def format_targets(found: list[dict[str, Any]]) -> str:
    """figure | target | measured | verdict."""
    if not found:
        return ""
    table = [("targets", "target", "measured", "")]
    table += [(t["figure"], t["target"], t["measured"] or "-", t["verdict"]) for t in found]
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def together(parts: Sequence[Results]) -> Results:
    """Result files of one machine as one.

    Raises:
        DiganError: none was given, or they are of different machines.
    """
    if not parts:
        raise DiganError("result files must be given, got none")
    names = {part.machine["name"] for part in parts}
    if len(names) > 1:
        raise DiganError(f"result files must be of one machine, got {', '.join(sorted(names))}")
    tables: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for name, lines in part.tables.items():
            if name != "targets":
                tables.setdefault(name, []).extend(lines)
    return dataclasses.replace(
        parts[0],
        ceilings=[c for part in parts for c in part.ceilings],
        original=next((part.original for part in parts if part.original), {}),
        rows=merge([row for part in parts for row in part.rows]),
        tables=tables,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """`benchmarks/targets.py FILE...`."""
    parser = argparse.ArgumentParser(
        prog="targets.py",
        description="What training and sampling should reach, beside what result files say.",
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.json")
    given = parser.parse_args(arguments)
    try:
        print(format_targets(targets_of(together([read_results(f) for f in given.files]))))
    except DiganError as error:
        print(f"targets.py: error: {error}", file=sys.stderr)
        return 1
    return 0
