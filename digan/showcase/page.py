"""One HTML file that plays without a server and without a network, videos inside.

Text and first frames come first; the videos follow as base64 at the end of the file, so that a
reader sees the page before all of it is there. Whatever text is given is escaped here.
"""

from __future__ import annotations

import base64
import html
import re
import string
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from digan.showcase.media import POSTER, Clip, Group, Section

_TYPES = {
    ".mp4": "video/mp4", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp",
}  # fmt: skip
_EDGE = 1e-9  # times this close to 0 and 1 are within the clip
_WIDEST = 520  # CSS pixels to which any video may be enlarged
_ENLARGED = 2  # most CSS pixels for one of a larger video's


def text(value: object) -> str:
    """What may stand in HTML, in text and in quoted attributes."""
    return html.escape(str(value), quote=True)


def data_uri(path: Path) -> str:
    """A file as a data: address."""
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{_TYPES[path.suffix]};base64,{encoded}"


def number(value: float) -> str:
    """A number as people write it: 8, 12.5."""
    return f"{value:g}"


def command(lines: str) -> str:
    """HTML of command lines, whose flags are not broken at their hyphens."""
    marked = re.sub(r"(?<!\S)--[\w-]+(=[\w.+-]+)?", r"<span>\g<0></span>", text(lines))
    return f"<pre><code>{marked}</code></pre>"


class Page:
    """A page in the making; `html()` is its text.

    Args:
        title: of the page. lead: paragraphs under it. navigation: whether sections are linked.
    """

    def __init__(self, title: str, lead: Sequence[str] = (), *, navigation: bool = True) -> None:
        self._title = title
        self._lead = tuple(lead)
        self._navigation = navigation
        self._body: list[str] = []
        self._links: list[tuple[str, str]] = []
        self._media: list[str] = []
        self._footer: list[str] = []

    def section(self, section: Section) -> None:
        """Adds a section with its videos."""
        self.heading(section.title, section.name)
        self._body.append(f"<p>{text(section.text)}</p>" if section.groups else _absent(section))
        for group in section.groups:
            self.group(group, section.folder)
        self._body.append("</section>")

    def heading(self, title: str, name: str) -> None:
        """Begins a section that the caller fills and ends with `raw("</section>")`."""
        self._links.append((name, title))
        self._body.append(f'<section id="{text(name)}" aria-label="{text(title)}">')
        self._body.append(f"<h2>{text(title)}</h2>")

    def group(self, group: Group, folder: Path) -> None:
        """Adds videos that play in step."""
        finest = max(group.clips, key=lambda clip: clip.frames)  # whose frames are counted
        wide, narrow = group.columns
        times = group.times or ()
        marks = f' data-times="{" ".join(f"{t:.4g}" for t in times)}"' if times else ""
        films = "".join(self._film(clip, folder) for clip in group.clips)
        self._body.append(
            f'<figure class="group" data-frames="{finest.frames}" data-fps="{finest.fps:.6g}"'
            f'{marks} style="--columns: {wide}; --columns-phone: {narrow}">'
            + (f"<h3>{text(group.title)}</h3>" if group.title else "")
            + (f"<p>{text(group.text)}</p>" if group.text else "")
            + f'<div class="films"{_proportions(group)}>{films}</div>'
            + (f'<p class="soft measured">{text(group.measured)}</p>' if group.measured else "")
            + _bar(finest, times, group.title)
            + (command(group.command) if group.command else "")
            + "</figure>"
        )

    def _film(self, clip: Clip, folder: Path) -> str:
        path = folder / clip.file
        name = f"media-{len(self._media) + 1}"
        self._media.append(
            f'<script type="text/plain" id="{name}">{data_uri(path)}</script>'
        )  # fmt: skip
        # No-break spaces: a line of them is broken between facts only.
        facts = (
            f"{clip.width}×{clip.height}, {clip.frames}\u00a0frames, {number(clip.fps)}\u00a0fps"
        )
        return (
            f'<figure class="film" style="--widest: {max(clip.width * _ENLARGED, _WIDEST)}px">'
            f'<video class="{"pixelated" if clip.pixelated else "smooth"}" muted playsinline '
            f'disablepictureinpicture preload="none" width="{clip.width}" height="{clip.height}" '
            f'data-media="{name}" data-frames="{clip.frames}" data-fps="{clip.fps:.6g}" '
            f'poster="{data_uri(path.with_suffix(POSTER))}" aria-label="{text(clip.caption)}">'
            f"</video><figcaption>{text(clip.caption)} <small>{facts}</small></figcaption></figure>"
        )

    def image(self, path: Path, caption: str) -> None:
        """Adds a picture, enlarged without smoothing."""
        self._body.append(
            '<figure class="group"><div class="film">'
            f'<img class="pixelated" src="{data_uri(path)}" alt="{text(caption)}"></div>'
            f"<figcaption>{text(caption)}</figcaption></figure>"
        )

    def raw(self, markup: str) -> None:
        """Adds HTML as it is: what it names must have gone through `text`."""
        self._body.append(markup)

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Adds names with their values to the end of the page."""
        cells = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows)
        self._footer.append(f"<dl>{cells}</dl>")

    def html(self) -> str:
        """The whole file."""
        assets = files("digan.showcase") / "assets"
        links = "".join(f'<li><a href="#{text(n)}">{text(t)}</a></li>' for n, t in self._links)
        nav = (
            f'<nav aria-label="Sections"><div><ul>{links}</ul>'
            '<button type="button" id="all" hidden>Pause all</button></div></nav>'
        )
        lead = "".join(f"<p>{text(line)}</p>" for line in self._lead)
        template = string.Template((assets / "page.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=text(self._title),
            style=(assets / "page.css").read_text(encoding="utf-8"),
            script=(assets / "page.js").read_text(encoding="utf-8"),
            header=f"<h1>{text(self._title)}</h1>{lead}",
            nav=nav if self._navigation else "",
            body="\n".join(self._body),
            footer="".join(self._footer),
            media="\n".join(self._media),
        )


def _proportions(group: Group) -> str:
    """Columns as wide as their videos, where these are shown to scale."""
    if not group.to_scale:
        return ""
    widths = " ".join(f"{clip.width}fr" for clip in group.clips)
    most = max(clip.width for clip in group.clips)
    shares = " ".join(
        f"--share-{i}: {clip.width / most:.2%};" for i, clip in enumerate(group.clips, 1)
    )
    return f' data-scaled style="--widths: {widths}; {shares}"'


def _absent(section: Section) -> str:
    return f'<p class="absent">{text(section.text)}</p>'


def _bar(finest: Clip, times: Sequence[float], title: str) -> str:
    """Play and pause, the ruler of time, speed and size, for all videos of a group."""
    inside = [i for i, t in enumerate(times) if -_EDGE <= t <= 1 + _EDGE]
    last = max(finest.frames - 1, 1)
    begin, end = (inside[0] / last, inside[-1] / last) if inside else (0.0, 1.0)
    beyond = bool(times) and len(inside) < len(times)
    legend = (
        '<p class="legend soft"><i class="within"></i>within the training clip'
        '<i class="beyond"></i>beyond it</p>'
    )
    speeds = "".join(
        f'<option value="{value}">{name}</option>'
        for value, name in ((1, "1× speed"), (0.5, "½ speed"), (0.25, "¼ speed"))
    )
    about = text(title or finest.caption)
    return (
        '<div class="bar"><button type="button" class="play">Play</button>'
        f'<input class="ruler" type="range" min="0" max="{finest.frames - 1}" step="1" value="0" '
        f'aria-label="Frame of {about}" style="--from: {begin:.2%}; --to: {end:.2%}">'
        "<output></output>"
        f'<select aria-label="Speed of {about}">{speeds}</select>'
        '<button type="button" class="larger" aria-pressed="false">Larger</button></div>'
        + (legend if beyond else "")
    )
