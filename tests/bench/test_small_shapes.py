"""The calls that the GPU suite makes under compute-sanitizer, on the CPU where there is no GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.op_cases import OPS

ROOT = Path(__file__).resolve().parents[2]


def test_every_case_is_called():
    done = subprocess.run(
        [sys.executable, "benchmarks/small_shapes.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    called = re.search(r"small shapes: (\d+) calls with gradients on (\w+)", done.stdout)
    assert called, done.stdout
    if called[2] == "cpu":  # on a GPU an op without kernels is left out
        assert int(called[1]) > sum(len(op.cases) for op in OPS.values())
