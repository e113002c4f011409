"""mbarriers: phases, what is seen behind a wait for one, and who is told of what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounds", [1, 2, 3, 9])
def test_words_go_round(cases, seed, rounds):
    cases.set_seed(seed)
    x = words(32 * rounds)
    cases.clear_launches()
    out = cases.run("mbarrier", x, 32 * rounds, rounds, threads=64)
    np.testing.assert_array_equal(out, x.reshape(rounds, 32)[:, ::-1].ravel())
    assert cases.launches()[0]["mbarrier_arrivals"] == 2 * 32 * rounds


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("no_full_wait", "race: reads ring|nobody wrote|race: overwrites ring"),
        ("no_empty_wait", "race: overwrites ring|two phases ended|deadlock: .*phase 3"),
        ("no_arrival", r"32 threads \(thread 32 first\) wait at the mbarrier at byte 0 of barriers,"
         " in phase 0 with 1 arrivals and 0 bytes to come"),
        ("empty_parity", r"deadlock: 32 threads \(thread 0 first\) wait at the mbarrier at byte 16 "
         "of barriers, in phase 0 with 32 arrivals"),
        ("full_parity", "race: reads ring|nobody wrote|race: overwrites ring|deadlock: .*phase 1"),
        ("no_barrier_behind_making", "made, without a barrier between|where no mbarrier was made"),
        ("too_many_arrivals", "race: overwrites ring|one arrival more|two phases ended"),
        ("bytes_that_never_come", "deadlock: .*in phase 0 with 0 arrivals and 16 bytes to come"),
        ("not_made", "an arrival at byte 32 of barriers, where no mbarrier was made"),
        ("touched", r"writes barriers\[3\], which is of an mbarrier"),
        ("made_twice", r"writes barriers\[0\], which is of an mbarrier"),
    ],
)  # fmt: skip
def test_faults_are_reported(cases, seed, name, report):
    cases.set_seed(seed)
    with pytest.raises(RuntimeError, match=report):
        cases.run(f"mbarrier_{name}", words(32 * 6), 32 * 6, 6, threads=64)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_seen_goes_on_to_others(cases, seed):
    cases.set_seed(seed)
    x = words(32)
    np.testing.assert_array_equal(cases.run("mbarrier_chain", x, 32, 0, threads=96), x[::-1])
    for name in ("mbarrier_chain_broken", "mbarrier_chain_of_lanes"):
        with pytest.raises(RuntimeError, match="race: reads words|which nobody wrote"):
            cases.run(name, x, 32, 0, threads=96)


@pytest.mark.parametrize("seed", range(4))
def test_named_barriers(cases, seed):
    cases.set_seed(seed)
    x = words(96)
    cases.clear_launches()
    out = cases.run("named_barriers", x, 64, 0, threads=96)
    np.testing.assert_array_equal(out, np.concatenate([x[:32], x[64:]]))
    assert cases.launches()[0]["named_barriers"] == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("missing", "race: reads words|which nobody wrote"),
        ("for_too_many", "deadlock: .*wait at named barrier 1"),
        ("for_half_warps", "named barrier 1 for 48 threads, whole warps of the block can be"),
        ("zero", "named barrier 0, from 1 to 15 can be"),
        ("of_another", "named barrier 2 for (32|64) threads, by others for|race: reads words|"
         "which nobody wrote|deadlock"),
    ],
)  # fmt: skip
def test_faults_at_named_barriers_are_reported(cases, seed, name, report):
    cases.set_seed(seed)
    with pytest.raises(RuntimeError, match=report):
        cases.run(f"named_barrier_{name}", words(96), 64, 0, threads=96)


def test_registers_of_warpgroups(cases):
    x = words(384)
    np.testing.assert_array_equal(cases.run("registers", x, 384, 0, threads=384), x)
    for name, report in (
        ("of_too_many", "warpgroups have 65536 registers, the launch gave 64512"),
        ("taken_down", "takes 160 registers, has 168"),
        ("released_up", "releases down to 176 registers, has 168"),
        ("of_half_a_group", "one warpgroup sets"),
    ):
        with pytest.raises(RuntimeError, match=report):
            cases.run(f"registers_{name}", x, 384, 0, threads=384)
    with pytest.raises(RuntimeError, match="registers of a warpgroup in a block of 96 threads"):
        cases.run("registers", x, 384, 0, threads=96)
