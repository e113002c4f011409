"""Targets beside what result files of one machine have measured.

python benchmarks/targets.py results/*.json
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from digan.bench.targets import main

if __name__ == "__main__":
    sys.exit(main())
