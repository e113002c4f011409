"""The showcase without a browser: what is in the page and its files, the cache, bad input."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from digan.config import PRESETS
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, load_network, save_network
from digan.showcase import Settings, check_sections, showcase
from digan.showcase.media import read_section
from digan.showcase.prediction import given_frames
from digan.showcase.sections import SECTIONS
from digan.showcase.settings import resolve
from digan.showcase.studio import Studio, seed_text
from tests.command_line import Digan, command
from tests.showcase.conftest import HOSTILE, SMALL, Shown


@pytest.fixture
def digan(capsys) -> Digan:
    return command(capsys)


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


def film_frames(shown: Shown, section: str, group: int = 1, film: int = 1) -> np.ndarray:
    path = shown.folder / "media" / section / f"{section}-{group}-{film}.mp4"
    return np.stack([frame.image for frame in decode_frames(path)])


def boxed(frames: np.ndarray, size: int) -> np.ndarray:
    """Which frames [T, H, W, 3] have the red border: their edge is redder than just inside.

    A line of one pixel has half of its colour in yuv420p, and lends it to its neighbour.
    """
    red = frames[..., 0].astype(int) - frames[..., 1:].astype(int).mean(axis=-1)
    return red[:, 0, :size].mean(axis=-1) - red[:, 4, 4 : size - 4].mean(axis=-1) > 35


def record_of(shown: Shown, section: str) -> dict:
    return json.loads((shown.folder / "media" / section / "section.json").read_text())["section"]


def group_of(shown: Shown, section: str, group: int) -> dict:
    return record_of(shown, section)["groups"][group - 1]


# ---------------------------------------------------------------- the page


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


# ---------------------------------------------------------------- what the films show


def commands_of(shown: Shown, section: str, group: int) -> list[list[str]]:
    lines = group_of(shown, section, group)["command"].split("\n")
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize(
    ("section", "group", "films"),
    [
        ("main", 1, (1,)),
        ("long", 2, (1,)),
        ("time-interpolation", 1, (2,)),
        ("time-extrapolation", 1, (1,)),
        ("time-extrapolation", 2, (1,)),
        ("diverse-motion", 2, (1, 2, 3)),
        ("space-interpolation", 1, (1, 2, 3, 4)),
        ("space-interpolation", 2, (2,)),
        ("space-extrapolation", 1, (2,)),
        ("beyond", 3, (1,)),
        ("beyond", 4, (2,)),
    ],
)
def test_the_line_under_it_makes_the_same(shown, digan, tmp_path, section, group, films):
    """The command that the page names gives the same frames, films beside one another."""
    words = commands_of(shown, section, group)[0]
    said = digan(*words[1:], "--outdir", tmp_path)
    assert said.status == 0, said.err
    (path,) = map(Path, said.out.split("\n")[:-1])
    made = np.stack([frame.image for frame in decode_frames(path)]).astype(int)
    expected = np.concatenate([film_frames(shown, section, group, n) for n in films], axis=2)
    assert made.shape == expected.shape
    # Joined or alone, a film is the same but for its encoder's rounding.
    apart = np.abs(made - expected.astype(int))
    assert apart.mean() < 2.5
    assert np.quantile(apart, 0.99) <= 12


def test_classes_are_rows(shown, digan, tmp_path):
    """A row a class, one below the other as the command's grid has them."""
    (words,) = commands_of(shown, "classes", 1)
    said = digan(*words[1:], "--outdir", tmp_path)
    made = np.stack([frame.image for frame in decode_frames(said.out.strip())]).astype(int)
    rows = [film_frames(shown, "classes", 1, n + 1) for n in range(len(HOSTILE))]
    expected = np.concatenate(rows, axis=1)
    assert made.shape == expected.shape
    assert np.abs(made - expected).mean() < 1.5
    assert np.abs(rows[0].astype(int) - rows[3]).mean() > 10


def test_red_boxes_mark_what_is_extrapolated(shown):
    """A frame has a red border just where its time is outside 0 to 1."""
    for group in (1, 2):
        frames = film_frames(shown, "time-extrapolation", group).astype(int)
        times = np.array(group_of(shown, "time-extrapolation", group)["times"])
        outside = (times < -1e-6) | (times > 1 + 1e-6)
        assert boxed(frames, SMALL.size).tolist() == outside.tolist()
        assert 0 < outside.sum() < len(outside)


def test_wider_frames_hold_the_training_square(shown):
    """Inside the red box of the zoomed-out film is the film as trained."""
    plain = film_frames(shown, "space-extrapolation", 1, 1).astype(int)
    wide = film_frames(shown, "space-extrapolation", 1, 2).astype(int)
    size = SMALL.size
    edge = (wide.shape[1] // 2 - size) // 2
    inner = wide[:, edge : edge + size, edge : edge + size]
    # The outermost pixels share colour with the red box in yuv420p.
    assert np.abs(inner - plain[:, :size, :size])[:, 4:-4, 4:-4].mean() < 1.5
    line = wide[:, edge - 1, edge : edge + size].mean(axis=(0, 1))
    assert line[0] - line[1:].max() > 90


def test_difference_is_of_the_two(shown):
    """Black where the videos agree, as at time 0; brighter where they do not."""
    one, two, apart = (film_frames(shown, "diverse-motion", 1, n).astype(int) for n in (1, 2, 3))
    expected = np.clip(2 * np.abs(one - two).mean(axis=-1), 0, 255)
    assert np.abs(apart.mean(axis=-1) - expected).mean() < 4
    assert apart[0].mean() < 2 < apart[-1].mean()


def test_given_frames_are_few_and_inside():
    """Both ends and every gap are left to predict."""
    assert given_frames(16) == [3, 6, 9, 12]
    for count in range(8, 200):
        given = given_frames(count)
        assert given[0] > 0
        assert given[-1] < count - 1
        assert len(given) >= 2
        assert np.diff(given).min() >= 2


def test_only_given_frames_are_shown_as_given(shown):
    """The others are grey; the model's are boxed just where nothing was given."""
    given, _, found = (film_frames(shown, "prediction", 1, n).astype(int) for n in (1, 2, 3))
    grey = [i for i in range(16) if given[i].std() < 2]
    assert grey == [i for i in range(16) if i not in given_frames(16)]
    assert np.flatnonzero(boxed(found, SMALL.size)).tolist() == grey
    assert "PSNR of seed 8: given frames" in group_of(shown, "prediction", 1)["measured"]


# ---------------------------------------------------------------- made once


@pytest.fixture
def copied(shown, tmp_path) -> Path:
    shutil.copytree(shown.folder / "media", tmp_path / "media")
    return tmp_path


def stamps(folder: Path) -> dict[str, int]:
    return {
        name: (folder / "media" / name / "section.json").stat().st_mtime_ns for name in SECTIONS
    }


def test_a_second_run_makes_nothing(shown, copied):
    """And writes the same page to the byte."""
    before = stamps(copied)
    page = showcase(str(shown.network), copied, SMALL, progress=False)
    assert stamps(copied) == before
    assert page.read_bytes() == shown.page.read_bytes()


def test_only_what_changed_is_made_again(shown, copied):
    """Other lengths concern the long videos alone."""
    before = stamps(copied)
    settings = dataclasses.replace(SMALL, long=(20,))
    showcase(str(shown.network), copied, settings, progress=False)
    after = stamps(copied)
    assert [name for name in SECTIONS if after[name] != before[name]] == ["long"]
    section, _ = read_section(copied / "media" / "long")
    assert [clip.frames for group in section.groups for clip in group.clips] == [20]
    assert not (copied / "media" / "long" / "long-2-1.mp4").exists()


def test_a_section_alone_keeps_the_others(shown, copied):
    """What is not asked for stays as it was, even where its settings differ."""
    before = stamps(copied)
    settings = dataclasses.replace(SMALL, fps=10.0)
    page = showcase(
        str(shown.network), copied, settings, sections=["space-extrapolation"], progress=False
    )
    after = stamps(copied)
    assert [n for n in SECTIONS if after[n] != before[n]] == ["space-extrapolation"]
    ids = re.findall(r'<section id="([^"]+)"', page.read_text(encoding="utf-8"))
    assert ids == list(SECTIONS)


def test_a_damaged_section_is_made_again(shown, copied):
    """A missing video, or a record that is no JSON, counts as not there."""
    (copied / "media" / "space-extrapolation" / "space-extrapolation-1-2.mp4").unlink()
    (copied / "media" / "diverse-motion" / "section.json").write_text("{")
    before = stamps(copied)
    showcase(str(shown.network), copied, SMALL, progress=False)
    after = stamps(copied)
    changed = [name for name in SECTIONS if after[name] != before[name]]
    assert changed == ["diverse-motion", "space-extrapolation"]


def test_an_interrupted_section_leaves_the_old_one(shown, copied, monkeypatch):
    """What was there stays whole, and no half of the new one."""
    from digan.showcase import media

    before = (copied / "media" / "long" / "section.json").read_bytes()
    monkeypatch.setattr(media, "shoot", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    settings = dataclasses.replace(SMALL, long=(30,))
    with pytest.raises(KeyboardInterrupt):
        showcase(str(shown.network), copied, settings, progress=False)
    assert (copied / "media" / "long" / "section.json").read_bytes() == before
    assert sorted(path.name for path in (copied / "media").iterdir()) == sorted(SECTIONS)


def test_sections_of_another_network_are_left_out(shown, copied, capsys):
    """A page shows one network."""
    page = showcase("demo", copied, SMALL, sections=["space-extrapolation"])
    ids = re.findall(r'<section id="([^"]+)"', page.read_text(encoding="utf-8"))
    assert ids == ["space-extrapolation"]
    assert "section long is of another network and left out" in capsys.readouterr().err


def test_sections_read_only_the_settings_they_name(hostile_network):
    """Else a change of one would go unnoticed by the cache."""
    generator, info = load_network(hostile_network)

    class Watched(Settings):
        def __getattribute__(self, name):
            if not name.startswith("_"):
                asked.add(name)
            return super().__getattribute__(name)

    settings = Watched(**dataclasses.asdict(resolve(SMALL, info)))
    studio = Studio(generator, info, "demo", settings)
    for name, kind in SECTIONS.items():
        asked: set[str] = set()
        kind.plan(studio)
        assert asked <= set(kind.reads), name


# ---------------------------------------------------------------- other networks, bad input


def test_unconditional_network(tmp_path):
    """The class section is left out with a sentence; the others are there."""
    config = dataclasses.replace(PRESETS["tiny"].generator, resolution=32, num_classes=0)
    network = tmp_path / "plain.safetensors"
    save_network(network, Generator(config), NetworkInfo(config, clip_frames=5, fps=0.0))
    page = showcase(
        str(network), tmp_path / "out", dataclasses.replace(SMALL, size=32, seeds=(4, 5, 6, 9)),
        sections=["classes", "diverse-motion", "prediction"], progress=False,
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "Left out: this network is not class-conditional." in text
    assert "Left out: a clip of 5 frames" in text
    assert len(re.findall("<video", text)) == 6
    assert "--class" not in text


def test_given_video_is_predicted_from(tmp_path, hostile_network, monkeypatch, shown):
    """--video: the frames of a file are given; another file at its place is noticed."""
    from digan.data.video import VideoWriter
    from digan.showcase import prediction

    monkeypatch.setattr(prediction, "STEPS", 4)
    monkeypatch.setattr(prediction, "STARTS", 1)
    video = tmp_path / "my clip.mp4"
    frames = np.random.default_rng(3).integers(0, 256, (16, 8, 8, 3), np.uint8)
    frames = frames.repeat(6, axis=1).repeat(6, axis=2)
    with VideoWriter(video, 12) as writer:
        for frame in frames:
            writer.write(frame)
    settings = dataclasses.replace(SMALL, video=video)
    out = tmp_path / "out"
    page = showcase(str(hostile_network), out, settings, sections=["prediction"], progress=False)
    section, key = read_section(out / "media" / "prediction")
    (group,) = section.groups
    assert f"PSNR of {video}" in group.measured
    assert shlex.quote(str(video)) in group.command
    assert html.escape(shlex.quote(str(video))) in page.read_text(encoding="utf-8")
    with VideoWriter(video, 12) as writer:
        for frame in frames[::-1]:
            writer.write(frame)
    showcase(str(hostile_network), out, settings, sections=["prediction"], progress=False)
    assert read_section(out / "media" / "prediction")[1] != key


def test_seed_text_is_read_back():
    from digan.ranges import parse_seeds

    rng = np.random.default_rng(11)
    for _ in range(50):
        seeds = rng.integers(0, 30, rng.integers(1, 12)).tolist()
        assert parse_seeds(seed_text(seeds)) == seeds


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--sections", "lnog"), r"section must be of main, .*, got 'lnog', did you mean long\?"),
        (("--sections", "time"), r"section must be of .*, got 'time'"),
        (("--seeds", "0-2"), r"seeds must be at least 4 different ones, got \[0, 1, 2\]"),
        (("--seeds", "0,1,2,2,3"), r"seeds must be at least 4 different ones"),
        (("--size", "100"), "size must be a multiple of the network's resolution of 32, got 100"),
        (("--fps", "0"), "fps must be positive, got 0.0"),
        (("--fps", "nan"), "fps must be positive, got nan"),
        (("--trunc", "inf"), "trunc must be finite, got inf"),
        (("--frames", "1"), "frames must be at least 2, got 1"),
        (("--long", "0"), r"long must be lengths of at least 2 frames, got \[0\]"),
        (("--video", "nowhere.mp4"), "the video nowhere.mp4 does not exist"),
    ],
)
def test_bad_input(digan, tmp_path, words, error):
    """One line that names it, before any work."""
    said = digan("showcase", "--network", "demo", "--out", tmp_path / "out", *words)
    assert said.status == 1
    assert re.match(error, said.error)
    assert not (tmp_path / "out" / "index.html").exists()


def test_no_such_network(digan, tmp_path):
    said = digan("showcase", "--network", "nowhere.safetensors", "--out", tmp_path / "out")
    assert said.status == 1
    assert said.error == "the network file nowhere.safetensors does not exist"
    assert not (tmp_path / "out").exists()


def test_unwritable_folder(digan, tmp_path):
    (tmp_path / "file").write_text("x")
    said = digan("showcase", "--network", "demo", "--out", tmp_path / "file" / "out")
    assert said.status == 1
    assert said.error.startswith(f"the folder {tmp_path / 'file' / 'out'} cannot be written")


def test_sections_come_in_the_order_of_the_page():
    assert check_sections(["beyond", "main", "long"]) == ["main", "long", "beyond"]
    with pytest.raises(DiganError, match="did you mean diverse-motion"):
        check_sections(["diverse-moton"])
