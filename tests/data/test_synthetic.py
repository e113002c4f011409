"""The cloud videos: deterministic, varied, moving, smooth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digan.data.synthetic import HOURS, cloud_frames, write_clouds
from digan.data.video import decode_frames, probe
from digan.errors import DiganError


def clouds(hour: str, index: int, frames: int = 24, seed: int = 0) -> np.ndarray:
    return np.stack(list(cloud_frames(hour, 32, frames, seed, index)))


def test_pure_functions() -> None:
    first = clouds("day", 1, 3)
    np.testing.assert_array_equal(first, clouds("day", 1, 3))
    assert np.abs(first - clouds("day", 2, 3)).mean() > 0.02
    assert np.abs(first - clouds("day", 1, 3, seed=1)).mean() > 0.02
    assert first.min() >= 0
    assert first.max() <= 1


def test_hours_differ_and_vary() -> None:
    mean = {h: np.stack([clouds(h, i, 1)[0].mean((0, 1)) for i in range(8)]) for h in HOURS}
    assert mean["night"].mean() < 0.3 < 0.45 < mean["day"].mean()
    assert mean["dusk"][:, 0].mean() > mean["dusk"][:, 2].mean() + 0.1
    assert mean["day"][:, 2].mean() > mean["day"][:, 0].mean()
    assert all(values.std(0).max() > 0.01 for values in mean.values())


def test_they_move_smoothly() -> None:
    for index, hour in enumerate(HOURS):
        video = clouds(hour, index, 48)
        step = np.abs(np.diff(video, axis=0)).mean((1, 2, 3))
        far = np.abs(video[0] - video[-1]).mean()
        assert step.min() > 5e-4, "it moves"
        assert step.max() < 3 * step.mean(), "without jumps"
        assert far > 3 * step.mean(), "and gets somewhere"


def test_the_wind_carries_them() -> None:
    """The shift that matches the next frame best is the same all along."""
    video = clouds("day", 5, 48).mean(-1)
    shifts = []
    for a, b in zip(video[:-6:6], video[6::6], strict=False):
        errors = {s: np.abs(a[:, 12 - s : 20 - s] - b[:, 12:20]).mean() for s in range(-8, 9)}
        shifts.append(min(errors, key=lambda s: errors[s]))
    assert np.ptp(shifts) <= 6


def test_files(tmp_path: Path) -> None:
    paths = write_clouds(tmp_path, videos=5, frames=6, size=32, fps=12, progress=False)
    assert [p.relative_to(tmp_path).parts[0] for p in paths] == [*HOURS, "dawn"]
    info = probe(paths[0])
    assert (info.codec, info.width, info.height, info.frames, info.fps) == ("h264", 32, 32, 6, 12)
    expected = np.stack(list(cloud_frames("dawn", 32, 6, 0, 4))) * 255
    found = np.stack([f.image for f in decode_frames(paths[4])])
    assert np.abs(found - expected).mean() < 4


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DiganError, match=r"videos must be at least 1, got 0"):
        write_clouds(tmp_path, videos=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match=r"cannot be written"):
        write_clouds(tmp_path / "file", videos=1, progress=False)
