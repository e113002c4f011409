"""Streams of random numbers that depend on (seed, stream, index) and nothing else."""

from __future__ import annotations

import time

import numpy as np
import pytest

from digan.randomness import Permutation, sample_rng


def test_equal_arguments_equal_numbers() -> None:
    a, b = (sample_rng(5, "pairs", 7).random(8) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_numbers_written_down_once() -> None:
    np.testing.assert_allclose(sample_rng(0, "a", 0).random(2), [0.00062119, 0.55647276], atol=1e-8)
    np.testing.assert_allclose(sample_rng(0, "a", 1).random(1), [0.69723294], atol=1e-8)


def test_streams_do_not_overlap() -> None:
    arguments = [(0, "a", 0), (0, "a", 1), (0, "a", 2), (0, "b", 0), (1, "a", 0), (-1, "a", 0),
                 (0, "a", 2**64 - 1), (2**80, "a", 0)]  # fmt: skip
    drawn = [set(sample_rng(*a).integers(0, 2**63, 1000).tolist()) for a in arguments]
    assert len(set.union(*drawn)) == sum(map(len, drawn))
    with pytest.raises(ValueError, match="index must be in"):
        sample_rng(0, "a", -1)


def test_uniform_across_indices() -> None:
    first = np.array([sample_rng(0, "a", i).random() for i in range(4000)])
    counts, _ = np.histogram(first, 10, (0, 1))
    assert np.abs(counts - 400).max() < 100
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06


def test_it_is_cheap() -> None:
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        for i in range(1000):
            sample_rng(0, "pairs", i)
        best = min(best, (time.perf_counter() - start) / 1000)
    assert best < 1e-4  # about 1.2e-5 on a quiet machine


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 65536, 65537, 100_003])
def test_permutations(n: int) -> None:
    one = Permutation(n, 0, "epoch 0")
    values = np.array([one[i] for i in range(n)])
    np.testing.assert_array_equal(np.sort(values), np.arange(n))
    assert len(one) == n
    if n > 100:
        other = Permutation(n, 0, "epoch 1")
        same = sum(one[i] == other[i] for i in range(1000 if n > 1000 else n))
        assert same < 10
        assert abs(np.corrcoef(np.arange(n), values)[0, 1]) < 5 / n**0.5
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / n**0.5
    for bad in (-1, n):
        with pytest.raises(IndexError):
            one[bad]


def test_huge_permutations_need_no_memory() -> None:
    huge = Permutation(10**12, 0, "epoch 0")
    values = [huge[i] for i in range(2000)]
    assert len(set(values)) == 2000
    assert 0 <= min(values) < max(values) < 10**12
    assert abs(np.mean(values) / 10**12 - 0.5) < 0.03
