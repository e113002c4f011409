"""Damage to the folder of a run: watched, reported, found and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from digan.bench.rows import SCHEMA, Results, Row, read_results
from digan.bench.trace import read_events
from digan.cli import main
from digan.config import to_dict
from digan.errors import DiganError
from digan.training.log import RunLog
from digan.training.runs import read_status, unfinished_run
from digan.watching import describe_run, read_history
from digan.watching.page import report_page
from tests.hostile.strategies import (
    any_values,
    changed,
    damages,
    deep_texts,
    json_lines,
    rounds,
    to_bytes,
    yaml_texts,
)
from tests.hostile.verdict import refused_or_read
from tests.tiny_runs import tiny_config
from tests.watching.made import HEALTHY, made_run, made_samples

ROW = {"kimg": 0.5, **HEALTHY, "seconds": 20.0}
METRIC = {"metric": "fd-random3d", "kimg": 5.0, "results": {
    "fd-random3d": 9.0, "floor": 1.0, "shuffled": 17.0, "frozen": 30.0, "mean_frame": 52.0,
    "pairwise_ratio": 1.0, "change_ratio": 1.0}}  # fmt: skip
STATUS = {"finished": False, "kimg": 20.0, "reason": "running", "time": 0.0}
FILES = ("config.yaml", "stats.jsonl", "status.json", "metric-fd-random3d.jsonl", "log.txt")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with numbers, a metric and samples."""
    folder = tmp_path_factory.mktemp("runs")
    made = made_run(folder, metric=[{"fd-random3d": 9.0}, {"fd-random3d": 4.0}],
                    log="WARNING: non-finite gradient of a\n")  # fmt: skip
    made_samples(made, 0)
    return made


def look(run: Path) -> None:
    """All that `digan watch --page` and a run's report do."""
    history = read_history(run)
    lines = describe_run(history)
    assert all(line.isprintable() for line in lines)
    page = report_page(history).html()
    assert "<script>alert" not in page


def resume(run: Path) -> None:
    """What resuming reads: the status, and the rows behind the state, which go."""
    read_status(run)
    unfinished_run(run.parent, "made-res32-frames4-batch4")
    RunLog(run, 100.0, 10.0, progress=False).close()
    rows = (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["kimg"] <= 10.0 for row in rows)


def with_file(run: Path, name: str, content: bytes) -> None:
    """Looks at a run one file of which is another."""
    before = (run / name).read_bytes()
    (run / name).write_bytes(content)
    try:
        refused_or_read(lambda: look(run))
    finally:
        (run / name).write_bytes(before)


@rounds(40)
@given(name=st.sampled_from(FILES), damage=damages)
def test_damaged_files(run, name, damage):
    with_file(run, name, damage((run / name).read_bytes()))


@rounds(40)
@given(data=st.data())
def test_files_of_something_else(run, data):
    base = to_dict(tiny_config(kimg=100.0, resolution=32))
    config = st.one_of(changed(base), any_values).map(
        lambda values: yaml.safe_dump(values, allow_unicode=True)
    )
    written = {
        "stats.jsonl": json_lines(ROW),
        "metric-fd-random3d.jsonl": json_lines(METRIC),
        "status.json": st.one_of(changed(STATUS).map(json.dumps), any_values.map(json.dumps),
                                 deep_texts),
        "config.yaml": st.one_of(config, yaml_texts),
        "log.txt": st.lists(st.text(max_size=20).map(lambda text: f"WARNING: {text} non-finite"),
                            max_size=3).map("\n".join),
    }  # fmt: skip
    name = data.draw(st.sampled_from(FILES))
    with_file(run, name, to_bytes(data.draw(written[name])))


@rounds(60)
@given(
    stats=st.one_of(json_lines(ROW).map(to_bytes), st.binary(max_size=60)),
    status=st.one_of(changed(STATUS).map(json.dumps), any_values.map(json.dumps), deep_texts),
)
def test_going_on_with_damaged_rows(tmp_path_factory, run, stats, status):
    """Rows that cannot be read go; a status that cannot be read is named."""
    folder = tmp_path_factory.mktemp("resumed")
    copy = folder / run.name
    copy.mkdir()
    (copy / "stats.jsonl").write_bytes(stats)
    (copy / "status.json").write_bytes(to_bytes(status))
    refused_or_read(lambda: resume(copy))
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", [*FILES, "fakes000000.mp4", "reals.mp4"])
@pytest.mark.parametrize("kind", ["absent", "folder", "circle"])
def test_files_that_are_none(tmp_path, run, name, kind):
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    (copy / name).unlink()
    if kind == "folder":
        (copy / name).mkdir()
    elif kind == "circle":
        (copy / name).symlink_to(name)
    refused_or_read(lambda: look(copy))


def test_a_terminal_is_not_driven_by_what_a_run_says(tmp_path, capsys):
    """Escape sequences of its status, its log and its files' names are shown, not obeyed."""
    evil = "\x1b]0;title\x07\x1b[2J\rrunning"
    run = made_run(tmp_path, status={"reason": evil}, log=f"WARNING: {evil} non-finite\n")
    (run / "metric-\x1b[31m.jsonl").write_text('{"kimg": 1, "results": {"\\u001b[31m": 2}}\n')
    assert main(["watch", str(run), "--once"]) == 0
    said = capsys.readouterr().out
    assert "title" in said
    assert not set(said) & {"\x1b", "\x07", "\r"}


def test_numbers_that_overflow_are_drawn(tmp_path):
    """Each is a float, but not their sums, shares and squares."""
    for number, values in enumerate(([1e308, -1e308], [5e-324, 1e308], [-1.0, -0.99], [1e16] * 2)):

        def change(tick: int, row: dict[str, float], values: Any = values) -> None:
            row.update(dict.fromkeys(row, values[tick % 2]))

        run = made_run(tmp_path / str(number), 40, change)
        look(run)
        assert "nan" not in report_page(read_history(run)).html()


# ---------------------------------------------------------------- files of the benchmark

TRACE = {"traceEvents": [{"ph": "X", "ts": 1.0, "dur": 2.0, "name": "a", "cat": "kernel"}]}
ROW_OF_RESULTS = Row("op", "a", "digan", "fp32", samples=[[0.5, 1.0], [2.0]], flops=1e9, peak=5)
RESULTS: dict[str, Any] = {
    "schema": SCHEMA,
    **dataclasses.asdict(Results("2026", {"a": 1}, {"cpu": "b"}, [], {}, [ROW_OF_RESULTS])),
}


@rounds(80)
@given(text=st.one_of(changed(TRACE).map(json.dumps), changed(RESULTS).map(json.dumps),
                      any_values.map(json.dumps), deep_texts, st.text(max_size=30)))  # fmt: skip
def test_files_of_the_benchmark(run, text):
    path = run.parent / "measured.json"
    path.write_bytes(to_bytes(text))
    refused_or_read(lambda: read_events(path))
    results = refused_or_read(lambda: read_results(path))
    for row in () if results is None else results.rows:
        _ = row.median, row.percentile(20), row.floor_share, row.process_spread


def test_whole_files_of_the_benchmark(run):
    path = run.parent / "whole.json"
    Results("2026", {}, {}, [], {}, [ROW_OF_RESULTS]).write(path)
    assert read_results(path).rows == [ROW_OF_RESULTS]
    path.write_text(json.dumps(TRACE))
    assert read_events(path) == TRACE["traceEvents"]


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    def deny(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(DiganError, match="runs cannot be read: Permission denied"):
        read_history(tmp_path / "runs")
    assert os.path.isdir(tmp_path / "runs")
