"""The store that the tests of training share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tiny_runs import tiny_store
from tests.training.continued import CONFIG, complete


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `tiny_store`. Copy it before changing anything."""
    return tiny_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample videos of 1x2 clips: what they hold is not what is tested."""
    monkeypatch.setattr("digan.training.samples.grid_shape", lambda resolution: (1, 2))


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digan.training.samples.grid_shape", lambda resolution: (1, 2))
        return complete(store, tmp_path_factory.mktemp("unbroken") / "runs", CONFIG)


@pytest.fixture
def stopped(unbroken, tmp_path) -> Path:
    """A copy of the finished run that says it was stopped; its folder is `tmp_path/runs`."""
    run = tmp_path / "runs" / unbroken.name
    shutil.copytree(unbroken, run)
    status = (run / "status.json").read_text()
    (run / "status.json").write_text(status.replace("true", "false"))
    return run
