"""Shuffles and votes against what the CUDA guide says of them, on fresh random words."""

from __future__ import annotations

import numpy as np
import pytest

LANES = np.arange(32)


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


@pytest.mark.parametrize("seed", range(4))
def test_shuffles(cases, seed):
    cases.set_seed(seed)
    x = words(32)
    out = cases.run("shuffle", x, 5 * 32, 32).reshape(5, 32)
    np.testing.assert_array_equal(out[0], x[np.full(32, 5)])
    np.testing.assert_array_equal(out[1], x[LANES // 8 * 8 + (LANES + 3) % 8])
    np.testing.assert_array_equal(out[2], x[LANES ^ 4])
    np.testing.assert_array_equal(out[3], x[np.where(LANES + 7 < 32, LANES + 7, LANES)])
    np.testing.assert_array_equal(out[4], x[np.where(LANES % 16 >= 3, LANES - 3, LANES)])


@pytest.mark.parametrize("odd", [[], [3], list(range(32)), [0, 31]])
def test_votes(cases, odd):
    x = words(32) & ~np.uint32(1)
    x[odd] |= 1
    out = cases.run("vote", x, 3 * 32, 32).reshape(3, 32)
    assert set(out[0].tolist()) == {sum(1 << lane for lane in odd)}
    assert set(out[1].tolist()) == {int(len(odd) > 0)}
    assert set(out[2].tolist()) == {int(len(odd) == 32)}


def test_half_warps_exchange_by_themselves(cases):
    x = words(32) >> 8
    out = cases.run("half_warp_sum", x, 32, 32)
    expected = np.repeat([x[:16].sum(), x[16:].sum()], 16)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("shuffle_without_a_lane", "deadlock: 31 threads .* wait at __shfl_xor_sync .*1 threads"),
        ("shuffle_from_outside_its_mask", "reads lane 20, which its mask leaves out"),
        ("shuffle_by_a_lane_outside_its_mask", "with a mask that leaves out the calling lane"),
    ],
)
def test_missing_participants_are_reported(cases, name, report):
    with pytest.raises(RuntimeError, match=report):
        cases.run(name, words(32), 32, 32)
    assert cases.last_report()


def test_a_warp_cut_short_lacks_lanes(cases):
    with pytest.raises(RuntimeError, match="deadlock"):
        cases.run("shuffle", words(32), 5 * 32, 32, threads=24)
