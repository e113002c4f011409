"""Line plots as inline SVG, for pages that need nothing but themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from digan.showcase.page import text
from digan.watching.history import neighbours

Points = Sequence[tuple[float, float]]  # (x, y), x rising

_WIDTH, _HEIGHT = 540, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 26
COLOURS = ("#2f6fb3", "#c2571a", "#3d8a4f", "#8a4fa3", "#a38a2f", "#55636f")
_MOST_POINTS = 600


def curves(lines: Mapping[str, Points], *, x_name: str = "kimg", logarithmic: bool = False) -> str:
    """SVG of lines over one axis; "" if none has a point.

    Args:
        lines: points by the lines' names, in the order of the legend.
        x_name: what x counts.
        logarithmic: a logarithmic y axis, where all values are positive.
    """
    lines = {name: _thinned(points) for name, points in lines.items() if points}
    values = [y for points in lines.values() for _, y in points]
    if not values:
        return ""
    logarithmic = logarithmic and min(values) > 0
    low, high = (min(values), max(values)) if logarithmic else (min(0.0, *values), max(values))
    if high == low:
        high = low + (abs(low) or 1.0)
    else:
        high = high * 1.05 if logarithmic else high + 0.05 * (high - low)
    last = max(x for points in lines.values() for x, _ in points) or 1.0

    def share(y: float) -> float:
        if logarithmic:
            return (math.log(y) - math.log(low)) / (math.log(high) - math.log(low))
        return (y - low) / (high - low)

    def place(x: float, y: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share(y))
        return f"{across:.1f},{down:.1f}"

    drawn = []
    for i, (name, points) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        marks = " ".join(place(x, y) for x, y in points)
        if len(points) == 1:
            across, down = marks.split(",")
            drawn.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
        else:
            drawn.append(
                f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{marks}"/>'
            )
        column = _LEFT + (_WIDTH - _LEFT - _RIGHT) * i / len(lines)
        drawn.append(f'<text x="{column:.0f}" y="16" style="fill:{colour}">{text(name)}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" width="100%" '
        f'aria-label="{text(", ".join(lines))} over {text(x_name)}">'
        + _axes(low, high, last, x_name)
        + "".join(drawn)
        + "</svg>"
    )


def _axes(low: float, high: float, last: float, x_name: str) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    return (
        f'<path d="M{_LEFT},{_TOP} V{bottom} H{right}" fill="none" stroke="#9aa7b3"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{last:g} {text(x_name)}</text>'
    )


def _thinned(points: Points) -> Points:
    """At most so many points as a screen shows, each the mean of its neighbours."""
    if len(points) <= _MOST_POINTS:
        return points
    groups = [points[some] for some in neighbours(len(points), _MOST_POINTS)]
    return [(some[-1][0], sum(y for _, y in some) / len(some)) for some in groups]
