"""The built emulator, once a session."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulation import build


@pytest.fixture(scope="session")
def cases() -> Any:
    """The small kernels, and the emulator's controls beside them."""
    return build.load_cases()
