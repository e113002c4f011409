"""The examples that generate run as a user runs them, on the network in the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digan.data.video import decode_frames, probe
from digan.synthesis.marks import RED
from tests.tiny_runs import network_file, tiny_network

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )


def succeed(name: str, *words: object, cwd: Path | None = None) -> str:
    done = run(name, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def movie(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in decode_frames(path)]).astype(np.int16)


def tiles(path: Path, side: int) -> np.ndarray:
    """Pictures of a sheet, [rows, columns, side, side, 3]."""
    sheet = np.asarray(Image.open(path))
    rows, columns = (length // (side + 2) for length in sheet.shape[:2])
    cut = [
        [sheet[2 + y * (side + 2) :, 2 + x * (side + 2) :][:side, :side] for x in range(columns)]
        for y in range(rows)
    ]
    return np.array(cut).astype(np.int16)


def test_generate_in_python(tmp_path):
    said = succeed("generate_in_python", "--time-density", 2, "--density", 2, "--outdir", tmp_path)
    assert "video.mp4: 31 frames, 3 videos side by side" in said
    frames = movie(tmp_path / "video.mp4")
    assert frames.shape == (31, 64, 192, 3)
    assert np.abs(np.diff(frames, axis=0)).mean() > 0.2
    assert np.abs(frames[:, :, :64] - frames[:, :, 64:128]).mean() > 5
    sheet = tiles(tmp_path / "sheet.png", 64)
    assert sheet.shape == (4, 8, 64, 64, 3)
    # The sheet's first row is the first seed's video, before it was encoded.
    assert np.abs(frames[0, :, :64] - sheet[0, 0]).mean() < 4
    assert np.abs(frames[30, :, :64] - sheet[0, 7]).mean() < 4
    boxed = (sheet[1, :, 0, 1:-1] == RED).all(axis=(1, 2))
    assert boxed.tolist() == [True] * 3 + [False] * 2 + [True] * 3  # times -1 to 2
    assert np.abs(sheet[3, 0] - sheet[0, 0]).max() <= 1
    assert np.abs(sheet[3, 0] - sheet[3, 7]).mean() > 5


def test_seamless_loop(tmp_path):
    said = succeed(
        "seamless_loop", "--seconds", 3, "--fps", 8, "--density", 2, "--outdir", tmp_path
    )
    found = re.search(
        r"24 frames; from one to the next ([\d.]+) of 255 change, "
        r"at most ([\d.]+); at the seam ([\d.]+)",
        said,
    )
    assert found is not None, said
    mean, most, seam = map(float, found.groups())
    assert 0.5 < mean < most
    assert 0 < seam <= most
    frames = movie(tmp_path / "loop.mp4")
    assert frames.shape == (48, 64, 64, 3)  # twice
    assert probe(tmp_path / "loop.mp4").fps == 8
    assert np.abs(frames[:24] - frames[24:]).mean() < 3
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert change[23] == pytest.approx(seam, abs=0.6)  # where it begins again
    assert change[23] < np.abs(frames[0] - frames[12]).mean() / 2
    with Image.open(tmp_path / "loop.gif") as image:
        assert image.n_frames == 24
        assert image.info["loop"] == 0  # for ever
    sheet = tiles(tmp_path / "loop.png", 64)
    assert np.abs(sheet[0, 0] - frames[0]).mean() < 4


def test_a_loop_of_another_network(tmp_path):
    """No classes, and motion alone."""
    network = network_file(tmp_path / "net.safetensors", tiny_network())
    said = succeed("seamless_loop", "--network", network, "--seeds", "4,9", "--walk", "motion",
                   "--seconds", 1, "--fps", 10, "--times", 1, "--t-end", 8,
                   "--outdir", tmp_path / "out")  # fmt: skip
    assert "10 frames; from one to the next" in said
    assert len(movie(tmp_path / "out" / "loop.mp4")) == 10
    said = succeed("generate_in_python", "--network", network, "--seeds", "4,9", "--density", 1,
                   "--time-density", 1, "--zoom", 1.5, "--outdir", tmp_path / "out")  # fmt: skip
    assert movie(tmp_path / "out" / "video.mp4").shape == (5, 48, 96, 3)


@pytest.mark.parametrize("name", ["generate_in_python", "seamless_loop"])
def test_help_shows_examples(name, tmp_path):
    said = succeed(name, "--help", cwd=tmp_path)
    assert f"python examples/{name}.py" in said
    assert "runs/" in said


@pytest.mark.parametrize(
    ("name", "words", "sentence"),
    [
        ("generate_in_python", ("--seeds", "3"), "--seeds must be two or more, got 3"),
        ("seamless_loop", ("--network", "gone"), "the network file gone does not exist"),
        ("seamless_loop", ("--outdir", "file/x"), "the folder file/x cannot be written: "),
    ],
)
def test_errors_are_one_line(name, words, sentence, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(name, *words, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: error: {sentence}")
