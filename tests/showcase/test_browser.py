"""The showcase in a real browser: every section, every video, nothing from elsewhere.

Screenshots stay in build/screenshots.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from digan.showcase.sections import SECTIONS
from tests.showcase.conftest import HOSTILE, Shown

pytestmark = pytest.mark.slow

SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}
PATIENCE = 60_000  # ms; only a page that does not play waits so long

# A video on the page: how it stands, as the browser knows it.
STATE = """video => ({
    ready: video.readyState, time: video.currentTime, paused: video.paused, ended: video.ended,
    error: video.error && video.error.message, width: video.videoWidth, height: video.videoHeight,
    duration: video.duration, shown: video.getBoundingClientRect().width,
})"""
# The times of all frames that appear when the middle of each is sought, and past the end.
COUNT = """async (video, fps) => {
    const times = new Set();
    const count = Math.round(video.duration * fps);
    for (let i = 0; i < count; i++) {
        const shown = new Promise(done => video.requestVideoFrameCallback((_, data) => done(data)));
        video.currentTime = (i + 0.5) / fps;
        const data = await Promise.race([shown, new Promise(d => setTimeout(d, 5000, null))]);
        if (data) times.add(Math.round(data.mediaTime * fps));
    }
    return [...times].sort((a, b) => a - b);
}"""


class Visit:
    """A page that is open, and what the browser said of it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    @property
    def groups(self) -> list[Any]:
        return self.page.query_selector_all(".group[data-frames]")

    def see(self, group: Any) -> list[Any]:
        """Scrolls to a group; its videos."""
        group.evaluate("group => group.scrollIntoView({block: 'center', behavior: 'instant'})")
        return group.query_selector_all("video")

    def wait(self, condition: str, argument: Any = None) -> None:
        self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE)

    def wait_until_playing(self, group: Any) -> None:
        """All videos of the group have moved on, or reached their end together."""
        self.wait(
            "group => [...group.querySelectorAll('video')].every("
            "  video => video.readyState >= 2 && video.currentTime > 0)",
            group,
        )


@pytest.fixture
def visit(chromium, shown) -> Iterator[Callable[..., Any]]:
    """A function that opens the showcase on a screen; the browser has no network at all."""
    contexts = contextlib.ExitStack()

    def open_page(screen: str = "desktop", path: Path | None = None, **options: Any) -> Visit:
        width, height = SCREENS[screen]
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            has_touch=screen == "phone",
            offline=True,
            **options,
        )
        contexts.callback(context.close)
        visited = Visit(context.new_page())
        visited.page.goto((path or shown.page).as_uri())
        return visited

    with contexts:
        yield open_page


def clips_of(shown: Shown) -> list[dict[str, Any]]:
    """What the files are meant to be, in the order of the page."""
    found = []
    for name in SECTIONS:
        record = json.loads((shown.folder / "media" / name / "section.json").read_text())
        found += [clip for group in record["section"]["groups"] for clip in group["clips"]]
    return found


def screenshots(root: Path) -> Path:
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_each_section_is_there(visit):
    """In order, with its heading and its place in the navigation."""
    page = visit().page
    assert page.eval_on_selector_all("section", "all => all.map(s => s.id)") == list(SECTIONS)
    titles = [kind.title for kind in SECTIONS.values()]
    assert page.eval_on_selector_all("section h2", "all => all.map(h => h.innerText)") == titles
    links = page.eval_on_selector_all("nav a", "all => all.map(a => [a.hash, a.innerText])")
    assert links == [["#" + name, kind.title] for name, kind in SECTIONS.items()]
    for name in SECTIONS:
        assert page.query_selector(f"section#{name} video"), name


@pytest.mark.parametrize("screen", list(SCREENS))
def test_every_video_plays(visit, shown, screen):
    """When it is seen, with the size and length of its file, in step with those beside it."""
    visited = visit(screen)
    expected = clips_of(shown)
    seen = 0
    for group in visited.groups:
        videos = visited.see(group)
        visited.wait_until_playing(group)
        states = [video.evaluate(STATE) for video in videos]
        for state, clip in zip(states, expected[seen : seen + len(videos)], strict=True):
            assert state["error"] is None
            assert (state["width"], state["height"]) == (clip["width"], clip["height"])
            assert state["duration"] == pytest.approx(clip["frames"] / clip["fps"], abs=0.002)
            assert state["shown"] >= 60
            assert not state["paused"] or state["ended"] or len(videos) > 1
        seen += len(videos)
    assert seen == len(expected) > 20
    assert visited.complaints == []


def test_videos_are_alone_and_whole(visit, shown):
    """Nothing is fetched but the file itself and what it holds; nothing in it runs as code."""
    visited = visit()
    for group in visited.groups:
        visited.see(group)
        visited.wait_until_playing(group)
    schemes = [url.split(":")[0] for url in visited.requests]
    assert set(schemes) <= {"file", "blob", "data"}
    assert schemes.count("file") == 1
    assert visited.page.evaluate("window.hacked") is None
    assert visited.complaints == []
    for name in HOSTILE:
        assert f": {name}" in visited.page.inner_text("#classes")
    assert HOSTILE[0] in visited.page.inner_text("header")


def test_frames_that_the_browser_counts(visit, shown):
    """In every section, each frame of the first video can be shown, and no other."""
    visited = visit()
    records = {name: shown.folder / "media" / name / "section.json" for name in SECTIONS}
    visited.page.click("#all")
    for name, path in records.items():
        clip = json.loads(path.read_text())["section"]["groups"][0]["clips"][0]
        group = visited.page.query_selector(f"section#{name} .group")
        (video, *_) = visited.see(group)
        group.query_selector(".play").click()
        visited.wait_until_playing(group)
        group.query_selector(".play").click()
        visited.wait("video => video.paused", video)
        counted = visited.page.evaluate(f"([v, fps]) => ({COUNT})(v, fps)", [video, clip["fps"]])
        assert counted == list(range(clip["frames"])), name


def test_only_what_is_seen_plays(visit):
    """Further down nothing is loaded; what is left behind stops, and goes on when seen again."""
    visited = visit()
    first, *_, last = visited.groups
    visited.wait_until_playing(first)
    # So slow that they cannot stop by coming to their end.
    slowed = "group => group.querySelectorAll('video').forEach(v => { v.playbackRate = 0.0625; })"
    visited.page.evaluate(slowed, first)
    lower = last.query_selector("video").evaluate(STATE)
    assert lower["ready"] == 0
    assert lower["paused"]
    visited.see(last)
    visited.wait_until_playing(last)
    stopped = "group => [...group.querySelectorAll('video')].every(v => v.paused && !v.ended)"
    visited.wait(stopped, first)
    moving = """() => [...document.querySelectorAll('video')].filter(v => !v.paused).every(v => {
        const box = v.closest('.group').getBoundingClientRect();
        return box.bottom > 0 && box.top < innerHeight;
    })"""
    visited.wait(moving)
    visited.see(first)
    visited.wait("group => [...group.querySelectorAll('video')].some(v => !v.paused)", first)


def test_videos_beside_one_another_start_again_together(visit):
    """8 fps and 64 fps of the same time: the shorter waits, and both begin anew."""
    visited = visit()
    group = visited.page.query_selector("#time-interpolation .group")
    visited.page.evaluate(
        """group => {
            group.starts = [];
            for (const video of group.querySelectorAll('video'))
                video.addEventListener('play', () => group.starts.push(video.currentTime));
        }""",
        group,
    )
    visited.see(group)
    visited.wait("group => group.starts.length >= 6", group)  # three rounds of two videos
    assert group.evaluate("group => Math.max(...group.starts)") < 0.1
    apart = """group => {
        const [a, b] = group.querySelectorAll('video');
        return !a.paused && !b.paused && Math.abs(a.currentTime - b.currentTime) < 0.25;
    }"""
    visited.wait(apart, group)


def test_keyboard(visit):
    """Every control has a name and works without a mouse; arrows go frame by frame."""
    visited = visit()
    group = visited.groups[0]
    visited.wait_until_playing(group)
    button, ruler = group.query_selector(".play"), group.query_selector("input")
    assert button.inner_text() == "Pause"
    button.press("Enter")
    visited.wait("group => [...group.querySelectorAll('video')].every(v => v.paused)", group)
    assert button.inner_text() == "Play"
    ruler.press("Home")
    for _ in range(3):
        ruler.press("ArrowRight")
    visited.wait("g => g.querySelector('output').innerText.startsWith('frame 4 of 16')", group)
    video = group.query_selector("video")
    visited.wait("v => Math.floor(v.currentTime * 8) === 3 && !v.seeking", video)
    larger = group.query_selector(".larger")
    larger.press("Enter")
    assert larger.get_attribute("aria-pressed") == "true"
    unnamed = """() => [...document.querySelectorAll('button, input, select')].filter(
        e => !e.innerText.trim() && !e.getAttribute('aria-label')).length"""
    assert visited.page.evaluate(unnamed) == 0


def test_reduced_motion_waits_for_play(visit):
    """Nothing moves by itself; a single group can be played."""
    visited = visit(reduced_motion="reduce")
    one, other = visited.groups[:2]
    visited.see(other)
    assert other.query_selector(".play").inner_text() == "Play"
    assert visited.page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    other.query_selector(".play").click()
    visited.wait_until_playing(other)
    visited.see(one)
    visited.wait("group => [...group.querySelectorAll('video')].every(v => v.paused)", other)
    assert one.query_selector("video").evaluate(STATE)["ready"] == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", list(SCREENS))
def test_fits_its_screen(visit, root, screen, scheme):
    """No sideways scrolling, colours by the reader's wish; a screenshot of every section."""
    visited = visit(screen, color_scheme=scheme)
    page = visited.page
    width = SCREENS[screen][0]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert light > 200 if scheme == "light" else light < 60
    for name in SECTIONS:
        page.eval_on_selector(f"#{name}", "s => s.scrollIntoView({behavior: 'instant'})")
        groups = page.query_selector_all(f"#{name} .group[data-frames]")
        visited.wait_until_playing(groups[0])
        page.screenshot(path=screenshots(root) / f"{name}-{screen}-{scheme}.png")
    page.click(".larger >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") == width
