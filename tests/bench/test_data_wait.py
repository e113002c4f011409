"""How long training would wait for its loader: the recursion, by hand and in its limits."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from digan.bench import data_wait
from digan.bench.data_wait import taken_times, wait_share, waits, waits_of
from digan.bench.loader_section import compressed_pixels
from digan.bench.rows import Row
from digan.data.images import decode_record, encode_record
from digan.errors import DiganError
from tests.bench.test_measuring import results


def constant(made: float, copied: float = 0.0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, made), np.full(n, copied)


def test_a_small_case_by_hand():
    """One worker, one batch ahead; S = 2, 5, 1, C = 1, tau = 3.

    0: made at 2, ready and taken at 3. 1: asked for at 3, made at 8, ready at 9, taken at 9.
    2: asked for at 9, made at 10, ready at 11, training is busy until 12.
    """
    found = taken_times(np.array([2.0, 5.0, 1.0]), np.ones(3), 3.0, workers=1, prefetch=1)
    assert found.tolist() == [3.0, 9.0, 12.0]


def test_batches_come_in_order():
    """Worker 1 is slow with batch 1; worker 0 has batch 2 long before, and training waits."""
    made = np.array([1.0, 10.0, 1.0, 1.0])
    found = taken_times(made, np.zeros(4), 1.0, workers=2, prefetch=2)
    assert found.tolist() == [1.0, 10.0, 11.0, 12.0]


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("made", [0.5, 1.0, 3.0, 20.0])
def test_without_jitter_the_slower_side_decides(workers, made):
    """A batch takes max(tau, S / W): the share waited is 1 - tau W / S, or none."""
    expected = max(0.0, 1 - workers / made)
    assert wait_share(*constant(made), 1.0, workers) == pytest.approx(expected, abs=0.01)


def test_the_copy_is_one_thread_however_many_workers():
    assert wait_share(*constant(0.1, 2.0), 1.0, 8) == pytest.approx(0.5, abs=0.01)


def test_a_stall_is_absorbed_by_what_is_ready():
    """8 workers, 4 batches each: a stall of 20 steps goes unnoticed, one of 60 does not."""
    for stall, waited in ((20.0, 0.0), (60.0, 60 - 8 * 4 * 1.0)):
        made, copied = constant(0.5, n=400)
        made[200] = stall
        taken = taken_times(made, copied, 1.0, workers=8)
        late = float(taken[-1] - taken[32]) - (len(taken) - 33)
        assert late == pytest.approx(waited, abs=8.0)
        assert (late > 0) == (waited > 0)


def test_jitter_costs_where_there_is_no_slack():
    """Times of mean 1 for steps of 1.02: constant ones keep up, exponential ones do not."""
    draw = np.random.default_rng(0)
    jittery = draw.exponential(1.0, 20_000)
    jittery /= jittery.mean()
    zero = np.zeros_like(jittery)
    assert wait_share(np.ones_like(jittery), zero, 1.02, 1, prefetch=1) < 1e-9
    shallow = wait_share(jittery, zero, 1.02, 1, prefetch=1)
    deep = wait_share(jittery, zero, 1.02, 1, prefetch=64)
    assert shallow > 0.2
    assert deep < 0.1 * shallow


def test_more_workers_wait_less():
    draw = np.random.default_rng(1)
    made = draw.gamma(4.0, 0.25, 40)  # seconds, 64 pairs: 64 samples a second from one worker
    found = waits(made, [0.002], 64)
    assert [w.workers for w in found] == [1, 2, 4, 8]
    assert all(a.share >= b.share for a, b in itertools.pairwise(found))
    assert found[0].share == pytest.approx(1 - 64 / made.mean() / 200, abs=0.03)
    assert found[3].supply == pytest.approx(8 * 64 / made.mean())
    assert found[3].share < 0.02
    assert all(w.worst >= w.share - 0.01 for w in found)
    slower = waits(made, [0.002], 64, slowdown=2.0)
    assert slower[3].supply == pytest.approx(found[3].supply / 2)


def test_too_few_batches_are_an_error():
    with pytest.raises(DiganError, match="too few for 8 workers"):
        wait_share(*constant(1.0, n=60), 1.0, 8)


def loader_rows(alone: float, together: float) -> list[Row]:
    def row(case: str, provider: str, seconds: float, items: int) -> Row:
        return Row(
            "loader", case, provider, "-", unit="pairs", items=items, samples=[[seconds] * 5]
        )

    case = f"{data_wait.WORKER_CASE} 64 pairs, N=128 128x128"
    return [
        row(case, data_wait.DECODED, alone, 64),
        row(case, data_wait.COPIED, 0.002, 64),
        row("2 workers, batches of 64, N=128", data_wait.TOGETHER, together, 1024),
    ]


def test_rows_of_a_run_become_the_table():
    """A worker alone: 0.64 s a batch; two together: 1024 pairs in 8 s, so 1 s each."""
    found = waits_of(results(*loader_rows(0.64, 8.0)))
    assert found[0]["slowdown"] == pytest.approx(1 / 0.64)
    assert [w["supply"] for w in found] == pytest.approx([64.0, 128.0, 256.0, 512.0])
    assert [w["share"] for w in found] == pytest.approx([0.68, 0.36, 0, 0], abs=0.01)
    assert "8                        512  0.00 %" in data_wait.format_waits(found)
    assert waits_of(results()) == []
    assert data_wait.format_waits([]) == ""


def test_the_floor_of_a_pair_is_the_inflation_of_its_record():
    """IDAT chunks joined are one zlib stream: a filter byte a row, then its pixels."""
    image = np.random.default_rng(0).integers(256, size=(33, 33, 3), dtype=np.uint8)
    record = encode_record(image, "png")
    rows = zlib.decompress(compressed_pixels(record))
    assert len(rows) == 33 * (1 + 3 * 33)
    assert (decode_record(record) == image).all()
