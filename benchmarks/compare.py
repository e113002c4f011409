"""Ratios of two result files with their uncertainty: compare.py A.json B.json."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import digan  # noqa: F401
except ModuleNotFoundError:  # a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from digan.bench.compare import main

if __name__ == "__main__":
    sys.exit(main())
