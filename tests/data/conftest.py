"""Clips that several files of tests prepare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.clips import write_clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three clips of 12, 13, 14 frames. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(6):
        write_clip(folder / f"{'ab'[n // 3]}/{n}.mp4", 12 + n % 3, shade=n)
    return folder
