"""`examples/replay_fit.py` in a short form: a clip fitted, and replayed at 4 times its rate."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from digan.data.video import decode_frames, probe
from digan.grid import SpaceTimeGrid, frame_times
from digan.ops import CoordMLP
from tests.data.clips import write_clip

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("--frames", 5, "--size", 16, "--steps", 80, "--width", 48, "--frequencies", 32,
         "--lr", 5e-3, "--batch-frames", 5)  # fmt: skip


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "examples" / "replay_fit.py", *words]
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=20)


@pytest.fixture
def example(monkeypatch) -> ModuleType:
    """The example as a module; what it shares with others lies beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    spec = importlib.util.spec_from_file_location("replay_fit", ROOT / "examples/replay_fit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_replay(folder: Path, fps: float, said: str, least: float) -> None:
    """A replay of 5 frames of 16 pixels is whole, right, and near the clip."""
    with open(folder / "psnr.csv", newline="", encoding="utf-8") as file:
        curve = [float(row["psnr_db"]) for row in csv.DictReader(file)]
    assert curve[0] < 15
    assert curve[-1] > least
    found = re.search(r"17 frames at ([\d.]+) fps; every 4th .*, largest difference (\S+)", said)
    assert found is not None, said
    assert float(found[1]) == pytest.approx(4 * fps, rel=1e-3)
    assert float(found[2]) == 0
    assert probe(folder / "replay.mp4").fps == pytest.approx(4 * fps, rel=1e-3)
    frames = [frame.image.astype(float) for frame in decode_frames(folder / "replay.mp4")]
    assert [frame.shape for frame in frames] == 17 * [(256, 512, 3)]
    left, right = (np.stack([f[:, half] for f in frames])
                   for half in (slice(256), slice(256, None)))  # fmt: skip
    # At the clip's own times both halves show the clip; between, only the right one moves.
    assert np.abs(left[::4] - right[::4]).mean() < 255 * 10 ** (-least / 20) + 2
    inside = np.arange(16) % 4 != 3  # steps that do not end at a frame of the clip
    still, moving = (np.abs(np.diff(half, axis=0)).mean(axis=(1, 2, 3)) for half in (left, right))
    assert still[inside].max() < 1
    assert moving[inside].mean() > 0.2 * still[~inside].mean()
    for name, size in (("replay.png", (5 * 194 + 2, 2 * 194 + 2)), ("slices.png", (786, 420))):
        with Image.open(folder / name) as picture:
            assert picture.size == size, name


def test_a_clip_is_replayed_at_4_times_its_rate(clip, tmp_path):
    done = run("--video", clip, *SHORT, "--outdir", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_replay(tmp_path / "out", 10, done.stdout, least=38)
    assert "never seen" not in done.stdout


def test_a_real_clip_is_replayed(shared_data_dir, tmp_path):
    clip = shared_data_dir / "vtest.avi"
    done = run("--video", clip, *SHORT, "--outdir", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_replay(tmp_path / "out", probe(clip).fps, done.stdout, least=28)


def test_frames_between_are_compared_where_the_file_has_them(clip, tmp_path):
    words = (*SHORT, "--every", 4, "--steps", 200, "--time-scale", 0.5)
    done = run("--video", clip, *words, "--outdir", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = dict(re.findall(r"never seen: (.*) (\S+) dB", done.stdout))
    network, held, blended = map(float, figures.values())
    assert list(figures) == ["the network", "each frame held", "the two around blended"]
    assert 10 < held < blended
    assert network > held + 8


def test_every_fourth_frame_is_the_fit_at_a_time_of_the_clip(example):
    """On a random network, against the network called at points."""
    source = torch.Generator().manual_seed(torch.seed() % (1 << 31))
    network = CoordMLP(3, 3, width=24, layers=2, frequencies=16, frequency_scale=(9.0, 9.0, 3.0),
                       generator=source)  # fmt: skip
    like = torch.zeros(())
    fine = example.replay(network, 5, 12, 4, like)
    assert fine.shape == (17, 12, 12, 3)
    assert torch.equal(fine[::4], example.replay(network, 5, 12, 1, like))
    t = frame_times(5, 5, time_density=4).float()
    y, x = SpaceTimeGrid(t).axes(12, like)
    times, rows, columns = torch.meshgrid(t, y, x, indexing="ij")
    with torch.no_grad():
        points = network(torch.stack([columns, rows, times], dim=-1).flatten(0, 2))
    assert torch.allclose(fine.flatten(0, 2), points, rtol=1e-4, atol=1e-4)
    assert (fine[1] - fine[0]).abs().max() > 1e-4


def test_compared_frames_are_those_between(example, capsys):
    """Held and blended frames of a known clip, measured by hand."""
    truth = torch.rand(9, 6, 6, 3) * 2 - 1
    clip = truth[::4]
    example.compare(truth, clip, truth)
    said = dict(re.findall(r"never seen: (.*) (\S+) dB", capsys.readouterr().out))
    between = [i for i in range(9) if i % 4]
    held = torch.stack([truth[i] - truth[i - i % 4] for i in between]).square().mean()
    blended = (
        torch.stack(
            [
                truth[i] - (truth[i - i % 4] * (4 - i % 4) + truth[i - i % 4 + 4] * (i % 4)) / 4
                for i in between
            ]
        )
        .square()
        .mean()
    )
    for name, error in (("each frame held", held), ("the two around blended", blended)):
        assert float(said[name]) == pytest.approx(10 * np.log10(4 / error.item()), abs=0.01)
    assert float(said["the network"]) > 100


def test_help_and_errors(clip, tmp_path):
    done = run("--help", cwd=tmp_path)
    assert "python examples/replay_fit.py" in done.stdout
    assert "runs/replay-fit" in done.stdout
    done = run("--video", clip, "--frames", 99, "--outdir", tmp_path / "x", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"replay_fit: error: --frames must be at most 20 for {clip} with --every 1, got 99\n"
    )
