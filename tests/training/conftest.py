"""The store that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_runs import tiny_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `tiny_store`. Copy it before changing anything."""
    return tiny_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample videos of 1x2 clips: what they hold is not what is tested."""
    monkeypatch.setattr("digan.training.samples.grid_shape", lambda resolution: (1, 2))
