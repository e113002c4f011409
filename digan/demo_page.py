"""The demo's result page: one file with its videos inside, no server and no network."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

from digan.files import write_text

_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".gif": "image/gif"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2733; background: #fbfcfd; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
video, img { max-width: 100%; height: auto; border-radius: 4px; display: block; }
img { image-rendering: pixelated; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .25rem .9rem .25rem 0; }
th { text-align: left; font-weight: 600; } td.n { text-align: right;
       font-variant-numeric: tabular-nums; }
tr.best td { font-weight: 600; } p.note { color: #51606e; }
code { background: #eef2f5; padding: 0 .25rem; }
svg text { font: 12px system-ui, sans-serif; fill: #51606e; }
"""


def _embedded(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{_TYPES[path.suffix]};base64,{data}"


def _video(path: Path, caption: str) -> str:
    return (
        f'<figure><video src="{_embedded(path)}" controls loop muted autoplay playsinline>'
        f"</video><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _image(path: Path, caption: str) -> str:
    return (
        f'<figure><img src="{_embedded(path)}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


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


def _curves(rows: list[dict[str, Any]], names: dict[str, str]) -> str:
    """Line plots over kimg as inline SVG; names maps a statistic to its colour."""
    width, height, left, bottom = 720, 240, 46, 28
    points = {name: [(r["kimg"], r[name]) for r in rows if name in r] for name in names}
    values = [v for line in points.values() for _, v in line]
    if not values:
        return ""
    top, last = max(values) * 1.05 or 1.0, max(r["kimg"] for r in rows)

    def place(kimg: float, value: float) -> str:
        x = left + (width - left - 10) * kimg / last
        y = (height - bottom) * (1 - value / top) + 4
        return f"{x:.1f},{y:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" '
        f'points="{" ".join(place(k, v) for k, v in points[name])}"/>'
        f'<text x="{left + 10 + 150 * i}" y="16" style="fill:{colour}">{html.escape(name)}</text>'
        for i, (name, colour) in enumerate(names.items())
    )
    axis = (
        f'<line x1="{left}" y1="4" x2="{left}" y2="{height - bottom + 4}" stroke="#9aa7b3"/>'
        f'<line x1="{left}" y1="{height - bottom + 4}" x2="{width}" y2="{height - bottom + 4}" '
        f'stroke="#9aa7b3"/><text x="4" y="14">{top:.2g}</text>'
        f'<text x="{width - 80}" y="{height - 6}">{last:g} kimg</text>'
        f'<text x="4" y="{height - bottom + 4}">0</text>'
    )
    return f'<svg viewBox="0 0 {width} {height}" role="img" width="100%">{axis}{lines}</svg>'


def write_page(
    outdir: Path, run: Path, samples: Path, beyond: Path, metrics: list[dict[str, Any]]
) -> Path:
    """Writes outdir/index.html from what the demo made; returns its path.

    Args:
        outdir: the demo's folder. run: its run. samples, beyond: grids of videos.
        metrics: the first and the last row of fd-random3d.
    """
    first, last = metrics
    results = outdir / "results"
    stats = [
        json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    losses = {"G/loss": "#2f6fb3", "D/fake_loss": "#c2571a", "D/real_loss": "#3d8a4f"}
    body = [
        "<h1>digan demo</h1>",
        "<p>A generator that writes coordinate networks (x, y, t) &rarr; RGB, trained for "
        f"{last['kimg']:g} thousand pairs of frames of 32&times;32 pixels on this machine.</p>",
        "<h2>Generated videos</h2>",
        _video(
            samples,
            "Random samples, one row an hour of the day (a class), evaluated on a grid 4 times "
            "denser than in training",
        ),
        "<h2>Beyond the training clip</h2>",
        _video(beyond, "Six samples, four times as long as any clip seen in training"),
        "<h2>Real and generated, frame by frame</h2>",
        _image(results / "real.png", "Real clips, eight frames of each"),
        _image(results / "generated.png", "Generated clips, eight frames of each"),
        "<h2>What was learnt</h2>",
        _metric_table(first, last),
        '<p class="note">fd-random3d is a Fréchet distance in the features of a random network: '
        "comparable with the lines beside it, not with published FVD.</p>",
        _curves(stats, losses),
        "<h2>Next</h2>",
        "<p><code>digan generate --network "
        f"{html.escape(str(run))} --seeds 0-35 --grid 6x6</code></p>",
    ]
    page = outdir / "index.html"
    write_text(
        page,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>digan demo</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n",
    )
    return page
