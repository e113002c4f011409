"""Faults made in real clips: the example's distances grow with each of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from digan.errors import DiganError
from digan.metrics import Random3d
from tests.data.clips import write_clip

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("metric_distortions")
        for name in ("metric_distortions", "fitting"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def windows(example, shared_data_dir):
    return example.cut_windows([shared_data_dir / "vtest.avi"], 2 * 40, 32, seed=0)


def test_distances_of_real_clips_grow(example, windows):
    assert windows.shape == (80, 64, 32, 32, 3)
    floor, found = example.measure(windows, Random3d())
    assert set(found) == {"blur", "noise", "frame shuffling", "speed"}
    assert floor > 0
    for name, values in found.items():
        distances = [value for _, value in values]
        assert distances == sorted(distances), name
        assert distances[-1] > 2 * floor, name


def test_windows_are_real_and_in_an_order_of_their_own(example, windows, shared_data_dir):
    again = example.cut_windows([shared_data_dir / "vtest.avi"], 2 * 40, 32, seed=0)
    assert np.array_equal(windows, again)
    change = np.abs(np.diff(windows[:, :16].astype(int), axis=1)).mean((1, 2, 3, 4))
    assert change.min() > 0
    halves = change[::2].mean() / change[1::2].mean()
    assert 0.5 < halves < 2


def test_the_faults_are_what_they_say(example):
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 256, (3, 64, 16, 16, 3), dtype=np.uint8)
    plain = windows[:, :16]
    assert np.array_equal(example.faster(windows, 3), windows[:, :64:4])
    swapped = example.shuffle(windows, 1)
    assert np.array_equal(swapped[:, ::2], plain[:, 1::2])
    assert np.array_equal(np.sort(example.shuffle(windows, 4), 1), np.sort(plain, 1))
    assert example.blur(windows, 4).std() < example.blur(windows, 1).std() < plain.std()
    mean = example.blur(windows, 2).mean() - plain.mean()
    assert abs(mean) < 1
    flat = np.full((1, 16, 64, 64, 3), 128, np.uint8)
    assert example.noise(flat, 2).std() == pytest.approx(12, rel=0.02)
    assert np.array_equal(example.blur(flat, 3), flat)


def test_short_videos_are_refused(example, tmp_path):
    write_clip(tmp_path / "short.mp4", 9)
    with pytest.raises(DiganError, match=r"must have 64 frames of 32 pixels, it has 9 of 64x48"):
        example.cut_windows([tmp_path / "short.mp4"], 4, 16, seed=0)


def test_the_example_writes_a_plot_and_a_table(example, tmp_path, capsys):
    write_clip(tmp_path / "long.mkv", 70, height=64, width=80, codec="ffv1")
    words = [tmp_path / "long.mkv", "--clips", 3, "--size", 16, "--outdir", tmp_path / "out"]
    example.run(example.parser().parse_args([str(word) for word in words]))
    assert "floor" in capsys.readouterr().out
    assert (tmp_path / "out" / "metric-distortions.png").stat().st_size > 10_000
    lines = (tmp_path / "out" / "metric-distortions.csv").read_text().splitlines()
    assert lines[0] == "distortion,strength,fd-random3d"
    assert len(lines) == 1 + 1 + 5 + 5 + 4 + 3
