"""The built site: whole, linked, readable without a network, and complete for the ops."""

from __future__ import annotations

import html
import inspect
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import digan.ops
from digan.cli import VERBS
from docs.settings_tables import settings_rows
from docs.shapes import shapes_in

pytestmark = pytest.mark.slow  # the build takes about 15 seconds

# What a browser fetches by itself, and where its address is.
FETCHED = {
    "script": "src", "img": "src", "source": "src", "video": "src", "audio": "src",
    "iframe": "src", "embed": "src", "object": "data",
}  # fmt: skip


class Page(HTMLParser):
    """The addresses in a page and the places that others may point to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.styles = ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self._inside = tag
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.styles += found.get("style") or ""
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") not in ("index", "search", "next", "prev"):
            self.fetched.append(found["href"])
        if found.get(FETCHED.get(tag, "")):
            self.fetched.append(found[FETCHED[tag]])

    def handle_data(self, data):
        if self._inside == "style":
            self.styles += data


@cache
def page_of(path: Path) -> Page:
    return Page(path)


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def is_external(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc) and not address.startswith(
        "data:"
    )


def text_of(path: Path) -> str:
    """What a reader sees, its white space folded."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", path.read_text("utf-8"))).split())


def test_internal_links_lead_somewhere(site):
    broken, seen = [], 0
    for path in pages(site):
        for address in page_of(path).links + page_of(path).fetched:
            parts = urlsplit(address)
            if is_external(address) or address.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            seen += 1
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {address}")
            elif parts.fragment and target.suffix == ".html":
                place = unquote(parts.fragment)
                if place and place not in page_of(target).ids:
                    broken.append(f"{path.relative_to(site)}: {address} has no such place")
    assert broken == []
    assert seen > 1000


def test_nothing_is_fetched_from_a_network(site):
    outside = [
        f"{path.relative_to(site)}: {address}"
        for path in pages(site)
        for address in page_of(path).fetched
        if is_external(address)
    ]
    styles = [(path, path.read_text("utf-8")) for path in site.rglob("*.css")]
    styles += [(path, page_of(path).styles) for path in pages(site)]
    outside += [
        f"{path.relative_to(site)}: {found}"
        for path, text in styles
        for found in re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\s)]+", text)
    ]
    assert outside == []
    assert list(site.rglob("*.css"))


@pytest.mark.parametrize("name", digan.ops.__all__)
def test_every_public_name_of_the_ops_is_documented(site, name):
    assert f"digan.ops.{name}" in page_of(site / "reference" / "ops.html").ids


def test_every_shape_of_a_public_op_is_on_the_page(site):
    text = text_of(site / "reference" / "ops.html")
    for name in digan.ops.__all__:
        found = getattr(digan.ops, name)
        if inspect.isfunction(found):
            for shape in shapes_in(inspect.getsource(found)).values():
                assert f"# {shape}" in text, f"{name}: {shape}"
    assert "modulated_linear( x: Tensor,  # [B, ..., I]".replace("  ", " ") in text


def test_every_setting_is_on_the_page(site):
    text = text_of(site / "reference" / "training.html")
    for row in settings_rows(digan.config.TrainConfig):
        for cell in row:
            assert cell in text


def test_every_verb_is_on_the_page(site):
    page = page_of(site / "reference" / "command_line.html")
    assert {"verb-" + verb.replace(" ", "-") for verb in VERBS} <= page.ids
    text = text_of(site / "reference" / "command_line.html")
    for verb in VERBS:
        assert f"usage: digan {verb} " in text


def test_formulas_are_drawn_by_the_browser(site):
    text = (site / "notes" / "model.html").read_text("utf-8")
    assert text.count("<math") > 20
    assert "$" not in text_of(site / "notes" / "model.html")
