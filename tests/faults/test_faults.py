"""Accidents at random points of real work: all of it goes on and loses little.

`make soak` has hundreds of them and prints the table of docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.trials import WORKS, Work


def trials(
    tmp_path: Path, work: Work, each: int, seed: int, timeout: float
) -> list[dict[str, object]]:
    out = tmp_path / "out.json"
    words = [str(out), "--each", str(each), "--seed", str(seed), "--only", f"{work.name}: "]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.trials", *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=timeout,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found: list[dict[str, object]] = json.loads(out.read_text())
    assert len(found) == each * len(work.faults)
    return found


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_it_goes_on(work, tmp_path, soak):
    each = 30 if soak else 1
    found = trials(tmp_path, work, each, 7 if soak else os.getpid(), 600 * each)
    about = "{fault} {number}: {complaint}"
    complaints = [about.format(**trial) for trial in found if trial["complaint"]]
    assert complaints == []
    if soak:  # points are random, so every fault strikes somewhere, or the trials tell nothing
        assert {t["fault"] for t in found if t["struck"]} == {f.name for f in work.faults}
