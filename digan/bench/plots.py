"""Pictures of the results, one a section: bars of medians with p20 - p80, and memory against T.

Beside them the roofline of the ops and the time lines of profiled iterations.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from digan.bench.profile_report import draw_profiles
from digan.bench.report import baseline, ratio
from digan.bench.roofline import draw_roofline
from digan.bench.rows import Results, Row
from digan.errors import DiganError
from digan.plotting import pyplot

# Okabe and Ito's colours, which differ for colour-blind readers too.
COLOURS = {
    "original": "#8c8c8c", "original-tf32": "#5c5c5c", "whole clips": "#8c8c8c",
    "nn.Sequential": "#8c8c8c",
    "formula": "#e69f00", "compiled": "#56b4e9", "reference": "#0072b2", "fused": "#009e73",
    "store": "#0072b2", "decoded": "#0072b2", "workers together": "#0072b2",
    "CoordMLP": "#0072b2", "rotated": "#cc79a7", "unchained": "#b2df8a",
    "kept": "#8c8c8c", "recomputed": "#0072b2", "chunks": "#009e73",
}  # fmt: skip


def write_plots(results: Results, folder: Path) -> list[Path]:
    """A png per section, `bench-SECTION.png`, `bench-memory.png` and `bench-roofline.png`.

    Returns the paths of what there was something to draw for.
    """
    plt = pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for section in dict.fromkeys(row.section for row in results.rows):
        rows = [r for r in results.rows if r.section == section and r.samples]
        if rows:
            figure = _bars(plt, results, section, rows)
            written.append(_save(figure, folder / f"bench-{section}.png"))
            plt.close(figure)
    drawn = {"memory": _memory(plt, results), "roofline": draw_roofline(plt, results)}
    profiles = results.tables.get("profile", [])
    if profiles:
        drawn["profile"] = draw_profiles(plt, profiles, _title("profile", results))
    for name, figure in drawn.items():
        if figure is not None:
            written.append(_save(figure, folder / f"bench-{name}.png"))
            plt.close(figure)
    return written


def _title(section: str, results: Results) -> str:
    return (
        f"{section}: {results.machine['name']}, torch {results.machine['versions']['torch']}, "
        f"commit {results.machine['commit']}"
    )


def _save(figure: Any, path: Path) -> Path:
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _label(row: Row) -> str:
    precision = "" if row.precision == "-" else f" {row.precision}"
    tuned = ", tuned allocator" if row.allocator == "tuned" else ""
    return f"{row.provider}{precision}{tuned}"


def _bars(plt: Any, results: Results, section: str, rows: list[Row]) -> Any:
    """A panel per case; time of one item, shorter is better; the floor as a line."""
    cases = list(dict.fromkeys(row.case for row in rows))
    own = {case: [row for row in rows if row.case == case] for case in cases}
    columns = 1 if len(cases) <= 4 else 2
    lines = math.ceil(len(cases) / columns)
    longest = max(len(group) for group in own.values())
    size = (7.2 * columns, lines * (0.75 + 0.3 * longest) + 0.9)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, case in zip(axes.flat, cases, strict=False):
        _panel(axis, case, own[case])
    for axis in list(axes.flat)[len(cases) :]:
        axis.axis("off")
    figure.suptitle(_title(section, results), fontsize=9)
    return figure


def _panel(axis: Any, case: str, rows: list[Row]) -> None:
    unit = rows[0].unit.rstrip("s")
    top = max(row.percentile(80) / row.items for row in rows)
    scale, name = next((s, n) for s, n in ((1.0, "s"), (1e3, "ms"), (1e6, "us")) if top * s >= 1)
    for place, row in enumerate(rows):
        middle = scale * row.median / row.items
        bounds = [scale * row.percentile(q) / row.items for q in (20, 80)]
        hatch = "//" if row.precision == "bf16" else None
        axis.barh(place, middle, color=COLOURS.get(row.provider, "#cc79a7"), hatch=hatch,
                  edgecolor="white", height=0.75)  # fmt: skip
        axis.plot(bounds, [place, place], color="black", linewidth=1)
        factor = ratio(row, rows)
        text = f" {middle:.3g} {name}"
        if math.isfinite(factor) and row.provider != baseline(rows):
            text += f", {factor:.2f}x"
        axis.text(max(middle, bounds[1]), place, text, va="center", fontsize=7)
        if math.isfinite(row.floor_share):
            axis.plot([middle * row.floor_share] * 2, [place - 0.42, place + 0.42],
                      color="#d55e00", linewidth=1.6)  # fmt: skip
    axis.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(0, scale * top * 1.3)
    axis.tick_params(axis="x", labelsize=7)
    base = baseline(rows)
    against = f"; x: against {base}" if base else ""
    axis.set_title(f"{case}\n{name} a {unit}, p20 - p80; red: floor{against}", fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _memory(plt: Any, results: Results) -> Any:
    """Peak memory of synthesis against the number of frames."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in results.rows:
        frames = re.match(r"T=(\d+) ", row.case)
        if row.section == "generator" and row.peak and frames:
            label = f"{row.provider} {row.precision}"
            points.setdefault(label, []).append((int(frames[1]), row.peak / 1e6))
    if not points:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for label, values in points.items():
        style = "--" if "bf16" in label else "-"
        colour = COLOURS.get(label.split()[0], "#cc79a7")
        axis.plot(*zip(*sorted(values), strict=True), style, marker="o", label=label, color=colour)
    axis.set_xscale("log", base=2)
    axis.set_ylim(0)
    axis.set_xlabel("frames T")
    axis.set_ylabel("peak memory of the process, MB")
    axis.set_title("synthesis: peak memory against T", fontsize=9)
    axis.legend(fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure
