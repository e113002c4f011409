"""The inception score: closed forms, splits, what is no probability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digan.errors import DiganError
from digan.metrics import inception_score


def probabilities(count: int, classes: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((count, classes)) + 1e-3
    return values / values.sum(axis=1, keepdims=True)


def by_hand(rows: np.ndarray) -> float:
    marginal = rows.mean(axis=0)
    total = 0.0
    for row in rows:
        total += sum(p * np.log(p / q) for p, q in zip(row, marginal, strict=True) if p > 0)
    return float(np.exp(total / len(rows)))


@given(st.integers(2, 40), st.integers(2, 9), st.integers(0, 99))
def test_one_split_is_the_formula(count, classes, seed):
    rows = probabilities(count, classes, seed)
    score = inception_score(rows, splits=1)
    assert score.mean == pytest.approx(by_hand(rows), rel=1e-12)
    assert score.deviation == 0
    assert 1 - 1e-12 <= score.mean <= classes + 1e-9


@given(st.integers(1, 12), st.integers(0, 99))
def test_splits_are_those_of_stylegan_v(splits, seed):
    rows = probabilities(37, 5, seed)
    mixed = rows.copy()
    np.random.RandomState(42).shuffle(mixed)
    parts = [mixed[i * 37 // splits : (i + 1) * 37 // splits] for i in range(splits)]
    expected = [by_hand(part) for part in parts]
    score = inception_score(rows, splits)
    assert score.splits == pytest.approx(expected, rel=1e-12)
    assert score.mean == pytest.approx(np.mean(expected))
    assert score.deviation == pytest.approx(np.std(expected), abs=1e-12)


def test_bounds_are_reached():
    sure = np.eye(7)[np.arange(70) % 7]
    assert inception_score(sure, 1).mean == pytest.approx(7)
    assert inception_score(np.full((70, 7), 1 / 7), 10).mean == pytest.approx(1)
    assert inception_score(np.eye(7)[np.zeros(70, int)], 10).mean == pytest.approx(1)


def test_errors():
    rows = probabilities(9, 3, 0)
    for splits in (0, 10):
        with pytest.raises(DiganError, match=f"from 1 to the number of videos, 9, got {splits}"):
            inception_score(rows, splits)
    logits = rows * 5
    with pytest.raises(DiganError, match="sum to 1 in every row, row 0 sums to 5"):
        inception_score(logits, 1)
    rows[4] = np.array([1.5, -0.5, 0])
    with pytest.raises(DiganError, match="row 4"):
        inception_score(rows, 1)
    rows[4, 0] = np.nan
    with pytest.raises(DiganError, match="NaN or infinity"):
        inception_score(rows, 1)
