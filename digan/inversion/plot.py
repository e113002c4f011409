"""The curve of an inversion: numbers as CSV always, a picture where matplotlib is installed."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from digan.errors import DiganError
from digan.files import atomic_path
from digan.inversion.fit import Inversion
from digan.plotting import pyplot

_GREY, _BLUE, _ORANGE = "#b0b0b0", "#0072b2", "#e69f00"  # differ for colour-blind readers too


def write_curve(path: Path, inversion: Inversion) -> None:
    """Every step of every start as CSV: step, phase, start, loss, psnr (dB, of frames drawn).

    Raises:
        DiganError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "phase", "start", "loss", "psnr"])
        for row in inversion.history:
            rows.writerow([row.step, row.phase, row.start, f"{row.loss:.7g}", f"{row.psnr:.4f}"])


def plot_curve(path: Path, inversion: Inversion) -> None:
    """A picture of the loss and the PSNR against the step, the start that was kept in colour.

    Raises:
        DiganError: matplotlib is missing, with the cure; or the place cannot be written.
    """
    plt = pyplot()
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 6), sharex=True, constrained_layout=True
    )
    starts = sorted({row.start for row in inversion.history})
    for start in [*(s for s in starts if s != inversion.start), inversion.start]:
        own = [row for row in inversion.history if row.start == start]
        kept = start == inversion.start
        style = {"color": _BLUE if kept else _GREY, "linewidth": 1.2 if kept else 0.6}
        steps = [row.step for row in own]
        above.plot(steps, [row.loss for row in own], **style)
        below.plot(steps, [row.psnr for row in own], **style)
    above.plot([], [], color=_BLUE, label=f"start {inversion.start + 1} of {len(starts)}, kept")
    if len(starts) > 1:
        above.plot([], [], color=_GREY, label="starts that were dropped")
    checks = [(step, score) for step, score in inversion.checks if math.isfinite(score)]
    if checks:
        below.plot(
            *zip(*checks, strict=True), "o", color=_ORANGE, label="all observed frames, all pixels"
        )
        below.legend(loc="lower right")
    for axes in (above, below):
        _mark_phases(axes, inversion, named=axes is above)
        axes.grid(alpha=0.3)
    above.set(ylabel="loss", yscale="log")
    above.legend(loc="upper right")
    below.set(xlabel="step", ylabel="PSNR (dB)")
    above.set_title(
        f"{inversion.psnr:.1f} dB after {inversion.steps} steps: {inversion.ended}", pad=18
    )
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        plt.close(figure)


def _mark_phases(axes: Any, inversion: Inversion, *, named: bool) -> None:
    first: dict[str, int] = {}
    for row in inversion.history:
        first.setdefault(row.phase, row.step)
    for name, step in first.items():
        axes.axvline(step, color="black", linewidth=0.5, linestyle=":")
        if named:
            axes.text(
                step, 1.02, name, transform=axes.get_xaxis_transform(), fontsize=8, va="bottom"
            )
