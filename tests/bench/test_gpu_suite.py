"""benchmarks/gpu_suite.sh without a GPU, and with an interpreter that pretends to have one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from digan.bench.cases import SECTIONS
from digan.bench.command import parser

ROOT = Path(__file__).resolve().parents[2]

# Answers what the suite asks of the machine, notes what it would run, and runs the rest.
PRETENDER = r"""#!/usr/bin/env bash
if [ "$1" = -c ]; then
    case "$2" in
    *get_device_properties*) printf '%s\n' "NVIDIA H200" 139 9.0 "${GPUS:-1}" ;;
    *SECTIONS*) echo {sections} ;;
    *n.reason*) echo ;;
    *n.architectures*) echo 90a ;;
    "import "*) ;;
    *) exec {python} "$@" ;;
    esac
    exit
fi
echo "$*" >> {log}
case "$*" in *section*profile*) exit 3 ;; esac
"""


def suite(tmp_path: Path, *words: str, python: str = sys.executable) -> tuple[int, str, list[str]]:
    """Status, summary, and the errors' lines."""
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu_suite.sh"), "--out", str(tmp_path / "out"), *words],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHON": python, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
             "DIGAN_NATIVE_LIBRARY": ""},
    )  # fmt: skip
    summary = tmp_path / "out" / "summary.txt"
    text = summary.read_text() if summary.exists() else ""
    return done.returncode, text, done.stderr.splitlines()


@pytest.fixture
def pretending(tmp_path) -> tuple[str, Path]:
    """An interpreter that pretends, and the file where it notes."""
    script, log = tmp_path / "python", tmp_path / "log"
    words = {"python": shlex.quote(sys.executable), "log": log, "sections": " ".join(SECTIONS)}
    text = PRETENDER
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", str(word))
    script.write_text(text)
    script.chmod(0o755)
    return str(script), log


def bench_runs(log: Path) -> dict[str, list[str]]:
    """The benchmark's arguments by the stage's name, in order."""
    found = {}
    for line in log.read_text().splitlines():
        script, _, rest = line.partition(" ")
        if script == "benchmarks/bench_inr.py":
            arguments = shlex.split(rest)
            name = Path(arguments[arguments.index("--json") + 1]).stem
            found[name.removeprefix("nvidia-h200-")] = arguments
    return found


def test_without_a_gpu_everything_is_named(tmp_path):
    status, text, _ = suite(tmp_path, "--only", "bench", "--only", "precision")
    assert status == 0
    assert "GPU: missing" in text
    for stage in ("training", "profile", "generator", "ops", "compiled", "loader"):
        assert f"bench-{stage}: skipped, it needs a GPU" in text
    assert "bench-official: skipped, --official names no checkout" in text
    assert "bench: passed" in text
    assert "precision: skipped" in text
    assert "tests:" not in text
    assert "memcheck:" not in text


def test_with_a_gpu_every_section_is_run_within_its_time(tmp_path, pretending):
    """The commands are ones that the benchmark takes; a stage that fails stops no other."""
    python, log = pretending
    (tmp_path / "original").mkdir()
    status, text, _ = suite(
        tmp_path, "--skip", "tests", "--skip", "memcheck", "--skip", "racecheck", "--skip",
        "precision", "--official", str(tmp_path / "original"), python=python,
    )  # fmt: skip
    assert status == 1
    assert "bench-profile: FAILED with status 3" in text
    assert "GPU: NVIDIA H200, 139 GiB" in text
    runs = bench_runs(log)
    order = ["training", "profile", "generator", "ops", "official", "compiled", "loader"]
    assert [name for name in runs if name in order] == order
    for name, arguments in runs.items():
        given = parser("bench").parse_args(arguments)
        assert given.device == "cuda"
        assert given.batch == 32
        assert given.json.parent == tmp_path / "out"
        assert 10 <= given.seconds <= 130, name
    assert "bench-processes: skipped, there is one GPU" in text
    assert set(SECTIONS) - {"showcase", "processes"} <= {
        parser("bench").parse_args(arguments).section[0] for arguments in runs.values()
    }
    for section in ("sampling", "gradients"):
        known = section in SECTIONS
        assert (section in runs) == known
        assert (f"bench-{section}: skipped, this benchmark has no section" in text) == (not known)


def test_one_stage_alone_and_more_time(tmp_path, pretending):
    python, log = pretending
    status, text, _ = suite(tmp_path, "--only", "ops", "--seconds", "940", python=python)
    assert status == 0
    assert list(bench_runs(log)) == ["ops"]
    seconds = parser("bench").parse_args(bench_runs(log)["ops"]).seconds
    assert seconds == 2 * 50 * 9 // 10
    assert "bench-training" not in text


def test_several_gpus_are_measured_against_one(tmp_path, pretending, monkeypatch):
    python, log = pretending
    monkeypatch.setenv("GPUS", "8")
    status, text, _ = suite(tmp_path, "--only", "processes", python=python)
    assert status == 0, text
    given = parser("bench").parse_args(bench_runs(log)["processes"])
    assert given.section == ("processes",)
    assert given.scale_to is None  # all of them


def test_what_finds_no_time_left_is_named(tmp_path, pretending):
    python, log = pretending
    status, text, _ = suite(tmp_path, "--only", "bench", "--seconds", "5", python=python)
    assert status == 0
    assert not log.exists()
    assert "bench-ops: skipped, no time left of 5 s; --only ops makes it" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--bogus"], "there is no flag '--bogus'"), (["--only"], "--only needs a value"),
     (["--seconds", "soon"], "must be a number, got 'soon'")],
)  # fmt: skip
def test_wrong_flags_are_one_line(tmp_path, words, said):
    status, _, errors = suite(tmp_path, *words)
    assert status == 2
    assert len(errors) == 1
    assert said in errors[0]
