"""A healthy run has no signs; each fault has its own, and only that."""

from __future__ import annotations

import os
import time

import pytest

from digan.watching import find_signs, read_history
from tests.watching.made import made_run

GOOD = [{"fd-random3d": value} for value in (90.0, 40.0, 20.0, 10.0, 9.0, 9.5)]


def names(run) -> list[str]:
    signs = find_signs(read_history(run))
    for sign in signs:
        assert "\n" not in sign.line()
        assert sign.text.endswith((".", "them."))
        assert sign.cure.endswith(".")
    return [sign.name for sign in signs]


@pytest.mark.parametrize("ticks", [0, 1, 4, 7, 40, 300])
def test_a_healthy_run_has_no_signs(tmp_path, ticks):
    assert names(made_run(tmp_path, ticks, metric=GOOD)) == []


def late(**values: float):
    """Numbers of the last five ticks of forty."""
    return lambda tick, row: row.update(values) if tick >= 35 else None


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (late(**{"D/fake_loss": 0.01, "D/real_loss": 0.01, "G/loss": 12.0}), "divergence"),
        (late(**{"G/gradient_norm": 80.0}), "divergence"),
        (late(**{"D/gradient_norm": 80.0}), "divergence"),
        (late(**{"D/r1_video": 3.0}), "steep discriminators"),
        (late(**{"D/r1_image": 3.0}), "steep discriminators"),
        (late(data_wait_share=0.3), "waiting for data"),
    ],
)
def test_statistics(tmp_path, change, name):
    assert names(made_run(tmp_path, change=change, metric=GOOD)) == [name]


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([*GOOD, {"fd-random3d": 9.0, "pairwise_ratio": 0.1},
          {"fd-random3d": 9.0, "pairwise_ratio": 0.05}], "collapse"),
        ([*GOOD, {"fd-random3d": 9.0, "change_ratio": 0.1},
          {"fd-random3d": 9.0, "change_ratio": 0.05}], "still videos"),
        ([*GOOD, {"fd-random3d": 16.0}, {"fd-random3d": 18.0}], "turned metric"),
    ],
)  # fmt: skip
def test_metrics(tmp_path, rows, name):
    assert names(made_run(tmp_path, metric=rows)) == [name]


def test_one_bad_snapshot_is_no_sign(tmp_path):
    once = [*GOOD, {"fd-random3d": 40.0, "pairwise_ratio": 0.1, "change_ratio": 0.1}]
    assert names(made_run(tmp_path, metric=[*once, GOOD[-1]])) == []


def test_an_untrained_network_is_no_sign(tmp_path):
    still = {"fd-random3d": 90.0, "change_ratio": 0.01, "pairwise_ratio": 0.01}
    assert names(made_run(tmp_path, metric=[still, {**still, "fd-random3d": 80.0}])) == []


def test_what_the_log_warned_of(tmp_path):
    log = "run starts\nWARNING: generator.w: non-finite gradient in 2 steps, first in step 9\n"
    run = made_run(tmp_path, log=log)
    (sign,) = find_signs(read_history(run))
    assert sign.name == "non-finite gradients"
    assert "generator.w: non-finite gradient in 2 steps, first in step 9." in sign.text


def test_silence(tmp_path):
    run = made_run(tmp_path)
    for path in run.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    assert names(run) == ["no news"]
