"""The showcase's page without a browser: whole, alone, and no place for hostile names."""

from __future__ import annotations

import base64
import html
import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from digan.showcase.sections import SECTIONS
from tests.showcase.conftest import HOSTILE, Shown
from tests.showcase.reading import record_of


class Tags(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


@pytest.fixture(scope="session")
def tags(shown: Shown) -> Tags:
    return Tags(shown.page.read_text(encoding="utf-8"))


def frames_in(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_embedded_videos_are_whole(shown, tags):
    """As many frames as said, of the size said, H.264 in yuv420p, equal to the file beside."""
    videos = [attrs for tag, attrs in tags.found if tag == "video"]
    clips = [
        (name, clip)
        for name in SECTIONS
        for group in record_of(shown, name)["groups"]
        for clip in group["clips"]
    ]
    assert len(videos) == len(clips) > 20
    for attrs, (name, clip) in zip(videos, clips, strict=True):
        head, text = tags.scripts[attrs["data-media"]].split(",")
        assert head == "data:video/mp4;base64"
        data = base64.b64decode(text, validate=True)
        assert data == (shown.folder / "media" / name / clip["file"]).read_bytes()
        with av.open(io.BytesIO(data)) as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        frames = frames_in(data)
        assert len(frames) == clip["frames"] == int(attrs["data-frames"])
        assert frames[0].shape[:2] == (int(attrs["height"]), int(attrs["width"]))


def test_page_refers_to_nothing_outside(tags, shown):
    """Addresses are places of the page or data; nothing plays before it is asked to."""
    for tag, attrs in tags.found:
        for key in ("src", "href", "poster", "srcset", "action"):
            if attrs.get(key):
                assert re.match(r"#|data:", attrs[key]), (tag, key)
        assert not any(key.startswith("on") for key in attrs), (tag, attrs)
        if tag == "video":
            assert attrs["preload"] == "none"
            assert "autoplay" not in attrs
            assert "src" not in attrs
    style = shown.page.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_names_are_text(tags, shown):
    """Class names, the description and the file's name open no element."""
    text = shown.page.read_text(encoding="utf-8")
    assert sum(tag == "script" for tag, _ in tags.found) == len(tags.scripts) + 1
    assert [attrs for tag, attrs in tags.found if tag == "img"] == []
    for name in HOSTILE:
        assert html.escape(name) in text
    assert "<b>bold" not in text


def test_every_section_says_how(shown):
    """Every group has a line that makes it; every section says what it shows."""
    for name in SECTIONS:
        section = record_of(shown, name)
        assert section["text"].endswith((".", "!"))
        assert section["groups"]
        for group in section["groups"]:
            assert re.match(
                r"digan (generate|invert) --network |digan\.synthesis\.", group["command"]
            )
