"""What a test needs from the machine, and what happens where that is missing.

A test that cannot run is skipped on a laptop. On a machine that is meant to have the thing,
DIGAN_REQUIRE names it (`DIGAN_REQUIRE=nvcc,golden`) and the same test fails instead, so that
a broken machine cannot pass for a green run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NoReturn

import pytest

NAMES = ("nvcc", "browser", "golden", "gpu", "root", "official")


def required(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """The names in DIGAN_REQUIRE; ValueError for one that is not in NAMES."""
    value = (os.environ if environ is None else environ).get("DIGAN_REQUIRE", "")
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    unknown = sorted(names - set(NAMES))
    if unknown:
        raise ValueError(f"DIGAN_REQUIRE must hold names of {', '.join(NAMES)}, got {unknown[0]}")
    return names


def require(name: str, reason: str) -> NoReturn:
    """Ends a test whose need `name` is missing here: skipped, or failed if it is required."""
    if name not in NAMES:
        raise ValueError(f"a requirement must be one of {', '.join(NAMES)}, got {name}")
    if name in required():
        pytest.fail(f"{name} is required here (DIGAN_REQUIRE), but {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")
