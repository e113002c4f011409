"""What is drawn on frames: where, where not, and never on what was given."""

from __future__ import annotations

import numpy as np
import pytest

from digan.errors import DiganError
from digan.synthesis import beside, difference, red_box, resample, square_box
from digan.synthesis.marks import RED, line_width


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 200, (4, 40, 48, 3), dtype=np.uint8)


def is_red(frames: np.ndarray) -> np.ndarray:
    return (frames == RED).all(axis=-1)


def test_a_box_is_drawn_round_the_frames_that_are_marked(frames):
    before = frames.copy()
    which = np.array([True, False, False, True])
    drawn = red_box(frames, which, width=3)
    assert np.array_equal(frames, before)
    assert np.array_equal(drawn[1:3], frames[1:3])
    red = is_red(drawn)
    for n in (0, 3):
        assert np.array_equal(drawn[n, 3:-3, 3:-3], frames[n, 3:-3, 3:-3])
        border = np.ones((40, 48), bool)
        border[3:-3, 3:-3] = False
        assert np.array_equal(red[n], border)
    assert is_red(red_box(frames))[:, 0].all()  # all, and a line as wide as the frame needs
    assert not is_red(red_box(frames))[:, 1, 1:-1].any()
    with pytest.raises(ValueError, match=r"which must be \[4\], got \[3\]"):
        red_box(frames, np.ones(3, bool))


def test_lines_are_seen_at_every_size():
    assert [line_width(side) for side in (8, 32, 128, 1024)] == [1, 1, 2, 16]


def test_the_training_square_keeps_its_pixels():
    frames = np.random.default_rng(6).integers(0, 200, (2, 48, 48, 3), dtype=np.uint8)
    drawn = square_box(frames, 32, width=2)
    assert np.array_equal(drawn[:, 8:-8, 8:-8], frames[:, 8:-8, 8:-8])
    assert np.array_equal(drawn[:, :6], frames[:, :6])
    red = is_red(drawn)
    assert red[:, 6:8, 6:-6].all()
    assert red[:, -8:-6, 6:-6].all()
    assert red[:, 6:-6, 6:8].all()
    assert red[:, 6:-6, -8:-6].all()
    assert red.sum() == 2 * (36 * 36 - 32 * 32)
    for inner in (48, 64, 47):  # nothing outside: nothing to draw
        same = square_box(frames, inner)
        assert np.array_equal(same, frames)
        assert same is not frames
    assert is_red(square_box(frames, 46, width=5)).any()  # no wider than the margin


def test_a_difference_is_black_where_nothing_differs(frames):
    other = frames.copy()
    other[1, 3, 7] += 10
    other[2, 5, 5] = frames[2, 5, 5] + np.array([3, 0, 0], np.uint8)
    found = difference(frames, other, gain=3.0)
    assert found.dtype == np.uint8
    assert found[1, 3, 7].tolist() == [30, 30, 30]
    assert found[2, 5, 5].tolist() == [3, 3, 3]
    assert np.array_equal(difference(other, frames, gain=3.0), found)
    found[1, 3, 7] = found[2, 5, 5] = 0
    assert not found.any()
    black, white = np.zeros_like(frames), np.full_like(frames, 255)
    assert (difference(black, white) == 255).all()  # clamped, never wrapped
    with pytest.raises(ValueError, match="must be of one shape"):
        difference(frames, frames[:2])


def test_plain_enlargements():
    small = np.random.default_rng(7).integers(0, 255, (3, 6, 6, 3), dtype=np.uint8)
    nearest = resample(small, 24, "nearest")
    assert np.array_equal(nearest, small.repeat(4, axis=1).repeat(4, axis=2))
    smooth = {how: resample(small, 24, how).astype(float) for how in ("bilinear", "bicubic")}
    for found in smooth.values():
        assert found.shape == (3, 24, 24, 3)
        cells = found.reshape(3, 6, 4, 6, 4, 3).mean(axis=(2, 4))
        assert np.abs(cells - small).mean() < 45
        steps = np.abs(np.diff(found, axis=1)).max()
        assert steps < np.abs(np.diff(nearest.astype(float), axis=1)).max()
    assert np.abs(smooth["bilinear"] - smooth["bicubic"]).mean() > 0.5
    flat = np.full((1, 4, 4, 3), 77, np.uint8)
    for how in ("nearest", "bilinear", "bicubic"):
        assert (resample(flat, 16, how) == 77).all()
    with pytest.raises(DiganError, match="one of nearest, bilinear, bicubic, got 'lanczos'"):
        resample(small, 24, "lanczos")
    with pytest.raises(DiganError, match="at least 1, got 0"):
        resample(small, 0, "nearest")


def test_side_by_side(frames):
    row = beside(frames, frames // 2, gap=3)
    assert row.shape == (4, 40, 99, 3)
    assert np.array_equal(row[:, :, :48], frames)
    assert not row[:, :, 48:51].any()
    assert np.array_equal(row[:, :, 51:], frames // 2)
    assert np.array_equal(beside(frames), frames)
