"""What the op tests share beside `checks`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.emulation.build import emulated

COMMITTED = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture(scope="session")
def golden_file(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """The path of a golden file by its stem: the committed one, else the full set's."""

    def find(stem: str) -> Path:
        committed = COMMITTED / f"{stem}.npz"
        if committed.is_file():
            return committed
        return request.getfixturevalue("golden_dir") / f"{stem}.npz"

    return find


@pytest.fixture(autouse=True)
def emulator(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test with an emulated backend runs on the emulator, in a schedule of its own."""
    callspec = getattr(request.node, "callspec", None)
    backend = None if callspec is None else callspec.params.get("backend")
    if not getattr(backend, "emulated", False):
        yield
        return
    with emulated(seed=zlib.crc32(request.node.name.encode())) as controls:
        yield
        case = callspec.params.get("case")
        sizes = [] if case is None else [s for v in case.sizes.values() for s in np.ravel(v)]
        assert controls.launches() or 0 in sizes, "no kernel was launched"
