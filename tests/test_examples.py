"""The examples run as a user runs them: they learn, write what they say, and err in one line."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digan.data.video import decode_frames
from tests.data.clips import write_clip

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CLIP = ("--frames", 5, "--size", 16, "--steps", 80, "--width", 48, "--frequencies", 32,
        "--lr", 5e-3, "--batch-frames", 5)  # fmt: skip
FAMILY = ("--shapes", 4, "--steps", 240, "--width", 24, "--points", 64, "--code-size", 4)


def run(
    name: str, *words: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / f"{name}.py", *words]
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        timeout=120,
    )


def succeed(name: str, *words: object, cwd: Path | None = None, **environment: str) -> str:
    done = run(name, *words, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def error_of(name: str, *words: object) -> str:
    """The one line of standard error, without the name of the example."""
    done = run(name, *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: error: ")
    return line.removeprefix(f"{name}: error: ")


def rows_of(path: Path) -> dict[str, list[dict[str, float]]]:
    """The curve of every network."""
    found: dict[str, list[dict[str, float]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row.pop("network"), []).append({k: float(v) for k, v in row.items()})
    return found


def shape_of(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        return np.asarray(image).shape


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=8)


def test_fit_clip_learns_the_clip(clip, tmp_path):
    said = succeed("fit_clip", "--video", clip, *CLIP, "--baseline", "--outdir", tmp_path)
    curves = rows_of(tmp_path / "psnr.csv")
    assert set(curves) == {"CoordMLP", "nn.Sequential"}
    for name, curve in curves.items():
        assert [row["step"] for row in curve][::8] == [0, 80]
        assert curve[0]["psnr_db"] < 15
        assert curve[-1]["psnr_db"] > 40
        printed = re.search(rf"{re.escape(name)}: (\S+) dB after 80 steps of", said)
        assert printed is not None
        # The table has a digit more, rounded too.
        assert abs(float(printed[1]) - curve[-1]["psnr_db"]) < 0.0056
    # The same network with the same weights, so the same curve but for roundings.
    ends = [curve[-1]["psnr_db"] for curve in curves.values()]
    assert abs(ends[0] - ends[1]) < 0.5
    original = list(decode_frames(tmp_path / "original-fit.mp4"))
    assert [frame.image.shape for frame in original] == 5 * [(256, 512, 3)]
    difference = original[2].image[:, :256].astype(float) - original[2].image[:, 256:]
    assert np.abs(difference).mean() < 4
    between = list(decode_frames(tmp_path / "continuous.mp4"))
    assert len(between) == 4 * (5 - 1) + 1
    for name in ("psnr.png", "original-fit.png", "continuous.png"):
        assert min(shape_of(tmp_path / name)[:2]) > 60, name


def test_fit_clip_learns_from_scattered_points(clip, tmp_path):
    words = ("--video", clip, *CLIP, "--points", 1280, "--device", "cpu", "--impl", "reference")
    said = succeed("fit_clip", *words, "--outdir", tmp_path)
    assert "layers on cpu: PyTorch formulas: asked for" in said
    (curve,) = rows_of(tmp_path / "psnr.csv").values()
    assert curve[0]["psnr_db"] < 15
    assert curve[-1]["psnr_db"] > 25


def test_fit_clip_never_leaves_the_kernels_in_silence(clip, tmp_path):
    said = error_of(
        "fit_clip", "--video", clip, *CLIP, "--impl", "fused", "--device", "cpu", "--outdir",
        tmp_path,
    )  # fmt: skip
    assert said.startswith("--impl fused cannot be kept: ")


def test_fit_clip_is_repeatable_and_needs_no_matplotlib(clip, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "matplotlib.py").write_text("raise ImportError('not here')\n")
    words = ("--video", clip, *CLIP, "--size", 20, "--steps", 3, "--frequencies", 0, "--threads", 1)
    for name in ("one", "two"):
        said = succeed("fit_clip", *words, "--outdir", tmp_path / name, PYTHONPATH=str(blocked))
        assert "no psnr.png: matplotlib is not installed" in said
    one, two = ((tmp_path / name / "psnr.csv").read_text() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) == 1 + 4
    assert not (tmp_path / "one" / "psnr.png").exists()


def test_modulated_sdf_learns_distances(tmp_path):
    said = succeed("modulated_sdf", *FAMILY, "--baseline", "--outdir", tmp_path)
    curves = rows_of(tmp_path / "errors.csv")
    assert set(curves) == {"CoordMLP", "nn.Sequential"}
    for name, curve in curves.items():
        first, last = curve[0], curve[-1]
        # Distances away from the outlines come from the eikonal equation alone: no point there
        # has a target.
        assert last["distance"] < 0.25 * first["distance"]
        assert last["iou"] > 0.9 > 0.7 > first["iou"]
        assert last["eikonal"] < 0.2
        assert f"{name}: distances near the outlines wrong by {last['distance']:.4f}" in said
    assert shape_of(tmp_path / "shapes.png") == (2 * 130 + 2, 4 * 130 + 2, 3)
    assert shape_of(tmp_path / "between.png") == (4 * 130 + 2, 8 * 130 + 2, 3)


@pytest.mark.parametrize("name", ["fit_clip", "modulated_sdf"])
def test_help_shows_examples(name, tmp_path):
    """Wherever it is run from: the module that the examples share lies beside them."""
    said = succeed(name, "--help", cwd=tmp_path)
    assert f"python examples/{name}.py" in said
    assert "--baseline" in said
    assert "runs/" in said


def test_errors_are_one_line(clip, tmp_path):
    missing = tmp_path / "missing.mp4"
    assert error_of("fit_clip", "--video", missing, "--outdir", tmp_path).startswith(
        f"{missing} is no video: "
    )
    assert error_of("fit_clip", "--video", clip, "--frames", 99, "--outdir", tmp_path) == (
        f"--frames must be at most 8 for {clip} with --every 1, got 99"
    )
    file = tmp_path / "file"
    file.write_text("not a folder")
    for words in (("fit_clip", "--video", clip), ("modulated_sdf",)):
        message = error_of(*words, "--outdir", file / "x")
        assert message.startswith(f"the folder {file / 'x'} cannot be written: ")


def test_wrong_usage(clip):
    done = run("fit_clip", "--video", clip, "--frames", 1)
    assert done.returncode == 2
    assert "argument --frames: must be at least 2, got '1'" in done.stderr
