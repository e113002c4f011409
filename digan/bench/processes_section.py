"""Training on several processes against one, under torchrun, and the messages between them.

Every number of processes is a job of its own (`digan.bench.processes_job`), in which the same
processes do all that is compared, in turns. `digan.bench.scaling` makes efficiencies of the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from digan.bench.cases import Case, Context
from digan.bench.rows import Row
from digan.errors import DiganError


def cases(context: Context) -> Iterator[Case]:
    """None: what runs in several processes is not timed in this one."""
    yield from ()


def rows(context: Context) -> list[Row]:
    """The rows of all numbers of processes.

    Raises:
        DiganError: there is one GPU only; a process failed.
    """
    found = []
    for size in numbers(context):
        print(f"{size} processes", file=sys.stderr, flush=True)
        found += [Row(**row) for row in _job(context, size)]
    return found


def numbers(context: Context) -> list[int]:
    """How many processes are compared with one: 2, 4, ... and at last the most.

    Raises:
        DiganError: fewer GPUs than processes, or one GPU only.
    """
    most = context.options.scale_to
    if context.device.type == "cuda":
        count = torch.cuda.device_count()
        most = most or count
        if most > count or most < 2:
            raise DiganError(
                f"section processes needs a GPU for each of {max(most, 2)} processes, there "
                f"are {count}; --device cpu measures processes without one"
            )
    most = most or 2
    powers = [2**n for n in range(1, most.bit_length()) if 2**n < most]
    return [*powers, most]


def _job(context: Context, size: int) -> list[dict[str, Any]]:
    """What the first process of a job of so many found."""
    task, result = (context.folder / f"processes-{name}.json" for name in ("task", "result"))
    result.unlink(missing_ok=True)
    task.write_text(json.dumps(asdict(context.options)), encoding="utf-8")
    threads = str(context.options.threads or 1)  # of each; torchrun itself would take 1
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(size)),
            *("-m", "digan.bench.processes_job", str(task), str(result)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found: Any = json.loads(result.read_text(encoding="utf-8")) if result.exists() else None
    if isinstance(found, dict):
        raise DiganError(f"{size} processes: {found['error']}")
    if done.returncode or found is None:
        said = [line for line in done.stdout.splitlines() if "Error" in line] or ["no message"]
        raise DiganError(f"{size} processes ended with {done.returncode}: {said[0].strip()}")
    return list(found)
