"""Pairwise distance and change per frame, against their plain definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digan.errors import DiganError
from digan.metrics import PixelStatistics, mean_frame_change, mean_pairwise_distance


def clips(count: int, frames: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(count, frames, 4, 6, 3), dtype=np.uint8)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 99))
def test_pairwise_distance_is_over_all_pairs(count, frames, seed):
    videos = clips(count, frames, seed)
    wide = videos.astype(np.float64)
    squares = [np.square(a - b).mean() for a, b in combinations(wide, 2)]
    assert mean_pairwise_distance(videos) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-12)


@given(st.integers(1, 9), st.integers(2, 5), st.integers(0, 99))
def test_frame_change_is_the_mean_difference(count, frames, seed):
    videos = clips(count, frames, seed)
    expected = np.abs(np.diff(videos.astype(np.float64), axis=1)).mean()
    assert mean_frame_change(videos) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_batches_change_nothing_at_all(sizes):
    videos = clips(sum(sizes) + 2)
    parts = np.split(videos, np.cumsum(sizes))
    assert mean_pairwise_distance(parts) == mean_pairwise_distance(videos)
    assert mean_frame_change(iter(parts)) == mean_frame_change(videos)


def test_one_video_repeated_has_no_distance():
    same = np.repeat(clips(1), 50, axis=0)
    assert mean_pairwise_distance(same) == 0.0


def test_stills_do_not_change():
    assert mean_frame_change(np.repeat(clips(5, 1), 4, axis=1)) == 0.0


def test_known_values():
    dark, light = np.zeros((1, 2, 4, 4, 3), np.uint8), np.full((1, 2, 4, 4, 3), 255, np.uint8)
    assert mean_pairwise_distance([dark, light]) == 255.0
    blink = np.concatenate([dark[:, :1], light[:, :1]], axis=1)
    assert mean_frame_change(blink) == 255.0


def test_mean_frame():
    videos = clips(7, 5)
    expected = videos.astype(np.float64).mean((0, 1)).round()
    assert np.array_equal(PixelStatistics.from_clips(videos).mean_frame().numpy(), expected)


def test_errors():
    with pytest.raises(DiganError, match="at least 2 videos, got 1"):
        mean_pairwise_distance(clips(1))
    with pytest.raises(DiganError, match="got 3 of 1"):
        mean_frame_change(clips(3, 1))
    with pytest.raises(DiganError, match="got 0 of 0"):
        mean_frame_change([])
    with pytest.raises(DiganError, match="at least 1 video"):
        PixelStatistics().mean_frame()
    with pytest.raises(DiganError, match=r"one shape, got \[4, 4, 6\] after \[3, 4, 6\]"):
        mean_frame_change([clips(2, 3), clips(2, 4)])
