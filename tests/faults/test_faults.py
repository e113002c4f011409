"""Accidents at random points of real short runs: every run goes on and loses little.

`make soak` has hundreds of them and prints the table of docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.faults import FAULTS


def trials(tmp_path: Path, each: int, seed: int, timeout: float) -> list[dict[str, object]]:
    out = tmp_path / "out.json"
    words = [str(out), "--each", str(each), "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.trials", *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=timeout,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found: list[dict[str, object]] = json.loads(out.read_text())
    assert len(found) == each * len(FAULTS)
    return found


def test_every_run_goes_on(tmp_path, soak):
    each = 30 if soak else 1
    found = trials(tmp_path, each, 7 if soak else os.getpid(), 600 * each)
    complaints = [f"{t['fault']} {t['number']}: {t['complaint']}" for t in found if t["complaint"]]
    assert complaints == []
    if soak:  # points are random, so most faults cost work somewhere, or they struck nothing
        assert len({t["fault"] for t in found if t["reached"] > t["kept"]}) >= 5
