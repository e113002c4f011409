"""Short real runs: what they write, what they say, and what they refuse before they start."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from digan.config import TrainConfig, from_dict
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.data.video import decode_frames, probe
from digan.errors import DiganError
from digan.metrics import DetectorFile, Evaluator, NetworkFakes, StoreVideos, parse_protocol
from digan.nn.snapshot import load_network
from digan.training import loop, runs
from digan.training.checkpoint import LATEST, PREVIOUS
from digan.training.loop import train
from digan.training.samples import Random3dMetric
from digan.training.step import Trainer
from tests.metrics.networks import StandInI3D, scripted
from tests.tiny_runs import CLASSES, tiny_config
from tests.training.continued import rows, run_in, state_differences, state_of

pytestmark = pytest.mark.usefixtures("few_samples")


def log_of(run: Path) -> str:
    return (run / "log.txt").read_text()


def test_the_run_folder(store, tmp_path, capsys):
    outcome = train(tiny_config(), store, tmp_path)
    run = outcome.run
    assert outcome.finished
    assert outcome.kimg == 0.024
    assert run == tmp_path / "00000-skies-res32-frames4-batch4"
    names = {re.sub(r"^events\.out\.tfevents\..*", "events", path.name) for path in run.iterdir()}
    assert names == {
        "config.yaml", "log.txt", "stats.jsonl", "status.json", "events", "reals.mp4",
        "fakes000000.mp4", "network-snapshot-000000.safetensors", LATEST, PREVIOUS, "report.html",
    }  # fmt: skip

    config = from_dict(TrainConfig, yaml.safe_load((run / "config.yaml").read_text()))
    assert config.resolution == config.generator.resolution == 32
    assert config.generator == tiny_config().generator
    assert json.loads((run / "status.json").read_text())["finished"] is True

    for name in ("reals.mp4", "fakes000000.mp4"):
        frames = list(decode_frames(run / name))
        assert len(frames) == 4
        assert frames[0].image.shape == (32, 64, 3)  # 1x2 clips, side by side
    assert probe(run / "reals.mp4").fps == 10  # the store's

    state = state_of(run)
    assert state["seen"] == 24
    assert state_of(run, PREVIOUS)["seen"] == 16
    generator, info = load_network(run)
    assert (info.clip_frames, info.fps, info.kimg, info.classes) == (4, 10, 0.024, ())
    for name, value in generator.state_dict().items():
        assert torch.equal(value, state["average"][name]), name

    ticks = [line for line in log_of(run).splitlines() if line.startswith("tick")]
    assert [line.split()[2] for line in ticks] == ["0.008", "0.016", "0.024"]
    for line in ticks:
        assert re.search(r"sec/kimg +\d.* data +\d+% .*mem .* GB .*G \d.*D \d", line)
    err = capsys.readouterr().err
    assert all(line in err for line in ticks)
    stats = rows(run / "stats.jsonl")
    assert [row["kimg"] for row in stats] == [0.008, 0.016, 0.024]
    assert stats[0].keys() >= {
        "G/loss", "G/gradient_norm", "D/fake_loss", "D/real_loss", "D/gradient_norm",
        "D/r1_video", "D/r1_image", "seconds_per_kimg", "data_wait_share", "memory_gb",
    }  # fmt: skip
    assert all(0 < row["G/loss"] < 20 and row["G/gradient_norm"] > 0 for row in stats)
    assert all(0 <= row["data_wait_share"] <= 1 for row in stats)
    start = {name: value.clone() for name, value in Trainer(config).generator.state_dict().items()}
    moved = [
        name for name, value in state["generator"].items() if not torch.equal(value, start[name])
    ]
    assert set(moved) == set(start)  # every parameter learned


def test_tensorboard_holds_the_numbers_and_the_pictures(store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tiny_config(kimg=0.008), store, tmp_path, progress=False).run
    events = EventAccumulator(str(run)).Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {"reals", "fakes"}
    (loss,) = events.Scalars("G/loss")
    assert loss.step == 8
    assert loss.value == pytest.approx(rows(run / "stats.jsonl")[0]["G/loss"], rel=1e-6)


def test_runs_are_numbered_and_named(store, tmp_path):
    assert runs.run_suffix(tiny_config(), "my data/7!") == "my_data_7-res32-frames4-batch4"
    assert runs.run_suffix(tiny_config(cond=True), "...").startswith("data-res32")
    (tmp_path / "00007-other").mkdir()
    (tmp_path / "notes").mkdir()
    assert runs.new_run(tmp_path, "x").name == "00008-x"
    assert runs.new_run(tmp_path, "x").name == "00009-x"
    assert runs.unfinished_run(tmp_path, "x") is None  # they have no status
    runs.write_status(tmp_path / "00008-x", finished=False, kimg=1, reason="running")
    assert runs.unfinished_run(tmp_path, "x") == tmp_path / "00008-x"
    runs.write_status(tmp_path / "00009-x", finished=True, kimg=1, reason="finished")
    assert runs.unfinished_run(tmp_path, "x") == tmp_path / "00008-x"
    assert runs.unfinished_run(tmp_path / "nowhere", "x") is None
    (tmp_path / "00008-x" / "status.json").write_text("{")
    with pytest.raises(DiganError, match="status.json is damaged"):
        runs.unfinished_run(tmp_path, "x")


def test_conditional_run_names_its_classes(store, tmp_path):
    run = train(tiny_config(cond=True, kimg=0.008), store, tmp_path, progress=False).run
    assert run.name.endswith("-cond")
    generator, info = load_network(run)
    assert info.classes == CLASSES
    assert generator.config.num_classes == 2
    assert "WARNING" not in log_of(run)
    state = state_of(run)
    assert state["generator"]["mapping.embed.weight"].abs().sum() > 0
    assert state["discriminator"]["video.mapping.embed.weight"].shape[1] == 2


def test_unused_labels_are_said_loudly(store, tmp_path, capsys):
    run = train(tiny_config(kimg=0.004), store, tmp_path).run
    sentence = "WARNING: the store has labels of 2 classes and they are NOT used"
    assert sentence in log_of(run)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_finite(store, tmp_path, precision):
    clamped = tiny_config(precision=precision, kimg=0.008, tick=0.004)
    run = train(clamped, store, tmp_path, progress=False).run
    for row in rows(run / "stats.jsonl"):
        assert all(abs(value) < 1e4 for value in row.values())
        assert row["G/gradient_norm"] > 0  # 0 stands for a gradient that is not finite
    assert "non-finite" not in log_of(run)
    assert all(v.dtype == torch.float32 for v in state_of(run)["generator"].values())


def test_gradient_accumulation_is_the_same_run_but_for_rounding(store, tmp_path):
    found = []
    for name, part in (("whole", None), ("parts", 4)):
        config = tiny_config(batch=8, batch_gpu=part, kimg=0.008, tick=0.008)
        run = train(config, store, tmp_path / name, progress=False).run
        found.append(rows(run / "stats.jsonl")[0])
        assert "micro-batches" not in log_of(run)
    whole, parts = found
    for name in ("G/loss", "D/fake_loss", "D/real_loss", "G/gradient_norm", "D/r1_video"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-3), name


def test_parts_below_a_group_are_said(store, tmp_path):
    config = tiny_config(batch_gpu=2, kimg=0.004)
    run = train(config, store, tmp_path, progress=False).run
    assert "micro-batches of 2: the minibatch statistic has groups of 2, not 4" in log_of(run)


def test_init_starts_both_generators_from_a_network(store, tmp_path):
    first = train(tiny_config(seed=1, kimg=0.008), store, tmp_path / "a", progress=False).run
    # One iteration with a rate too small to show in float32, and an average that stays.
    config = tiny_config(seed=2, kimg=0.004, lr=1e-30, ema_kimg=1e9)
    second = train(config, store, tmp_path / "b", init=str(first), progress=False).run
    source, _ = load_network(first)
    state = state_of(second)
    for name, value in source.state_dict().items():
        if name != "w_avg":
            assert torch.equal(state["generator"][name], value), name
            assert torch.equal(state["average"][name], value), name
    assert f"the generator starts from {first}" in log_of(second)


def test_init_from_another_size_is_refused(store, tmp_path):
    first = train(tiny_config(kimg=0.004), store, tmp_path / "a", progress=False).run
    wider = tiny_config()
    wider = tiny_config(generator=type(wider.generator)(**{**vars(wider.generator), "rank": 4}))
    with pytest.raises(DiganError, match=r"rank=3.* does not fit this run's generator .*rank=4"):
        train(wider, store, tmp_path / "b", init=str(first), progress=False)
    assert list((tmp_path / "b").iterdir()) == []


def test_metrics_come_with_every_snapshot(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Random3dMetric", functools.partial(Random3dMetric, samples=4))
    config = tiny_config(metrics=("fd-random3d",), kimg=0.008, snap=0.004, tick=0.004)
    run = train(config, store, tmp_path, progress=False).run
    found = rows(run / "metric-fd-random3d.jsonl")
    assert [row["kimg"] for row in found] == [0, 0.004, 0.008]
    for row in found:
        results = row["results"]
        assert row["metric"] == "fd-random3d"
        assert min(results[name] for name in ("fd-random3d", "floor", "frozen", "mean_frame")) >= 0
        assert row["protocol"]["n_fake"] == row["protocol"]["n_reference"] == 4
        assert row["protocol"]["store"] == "skies"
        assert row["snapshot"] == "network-snapshot-000000.safetensors"
    assert found[0]["results"]["fd-random3d"] != found[2]["results"]["fd-random3d"]
    assert log_of(run).count("(not FVD)") == 3


def test_detectors_measure_at_snapshots_any_length_of_clip(store, tmp_path):
    file = scripted(tmp_path / "i3d.pt", StandInI3D())
    config = tiny_config(
        metrics=("fvd6_8f", "kvd6_8f_subsample4f"),
        i3d=str(file),
        kimg=0.008,
        snap=0.004,
        tick=0.004,
    )
    run = train(config, store, tmp_path / "runs", progress=False).run
    for name in config.metrics:
        found = rows(run / f"metric-{name}.jsonl")
        assert [row["kimg"] for row in found] == [0, 0.004, 0.008]
        assert len({row["results"][name] for row in found}) == 3
        for row in found:
            assert row["protocol"]["n_fake_used"] == 6
            assert row["protocol"]["detector_file"]["file"] == "i3d.pt"
            assert row["fakes"]["kimg"] == row["kimg"]
    # The same number as from the snapshot's file: it is the averaged network that was measured.
    last = json.loads((run / "metric-fvd6_8f.jsonl").read_text().splitlines()[-1])
    generator, info = load_network(run / last["snapshot"])
    judge = Evaluator(StoreVideos(Store(store)), {"i3d": DetectorFile(file)}, progress=False)
    again = judge.evaluate(NetworkFakes(generator, info), parse_protocol("fvd6_8f"))
    assert again.value == pytest.approx(last["results"]["fvd6_8f"], rel=1e-3)


def test_a_missing_detector_is_said_before_the_first_step(store, tmp_path, monkeypatch):
    monkeypatch.delenv("DIGAN_I3D_PATH", raising=False)
    with pytest.raises(DiganError, match="needs the file of the i3d network"):
        train(tiny_config(metrics=("fvd6_8f",)), store, tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_goes_on_from_its_folder(store, tmp_path):
    """A longer --kimg continues it, and equals a run that was as long from the start."""
    short = train(tiny_config(kimg=0.012), store, tmp_path / "short", progress=False).run
    whole = train(tiny_config(), store, tmp_path / "longer", progress=False).run
    outcome = train(tiny_config(), store, short.parent, resume=str(short), progress=False)
    assert outcome.run == short
    assert outcome.finished
    assert state_differences(short, whole) == []
    ticks = [row["kimg"] for row in rows(short / "stats.jsonl")]
    assert ticks == [0.008, 0.012, 0.016, 0.024]
    assert yaml.safe_load((short / "config.yaml").read_text())["kimg"] == 0.024
    assert "continues at 0.012 of 0.024 kimg" in log_of(short)


def test_a_continued_run_is_not_finished_while_it_runs(store, tmp_path, monkeypatch):
    """Killed in its continuation, --resume auto must find it."""
    run = train(tiny_config(kimg=0.008), store, tmp_path, progress=False).run

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(Trainer, "advance", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(tiny_config(kimg=0.04), store, tmp_path, resume=str(run), progress=False)
    assert runs.unfinished_run(tmp_path, run.name.partition("-")[2]) == run


def test_resume_auto_starts_where_nothing_is_unfinished(store, tmp_path):
    config = tiny_config(kimg=0.004)
    first = train(config, store, tmp_path, resume="auto", progress=False).run
    second = train(config, store, tmp_path, resume="auto", progress=False).run
    assert [first.name[:5], second.name[:5]] == ["00000", "00001"]
    # Stopped before its first state: nothing to continue.
    runs.write_status(second, finished=False, kimg=0, reason="running")
    for name in (LATEST, PREVIOUS):
        (second / name).unlink(missing_ok=True)
    third = train(config, store, tmp_path, resume="auto", progress=False).run
    assert third.name[:5] == "00002"


# ---------------------------------------------------------------- refused before the first step


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(Trainer, "advance", step)


@pytest.mark.usefixtures("no_steps")
def test_a_full_disk_is_an_error_before_training(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50 << 20))
    with pytest.raises(DiganError, match=r"must have 0\.1\d GB free, it has 0\.05 GB"):
        train(tiny_config(), store, tmp_path / "out", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("no_steps")
def test_an_unwritable_folder_is_an_error_before_training(store, tmp_path):
    (tmp_path / "file").write_text("")
    for outdir in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(DiganError, match=rf"{outdir} cannot be written"):
            train(tiny_config(), store, outdir, progress=False)


def test_a_run_that_cannot_be_written_is_not_continued(store, tmp_path):
    run = train(tiny_config(kimg=0.004), store, tmp_path, progress=False).run
    (run / "log.txt").unlink()
    (run / "log.txt").mkdir()
    with pytest.raises(DiganError, match=r"log.txt cannot be written: Is a directory"):
        train(tiny_config(kimg=0.008), store, tmp_path, resume=str(run), progress=False)


def test_other_data_under_the_same_name_is_refused(store, tmp_path):
    run = train(tiny_config(kimg=0.004), store, tmp_path / "out", progress=False).run
    videos = store.parent / "videos" / CLASSES[0]
    other = tmp_path / store.name
    prepare(videos, other, resolution=32, workers=1, progress=False)
    with pytest.raises(DiganError, match=r"data 6 videos.* -> 3 videos"):
        train(tiny_config(), other, tmp_path / "out", resume=str(run), progress=False)
    assert run_in(tmp_path / "out") == run


def test_settings_of_the_process_are_put_back():
    """A run changes PyTorch's settings for itself and leaves the caller's as they were."""
    from digan.config import PRESETS
    from digan.training.environment import Environment

    def settings():
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
        )

    before = settings()
    with Environment(PRESETS["tiny"]):
        assert settings() != before
    assert settings() == before
