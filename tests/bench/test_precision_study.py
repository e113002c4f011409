"""The precision study: a miniature from data to plot, and the rule of its verdict."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from digan.errors import DiganError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "precision_study.py"
MINIATURE = (
    "--precisions", "fp32", "bf16", "--seeds", "0", "--kimg", "0.016", "--points", "2",
    "--samples", "4", "--rounds", "2", "--round-iterations", "1", "--batch", "4", "--videos", "4",
    "--device", "cpu",
)  # fmt: skip


def study(outdir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--outdir", str(outdir), *MINIATURE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("precision_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_miniature(script, tmp_path):
    """Runs, summary and plot; a second call trains nothing again; other settings are refused."""
    done = study(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["cost", "run", "run"]
    assert {len(lines[0]["cpu"][p]) for p in ("fp32", "bf16")} == {2}
    for run, precision in zip(lines[1:], ("fp32", "bf16"), strict=True):
        assert (run["precision"], run["seed"]) == (precision, 0)
        assert [p["kimg"] for p in run["points"]] == [0.0, 0.008, 0.016]
        assert all(math.isfinite(p["fd"]) and p["fd"] > 0 for p in run["points"])
        seconds = [p["cpu_seconds"] for p in run["points"]]
        assert seconds == sorted(seconds)
        assert seconds[-1] > 0
    start, other = (run["points"][0]["fd"] for run in lines[1:])
    assert start == other  # one seed, one start, one reference, judged in float32
    assert lines[1]["points"][-1]["fd"] != lines[2]["points"][-1]["fd"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["runs"] == lines[1:]
    assert set(summary["verdict"]["precisions"]) == {"fp32", "bf16"}
    assert "bf16" in done.stdout
    picture = imread(tmp_path / "precision.png")
    assert picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20

    before = (tmp_path / "runs.jsonl").read_bytes()
    again = study(tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    other = script._parser().parse_args(["--outdir", str(tmp_path), *MINIATURE, "--batch", "8"])
    with pytest.raises(DiganError, match="of a study with other settings"):
        script.Study(other)


def runs(precision: str, finals: list[float | None], nonfinite: int = 0) -> list[dict]:
    return [
        {
            "kind": "run",
            "precision": precision,
            "seed": seed,
            "nonfinite": nonfinite,
            "points": [{"fd": 90.0}, {"fd": final}, {"fd": final}],
        }
        for seed, final in enumerate(finals)
    ]


FLOAT32 = [5.0, 6.0, 8.0]


@pytest.mark.parametrize(
    ("finals", "nonfinite", "loses"),
    [
        ([4.0, 5.0, 6.0], 0, False),
        ([4.0, 8.0, 99.0], 0, False),  # the median is float32's worst
        ([4.0, 8.1, 9.0], 0, True),
        ([4.0, 5.0, None], 0, False),
        ([4.0, None, None], 0, True),
        ([4.0, 5.0, 6.0], 1, True),
    ],
)
def test_what_loses(script, finals, nonfinite, loses):
    rows = runs("fp32", FLOAT32) + runs("bf16", finals, nonfinite)
    cost = {"cpu": {"fp32": [1.0, 1.0, 2.0], "bf16": [0.5, 0.5, 1.0]}}
    found = script.verdict(rows, cost, "cpu")
    assert found["precisions"]["bf16"]["loses"] is loses
    assert not found["precisions"]["fp32"]["loses"]
    assert found["default"] == ("fp32" if loses else "bf16")
    json.dumps(found, allow_nan=False)


def test_the_default_is_the_fastest_that_gains_a_tenth(script):
    rows = [row for p in ("fp32", "tf32", "bf16", "fp16") for row in runs(p, FLOAT32)]

    def default(device, **ratios):
        slow = [10.0, 20.0, 11.0]
        times = {p: [s * r for s in slow] for p, r in {"fp32": 1.0, **ratios}.items()}
        return script.verdict(rows, {"cpu": times, "wall": times}, device)["default"]

    assert default("cpu", tf32=1.3, bf16=0.94, fp16=0.98) == "fp32"
    assert default("cpu", tf32=1.3, bf16=0.85, fp16=0.8) == "fp16"
    assert default("cpu", tf32=0.5, bf16=0.85, fp16=0.9) == "bf16"  # tf32 is by hand there
    assert default("cuda", tf32=0.5, bf16=0.85, fp16=0.9) == "tf32"


def test_the_final_distance_is_a_mean_of_two(script):
    run = {"points": [{"fd": 90.0}, {"fd": 7.0}, {"fd": 5.0}]}
    assert script.final_distance(run) == 6.0
