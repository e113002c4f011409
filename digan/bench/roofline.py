"""The roofline: what each op reaches, over the operations that it has for every byte.

An op of x operations a byte cannot be faster than min(matrix-product rate, x * copy rate), both
measured in the same run. Bytes are those that any implementation must move: inputs, outputs and
gradients once. Points on the slope are bound by memory, points under the flat part by arithmetic,
and what is above the slope stays in a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from digan.bench.rows import Results, Row

OURS = ("fused", "reference", "CoordMLP")  # the first that a case has
FORMS = {" +backward": "s", " gradients": "^", "": "o"}
MEANING = {"o": "forward", "s": "forward and backward", "^": "gradients alone"}
# Numbers stand right of forward points, left of those with gradients and below gradients alone,
# as the forms of one case often lie close together.
_BESIDE = {"o": (5, 0), "s": (-11, -1), "^": (-2, -11)}
# Okabe and Ito's colours and two more.
_COLOURS = ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#000000",
            "#8c6bb1", "#8c8c8c")  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One case of one precision.

    Attributes:
        label: the case without its form. marker: of the form.
        intensity: operations a byte. rate: operations a second.
        share: of the roof above it, 1 at the machine's limit.
    """

    label: str
    marker: str
    intensity: float
    rate: float
    share: float


@dataclass(frozen=True)
class Roof:
    """Ceilings of one precision: operations a second, bytes a second."""

    flops: float
    copy: float

    @property
    def ridge(self) -> float:
        """Operations a byte above which arithmetic is the limit."""
        return self.flops / self.copy

    def at(self, intensity: float) -> float:
        """The rate that cannot be passed."""
        return min(self.flops, intensity * self.copy)


def roof_of(results: Results, precision: str) -> Roof | None:
    """Medians over the run's processes; None if the precision was not measured."""
    rates = [c["flops"][precision] for c in results.ceilings if precision in c["flops"]]
    if not rates:
        return None
    copy = float(np.median([c["copy"] for c in results.ceilings]))
    return Roof(float(np.median(rates)), copy)


def points_of(results: Results, precision: str, roof: Roof) -> list[Point]:
    """Every op and every form of it by our best provider; the tuned allocator's where measured."""
    chosen: dict[str, Row] = {}
    for row in results.rows:
        if row.section not in ("ops", "generator") or row.precision != precision:
            continue
        if not (row.samples and row.flops and row.bytes) or _provider(row) not in OURS:
            continue
        known = chosen.get(row.case)
        if known is None or _rank(row) < _rank(known):
            chosen[row.case] = row
    found = []
    for case, row in chosen.items():
        assert row.flops is not None
        assert row.bytes is not None
        form = next(form for form in FORMS if case.endswith(form))
        intensity, rate = row.flops / row.bytes, row.flops / row.median
        label = case.removesuffix(form)
        if row.section == "generator":
            label = f"generator {label}"
        found.append(Point(label, FORMS[form], intensity, rate, rate / roof.at(intensity)))
    return found


def _provider(row: Row) -> str:
    """Without the setting of the environment that it may be labelled with."""
    return row.provider.split()[0]


def _rank(row: Row) -> tuple[int, int, float]:
    return OURS.index(_provider(row)), 0 if row.allocator == "tuned" else 1, row.median


def draw_roofline(plt: Any, results: Results) -> Any:
    """A panel a precision; None if nothing has operations and bytes."""
    panels = []
    for precision in results.options["precisions"]:
        roof = roof_of(results, precision)
        points = points_of(results, precision, roof) if roof else []
        if roof and points:
            panels.append((precision, roof, points))
    if not panels:
        return None
    labels = list(dict.fromkeys(p.label for _, _, points in panels for p in points))
    names = list(dict.fromkeys(label.split()[0] for label in labels))
    colour = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.4 * len(panels), 4.6 + 0.15 * len(labels) / 2), squeeze=False,
        layout="constrained", sharey=True,
    )  # fmt: skip
    for axis, (precision, roof, points) in zip(axes.flat, panels, strict=True):
        _panel(axis, precision, roof, points, labels, colour)
    rates = [p.rate for _, _, points in panels for p in points]
    top = max(*rates, *(roof.flops for _, roof, _ in panels))
    axes[0, 0].set_ylim(min(rates) / 2, 3 * top)  # of all panels: they share it
    axes[0, 0].set_ylabel("operations a second")
    handles = [
        plt.Line2D([], [], color=colour[label.split()[0]], marker="o", linestyle="", markersize=4)
        for label in labels
    ]
    texts = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    markers = list(dict.fromkeys(p.marker for _, _, points in panels for p in points))
    handles += [
        plt.Line2D([], [], color="black", marker=m, linestyle="", markersize=4) for m in markers
    ]
    texts += [MEANING[m] for m in markers]
    figure.legend(handles, texts, loc="outside lower center", ncols=2, fontsize=6.5)
    figure.suptitle(
        f"{results.machine['name']}, {results.machine['threads']} threads, torch "
        f"{results.machine['versions']['torch']}, commit {results.machine['commit']}",
        fontsize=9,
    )
    return figure


def _panel(
    axis: Any, precision: str, roof: Roof, points: list[Point], labels: list[str],
    colour: dict[str, str],
) -> None:  # fmt: skip
    intensities = [p.intensity for p in points]
    low = min(*intensities, roof.ridge) / 2
    high = max(*intensities, roof.ridge) * 3
    axis.plot(
        [low, roof.ridge, high], [roof.at(low), roof.flops, roof.flops], color="#d55e00",
        linewidth=1.3,
    )  # fmt: skip
    axis.annotate(
        f"matrix product {_rate(roof.flops)}", (high, roof.flops), ha="right", va="bottom",
        fontsize=7, color="#d55e00", xytext=(0, 2), textcoords="offset points",
    )  # fmt: skip
    axis.annotate(
        f"copy {roof.copy / 1e9:,.3g} GB/s", (low, roof.at(low)), fontsize=7, color="#d55e00",
        xytext=(4, 14), textcoords="offset points",
    )  # fmt: skip
    for p in points:
        name = p.label.split()[0]
        axis.plot(p.intensity, p.rate, p.marker, color=colour[name], markersize=5, alpha=0.85)
        axis.annotate(
            str(labels.index(p.label) + 1), (p.intensity, p.rate), fontsize=6,
            xytext=_BESIDE[p.marker], textcoords="offset points",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    axis.set_xlabel("operations a byte")
    axis.set_title(precision, fontsize=9)
    axis.grid(visible=True, which="major", alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _rate(flops: float) -> str:
    return f"{flops / 1e12:,.3g} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:,.3g} GFLOP/s"
