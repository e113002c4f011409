"""What every test file may use, and the table of skips at the end of a run.

Torch is not imported here: the files that need it import it, the others stay quick.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

# Before any test imports torch, which reads it once. Workers share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from digan.toolkit import Toolkit, find_toolkit
from tests.requirements import require, required

ROOT = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("DIGAN_SOAK", "0") not in ("", "0")

# A shared machine makes single examples slow for no fault of theirs, hence no deadline.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("soak" if SOAK else "ci")


def pytest_configure(config: pytest.Config) -> None:
    try:
        required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if hypothesis.is_hypothesis_test(item.function) or "soak" in item.fixturenames:
            item.add_marker(pytest.mark.soak)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            require("gpu", "no CUDA GPU is visible")


def skip_table(reports: list[Any]) -> list[str]:
    """One line for each reason of the skipped tests' reports, the most frequent first."""
    counts: Counter[str] = Counter()
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else "no reason"
        counts[str(reason).removeprefix("Skipped: ")] += 1
    return [
        f"{count:>5}  {reason}"
        for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = skip_table(terminalreporter.stats.get("skipped", []))
    if lines:
        terminalreporter.section("skips by reason")
        for line in lines:
            terminalreporter.write_line(line)


def _shared_dir(variable: str, relative: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT / ".." / "shared" / relative).resolve()
    if not folder.is_dir():
        require("golden", f"{folder} is no folder and {variable} names none")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def soak() -> bool:
    """True in `make soak`, where a sweep may take minutes."""
    return SOAK


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of the full golden set: DIGAN_GOLDEN, else ../shared/golden."""
    return _shared_dir("DIGAN_GOLDEN", "golden")


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The folder of the real clips: DIGAN_SHARED_DATA, else ../shared/data."""
    return _shared_dir("DIGAN_SHARED_DATA", "data")


@pytest.fixture(scope="session")
def toolkit() -> Toolkit:
    """The CUDA toolkit of this machine."""
    found = find_toolkit()
    if found.reason is not None:
        require("nvcc", found.reason)
    return found


@pytest.fixture(autouse=True)
def _no_build_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own settings must not decide what a test sees."""
    for name in ("DIGAN_BUILD_CUDA", "DIGAN_OPS"):
        monkeypatch.delenv(name, raising=False)
