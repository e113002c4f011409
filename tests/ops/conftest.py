"""What the op tests share beside `checks`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
