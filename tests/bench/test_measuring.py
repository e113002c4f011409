"""The clockwork: who is measured when, what becomes of samples, what a file keeps."""

from __future__ import annotations

import gc
import json
import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from digan.bench import run, worker
from digan.bench.cases import Case, Options
from digan.bench.compare import format_comparison, main, time_ratio
from digan.bench.machine import Ceilings, measure_ceilings
from digan.bench.report import baseline, format_results, ratio
from digan.bench.rows import Results, Row, merge, read_results
from digan.bench.run import jobs
from digan.bench.timing import LEAST_ROUNDS, Clock, measure
from digan.errors import DiganError

CPU = torch.device("cpu")


def row(provider="reference", samples=((1.0, 2.0, 3.0),), **more) -> Row:
    more = {"section": "generator", "case": "T=1", "precision": "fp32", **more}
    return Row(provider=provider, samples=[list(s) for s in samples], **more)


def results(*rows: Row, **machine) -> Results:
    about = {"name": "a card", "threads": 2, "commit": "abc", "versions": {"torch": "2"}}
    options = {
        "preset": "tiny", "resolution": 32, "frames": 16, "batch": 4, "precisions": ["fp32"],
    }  # fmt: skip
    ceilings = [
        {"section": "generator", "allocator": "default", "flops": {"fp32": 1e9}, "copy": 1e9}
    ]
    return Results("2026-01-01", options, {**about, **machine}, ceilings, {}, list(rows))


# ---------------------------------------------------------------- timing


def test_providers_take_turns():
    """Every round has everyone once, and begins with another one."""
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    samples = measure(works, Clock(CPU), rounds=4, budget=60, warm_up=2)
    assert calls[:6] == list("aabbcc")
    assert ["".join(calls[6 + 3 * i : 9 + 3 * i]) for i in range(4)] == ["abc", "bca", "cab", "abc"]
    assert {name: len(found) for name, found in samples.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_small_budget_still_gives_some_rounds():
    samples = measure({"a": lambda: None}, Clock(CPU), rounds=9, budget=0)
    assert len(samples["a"]) == LEAST_ROUNDS


def test_garbage_is_not_collected_while_the_clock_runs():
    states: list[bool] = []
    measure({"a": lambda: states.append(gc.isenabled())}, Clock(CPU), rounds=3, budget=60)
    assert states == [True, False, False, False]
    assert gc.isenabled()


def test_a_failing_provider_leaves_the_collector_on():
    calls = iter([None, None])
    with pytest.raises(StopIteration):
        measure({"a": lambda: next(calls)}, Clock(CPU), rounds=9, budget=60)
    assert gc.isenabled()


def test_ceilings_are_positive_and_floors_take_the_slower_of_two():
    found = measure_ceilings(CPU, ["fp32"], rounds=1)
    assert found.flops["fp32"] > 1e8
    assert found.copy > 1e7
    ceilings = Ceilings({"fp32": 10.0}, copy=5.0)
    assert ceilings.floor([(100.0, 5.0), (10.0, 50.0)], "fp32") == 10.0 + 10.0
    assert math.isnan(ceilings.floor([(1.0, 1.0)], "bf16"))


# ---------------------------------------------------------------- rows


def test_processes_are_merged_and_weigh_alike():
    merged = merge(
        [
            row(samples=[[1.0] * 50]),
            row("other"),
            row(
                samples=[
                    [3.0],
                ]
            ),
            row(samples=[[2.0]]),
        ]
    )
    assert [r.provider for r in merged] == ["reference", "other"]
    assert merged[0].samples == [[1.0] * 50, [3.0], [2.0]]
    assert merged[0].median == 2.0
    assert merged[0].process_spread == 1.0
    assert merged[0].percentile(20) == 1.0


def test_merging_leaves_the_given_rows_alone():
    first = row(samples=[[1.0]])
    merge([first, row(samples=[[2.0]])])
    assert first.samples == [[1.0]]


def test_a_row_without_samples_has_no_number():
    empty = row(samples=[])
    assert math.isnan(empty.median)
    assert math.isnan(empty.process_spread)
    assert math.isnan(empty.floor_share)
    assert row(floor=[0.5], samples=[[2.0]]).floor_share == 0.25


def test_a_file_holds_every_sample(tmp_path):
    written = results(row(samples=[[0.1, 0.2], [0.3]], flops=1e9, peak=123, note="n"))
    written.write(tmp_path / "new" / "r.json")
    assert read_results(tmp_path / "new" / "r.json") == written


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "no result file"), ("[]", "no result file"), ('{"schema": 99}', "schema must be 1"),
     ('{"schema": 1, "rows": [{"who": 1}]}', "no result file"), (None, "cannot be read")],
)  # fmt: skip
def test_what_is_no_result_file(tmp_path, content, said, capsys):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DiganError, match=said):
        read_results(path)
    assert main([str(path), str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match="cannot be written"):
        results().write(tmp_path / "file" / "r.json")


# ---------------------------------------------------------------- comparing


def drawn(center: float, processes: int, seed: int, spread: float = 0.02) -> list[list[float]]:
    draw = np.random.default_rng(seed)
    of_process = center * np.exp(spread * draw.standard_normal(processes))
    return [list(m * np.exp(0.01 * draw.standard_normal(7))) for m in of_process]


def test_the_interval_covers_the_truth():
    """95 % intervals of a true ratio of 1.1, many times: about 95 % hold it."""
    held = 0
    for trial in range(300):
        a, b = (row(samples=drawn(c, 4, 2 * trial + i)) for i, c in enumerate((1.1, 1.0)))
        found = time_ratio(a, b)
        held += found.low <= 1.1 <= found.high
    assert 0.91 < held / 300 <= 0.99


def test_the_same_is_not_called_different_and_the_other_way_round():
    same = [time_ratio(row(samples=drawn(1.0, 5, i)), row(samples=drawn(1.0, 5, 1000 + i)))
            for i in range(100)]  # fmt: skip
    assert sum(r.verdict != "no difference shown" for r in same) < 12
    far = time_ratio(row(samples=drawn(2.0, 5, 1)), row(samples=drawn(1.0, 5, 2)))
    assert far.verdict == "B faster"
    assert (
        time_ratio(row(samples=drawn(1.0, 5, 1)), row(samples=drawn(2.0, 5, 2))).verdict
        == "B slower"
    )


def test_one_process_makes_no_interval():
    found = time_ratio(row(samples=[[2.0]]), row(samples=[[1.0], [1.0]]))
    assert found.value == pytest.approx(2.0)
    assert math.isnan(found.low)
    assert "no interval" in found.verdict


def test_items_are_accounted_for():
    found = time_ratio(row(samples=[[2.0]], items=2), row(samples=[[1.0]], items=1))
    assert found.value == pytest.approx(1.0)


def test_comparison_names_what_else_changed():
    a = results(row(samples=drawn(1, 3, 0)), row("gone", samples=[[1.0]]))
    b = results(row(samples=drawn(1, 3, 1)), commit="def", versions={"torch": "3"})
    b.ceilings[0]["flops"]["fp32"] = 2e9
    text = format_comparison(a, b)
    assert "commit: abc against def" in text
    assert "torch: 2 against 3" in text
    assert "matrix product fp32: 1 against 2 GFLOP/s" in text
    assert "rows in A alone: 1, in B alone: 0" in text
    assert "generator | T=1 | reference | fp32 | default" in text


# ---------------------------------------------------------------- the table


def test_rows_are_compared_with_the_right_baseline():
    rows = [
        row("original", samples=[[8.0]]),
        row("original", samples=[[6.0]], allocator="tuned"),
        row("reference", samples=[[2.0]]),
        row("reference", samples=[[1.0]], precision="bf16"),
        row("reference", samples=[[2.0]], allocator="tuned"),
    ]
    assert baseline(rows) == "original"
    assert [ratio(r, rows) for r in rows] == [1.0, 1.0, 4.0, 8.0, 3.0]
    assert baseline([row("reference")]) == ""


def test_the_report_says_everything():
    rows = [
        row(section="training", case="iteration B=4", samples=[[1.0]], items=4, unit="videos"),
        row(section="training", case="R1 step B=4", samples=[[1.6]], items=4, unit="videos"),
        row(
            "original",
            section="training",
            case="iteration B=4",
            samples=[[2.0]],
            items=4,
            unit="videos",
        ),
        row(
            "original",
            section="training",
            case="R1 step B=4",
            samples=[[3.2]],
            items=4,
            unit="videos",
        ),
        row(
            "compiled",
            section="training",
            case="iteration B=4",
            samples=[],
            note="failed: no compiler",
        ),
    ]
    found = results(*rows)
    found.original = {"commit": "e82", "agreement": {"frames": 1e-6}, "paths": {"bias_act": "slow"}}
    text = format_results(found)
    assert "commit abc" in text
    assert "matrix product fp32 1 GFLOP/s, copy 1.0 GB/s" in text
    assert "original at e82" in text
    assert "bias_act            slow" in text
    assert "compiled fp32: failed: no compiler" in text
    headline = text.splitlines()[-2]
    assert "3.636 videos/s" in headline
    assert "2.00x the original" in headline


def test_json_is_plain(tmp_path):
    found = results(row(floor=[0.1]))
    found.write(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["schema"] == 1
    assert content["rows"][0]["samples"] == [[1.0, 2.0, 3.0]]


# ---------------------------------------------------------------- processes


def section(monkeypatch, calls: list[str]) -> None:
    """In the place of the ops: two cases, the second with a floor, and a table."""
    module = ModuleType("section_of_the_test")

    def cases(context):
        for name in ("one", "two"):
            works = {(p, "fp32"): (lambda p=p: calls.append(p)) for p in ("fused", "least")}
            floor = {("fused", "fp32"): ("least", "fp32")} if name == "two" else {}
            yield Case(name, works, floor_by=floor)

    module.cases = cases
    module.tables = lambda context: {"profile": [{"seen": len(calls)}]}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(worker.MODULES, "ops", module.__name__)
    monkeypatch.setattr(worker, "measure_ceilings", lambda *_: Ceilings({"fp32": 1e9}, 1e9))


def job(folder, **more) -> worker.Job:
    options = {"device": "cpu", "precisions": ["fp32"], "repeats": 2}
    return worker.Job("times", "ops", "default", options, str(folder), "", **more)


def test_a_process_has_rows_tables_clocks_and_labels(monkeypatch, tmp_path):
    calls: list[str] = []
    section(monkeypatch, calls)
    found = worker.time_section(job(tmp_path, setting="DIGAN_X=1"))
    rows = {(r["case"], r["provider"]): r for r in found["rows"]}
    assert list(rows) == [
        (case, provider) for case in ("one", "two") for provider in ("fused DIGAN_X=1", "least")
    ]
    least = np.median(rows["two", "least"]["samples"][0])
    assert rows["two", "fused DIGAN_X=1"]["floor"] == [least]
    assert rows["one", "fused DIGAN_X=1"]["floor"] == rows["two", "least"]["floor"] == []
    assert len(found["ceilings"]["clocks_mhz"]) == 2
    assert found["tables"] == {"profile": [{"seen": len(calls)}]}


def test_a_process_whose_time_is_over_begins_nothing(monkeypatch, tmp_path):
    calls: list[str] = []
    section(monkeypatch, calls)
    found = worker.time_section(job(tmp_path, seconds=0.0))
    assert calls == []
    assert found["rows"] == []
    assert found["tables"] == {"left out": [{"section": "ops", "from": "one"}]}


def test_settings_take_turns_and_the_profile_is_made_once(tmp_path):
    options = Options(
        sections=("ops", "profile"), processes=2, vary=("DIGAN_X=0", "DIGAN_X=1"),
        allocators=("default",), memory=False, device="cpu",
    )  # fmt: skip
    todo = [(j.kind, j.section, j.setting) for j in jobs(options, tmp_path)]
    both = [("times", "ops", "DIGAN_X=0"), ("times", "ops", "DIGAN_X=1")]
    assert todo == both * 2 + [(k, "profile", s) for k, _, s in both]
    plain = Options(sections=("training",), processes=1, allocators=("default",), device="cpu")
    kinds = [j.kind for j in jobs(plain, tmp_path)]
    assert kinds == ["times", "memory", "memory"]
    assert [j.kind for j in jobs(replace(plain, memory=False), tmp_path)] == ["times"]


def test_the_time_of_a_run_is_divided_and_what_is_left_out_is_named(monkeypatch):
    """Three processes of 1 s within 3 s; the second takes all that is left."""
    clock = iter([0.0, 0.0, 1.0, 5.0])
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(run, "Progress", lambda total: SimpleNamespace(
        stage=lambda text: None, finish=lambda: None))  # fmt: skip
    given = []

    def work(one, progress):
        given.append(one.seconds)
        ceilings = {"flops": {"fp32": 1.0}, "copy": 1.0}
        tables = {"profile": [{"n": len(given)}]}
        return {"rows": [], "ceilings": ceilings, "machine": {"name": "m"}, "tables": tables}

    monkeypatch.setattr(run, "run_worker", work)
    options = Options(sections=("ops",), processes=3, allocators=("default",), device="cpu",
                      seconds=3.0, trace="somewhere.json")  # fmt: skip
    found = run.run_benchmark(options)
    assert given == [1.0, 1.0]
    assert found.tables["left out"] == [{"section": "ops", "from": "times "}]
    assert found.tables["profile"] == [{"n": 1}, {"n": 2}]
    assert found.options["trace"] is None
