"""Starts several processes as a user would, with torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def torchrun(size: int, *words: str, **variables: str) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node SIZE -m WORDS`, in a process group of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(size), "-m", *words),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(job: subprocess.Popen[str], timeout: float = 120) -> str:
    """What a job printed; it must end by itself."""
    try:
        said, _ = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, 9)
        said, _ = job.communicate()
        raise AssertionError(f"the job did not end in {timeout} s:\n{said}") from None
    return said
