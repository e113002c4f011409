"""The benchmark of record; `digan bench` is the same. `--help` lists the flags.

    python benchmarks/bench_inr.py --section generator --json results.json --plot plots/

What it measures and how: docs/benchmark.md. The code is in digan/bench, so that it comes with
an installed package too.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import digan  # noqa: F401
except ModuleNotFoundError:  # a checkout that is not installed; workers inherit the path
    import os

    root = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(0, root)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        part for part in (root, os.environ.get("PYTHONPATH")) if part
    )

from digan.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
