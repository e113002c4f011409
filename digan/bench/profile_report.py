"""The profiles of iterations as a table and as a picture: a row of the time line a phase."""

from __future__ import annotations

from typing import Any

from digan.bench.kernel_classes import CLASSES, COLOURS
from digan.bench.trace import BETWEEN

_PHASES = ("G", "D", "R1", "EMA")


def format_profiles(profiles: list[dict[str, Any]]) -> str:
    """Percent of each iteration by class, the heaviest names, and names in no class."""
    if not profiles:
        return ""
    titles = [f"{p['label']}, {p['provider']} {p['precision']}" for p in profiles]
    lines = ["== profile", "", "percent of an iteration's time"]
    used = [name for name in CLASSES if name in ("other", "idle") or _any_time(profiles, name)]
    width = max(len(CLASSES[name]) for name in used)
    lines.append("  " + "  ".join(["".ljust(width), *titles]))
    for name in used:
        cells = [f"{100 * p['seconds'][name] / p['wall']:.1f}" for p in profiles]
        cells = [cell.rjust(len(title)) for cell, title in zip(cells, titles, strict=True)]
        lines.append("  " + "  ".join([CLASSES[name].ljust(width), *cells]))
    walls = [f"{1e3 * p['wall']:,.1f} ms" for p in profiles]
    lines.append("  " + "  ".join(
        ["traced".ljust(width), *(w.rjust(len(t)) for w, t in zip(walls, titles, strict=True))]
    ))  # fmt: skip
    for p, title in zip(profiles, titles, strict=True):
        if p["untraced"] is not None:
            lines.append(
                f"  {title}: {1e3 * p['untraced']:,.1f} ms without the profiler, of which "
                f"{100 * p['idle_share_untraced']:.1f} % idle"
            )
    for p, title in zip(profiles, titles, strict=True):
        lines += ["", f"  most time, {title} ({p['source']}):"]
        for row in p["largest"][:8]:
            lines.append(
                f"    {100 * row['seconds'] / p['wall']:5.1f} %  {row['count']:5d} x  "
                f"{row['class']:<12}{row['name'][:90]}"
            )
        if p["unknown"]:
            names = ", ".join(row["name"][:60] for row in p["unknown"][:5])
            lines.append(f"    in no class: {names}")
    return "\n".join(lines)


def _any_time(profiles: list[dict[str, Any]], name: str) -> bool:
    return any(p["seconds"][name] >= 5e-4 * p["wall"] for p in profiles)


def draw_profiles(plt: Any, profiles: list[dict[str, Any]], title: str) -> Any:
    """A panel an iteration: its phases one below the other, coloured by class."""
    orders = [_ordered(p["line"]) for p in profiles]
    heights = [0.42 * len(order) + 0.85 for order in orders]
    figure, axes = plt.subplots(
        len(profiles), 1, figsize=(9.6, sum(heights) + 1.3), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, p, order in zip(axes.flat, profiles, orders, strict=True):
        _panel(axis, p, order)
    used = [name for name in CLASSES if _any_time(profiles, name)]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in used]
    figure.legend(
        handles, [CLASSES[name] for name in used], loc="outside lower center", ncols=3, fontsize=8
    )
    figure.suptitle(title, fontsize=9)
    return figure


def _ordered(line: dict[str, Any]) -> list[str]:
    """The phases that fill a bin at least, in their order; what lies between them comes last."""
    rest = [name for name in line if name not in (*_PHASES, BETWEEN)]
    return [name for name in (*_PHASES, *rest, BETWEEN) if line.get(name)]


def _panel(axis: Any, p: dict[str, Any], order: list[str]) -> None:
    scale, unit = (1.0, "s") if p["wall"] >= 2 else (1e3, "ms")
    wall = scale * p["wall"]
    for place, phase in enumerate(order):
        ends = [(wall * s, wall * (s + n)) for s, n, _ in p["line"][phase]]
        first, last = ends[0][0], ends[-1][1]
        axis.barh(place, last - first, left=first, color=COLOURS["idle"], height=0.8)
        for kind in CLASSES:
            runs = [(wall * s, wall * n) for s, n, k in p["line"][phase] if k == kind]
            axis.broken_barh(runs, (place - 0.4, 0.8), facecolors=COLOURS[kind], linewidth=0)
    shares = [
        f"{name} {100 * p['seconds'][name] / p['wall']:.0f} %"
        for name in CLASSES
        if p["seconds"][name] >= 0.005 * p["wall"] or name == "idle"
    ]
    axis.set_title(
        f"{p['label']}, {p['provider']} {p['precision']}, {wall:.3g} {unit}: {', '.join(shares)}",
        fontsize=8, loc="left",
    )  # fmt: skip
    axis.set_yticks(range(len(order)), order, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, wall)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(unit, fontsize=7)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
