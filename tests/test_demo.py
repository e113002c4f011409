"""The demo from end to end, at a size of seconds: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re

import av
import numpy as np
import pytest

from digan import demo as demo_module
from digan.cli import main
from digan.data.synthetic import HOURS
from digan.demo import DemoSettings, demo
from digan.errors import DiganError
from digan.nn.snapshot import load_network, network_path
from digan.training import samples


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo of 32 training samples on 8 videos, with 8 samples a side in its metric."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "METRIC_SAMPLES", 8)
        patch.setattr(demo_module, "FRAMES", 20)
        patch.setattr(demo_module, "DENSITY", 1)
        page = demo(folder, DemoSettings(kimg=0.032, videos=8), progress=False)
    return page


def test_real_video_files_were_made_and_used(finished):
    """The set is .mp4 files in folders by class, and the store holds all of their frames."""
    files = sorted((finished.parent / "videos").rglob("*.mp4"))
    assert len(files) == 8
    assert len({path.parent.name for path in files}) >= 2
    with av.open(str(files[0])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    store = json.loads((finished.parent / "store" / "store.json").read_text())
    assert store["num_frames"] == 8 * 20


def test_metrics_at_both_ends_with_all_controls(finished):
    (path,) = finished.parent.glob("runs/*/metric-fd-random3d.jsonl")
    first, last = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["kimg"], last["kimg"]) == (0.0, 0.032)
    for row in (first, last):
        for name in ("fd-random3d", "floor", "shuffled", "frozen", "mean_frame"):
            assert row["results"][name] >= 0
        assert row["results"]["pairwise_ratio"] > 0


def test_page_stands_alone_and_shows_videos(finished):
    """Videos and pictures are inside the page; it refers to no other place."""
    text = finished.read_text(encoding="utf-8")
    assert text.count("data:video/mp4;base64,") == 2
    assert text.count("data:image/png;base64,") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<polyline" in text


def test_results_play(finished):
    """The long grid has four clips' frames, all six samples side by side."""
    (long_grid,) = (finished.parent / "results").glob("grid*-seed0005.mp4")
    with av.open(str(long_grid)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4 * demo_module.CLIP_FRAMES
    assert frames[0].shape == (32, 6 * 32, 3)


def test_a_finished_demo_runs_again_at_once(finished, capsys):
    """Nothing is trained twice: the finished run of the same settings is shown again."""
    before = sorted((finished.parent / "runs").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "FRAMES", 20)
        patch.setattr(demo_module, "DENSITY", 1)
        demo(finished.parent, DemoSettings(kimg=0.032, videos=8), progress=False)
    assert sorted((finished.parent / "runs").iterdir()) == before


def test_other_peoples_folders_are_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(DiganError, match=r"holds other files \(thesis.txt\)"):
        demo(tmp_path, DemoSettings(kimg=0.032, videos=4), progress=False)
    assert main(["demo", "--outdir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("digan: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_packaged_network_works_at_once(tmp_path, capsys):
    """A few megabytes, four hours of the day as classes, moving pictures and not noise."""
    path = network_path("demo")
    assert path.stat().st_size < 5e6
    _, info = load_network("demo")
    assert set(info.classes) == set(HOURS)
    command = ["generate", "--network", "demo", "--seeds", "0-3", "--format", "npz"]
    assert main([*command, "--outdir", str(tmp_path)]) == 0
    videos = [np.load(name)["frames"].astype(float) for name in capsys.readouterr().out.split()]
    assert [video.shape for video in videos] == [(16, 32, 32, 3)] * 4
    # Seeds take the classes in turn.
    dawn, day, dusk, night = (videos[info.classes.index(hour)] for hour in sorted(HOURS))
    # The day is blue, the evening is red, the night is dark.
    assert day[..., 2].mean() > day[..., 0].mean() + 20
    assert dusk[..., 0].mean() > dusk[..., 2].mean()
    assert night.mean() < 0.6 * min(dawn.mean(), day.mean(), dusk.mean())
    for video in videos:
        change = np.abs(np.diff(video, axis=0)).mean()
        assert 0.1 < change < 10
        assert np.abs(np.diff(video, axis=2)).mean() < 20  # neighbours resemble each other
