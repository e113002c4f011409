"""What the fuzzers found, one small example of each."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digan.bench.rows import read_results
from digan.bench.trace import read_events
from digan.cli import main
from digan.config import TrainConfig, from_dict
from digan.data.check import check
from digan.data.parts import Parts
from digan.data.prepare import prepare
from digan.data.sources import natural_key
from digan.data.split_lists import read_class_list
from digan.data.store import VIDEOS_FILE, Store
from digan.errors import DiganError
from digan.formats import from_json, from_yaml
from digan.metrics.detectors import is_torchscript
from digan.ranges import parse_grid, parse_seeds
from digan.training.checkpoint import (
    LATEST,
    check_same_settings,
    continued_batch_gpu,
    read_state,
    restore,
    save_state,
)
from digan.training.log import RunLog
from digan.training.runs import read_status
from digan.training.step import Trainer
from digan.watching import describe_run, read_history
from tests.tiny_runs import settings_file, tiny_config, tiny_store
from tests.watching.made import made_run

DEEP = "[" * 100_000
LONG = "9" * 5000  # int() takes 4300 digits


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def store(tmp_path: Path, whole: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, LONG, "", "\x00", b"\xff"])
def test_json_has_one_kind_of_error(text):
    with pytest.raises(ValueError, match="."):
        from_json(text)


@pytest.mark.parametrize(
    "text",
    ["a: !!timestamp x", "a: 2001-02-30", "a: !!int ''", "a: !!bool x", "? [a]\n: b", "&a [*a]",
     "a: " + LONG, "\x00", "a: [" * 3000, "--- a\n--- b", "a: !!python/object:os.system {}"],
)  # fmt: skip
def test_yaml_has_one_kind_of_error(text):
    with pytest.raises(ValueError, match=".") as caught:
        from_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [10**400, {LONG: 1}, [LONG] * 99, float("nan"), "\n"],
    ids=["large", "dictionary", "list", "nan", "line"],
)  # fmt: skip
def test_settings_of_another_kind(value):
    for name in ("lr", "kimg"):
        with pytest.raises(DiganError) as caught:
            from_dict(TrainConfig, {name: value})
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)


def test_numbers_of_thousands_of_digits(tmp_path):
    for parse in (parse_seeds, parse_grid):
        with pytest.raises(DiganError, match="must (look like|be)") as caught:
            parse(f"{LONG}x{LONG}" if parse is parse_grid else f"0-{LONG}")
        assert len(str(caught.value)) < 200
    assert main(["prepare", str(tmp_path), str(tmp_path / "store"), "--shard", f"1/{LONG}"]) == 1
    assert natural_key(f"a{LONG}") < natural_key(f"a1{LONG}") < natural_key("b1")
    names = ["a10", "a9", "a09", "a", "a9b", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a09", "a9", "a9b", "a10"]
    (tmp_path / "classInd.txt").write_text(f"{LONG} Archery\n")
    with pytest.raises(DiganError, match="line 1 must be NUMBER CLASS"):
        read_class_list(tmp_path / "classInd.txt")


@pytest.mark.parametrize(
    "words",
    [["generate", "--network"], ["inspect", "--network"], ["data", "check"], ["watch"],
     ["evaluate", "--metrics", "fd-random3d", "--network"], ["train"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_paths_that_cannot_be_looked_at(tmp_path, capsys, words):
    """Too long for a system; one that may not be entered fails in the same way."""
    more = {"train": ["--outdir", str(tmp_path)], "evaluate": ["--data", str(tmp_path)]}
    name = str(tmp_path / ("a" * 5000))
    assert main([*words, name, *more.get(words[0], [])]) == 1
    said = capsys.readouterr().err
    assert "File name too long" in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


# ---------------------------------------------------------------- stores


def changed(store: Path, name: str, change: Any) -> None:
    values = json.loads((store / name).read_text())
    change(values)
    (store / name).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "value"),
    [("stride", None), ("stride", 0), ("settings", [1]), ("settings_key", 3), ("dataset", ["a"]),
     ("assignment", {}), ("num_videos", 0), ("num_frames", 0), ("version", LONG),
     ("version", "\n")],
)  # fmt: skip
def test_entries_of_a_store(store, name, value):
    changed(store, "store.json", lambda info: info.update({name: value}))
    with pytest.raises(DiganError, match="is damaged|format version") as caught:
        Store(store)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "row",
    ["3", "[]", "{}", DEEP, '{"path": 3}', json.dumps({"path": "a", "status": "ok", "reason": "",
     "stamp": "", "frames": 8, "video": 99})],
)  # fmt: skip
def test_rows_of_a_report(store, row):
    (store / "report.jsonl").write_text(row + "\n")
    with pytest.raises(DiganError, match=r"is damaged: report.jsonl cannot be read"):
        check(store, progress=False)


@pytest.mark.parametrize(("field", "value"), [("count", 0), ("fps", np.nan), ("fps", -1)])
def test_videos_that_cannot_be(store, field, value):
    videos = np.load(store / VIDEOS_FILE)
    if field == "count":  # one without frames, the next with both's
        videos["count"][1] += videos["count"][0]
        videos["first"][1] = 0
    videos[field][0] = value
    np.save(store / VIDEOS_FILE, videos)
    with pytest.raises(DiganError, match="contradicts itself"):
        Store(store)


def test_names_nested_too_deeply(store):
    (store / "names.json").write_text(DEEP)
    with pytest.raises(DiganError, match=r"names.json cannot be read"):
        _ = Store(store).names
    (store / "store.json").write_text(DEEP)
    with pytest.raises(DiganError, match=r"store.json cannot be read"):
        Store(store)


@pytest.mark.parametrize(
    "change",
    [lambda part: part.update(lengths=["a"], crcs=["b"]), lambda part: part.update(fps="fast"),
     lambda part: part.update(lengths=[1, 2]), lambda part: part.update(path=3),
     lambda part: part.update(lengths=[-5] * len(part["lengths"])), lambda part: part.clear()],
)  # fmt: skip
def test_parts_that_are_none_are_made_again(tmp_path, monkeypatch, whole, change):
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    videos, unfinished = whole.parent / "videos", tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "begin_merge", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(videos, unfinished, resolution=32, workers=1, progress=False)
    changed(unfinished, str(next((unfinished / ".parts").rglob("*.json"))), change)
    prepare(videos, unfinished, resolution=32, workers=1, progress=False)
    assert Store(unfinished).fingerprint == Store(whole).fingerprint


@pytest.mark.parametrize("plan", [DEEP, "[]", '{"sources": [], "shards": [["a"]], "info": {}}', ""])
def test_a_damaged_plan_of_a_merge(tmp_path, whole, plan):
    unfinished = tmp_path / "unfinished"
    (unfinished / ".parts").mkdir(parents=True)
    (unfinished / ".parts" / "merge.json").write_text(plan)
    with pytest.raises(DiganError, match=r"the preparation in .* is damaged: delete"):
        prepare(whole.parent / "videos", unfinished, resolution=32, workers=1, progress=False)


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\n", DEEP.encode(), b'{"kimg": 1' + b"0" * 400 + b"}"]
)
def test_damaged_rows_go_when_a_run_goes_on(tmp_path, content):
    run = made_run(tmp_path, 4)
    rows = (run / "stats.jsonl").read_bytes()
    (run / "stats.jsonl").write_bytes(rows + content + b"\n")
    RunLog(run, 100.0, 1.5, progress=False).close()
    assert len((run / "stats.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("text", [DEEP, "[]", "3", '"running"', "null"])
def test_a_status_that_is_none(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DiganError, match=r"status.json is damaged"):
        read_status(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("status.json", '{"kimg": "much", "reason": ["running"]}'),
        ("status.json", '{"kimg": 1, "reason": ""}'),
        ("config.yaml", "kimg: often\ngenerator: 3\n"),
        ("config.yaml", "kimg: .nan\ngenerator: {resolution: -1}\n"),
        ("stats.jsonl", '{"kimg": 1, "seconds": NaN, "seconds_per_kimg": Infinity}'),
        ("stats.jsonl", '{"kimg": NaN}\n{"kimg": -1}\n{"kimg": ' + "1" * 400 + "}"),
        ("stats.jsonl", '{"kimg": 1, "G/loss": "low", "memory_gb": [1], "D/r1_video": true}'),
        ("stats.jsonl", DEEP),
        ("metric-fd-random3d.jsonl", '{"kimg": 1, "results": [1]}'),
        ("metric-fd-random3d.jsonl", '{"kimg": 1, "results": {"fd-random3d": 1, "floor": "low"}}'),
    ],
)
def test_a_run_whose_files_hold_something_else_is_watched(tmp_path, file, text):
    run = made_run(tmp_path, 8, metric=[{"fd-random3d": 9.0}])
    (run / file).write_text(text)
    assert describe_run(read_history(run))
    assert main(["watch", str(run), "--once", "--page", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize("page", ["", ".", "/", ".."])
def test_a_page_whose_name_is_a_folder(tmp_path, capsys, page):
    run = made_run(tmp_path, 8, metric=[{"fd-random3d": 9.0}])
    assert main(["watch", str(run), "--once", "--page", page]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("config", {"batch_gpu": "many"}), ("config", {3: 4}), ("config", {"lr": {"a": {"b": {}}}}),
     ("config", {LONG: 1}), ("config", {"\n": 1}), ("surroundings", {"torch": LONG}),
     ("g_optimizer", {}), ("generator", {"a": 3}), ("seen", "1"), ("format_version", None),
     ("average", None), ("config", None)],
)  # fmt: skip
def test_states_of_something_else(tmp_path, name, value):
    config = tiny_config(resolution=32)
    trainer = Trainer(config)
    save_state(tmp_path, trainer, "data")
    state = torch.load(tmp_path / LATEST, weights_only=True)
    merged = isinstance(value, dict) and value and name != "generator"
    state[name] = {**state[name], **value} if merged else value
    torch.save(state, tmp_path / LATEST)

    def go_on() -> str:
        found, _ = read_state(tmp_path)
        continued_batch_gpu(found, TrainConfig(batch_gpu="auto"))
        check_same_settings(found, config, "data", tmp_path)
        return restore(trainer, found)

    if name == "surroundings":
        assert len(go_on()) < 300
        return
    with pytest.raises(DiganError) as caught:
        go_on()
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- other files


def test_an_archive_with_a_damaged_directory(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\u00e9b", b"")
    content = path.read_bytes()
    assert not is_torchscript(path)
    path.write_bytes(content.replace("\u00e9".encode(), b"\xd4b"))
    assert not is_torchscript(path)


@pytest.mark.parametrize("text", [DEEP, "3", '{"traceEvents": [{"ph": "X", "ts": "soon"}]}',
                                  '{"schema": 3, "rows": [3]}'])  # fmt: skip
def test_files_of_measurements(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (read_events, read_results):
        with pytest.raises(DiganError, match="is no (trace|result file)"):
            read(path)


def test_results_whose_rows_hold_something_else(tmp_path):
    text = json.dumps({"schema": 1, "started": "", "options": {}, "machine": {}, "ceilings": [],
                       "original": {}, "rows": [{"section": "a", "case": "b", "provider": "c",
                       "precision": "d", "samples": [["fast"]]}]})  # fmt: skip
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DiganError, match="is no result file"):
        read_results(tmp_path / "a.json")


def test_a_link_to_itself_among_videos(tmp_path, whole):
    shutil.copytree(whole.parent / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "dusk" / "itself.mp4").symlink_to("itself.mp4")
    report = prepare(tmp_path / "videos", tmp_path / "made", resolution=32, workers=1,
                     progress=False)  # fmt: skip
    assert report.ok == 6


def test_a_folder_whose_name_is_no_text(tmp_path, whole, capsys):
    """A Linux name may be any bytes, which neither TensorBoard nor safetensors take."""
    folder = tmp_path / "\udcff"
    shutil.copytree(whole, folder / "store")
    config = settings_file(tmp_path / "c.yaml", tiny_config(kimg=0.004, tick=0.004, snap=0.004))
    words = ["--config", str(config), "--outdir", str(folder / "runs")]
    assert main(["train", str(folder / "store"), *words]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("digan: error: names of files must be UTF-8, got ...")
    assert "\\udcff" in said


def test_a_path_with_a_nul(tmp_path, whole, capsys):
    """A command line cannot hold one; a file of settings can."""
    words = ["--network", "demo", "--seeds", "0", "--frames", "2", "--outdir"]
    assert main(["generate", *words, str(tmp_path / "a\0b")]) == 1
    assert capsys.readouterr().err.startswith("digan: error: names of files must not hold")
