"""Shared memory that a launch sizes: views, bounds, poison and races, as arrays have them."""

from __future__ import annotations

import numpy as np
import pytest

MOST = 99 * 1024  # of a block


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


def run(cases, name, count=0, threads=32, shared_bytes=256, out_words=256, **more):
    x = words(256)
    return x, cases.run(name, x, out_words, count, 1, threads, shared_bytes, **more)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "shared_bytes"), [(64, 256), (64, 300), (32, MOST), (1, 4)])
def test_what_fits_is_kept(cases, seed, count, shared_bytes):
    cases.set_seed(seed)
    cases.clear_launches()
    x = words(3 * count)
    out = cases.run("sized", x, 3 * count, count, 3, 64, shared_bytes)
    np.testing.assert_array_equal(out.reshape(3, count), x.reshape(3, count)[:, ::-1])
    (record,) = cases.launches()
    assert record["launch_shared_bytes"] == shared_bytes


def test_nothing_is_there_without_asking(cases):
    with pytest.raises(RuntimeError, match="writes byte 0 of memory, which has 0 bytes"):
        cases.run("sized", words(1), 1, 1)


def test_bounds_are_those_of_the_launch(cases):
    run(cases, "sized", 256, threads=1024, shared_bytes=MOST)  # room that the next one has not
    with pytest.raises(RuntimeError, match="writes byte 128 of memory, which has 128 bytes"):
        run(cases, "sized", 33, threads=64, shared_bytes=128)


def test_every_block_finds_poison(cases):
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"block \(1, 0, 0\).*which nobody wrote"):
            cases.run("poisoned", words(32), 64, 0, 2, 32, 128)


@pytest.mark.parametrize(
    ("name", "shared_bytes", "fits"),
    [
        ("beside_4_kilobytes", MOST - 4096, True),
        ("beside_4_kilobytes", MOST - 4095, False),
        ("beside_48_kilobytes", MOST - 48 * 1024, True),
        ("beside_48_kilobytes", MOST - 48 * 1024 + 1, False),
        ("beside_4_kilobytes", 44 * 1024, True),
        # Beyond 48 KiB in all a launch must ask for it, which it does by its own part.
        ("beside_4_kilobytes", 48 * 1024, False),
    ],
)
def test_arrays_and_the_launch_share_what_there_is(cases, name, shared_bytes, fits):
    x = words(2)
    for word in (0, shared_bytes // 4 - 1):
        if fits:
            np.testing.assert_array_equal(cases.run(name, x, 2, word, 1, 1, shared_bytes), x)
            continue
        with pytest.raises(RuntimeError, match="bytes of shared memory, arrays and .*, at most"):
            cases.run(name, x, 2, word, 1, 1, shared_bytes)


def test_more_than_a_card_has_is_refused(cases):
    with pytest.raises(RuntimeError, match="at most 101376 bytes of shared memory, got 101377"):
        run(cases, "sized", 1, shared_bytes=MOST + 1)
    with pytest.raises(RuntimeError, match="shared arrays hold 50176 bytes, at most 49152"):
        run(cases, "beside_49_kilobytes")


def test_views_see_the_same_bytes(cases):
    x, out = run(cases, "views", out_words=96)
    x = x[:32]
    np.testing.assert_array_equal(out.reshape(3, 32), [x[::-1], x, x])


@pytest.mark.parametrize("seed", range(5))
def test_a_race_through_two_views_is_seen(cases, seed):
    cases.set_seed(seed)
    x, out = run(cases, "two_views", 64, threads=64, out_words=64)
    expected = x[:64] & 0xFFFF0000 | np.roll(x[:64], 32) & 0xFFFF
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(RuntimeError, match="race: .*without __syncthreads"):
        run(cases, "two_views_unordered", 64, threads=64)
    with pytest.raises(RuntimeError, match="race: .*without __syncwarp"):
        run(cases, "two_views_of_a_warp_unordered", 32)


def test_halves_of_a_word_are_apart(cases):
    x, out = run(cases, "halves", out_words=32)
    np.testing.assert_array_equal(out, x[:32][::-1] & 0xFFFF | x[:32] & 0xFFFF0000)


@pytest.mark.parametrize(
    ("name", "bytes"), [("word", 4), ("load16", 16), ("store16", 16), ("matrix", 16), ("copy", 16)]
)
def test_misaligned_accesses_are_reported(cases, name, bytes):
    with pytest.raises(RuntimeError, match=f"misaligned: {bytes} bytes at byte 2 of"):
        run(cases, f"misaligned_{name}")


@pytest.mark.parametrize("width", [2, 4, 8])
def test_copies_of_every_width_arrive(cases, width):
    x, out = run(cases, f"copied_{width}", out_words=128, shared_bytes=512)
    np.testing.assert_array_equal(out, x[:128])
    with pytest.raises(RuntimeError, match="which has 511 bytes"):
        run(cases, f"copied_{width}", out_words=128, shared_bytes=511)


def test_a_copy_that_is_under_way_is_not_read(cases):
    with pytest.raises(RuntimeError, match="before the asynchronous copy to it was waited for"):
        run(cases, "copied_unwaited", shared_bytes=512)


def test_an_array_has_no_parts_of_its_elements(cases):
    with pytest.raises(RuntimeError, match="tile, which is watched by pieces of 4"):
        run(cases, "halves_of_an_array")


@pytest.mark.parametrize(
    ("name", "stride", "kind", "conflicts"),
    [
        # Eight lanes at a time have 32 words: all banks once, or one of four over and over.
        ("strided_copies", 16, None, 0),
        ("strided_copies", 32, "shared_write", 4 * 1),
        ("strided_copies", 128, "shared_write", 4 * 7),
        ("strided_copies", 144, None, 0),
        ("strided_matrices", 16, None, 0),
        ("strided_matrices", 32, "matrix_read", 4 * 1),
        ("strided_matrices", 64, "matrix_read", 4 * 3),
        # A word each, of which the banks hold 32; memory ends at 128 words.
        ("strided_reads", 4, None, 0),
        ("strided_reads", 8, "shared_read", 1),
        ("strided_reads", 16, "shared_read", 3),
    ],
)
def test_bank_conflicts_are_told_apart(cases, name, stride, kind, conflicts):
    cases.clear_launches()
    run(cases, name, stride, out_words=32, shared_bytes=32 * stride + 512)
    (record,) = cases.launches()
    expected = {f"{kind}_conflicts": conflicts} if kind else {}
    for found in ("matrix_read", "shared_read", "shared_write"):
        assert record[f"{found}_conflicts"] == expected.get(f"{found}_conflicts", 0), found
    assert record["bank_conflicts"] == conflicts
    # Where a lane has nothing to copy, zeros arrive and nothing is read.
    assert record["async_copy_bytes"] == 16 * (16 if name == "strided_copies" else 32)
    assert record["global_read_bytes"] == record["async_copy_bytes"]


def test_products_are_counted(cases):
    cases.clear_launches()
    cases.run("small_product", words(192), 128, 0)
    cases.run("ldmatrix", words(128), 128, 0)
    product, load = cases.launches()
    assert (product["matrix_products"], product["warp_exchanges"]) == (1, 3)
    assert (load["matrix_products"], load["warp_exchanges"]) == (0, 1)
