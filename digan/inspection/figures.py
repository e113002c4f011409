"""The pictures of an inspection; what they show is computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digan.files import atomic_path
from digan.inspection.frames import FrameChange
from digan.inspection.frequencies import Frequencies
from digan.inspection.phases import Phases
from digan.plotting import pyplot

# Okabe and Ito's colours, which differ for colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c")
TRAINED = "#f0e9d2"  # shades the times of the training clip
LIMIT = "#b00020"  # lines at what a grid or a frame rate can show
MOST_LINES = len(COLOURS)  # videos that one plot tells apart
DPI = 110


def _save(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")
    pyplot().close(figure)
    return path


def _plain(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=11)
    axis.set_xlabel(x, fontsize=10)
    axis.set_ylabel(y, fontsize=10)
    axis.tick_params(labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _shade_clip(axis: Any, t: NDArray[np.float64]) -> None:
    """The training range, and the limits of what was evaluated."""
    axis.axvspan(0, 1, color=TRAINED, zorder=0, label="training clip")
    axis.set_xlim(t[0], t[-1])


def _outside_legend(axis: Any, title: str | None = None) -> None:
    axis.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False,
        title=title, title_fontsize=9, borderaxespad=0.2,
    )  # fmt: skip


# ---------------------------------------------------------------- frequencies


def draw_frequencies(found: Sequence[Frequencies], seeds: Sequence[int], path: Path) -> Path:
    """Per embedding: where the waves lie, how long they are, how content varies them."""
    figure, axes = pyplot().subplots(
        len(found), 3, figsize=(11.2, 3.4 * len(found)), squeeze=False, layout="constrained"
    )
    for (left, middle, right), one in zip(axes, found, strict=True):
        _scatter(left, one, seeds)
        _lengths(middle, one)
        _variation(right, one)
    return _save(figure, path)


def _scatter(axis: Any, one: Frequencies, seeds: Sequence[int]) -> None:
    for colour, seed, points in zip(COLOURS, seeds, one.cycles, strict=False):
        axis.scatter(*points.T, s=12, color=colour, alpha=0.75, linewidths=0, label=str(seed))
    shown = one.cycles[:MOST_LINES]
    reach = max(1.12 * float(np.abs(shown).max()), 1e-6)
    if reach > 0.7 * one.nyquist:  # else the square would leave the points no room
        reach = max(reach, 1.12 * one.nyquist)
        corners = one.nyquist * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
        axis.plot(*corners.T, color=LIMIT, linewidth=1, linestyle="--")
    axis.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    _plain(axis, f"{one.block}, grid of {one.grid}: waves",
           "fx (cycles per image)", "fy (cycles per image)")  # fmt: skip
    _outside_legend(axis, "content\nseed")


def _lengths(axis: Any, one: Frequencies) -> None:
    lengths = one.length.ravel()
    end = 1.3 * max(one.nyquist, float(lengths.max()))
    start = min(0.05, float(np.quantile(lengths, 0.01)) or 0.05)
    weights = np.full(lengths.size, 100 / lengths.size)
    bins = np.geomspace(start, end, 48)
    axis.hist(np.maximum(lengths, start), bins=bins, weights=weights, color=COLOURS[0])
    axis.set_xscale("log")
    axis.set_ylim(0, 1.12 * axis.get_ylim()[1])
    axis.xaxis.set_major_formatter("{x:g}")  # 10, not 10^1
    axis.axvline(one.nyquist, color=LIMIT, linestyle="--", linewidth=1.2)
    axis.annotate(
        f"limit of the grid, {one.nyquist:g}", (one.nyquist, 0.97), rotation=90, fontsize=9,
        xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points",
        ha="right", va="top", color=LIMIT,
    )  # fmt: skip
    middle = float(np.median(lengths))
    place = max(middle, start)  # a logarithmic axis has no 0
    axis.axvline(place, color="black", linewidth=1, linestyle=":")
    axis.annotate(
        f"median {middle:.2g}", (place, 0.98), xycoords=("data", "axes fraction"),
        xytext=(4, 0), textcoords="offset points", va="top", fontsize=9,
    )  # fmt: skip
    axis.set_xlim(start, end)
    _plain(axis, f"{one.block}: how fine, {len(one.cycles)} contents",
           "|f| (cycles per image)", "share of the waves (%)")  # fmt: skip


def _variation(axis: Any, one: Frequencies) -> None:
    mean, deviation = one.length.mean(axis=0), one.deviation
    axis.scatter(mean, deviation, s=14, color=COLOURS[2], alpha=0.8, linewidths=0)
    end = max(1.08 * float(max(mean.max(), deviation.max())), 1e-6)
    axis.plot([0, end], [0, end], color="#999999", linewidth=1, linestyle=":")
    axis.annotate(
        "as large as itself", (0.87 * end, 0.87 * end), rotation=45, fontsize=9, color="#666666",
        xytext=(-6, 6), textcoords="offset points", ha="center", va="center",
        rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip
    axis.set(xlim=(0, end), ylim=(0, end))
    _plain(axis, f"{one.block}: content changes {100 * one.share:.0f} %",
           "mean |f| of a wave (cycles per image)",
           "deviation (cycles per image)")  # fmt: skip


# ---------------------------------------------------------------- phases


def draw_phases(
    found: Sequence[Phases],
    frequencies: Sequence[Frequencies],
    content_seed: int,
    motion_seeds: Sequence[int],
    path: Path,
) -> Path:
    """Per embedding: every wave's phase over time for some motions, and how fast phases run.

    Args:
        found: phases of one content with several motions.
        frequencies: of the same videos; they colour the waves.
        content_seed, motion_seeds: their names.
    """
    shown = min(3, len(motion_seeds))
    lines = -(-(shown + 1) // 2)  # of panels, for one embedding
    figure, axes = pyplot().subplots(
        lines * len(found), 2, figsize=(9.6, 2.9 * lines * len(found) + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    figure.suptitle(f"phases that motion adds to the waves of content seed {content_seed}")
    for place, (phases, waves) in enumerate(zip(found, frequencies, strict=True)):
        panels = list(axes[place * lines : (place + 1) * lines].flat)
        _trajectories(figure, panels[:shown], phases, waves, motion_seeds)
        _speeds(panels[shown], phases, motion_seeds)
        for panel in panels[shown + 1 :]:
            panel.axis("off")
    return _save(figure, path)


def _trajectories(
    figure: Any, axes: list[Any], phases: Phases, waves: Frequencies, motion_seeds: Sequence[int]
) -> None:
    plt = pyplot()
    colours = plt.cm.ScalarMappable(plt.Normalize(0, float(waves.length.max())), "viridis")
    moved = phases.moved[: len(axes)]
    low, high = float(moved.min()), float(moved.max())
    room = 0.05 * max(high - low, 1e-6)
    for place, axis in enumerate(axes):
        for wave in np.argsort(waves.length[place]):
            axis.plot(
                phases.t, moved[place, :, wave], linewidth=0.9, alpha=0.8,
                color=colours.to_rgba(waves.length[place, wave]),
            )  # fmt: skip
        _shade_clip(axis, phases.t)
        axis.set_ylim(low - room, high + room)
        _plain(axis, f"{phases.block}: motion seed {motion_seeds[place]}", "time (clip lengths)",
               "phase since t = 0 (radians)")  # fmt: skip
    # Beside its panel whatever the legend below it leaves of the width.
    bar = figure.colorbar(colours, cax=axes[:2][-1].inset_axes([1.03, 0, 0.035, 1]))
    bar.set_label("|f| (cycles per image)", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _speeds(axis: Any, phases: Phases, motion_seeds: Sequence[int]) -> None:
    middles = (phases.t[1:] + phases.t[:-1]) / 2
    for colour, seed, speed in zip(COLOURS, motion_seeds, phases.speed, strict=False):
        axis.plot(middles, speed, color=colour, linewidth=1.4, label=str(seed))
    top = float(phases.speed[:MOST_LINES].max())
    if top > 1:
        axis.axhline(np.pi, color=LIMIT, linestyle="--", linewidth=1, label="half a turn")
    _shade_clip(axis, phases.t)
    axis.set_ylim(0, max(1.1 * top, 1e-6))
    _plain(axis, f"{phases.block}: speed, rms over the waves",
           "time (clip lengths)", "radians per frame")  # fmt: skip
    _outside_legend(axis, "motion\nseed")


# ---------------------------------------------------------------- change over time


def draw_change(found: FrameChange, seeds: Sequence[int], path: Path) -> Path:
    """Change per frame over time, and under it rows of pixels over the same times."""
    slices = min(4, len(seeds))
    figure, axes = pyplot().subplots(
        1 + slices, 1, figsize=(10, 3.1 + 1.35 * slices), squeeze=False, layout="constrained",
        sharex=True, height_ratios=[2.3] + [1] * slices,
    )  # fmt: skip
    top, *rows = axes[:, 0]
    middles = (found.t[1:] + found.t[:-1]) / 2
    for colour, seed, change in zip(COLOURS, seeds, found.change, strict=False):
        top.plot(middles, change, color=colour, linewidth=1.5, label=str(seed))
    _shade_clip(top, found.t)
    top.set_ylim(0)
    _plain(top, "change from a frame to the next", "",
           "mean |difference|\n(grey levels of 255)")  # fmt: skip
    _outside_legend(top, "content\nseed")
    width = found.slices.shape[2]
    half = (found.t[1] - found.t[0]) / 2
    for place, axis in enumerate(rows):
        axis.imshow(
            found.slices[place].swapaxes(0, 1), aspect="auto", interpolation="nearest",
            extent=(found.t[0] - half, found.t[-1] + half, width, 0),
        )  # fmt: skip
        for end in (0, 1):
            axis.axvline(end, color="white", linewidth=1.2, linestyle="--")
        title = "the middle row of every frame over time; dashed: the training clip"
        _plain(axis, title if place == 0 else "", "", f"seed {seeds[place]}\nx (pixels)")
    top.set_xlim(found.t[0] - half, found.t[-1] + half)
    rows[-1].set_xlabel("time (clip lengths)", fontsize=10)
    return _save(figure, path)


# ---------------------------------------------------------------- blocks and weights


def draw_blocks(
    pictures: dict[str, NDArray[np.float64]],
    added: dict[str, NDArray[np.float64]],
    t: float,
    seeds: Sequence[int],
    path: Path,
) -> Path:
    """The picture after every block and what the block added, for some videos.

    Args:
        pictures, added: [B, 2, S, S, 3] by block: a frame, which is drawn, and the next.
        t: time of the frame. seeds: of the videos.
    """
    shown = min(3, len(seeds))
    figure, axes = pyplot().subplots(
        2 * shown, len(pictures), figsize=(1.75 * len(pictures) + 0.6, 3.9 * shown + 0.9),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    figure.suptitle(f"the picture block by block, at t = {t:.2f} clip lengths", fontsize=11)
    for column, (name, picture) in enumerate(pictures.items()):
        for video in range(shown):
            above, below = axes[2 * video : 2 * video + 2, column]
            for axis, values in ((above, picture[video, 0]), (below, added[name][video, 0])):
                axis.imshow(np.clip((values + 1) / 2, 0, 1), interpolation="nearest")
                axis.set(xticks=[], yticks=[])
            if video == 0:
                side = picture.shape[2]
                above.set_title(f"{name}\n{side} x {side} pixels", fontsize=9)
            part = added[name][video]
            change = 127.5 * np.abs(np.diff(part, axis=0)).mean()
            below.set_xlabel(
                f"rms {grey_rms(part):.0f} of 255\nchanges {change:.2g} a frame", fontsize=9
            )
            if column == 0:
                above.set_ylabel(f"seed {seeds[video]}\nafter the block", fontsize=9)
                below.set_ylabel("added by it\n(grey: nothing)", fontsize=9)
    return _save(figure, path)


def grey_rms(values: NDArray[np.float64]) -> float:
    """Root mean square of colours in [-1, 1], in grey levels of 255."""
    return 127.5 * float(np.sqrt(np.square(values).mean()))


def draw_weights(
    frequencies: Sequence[Frequencies], layers: dict[str, float], contents: int, path: Path
) -> Path:
    """Content's share of everything that the generator writes, as bars."""
    rows = [(f"{one.block} frequencies", one.share, COLOURS[2]) for one in frequencies]
    for name, share in layers.items():
        colour = COLOURS[1] if name.endswith("rgb") else COLOURS[0]
        kind = "to RGB" if name.endswith("rgb") else f"layer {name.split('.')[1]}"
        rows.append((f"{name.split('.')[0]} {kind}", share, colour))
    figure, axis = pyplot().subplots(figsize=(7.5, 0.24 * len(rows) + 1.1), layout="constrained")
    for place, (_, share, colour) in enumerate(rows):
        axis.barh(place, 100 * share, color=colour, height=0.75)
        axis.text(100 * share, place, f" {100 * share:.0f}", va="center", fontsize=9)
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, max(110, 112 * max(share for _, share, _ in rows)))
    axis.axvline(100, color="#999999", linestyle=":", linewidth=1)
    axis.annotate(
        "contents have nothing in common", (100, 0.5), xycoords=("data", "axes fraction"),
        xytext=(3, 0), textcoords="offset points", rotation=90, va="center", fontsize=9,
        color="#666666",
    )  # fmt: skip
    _plain(axis, f"what content changes of what is written, over {contents} contents",
           "standard deviation over contents / rms (%)", "")  # fmt: skip
    return _save(figure, path)
