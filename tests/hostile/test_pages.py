"""Every page that is written: whatever its names are, they are text.

Two pages are compared as a browser parses them: one of names that are markup, code or addresses,
one of plain names. Their elements, attributes and scripts must be the same but for the names.
"""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from digan.config import to_dict
from digan.demo_page import write_page
from digan.nn.model_card import Metric, ModelCard
from digan.nn.snapshot import NetworkInfo
from digan.showcase.media import Clip, Group, Section
from digan.showcase.page import Page
from digan.watching import write_report
from digan.watching.curves import curves
from tests.hostile.strategies import rounds
from tests.tiny_runs import tiny_config, tiny_network
from tests.watching.made import made_run, made_samples

PLAIN = "plain"
EVIL = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    '" onload="alert(1)" x="',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</pre></code><iframe src=//evil.example>",
    "--><b>--x=<i>",
    "--flag=\"><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;b&#62;",
    "$title ${media} $$ {0} %s",
    "]]><![CDATA[<b>",
    "</style><style>*{background:url(//evil.example)}",
    "a\u2028b\u202ec\ufeff<b>",
)  # fmt: skip
ADDRESSES = {"src", "href", "poster", "srcset", "action", "formaction", "data", "xlink:href"}


class Parsed(HTMLParser):
    """The elements of a page, their attributes, its text, its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.code: list[str] = []  # scripts and styles, as they are
        self._in = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]
        self._in = tag

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}", ()))
        self._in = ""

    def handle_data(self, data):
        (self.code if self._in in ("script", "style") else self.texts).append(data)

    def handle_comment(self, data):
        self.elements.append((f"comment {data}", ()))

    def handle_decl(self, decl):
        self.elements.append((f"declaration {decl}", ()))

    unknown_decl = handle_pi = handle_decl

    @property
    def shown(self) -> str:
        """All text that a reader may see or hear."""
        return " ".join([*self.texts, *(value for _, value in self.attributes)])


def only_text(evil_page: str, plain_page: str, *names: str) -> None:
    """Complains of names that are more than text, and of names that are not shown."""
    evil, plain = Parsed(evil_page), Parsed(plain_page)
    assert evil.elements == plain.elements
    assert evil.code == plain.code
    for name, value in evil.attributes:
        assert not name.startswith("on"), (name, value)
        if name in ADDRESSES:
            assert re.match(r"#|data:(image|video)/[a-z0-9+]+;base64,|data:,$", value), value[:80]
    for name in names:
        assert name in evil.shown


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for suffix in (".webp", ".png"):
        Image.new("RGB", (8, 8)).save(folder / f"a{suffix}")
    (folder / "a.mp4").write_bytes(b"video")
    return folder


def every_piece(folder: Path, name: str) -> str:
    """A page of everything that the pages are made of, with a name in every place for text."""
    page = Page(name, [name])
    clip = Clip("a.mp4", name, 8, 8, 5, 10.0)
    group = Group(name, name, (clip, clip), name, (0.0, 0.5, 1.0, 1.5, 2.0), (2, 1), True, name)
    page.section(Section(name, name, name, (group,), folder))
    page.section(Section(name, name, name, (), folder))
    page.image(folder / "a.png", name)
    page.facts([(name, name)])
    page.raw(curves({name: [(0.0, 1.0), (1.0, 2.0)]}, x_name=name))
    return page.html()


@rounds(60)
@given(name=st.one_of(st.sampled_from(EVIL), st.text(min_size=1, max_size=12),
                      st.text(alphabet="<>/\"'&=;!-$`#x3 s", min_size=1, max_size=16)))  # fmt: skip
def test_every_piece_of_a_page(media, name):
    # A flag of a command line has an element of its own, which is why these are left out of text.
    plain = re.sub(r"(?<!\S)--[\w-]+(=[\w.+-]+)?", "--x", name)
    plain = "".join(c if c.isspace() or c in "-x" else "p" for c in plain)
    if len(re.findall(r"(?<!\S)--[\w-]+", plain)) != len(re.findall(r"(?<!\S)--[\w-]+", name)):
        plain = PLAIN
        name = name.replace("--", "+")
    only_text(every_piece(media, name), every_piece(media, plain))


@pytest.mark.parametrize("name", EVIL)
def test_names_are_shown_as_they_are(media, name):
    assert name in Parsed(every_piece(media, name)).shown


def report(folder: Path, name: str) -> str:
    """The report of a run whose status, log, settings, metric and name are a name."""
    run = made_run(folder, status={"reason": name}, metric=[{"fd-random3d": 9.0}],
                   log=f"WARNING: {name} non-finite\n")  # fmt: skip
    config = to_dict(tiny_config(kimg=100.0, resolution=32))
    settings = ("preset", "resolution", "clip_frames", "batch", "precision", "gamma", "lr", "seed")
    (run / "config.yaml").write_text(json.dumps(config | dict.fromkeys(settings, name)))
    metric = "z" + name.replace("/", "∕")  # the last of the metrics, whatever it is called
    (run / f"metric-{metric}.jsonl").write_text(
        json.dumps({"kimg": 1, "results": {metric: 2.0}}) + "\n"
    )
    made_samples(run, 0)
    renamed = run.with_name("00000-" + name.replace("/", "∕"))
    run.rename(renamed)
    return write_report(renamed).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EVIL[:8])
def test_the_report_of_a_run(tmp_path, name):
    name = name.replace("--", "+")  # flags of the command lines have elements of their own
    only_text(report(tmp_path / "evil", name), report(tmp_path / "plain", PLAIN),
              name, name.replace("/", "∕"))  # fmt: skip


def demo_page(folder: Path, name: str) -> str:
    """The demo's page of a run in a folder of a name, with a name in its rows."""
    results = folder / name / "results"
    results.mkdir(parents=True)
    for sheet in ("real", "generated"):
        Image.new("RGB", (8, 8)).save(results / f"{sheet}.png")
    run = made_run(folder / name, metric=[{"fd-random3d": 9.0, name: name}, {"fd-random3d": 4.0}])
    made_samples(run, 0)
    for video in ("samples", "beyond"):
        (results / f"{video}.mp4").write_bytes((run / "fakes000000.mp4").read_bytes())
    samples, beyond = results / "samples.mp4", results / "beyond.mp4"
    return write_page(folder / name, run, samples, beyond).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in EVIL if "/" not in name and "--" not in name])
def test_the_page_of_the_demo(tmp_path, name):
    evil, plain = demo_page(tmp_path / "evil", name), demo_page(tmp_path / "plain", PLAIN)
    only_text(evil, plain, f"{tmp_path / 'evil' / name}"[-20:].replace("'", "'\"'\"'"))


def markup(text: str) -> list[str]:
    """What Markdown makes more than text of: tags, links, pictures, code."""
    bare = re.sub(r"\\.", "", text)
    return re.findall(r"<\w|</|\]\(|`|!\[|\|", bare)


@pytest.mark.parametrize(
    "name", [*EVIL, "[a](javascript:alert(1))", "![](//evil.example)", "`|` a"]
)
def test_the_card_of_a_network(name):
    """Classes come from folders, the description from a file: they are cells of a table."""
    config = dataclasses.replace(tiny_network().config, num_classes=2)

    def card(text: str) -> str:
        info = NetworkInfo(config, 5, 10.0, (text, "b"), 1.0, text)
        metrics: Any = (Metric(text, 1.0, text),)
        return ModelCard(metrics=metrics).render(info)

    assert markup(card(name)) == markup(card(PLAIN))
