"""Starts several processes as a user would, with torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def torchrun(size: int, *words: str) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node SIZE -m WORDS`, in a process group of its own."""
    return _started(size, ["--standalone"], words)


def machines(count: int, size: int, *words: str) -> list[subprocess.Popen[str]]:
    """The same on each of several machines, all of which are this one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--nnodes", str(count), "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    flags += ["--rdzv-endpoint", f"127.0.0.1:{port}"]
    return [_started(size, flags, words) for _ in range(count)]


def _started(size: int, flags: list[str], words: Sequence[str]) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", *flags),
            *("--nproc-per-node", str(size), "-m", *words),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
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
