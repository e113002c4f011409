"""The demo's result page: one file with its videos inside, no server and no network.

It is made of the pieces of the showcase's page, whose videos start when they are seen.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from PIL import Image

from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.files import write_text
from digan.showcase.media import POSTER, Clip, Group
from digan.showcase.page import Page, command
from digan.watching.curves import curves
from digan.watching.history import History, number, read_history

_NUMBERS = (
    "fd-random3d", "floor", "shuffled", "frozen", "mean_frame", "pairwise_ratio", "change_ratio",
)  # fmt: skip


def _metric_table(first: dict[str, Any], last: dict[str, Any]) -> str:
    """fd-random3d at both ends of training, among its controls, the best on top."""
    start, end = first["results"], last["results"]
    rows = [
        ("generated, before training", start["fd-random3d"], False),
        ("generated, after training", end["fd-random3d"], True),
        ("floor: real against real", end["floor"], False),
        ("real clips shuffled in time", end["shuffled"], False),
        ("real clips frozen at frame 0", end["frozen"], False),
        ("the data's mean frame held still", end["mean_frame"], False),
    ]
    cells = "".join(
        f'<tr{" class=best" if mark else ""}><td>{name}</td><td class="n">{value:.3f}</td></tr>'
        for name, value, mark in sorted(rows, key=lambda row: row[1])
    )
    return (
        f"<table><tr><th>videos</th><th>fd-random3d</th></tr>{cells}</table>"
        f"<p>Distance between videos: {end['pairwise_ratio']:.2f} of the data's. "
        f"Change per frame: {end['change_ratio']:.2f} of the data's.</p>"
    )


def _both_ends(history: History) -> list[dict[str, Any]]:
    """The first and the last row of fd-random3d."""
    rows = history.metrics.get("fd-random3d", [])
    ends = [rows[i] for i in (0, -1) if rows and isinstance(rows[i].get("results"), dict)]
    if len(ends) < 2 or any(
        number(row["results"].get(n)) is None for row in ends for n in _NUMBERS
    ):
        raise DiganError(
            f"{history.run} has not measured fd-random3d at both ends: delete it and repeat"
        )
    return ends


def _group(path: Path, caption: str) -> Group:
    """A video file alone in its group; its first frame is written beside it."""
    decoding = decode_frames(path)
    first = next(decoding)
    count = 1 + sum(1 for _ in decoding)
    try:
        Image.fromarray(first.image).save(path.with_suffix(POSTER), quality=80)
    except OSError as error:
        raise DiganError(f"{path.with_suffix(POSTER)} cannot be written: {error}") from error
    height, width = first.image.shape[:2]
    clip = Clip(path.name, caption, width, height, count, decoding.info.fps)
    return Group("", "", (clip,), columns=(1, 1))


def write_page(outdir: Path, run: Path, samples: Path, beyond: Path) -> Path:
    """Writes outdir/index.html from what the demo made; returns its path.

    Args:
        outdir: the demo's folder. run: its run. samples, beyond: grids of videos.

    Raises:
        DiganError: the run cannot be read, or holds no numbers of fd-random3d.
    """
    history = read_history(run)
    first, last = _both_ends(history)
    results = outdir / "results"
    losses = {name: history.points(name) for name in ("G/loss", "D/fake_loss", "D/real_loss")}
    page = Page(
        "digan demo",
        [
            "A generator that writes coordinate networks (x, y, t) → RGB, trained for "
            f"{last['kimg']:g} thousand pairs of frames of 32×32 pixels on this machine."
        ],
        navigation=False,
    )
    page.heading("Generated videos", "samples")
    caption = (
        "Random samples, one row an hour of the day (a class), evaluated on a grid 4 times denser "
        "than in training"
    )
    page.group(_group(samples, caption), samples.parent)
    page.raw("</section>")
    page.heading("Beyond the training clip", "beyond")
    caption = "Six samples, four times as long as any clip seen in training"
    page.group(_group(beyond, caption), beyond.parent)
    page.raw("</section>")
    page.heading("Real and generated, frame by frame", "frames")
    page.image(results / "real.png", "Real clips, eight frames of each")
    page.image(results / "generated.png", "Generated clips, eight frames of each")
    page.raw("</section>")
    page.heading("What was learnt", "metrics")
    page.raw(_metric_table(first, last))
    page.raw(
        '<p class="soft">fd-random3d is a Fréchet distance in the features of a random network: '
        "comparable with the lines beside it, not with published FVD.</p>"
    )
    page.raw(curves(losses) + "</section>")
    page.heading("Next", "next")
    network = shlex.quote(str(run))
    page.raw(command(f"digan showcase --network {network} --out showcase"))
    page.raw(command(f"digan generate --network {network} --seeds 0-35 --grid 6x6"))
    page.raw("</section>")
    path = outdir / "index.html"
    write_text(path, page.html())
    return path
