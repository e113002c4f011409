"""Making a showcase: what is kept of earlier runs, other networks and clips, bad input."""

from __future__ import annotations

import dataclasses
import html
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from digan.config import PRESETS
from digan.errors import DiganError
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, load_network, save_network
from digan.showcase import Settings, check_sections, showcase
from digan.showcase.media import read_section
from digan.showcase.sections import SECTIONS
from digan.showcase.settings import resolve
from digan.showcase.studio import Studio, seed_text
from tests.command_line import Digan, command
from tests.showcase.conftest import SMALL


@pytest.fixture
def digan(capsys) -> Digan:
    return command(capsys)


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
