from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.fake_checkout import write_fake


@pytest.fixture
def fake(tmp_path) -> Path:
    return write_fake(tmp_path / "fake")
