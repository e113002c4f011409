"""A run in a few lines of text: where it is, its numbers with their course, and its signs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from digan.data.progress import duration
from digan.watching.history import History, neighbours
from digan.watching.signs import METRIC, find_signs

_BARS = "▁▂▃▄▅▆▇█"
_COURSE = 40  # places of a course
# Statistic, what it is called, how it is written.
_ROWS = (
    ("G/loss", "loss, generator", ".3f"),
    ("D/fake_loss", "loss, D on fakes", ".3f"),
    ("D/real_loss", "loss, D on reals", ".3f"),
    ("G/gradient_norm", "gradient norm, G", ".3g"),
    ("D/gradient_norm", "gradient norm, D", ".3g"),
    ("D/r1_video", "R1, pairs", ".3g"),
    ("D/r1_image", "R1, frames", ".3g"),
    ("seconds_per_kimg", "seconds a kimg", ".1f"),
    ("data_wait_share", "waiting for data", ".1%"),
    ("memory_gb", "memory, GB", ".2f"),
)

_CONTROLS = ("floor", "shuffled", "frozen", "mean_frame")
_SHARES = {"pairwise_ratio": "distance", "change_ratio": "change"}


def course(values: Sequence[float], width: int = _COURSE) -> str:
    """Numbers as a row of bars from their least to their largest; a gap where not finite."""
    if len(values) > width:
        groups = [values[some] for some in neighbours(len(values), width)]
        values = [sum(some) / len(some) for some in groups]
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    if not math.isfinite(high - low):
        return course([v / 4 for v in values], width)
    span = high - low or 1.0
    return "".join(
        _BARS[min(int((v - low) / span * len(_BARS)), len(_BARS) - 1)] if math.isfinite(v) else " "
        for v in values
    )


def describe_run(history: History) -> list[str]:
    """The lines."""
    lines = [f"{history.run}", _position(history), ""]
    for name, title, form in _ROWS:
        if values := history.series(name):
            lines.append(f"  {title:<20}{values[-1]:>12{form}}  {course(values)}")
    for metric in history.metrics:
        lines += _metric(history, metric)
    signs = find_signs(history)
    lines += ["", *(f"! {sign.line()}" for sign in signs)] if signs else []
    return [_visible(line) for line in lines]


def _visible(line: str) -> str:
    """A line in which what a file said cannot move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _position(history: History) -> str:
    share = history.kimg / history.total if history.total else 0.0
    words = f"{history.state} at {history.kimg:g} of {history.total:g} kimg ({share:.0%})"
    remaining = history.remaining
    if history.state == "running" and remaining is not None:
        words += f", {duration(remaining)} left"
    if history.state != "finished":
        words += f", last news {duration(history.silence)} ago"
    return words


def _metric(history: History, metric: str) -> list[str]:
    values = [value for _, value in history.metric_points(metric)]
    if not values:
        return []
    lines = [f"  {metric:<20}{values[-1]:>12.4g}  {course(values)}"]
    if metric == METRIC:
        last = {
            name: points[-1][1]
            for name in (*_CONTROLS, *_SHARES)
            if (points := history.metric_points(metric, name))
        }
        beside = [f"{n.replace('_', ' ')} {last[n]:.3g}" for n in _CONTROLS if n in last]
        shares = [f"{t} {last[n]:.2f} of the data's" for n, t in _SHARES.items() if n in last]
        lines.append(f"  {'':<20}{', '.join(beside + shares)}")
    return lines
