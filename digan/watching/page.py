"""A run on one page: its state, its signs, its curves and its samples, in one file."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digan.data.progress import duration
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.files import write_text
from digan.showcase.page import Page, command, text
from digan.watching.curves import Points, curves
from digan.watching.history import History, read_history
from digan.watching.signs import METRIC, find_signs

REPORT = "report.html"
_SNAPSHOTS = 6  # of which samples are shown
_FRAMES, _VIDEOS = 8, 3  # of the newest samples

Frame = NDArray[np.uint8]  # [H, W, 3]

_PLOTS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("Losses", {"generator": "G/loss", "D on fakes": "D/fake_loss", "D on reals": "D/real_loss"},
     False),
    ("Logits", {"pairs, real": "D/real_video_logit", "pairs, fake": "D/fake_video_logit",
                "frames, real": "D/real_image_logit", "frames, fake": "D/fake_image_logit"}, False),
    ("Gradient norms", {"generator": "G/gradient_norm", "discriminators": "D/gradient_norm",
                        "R1": "D/r1_gradient_norm"}, True),
    ("R1: squared gradient by the input", {"pairs": "D/r1_video", "frames": "D/r1_image"}, True),
    ("Seconds a thousand samples", {"seconds": "seconds_per_kimg"}, False),
    ("Share of time waiting for data", {"share": "data_wait_share"}, False),
    ("Memory, GB", {"peak": "memory_gb"}, False),
)  # fmt: skip


def write_report(run: Path, path: Path | None = None) -> Path:
    """Writes the page of a run, by default RUN/report.html; returns its path.

    Raises:
        DiganError: the folder is no run; the page cannot be written.
    """
    history = read_history(run)
    path = path or history.run / REPORT
    write_text(path, report_page(history).html())
    return path


def report_page(history: History) -> Page:
    """The page of a run as it is now."""
    page = Page(history.run.name, [_lead(history)], navigation=False)
    _signs(page, history)
    _samples(page, history)
    _metrics(page, history)
    page.heading("Statistics", "statistics")
    plots = [
        _plot(title, {k: history.points(v) for k, v in names.items()}, logarithmic=logarithmic)
        for title, names, logarithmic in _PLOTS
    ]
    if any(plots):
        _together(page, "Over thousands of samples", plots, columns=2)
    else:
        page.raw('<p class="absent">No numbers yet.</p>')
    page.raw("</section>")
    _next(page, history)
    page.facts([(name, _setting(history, name)) for name in _SETTINGS])
    return page


_SETTINGS = ("preset", "resolution", "clip_frames", "batch", "precision", "gamma", "lr", "seed")


def _setting(history: History, name: str) -> str:
    return str(history.config.get(name, "unknown"))


def _lead(history: History) -> str:
    state = history.state[0].upper() + history.state[1:]
    words = f"{state} at {history.kimg:g} of {history.total:g} kimg"
    if seconds := history.points("seconds"):
        words += f", {duration(seconds[-1][1])} since it was started last"
    if history.state == "running" and (remaining := history.remaining) is not None:
        words += f", about {duration(remaining)} left"
    return words + "."


def _signs(page: Page, history: History) -> None:
    signs = find_signs(history)
    if not signs:
        return
    page.heading("Warnings", "warnings")
    for sign in signs:
        page.raw(
            f'<p class="absent"><b>{text(sign.name.capitalize())}.</b> {text(sign.text)} '
            f"{text(sign.cure)}</p>"
        )
    page.raw("</section>")


def _metrics(page: Page, history: History) -> None:
    if not history.metrics:
        return
    page.heading("Metrics", "metrics")
    for metric in history.metrics:
        lines: dict[str, Points] = {metric: history.metric_points(metric)}
        beside = ("floor", "shuffled", "frozen", "mean_frame") if metric == METRIC else ("floor",)
        for name in beside:
            lines[name.replace("_", " ")] = history.metric_points(metric, name)
        plots = [_plot("distance to the data", lines, logarithmic=True)]
        if metric == METRIC:
            shares = {
                "distance between videos": history.metric_points(metric, "pairwise_ratio"),
                "change per frame": history.metric_points(metric, "change_ratio"),
            }
            plots.append(_plot("diversity and motion, as shares of the data's", shares))
        _together(page, metric, plots, columns=2)
    page.raw("</section>")


def _samples(page: Page, history: History) -> None:
    files = history.sample_files()
    if not files:
        return
    page.heading("Samples", "samples")
    shown = [files[i] for i in sorted(set(_spread(len(files), _SNAPSHOTS)))]
    grids = [_picture(_first_frame, path, f"{kimg:g} kimg") for kimg, path in shown]
    _together(page, "First frames, from snapshot to snapshot", grids, columns=3)
    generator = history.config.get("generator")
    size = generator.get("resolution") if isinstance(generator, dict) else None
    strip = partial(_strip, size=size if isinstance(size, int) and size > 0 else 128)
    kimg, newest = files[-1]
    strips = [
        _picture(strip, newest, f"generated, {kimg:g} kimg"),
        _picture(strip, history.run / "reals.mp4", "real"),
    ]
    _together(page, f"{_FRAMES} frames of {_VIDEOS} videos", strips, columns=2)
    page.raw("</section>")


def _spread(count: int, wanted: int) -> list[int]:
    """Evenly spaced places from the first to the last of `count`."""
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def _first_frame(path: Path) -> Frame | None:
    decoding = decode_frames(path)
    first = next(decoding, None)
    decoding.close()
    return None if first is None else first.image


def _strip(path: Path, size: int) -> Frame | None:
    """Frames of a grid's first videos of `size` pixels, one row a video."""
    # Of the grid only these videos are kept: it may be large, and long.
    frames = [frame.image[: _VIDEOS * size, :size].copy() for frame in decode_frames(path)]
    if not frames:
        return None
    return np.concatenate([frames[i] for i in _spread(len(frames), _FRAMES)], axis=1)


def _picture(draw: Callable[[Path], Frame | None], path: Path, caption: str) -> str:
    """HTML of what is drawn of a video, or of why that is nothing."""
    try:
        picture = draw(path)
    except DiganError as error:
        picture, caption = None, f"{caption}: {error}"
    if picture is None:
        return f"<p>{text(caption)}</p>"
    return (
        f'<figure class="film"><img class="pixelated" src="{_png(picture)}" '
        f'alt="{text(caption)}"><figcaption>{text(caption)}</figcaption></figure>'
    )


def _together(page: Page, title: str, pieces: list[str], columns: int) -> None:
    """A card with a title and pieces of HTML side by side."""
    page.raw(
        f'<figure class="group"><h3>{text(title)}</h3>'
        f'<div class="films" style="--columns: {columns}; --columns-phone: 1">'
        + "".join(pieces)
        + "</div></figure>"
    )


def _plot(title: str, lines: Mapping[str, Points], *, logarithmic: bool = False) -> str:
    drawn = curves(lines, logarithmic=logarithmic)
    return drawn and f"<div><h3>{text(title)}</h3>{drawn}</div>"


def _png(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _next(page: Page, history: History) -> None:
    run = shlex.quote(str(history.run))
    page.heading("Next", "next")
    if history.state not in ("finished", "running"):
        page.raw("<p>The command that started it goes on with:</p>" + command("--resume auto"))
    page.raw(command(f"digan generate --network {run} --seeds 0-15 --grid 4x4"))
    page.raw("</section>")
