"""The tables: what a person reads first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digan.bench.data_wait import format_waits, waits_of
from digan.bench.profile_report import format_profiles
from digan.bench.rows import Results, Row
from digan.bench.sampling_report import sampling_summary
from digan.bench.scaling import ALONE, R1_INTERVAL, REDUCED, format_scaling, scaling_of

COLUMNS = ("provider", "precision", "alloc", "median", "p20 - p80", "runs", "rate", "floor", "peak")


def format_results(results: Results) -> str:
    """Everything as text: machine, ceilings, the original's paths, a table a section."""
    parts = [_header(results)]
    if results.original:
        parts.append(_original(results))
    for section in dict.fromkeys(row.section for row in results.rows):
        parts.append(_section(section, [r for r in results.rows if r.section == section]))
    parts.append(format_profiles(results.tables.get("profile", [])))
    parts += [f"left out, no time: {part['section']} from {part['from']} on"
              for part in results.tables.get("left out", [])]  # fmt: skip
    parts.append(denser_cost(results))
    parts.append(sampling_summary(results))
    parts.append(format_waits(waits_of(results)))
    parts.append(format_scaling(scaling_of(results)))
    parts.append(headline(results))
    return "\n\n".join(part for part in parts if part)


def _header(results: Results) -> str:
    machine, options = results.machine, results.options
    ceilings = _ceilings(results)
    versions = machine["versions"]
    return "\n".join(
        line
        for line in [
            f"digan {versions.get('digan', '')} benchmark, {results.started}",
            f"{machine['name']}, {machine['threads']} threads, torch {versions['torch']}, "
            f"commit {machine['commit'] or 'unknown'}",
            f"preset {options['preset']}, {options['resolution']}x{options['resolution']}, "
            f"clips of {options['frames']} frames, batch {options['batch']}",
            f"ceilings measured in this run: {ceilings}",
            _clocks(results),
        ]
        if line
    )


def _clocks(results: Results) -> str:
    """The driver, and the clocks that were read before and after every process."""
    drivers = sorted({gpu["driver"] or "unknown" for gpu in results.machine.get("gpus", [])})
    driver = f"driver {', '.join(drivers)}" if drivers else ""
    # Of a GPU the first number is the multiprocessors' clock, the second the memory's.
    first = 1 if results.machine.get("device") == "cuda" else None
    read = [
        clock for c in results.ceilings for now in c.get("clocks_mhz", []) for clock in now[:first]
    ]
    clocks = f"clocks read: {min(read):,.0f} to {max(read):,.0f} MHz" if read else ""
    return ", ".join(part for part in (driver, clocks) if part)


def _ceilings(results: Results) -> str:
    found = []
    for precision in results.options["precisions"]:
        rates = [c["flops"][precision] for c in results.ceilings if precision in c["flops"]]
        if rates:
            found.append(f"matrix product {precision} {np.median(rates) / 1e9:,.0f} GFLOP/s")
    copies = [c["copy"] for c in results.ceilings]
    if copies:
        found.append(f"copy {np.median(copies) / 1e9:,.1f} GB/s")
    return ", ".join(found)


def _original(results: Results) -> str:
    found = results.original
    agreement = ", ".join(f"{k.replace('_', ' ')} {v:.1e}" for k, v in found["agreement"].items())
    lines = [
        f"original at {found['commit']}; relative difference on the same weights: {agreement}",
        "the paths that its own ops took here:",
    ]
    return "\n".join(lines + [f"  {name:<20}{path}" for name, path in found["paths"].items()])


def _section(section: str, rows: list[Row]) -> str:
    lines = [f"== {section}"]
    for case in dict.fromkeys(row.case for row in rows):
        own = [row for row in rows if row.case == case]
        base = baseline(own)
        lines += ["", case]
        table = [[*COLUMNS, f"against {base}" if base else ""]]
        table += [_cells(row, own) for row in own]
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        for line in table:
            text = "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            lines.append(f"  {text}".rstrip())
        lines += [f"  {row.provider} {row.precision}: {row.note}" for row in own if row.note]
    return "\n".join(lines)


def baseline(rows: list[Row]) -> str:
    """Whom a case's rows are compared with: the original, the plain way, or the formula."""
    present = {row.provider for row in rows if row.samples}
    for name in ("original", "whole clips", "nn.Sequential", "formula", "normal frames", "serial",
                 ALONE, REDUCED):  # fmt: skip
        if name in present:
            return name
    # One provider under several settings of the environment: the first of them.
    settings = [row.provider for row in rows if row.samples and "=" in row.provider]
    return settings[0] if len(set(settings)) > 1 else ""


def ratio(row: Row, rows: list[Row]) -> float:
    """How many times faster a row is than the baseline, under the same allocator.

    The baseline is taken in the row's precision, else in the one that it has.
    """
    name = baseline(rows)
    same = [r for r in rows if r.provider == name and r.allocator == row.allocator and r.samples]
    best = next((r for r in same if r.precision == row.precision), same[0] if same else None)
    if best is None or not row.samples:
        return math.nan
    return (best.median / best.items) / (row.median / row.items)


def _cells(row: Row, rows: list[Row]) -> list[str]:
    timed = bool(row.samples)
    factor = ratio(row, rows)
    spread = row.process_spread
    runs = f"{row.seconds.size}" + (f" ±{50 * spread:.0f} %" if math.isfinite(spread) else "")
    return [
        row.provider,
        row.precision,
        row.allocator,
        _seconds(row.median) if timed else "",
        f"{_seconds(row.percentile(20))} - {_seconds(row.percentile(80))}" if timed else "",
        runs if timed else "",
        f"{_rate(row.items / row.median)} {row.unit}/s" if timed and row.unit != "calls" else "",
        f"{100 * row.floor_share:.0f} %" if math.isfinite(row.floor_share) else "",
        f"{row.peak / 1e6:,.0f} MB" if row.peak else "",
        f"{factor:.2f}x" if math.isfinite(factor) else "",
    ]


def _seconds(value: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def denser_cost(results: Results) -> str:
    """What a denser frame costs, in normal frames measured in turns with it."""
    rows = [r for r in results.rows if r.section == "showcase" and r.samples]
    lines = []
    for row in rows:
        if row.provider != "denser frame":
            continue
        base = next(
            (
                r for r in rows
                if r.provider == "normal frames" and (r.case, r.precision, r.allocator)
                == (row.case, row.precision, row.allocator)
            ),
            None,
        )  # fmt: skip
        if base is not None:
            count = int(row.case.split()[0])  # "16 of 128x128, or 1 of 512x512"
            lines.append(
                f"  {row.precision:<5} {row.allocator:<8}"
                f"{count * row.median / base.median:6.2f} normal frames"
            )
    title = "space interpolation, what one denser frame costs (16 is the same cost a pixel):"
    return "\n".join([title, *lines]) if lines else ""


@dataclass(frozen=True)
class WholeIteration:
    """An iteration with its part of an R1 step, R1 coming every `R1_INTERVAL` iterations.

    Attributes:
        row: of the plain iteration. seconds, flops: with R1's part; no operations where the
            rows have none counted.
    """

    row: Row
    seconds: float
    flops: float | None


def whole_iterations(results: Results) -> list[WholeIteration]:
    """Of every provider, precision and allocator that has both rows, in the rows' order."""
    training = [r for r in results.rows if r.section == "training" and r.samples]
    of = {r.key[2:]: r for r in training if r.case.startswith("R1")}
    found = []
    for row in training:
        penalty = of.get(row.key[2:])
        if row.case.startswith("iteration") and penalty is not None:
            counted = row.flops is not None and penalty.flops is not None
            flops = (row.flops or 0) + (penalty.flops or 0) / R1_INTERVAL if counted else None
            found.append(WholeIteration(row, row.median + penalty.median / R1_INTERVAL, flops))
    return found


def headline(results: Results) -> str:
    """Training throughput on clips, R1 at its interval: the line to remember."""
    found = whole_iterations(results)
    if not found:
        return ""
    options = results.options
    lines = [
        f"training, {options['frames']}-frame {options['resolution']}x{options['resolution']} "
        f"clips, batch {options['batch']}, R1 every {R1_INTERVAL} iterations:"
    ]
    for whole in found:
        row, seconds = whole.row, whole.seconds
        base = next(
            (
                w.seconds for w in found
                if w.row.provider == "original" and w.row.allocator == row.allocator
            ),
            None,
        )  # fmt: skip
        ours = base and not row.provider.startswith("original")
        against = f", {base / seconds:.2f}x the original" if base and ours else ""
        lines.append(
            f"  {row.provider:<10} {row.precision:<5} {row.allocator:<8}"
            f"{row.items / seconds:8.3f} videos/s  ({seconds:.3g} s an iteration{against})"
        )
    return "\n".join(lines)
