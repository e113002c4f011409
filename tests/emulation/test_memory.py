"""What the emulator says of wrong accesses to global and shared memory, and of barriers."""

from __future__ import annotations

import numpy as np
import pytest


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


def run(cases, name, count=128, blocks=1, threads=None, out_words=None, **more):
    x = words(more.pop("in_words", count * blocks))
    threads = count if threads is None else threads
    return x, cases.run(name, x, out_words or count * blocks, count, blocks, threads)


# ---------------------------------------------------------------- what is right passes


@pytest.mark.parametrize("seed", range(5))
def test_right_kernels_pass(cases, seed):
    cases.set_seed(seed)
    for name, distance in (("rotate_by_1", 1), ("rotate_by_32", 32)):
        x, out = run(cases, name, blocks=3)
        expected = np.roll(x.reshape(3, 128), -distance, axis=1)
        np.testing.assert_array_equal(out.reshape(3, 128), expected)
    x, out = run(cases, "rotate_by_1_warp", count=32)
    np.testing.assert_array_equal(out, np.roll(x, -1))
    x, out = run(cases, "two_tiles", count=96, out_words=192, in_words=192)
    np.testing.assert_array_equal(out.reshape(2, 96), x.reshape(2, 96)[:, ::-1])
    x, out = run(cases, "copy16", count=1000, blocks=4, threads=64, out_words=1000, in_words=1000)
    np.testing.assert_array_equal(out, x)


def test_what_nobody_writes_is_poison(cases):
    x, out = run(cases, "copy", count=40, threads=64, out_words=50, in_words=50)
    np.testing.assert_array_equal(out[:40], x[:40])
    assert set(out[40:].tolist()) == {0xFFFFFFFF}


# ---------------------------------------------------------------- what is wrong is reported


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "arguments", "report"),
    [
        ("rotate_by_1_unordered", {"count": 32}, "tile.*nobody wrote|race.*without __syncwarp"),
        ("rotate_by_32_unordered", {}, "tile.*nobody wrote|race.*without __syncthreads"),
        ("rotate_by_32_warp", {}, "tile.*nobody wrote|race.*without __syncthreads"),
        (
            "two_tiles_unordered",
            {"count": 96, "out_words": 192, "in_words": 192},
            "race: (overwrites|reads) tile.*without __sync(threads|warp)",
        ),
        ("reads_what_nobody_wrote", {}, r"reads tile\[0\], which nobody wrote"),
        ("beyond_shared", {"count": 32}, r"writes tile\[256\], which has 256 elements"),
        ("half_at_a_barrier", {}, "deadlock: 64 threads .*wait at __syncthreads.*; 64 threads"),
        ("two_barriers", {}, "deadlock: 64 threads .*__syncthreads.*; 64 .*__syncthreads"),
        ("copy_from_beyond", {}, "out of bounds: reads 4 bytes at byte 512 of in, which has 512"),
        ("copy_from_before", {}, "out of bounds: reads 4 bytes at byte -4 of in, which has 512"),
        ("writes_beyond", {}, "out of bounds: writes 4 bytes at byte .* of out, which has 512"),
        ("misaligned", {"threads": 1}, "misaligned: reads 16 bytes at byte 8 of in"),
        ("reads_unwritten", {}, "reads byte .* of out, which has 512, where nobody wrote|race"),
        ("beyond_its_array", {}, "index 3 is outside its array, cases_block.cu:"),
        ("two_write_one", {"blocks": 2}, "race: writes byte .* of out.*of block 0 wrote"),
    ],
)
def test_faults_are_reported(cases, seed, name, arguments, report):
    cases.set_seed(seed)
    with pytest.raises(RuntimeError, match=report) as raised:
        run(cases, name, **arguments)
    assert str(raised.value).startswith("kernel, block (")
    assert cases.last_report() == str(raised.value)


def test_a_lost_barrier_shows_in_any_order(cases):
    """The shadow memory finds it whichever warp comes first: after it, never before."""
    found = set()
    for seed in range(20):
        cases.set_seed(seed)
        with pytest.raises(RuntimeError) as raised:
            run(cases, "rotate_by_32_unordered")
        found.add("race" if "race" in str(raised.value) else "poison")
    assert found  # every seed raised


def test_a_report_does_not_outlive_its_launch(cases):
    with pytest.raises(RuntimeError):
        run(cases, "copy_from_beyond")
    run(cases, "copy")
    assert cases.last_report() == ""


@pytest.mark.parametrize(("blocks", "threads"), [(0, 32), (1, 0), (1, 1025)])
def test_impossible_grids_are_refused(cases, blocks, threads):
    with pytest.raises(RuntimeError, match="must have 1 to"):
        cases.run("copy", words(32), 32, 32, blocks, threads)


# ---------------------------------------------------------------- what is counted


def counted(cases):
    (record,) = cases.launches()
    return record


def test_counters_of_a_copy(cases):
    cases.clear_launches()
    run(cases, "copy16", count=1000, blocks=4, threads=64, out_words=1000, in_words=1000)
    record = counted(cases)
    assert (record["grid"], record["block"]) == ((4, 1, 1), (64, 1, 1))
    assert (record["global_reads"], record["global_read_bytes"]) == (250, 4000)
    assert (record["global_writes"], record["global_write_bytes"]) == (250, 4000)
    assert record["barriers"] == record["shared_reads"] == record["bank_conflicts"] == 0


def test_counters_of_a_rotation(cases):
    cases.clear_launches()
    run(cases, "rotate_by_32", blocks=3)
    record = counted(cases)
    assert record["barriers"] == 3
    assert record["shared_reads"] == record["shared_writes"] == 3 * 128
    assert record["global_read_bytes"] == record["global_write_bytes"] == 3 * 128 * 4
    assert record["bank_conflicts"] == 0


def test_counters_of_exchanges(cases):
    cases.clear_launches()
    cases.run("shuffle", words(32), 5 * 32, 32)
    cases.run("rotate_by_1_warp", words(32), 32, 32)
    shuffled, rotated = cases.launches()
    assert (shuffled["warp_exchanges"], shuffled["warp_barriers"]) == (5, 0)
    assert (rotated["warp_exchanges"], rotated["warp_barriers"]) == (0, 1)
    assert cases.kernels() == ["kernel"]


@pytest.mark.parametrize(
    ("stride", "passes"), [(1, 1), (2, 2), (3, 1), (4, 4), (16, 16), (32, 32), (33, 1)]
)
def test_bank_conflicts(cases, stride, passes):
    """Words `stride` apart fall on 32 / gcd(stride, 32) banks; one write and one read."""
    cases.clear_launches()
    cases.run("strided", words(32), 32, stride)
    assert counted(cases)["bank_conflicts"] == 2 * (passes - 1)


@pytest.mark.parametrize(("stride", "passes"), [(4, 1), (8, 2), (12, 1), (32, 8)])
def test_bank_conflicts_of_16_bytes(cases, stride, passes):
    """Eight lanes at a time, four words each: a quarter warp has the banks once."""
    cases.clear_launches()
    threads = min(32, 1024 // stride)
    cases.run("strided16", words(128), 128, stride, threads=threads)
    quarters = threads // 8
    assert counted(cases)["bank_conflicts"] == 2 * quarters * (passes - 1)
