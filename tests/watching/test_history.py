"""Reading a run beside the process that writes it."""

from __future__ import annotations

import os
import time

import pytest

from digan.errors import DiganError
from digan.watching import read_history
from tests.watching.made import made_run, made_samples


def test_a_run_is_read_whole(tmp_path):
    run = made_run(tmp_path, 12, metric=[{"fd-random3d": 9.0}, {"fd-random3d": 4.0}])
    made_samples(run, 0, 12, 5)
    history = read_history(tmp_path)  # the folder of runs will do
    assert history.run == run
    assert (history.kimg, history.total, history.state) == (6.0, 100.0, "running")
    assert len(history.series("G/loss")) == 12
    assert history.metric_points("fd-random3d") == [(0.0, 9.0), (5.0, 4.0)]
    assert history.metric_points("fd-random3d", "frozen") == [(0.0, 30.0), (5.0, 30.0)]
    assert [kimg for kimg, _ in history.sample_files()] == [0.0, 5.0, 12.0]
    rate = sorted(history.series("seconds_per_kimg")[-5:])[2]
    assert history.remaining == pytest.approx(94 * rate)


def test_the_newest_run_of_a_folder_is_meant(tmp_path):
    made_run(tmp_path)
    newer = made_run(tmp_path / "b")
    newer.rename(tmp_path / "00007-later")
    (tmp_path / "00009-empty").mkdir()  # a run that has not begun
    assert read_history(tmp_path).run.name == "00007-later"


def test_rows_that_are_cut_or_damaged_are_left_out(tmp_path):
    run = made_run(tmp_path, 3)
    with open(run / "stats.jsonl", "ab") as file:
        file.write(b'[1]\n{"no": 1}\n{"kimg": true}\n\xff\xfe\n{"kimg": 9.5, "G/loss": NaN}\n')
        file.write(b'{"kimg": 10.0, "G/lo')
    history = read_history(run)
    assert [row["kimg"] for row in history.ticks] == [0.5, 1.0, 1.5, 9.5]
    assert len(history.points("G/loss")) == 3  # NaN is a tick, and no point of a curve
    (run / "status.json").write_text("{")
    assert read_history(run).state == "starting"


def test_a_run_that_says_nothing_for_long_is_silent(tmp_path):
    run = made_run(tmp_path)
    assert read_history(run).state == "running"
    long_ago = time.time() - 3600
    for path in run.iterdir():
        os.utime(path, (long_ago, long_ago))
    history = read_history(run)
    assert history.state == "silent"
    assert 3500 < history.silence < 3700
    slow = made_run(tmp_path / "slow", 5, lambda _, row: row.update(seconds_per_kimg=2000.0))
    for path in slow.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert read_history(slow).state == "running"  # a tick takes 1000 s


@pytest.mark.parametrize(
    ("reason", "state"), [("stopped by SIGTERM",) * 2, ("failed: no space",) * 2]
)
def test_a_stopped_run_says_why(tmp_path, reason, state):
    assert read_history(made_run(tmp_path, status={"reason": reason})).state == state


def test_what_is_no_run(tmp_path):
    with pytest.raises(DiganError, match="is no run of digan train and has none in it"):
        read_history(tmp_path)
    with pytest.raises(DiganError, match="nowhere is no folder"):
        read_history(tmp_path / "nowhere")
    run = made_run(tmp_path)
    for content in ("a: [", "- 1"):
        (run / "config.yaml").write_text(content)
        with pytest.raises(DiganError, match=r"cannot be read|is damaged"):
            read_history(run)
