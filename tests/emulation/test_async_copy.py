"""cp.async: data appear at the wait, for others at the barrier behind it, and never before."""

from __future__ import annotations

import numpy as np
import pytest


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


@pytest.mark.parametrize("count", [256, 200, 0])
def test_copies_arrive(cases, count):
    x = words(256)
    out = cases.run("async", x, 256, count, threads=64)
    expected = np.where(np.arange(256) < count, x, 0)
    np.testing.assert_array_equal(out, expected[::-1])


def test_the_older_of_two_groups_arrives_first(cases):
    x = words(512)
    out = cases.run("async_two_stages", x, 128, 0, threads=64)
    np.testing.assert_array_equal(out[:64], x[:256][::-1][:64])
    np.testing.assert_array_equal(out[64:], x[256:][::-1][:64])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("async_no_wait", "before the asynchronous copy to it was waited for"),
        ("async_no_commit", "before the asynchronous copy to it was waited for"),
        ("async_wait_for_too_few", "before the asynchronous copy to it was waited for"),
        ("async_overwritten", "writes tile.*before the asynchronous copy"),
        ("async_no_barrier", "which nobody wrote|race: reads tile|before the asynchronous copy"),
    ],
)
def test_data_are_invisible_before_the_wait(cases, seed, name, report):
    cases.set_seed(seed)
    with pytest.raises(RuntimeError, match=report):
        cases.run(name, words(512), 256, 256, threads=64)


def test_a_copy_from_beyond_its_source_is_reported(cases):
    with pytest.raises(
        RuntimeError, match="out of bounds: reads 16 bytes at byte 4.. of in, which has 400"
    ):
        cases.run("async", words(100), 256, 256, threads=64)
