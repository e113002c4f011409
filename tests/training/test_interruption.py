"""Runs that are killed, stopped, damaged or out of disk, and how they go on."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from digan import ops
from digan.cli import main
from digan.data.datasets import ClipPairs, pair_loader
from digan.data.store import Store
from digan.errors import DiganError
from digan.nn.snapshot import load_network
from digan.training import checkpoint
from digan.training.checkpoint import LATEST, PREVIOUS
from digan.training.loop import train
from digan.training.runs import read_status
from digan.training.step import Trainer
from tests.conftest import ROOT
from tests.tiny_runs import tiny_config
from tests.training.continued import (
    CONFIG,
    KIMG,
    command,
    complete,
    rows,
    run_in,
    state_differences,
    state_of,
)

pytestmark = pytest.mark.usefixtures("few_samples")


def at_step(step: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets something happen in the middle of one iteration."""
    original = Trainer.train_discriminator

    def phase(self: Trainer, *rest: Any) -> None:
        if self.step == step:
            act()
        original(self, *rest)

    monkeypatch.setattr(Trainer, "train_discriminator", phase)


@contextmanager
def in_background(store: Path, outdir: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m digan train` that would take hours, as a session of its own, with a state."""
    words = command(store, outdir, CONFIG, "--kimg", "1000", *flags)
    with open(output_of(outdir), "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "digan", *words],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not any(outdir.glob(f"*/{LATEST}")):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no state was written: {output_of(outdir).read_text()}")
            time.sleep(0.01)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output_of(outdir: Path) -> Path:
    return outdir.with_suffix(".output")


def check_one_row_a_tick(run: Path, last: float) -> None:
    found = [row["kimg"] for row in rows(run / "stats.jsonl")]
    assert found == sorted(set(found))
    assert found[-1] == last
    assert {0.008, 0.016, 0.024, 0.032, 0.04, 0.048} <= set(found)


# ---------------------------------------------------------------- killed and stopped


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_to_the_bit(store, tmp_path, unbroken, workers):
    outdir = tmp_path / "runs"
    with in_background(store, outdir, "--workers", str(workers)) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    run = run_in(outdir)
    status = read_status(run)
    assert status is not None
    assert status["finished"] is False
    assert state_of(run)["seen"] in (16, 32)

    flags = ["--resume", "auto", "--workers", str(workers)]
    assert complete(store, outdir, CONFIG, *flags) == run
    assert state_differences(run, unbroken) == []
    check_one_row_a_tick(run, KIMG)
    log = (run / "log.txt").read_text()
    assert "not bit-identical" not in log
    assert re.search(r"continues at 0.0(16|32) of 0.048 kimg", log)
    assert not list(run.glob(".*"))  # nothing half-written is left


def test_rows_behind_the_last_state_are_forgotten(store, tmp_path, unbroken, monkeypatch):
    """A run that dies writes rows that its continuation writes again."""
    outdir = tmp_path / "runs"

    def die() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(7, die, patch)
        with pytest.raises(MemoryError):
            main(command(store, outdir, CONFIG))
    run = run_in(outdir)
    assert state_of(run)["seen"] == 16
    assert rows(run / "stats.jsonl")[-1]["kimg"] == 0.024
    with open(run / "stats.jsonl", "a") as file:
        file.write('{"kimg": 0.0')  # cut off while it was written
    metric = run / "metric-fd-random3d.jsonl"
    metric.write_text('{"kimg": 0}\n{"kimg": 0.016}\n{"kimg": 0.02}\n')

    assert complete(store, outdir, CONFIG, "--resume", "auto") == run
    check_one_row_a_tick(run, KIMG)
    ours, theirs = (rows(path / "stats.jsonl") for path in (run, unbroken))
    assert [row["G/loss"] for row in ours] == [row["G/loss"] for row in theirs]
    assert [row["kimg"] for row in rows(metric)] == [0, 0.016]


def test_sigterm_saves_and_exits_0(store, tmp_path, unbroken, monkeypatch, capsys):
    outdir = tmp_path / "runs"
    with monkeypatch.context() as patch:
        at_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
        run = complete(store, outdir, CONFIG)  # exit status 0
    status = read_status(run)
    assert status is not None
    assert (status["finished"], status["kimg"]) == (False, 0.028)
    assert status["reason"] == "stopped by SIGTERM"
    assert state_of(run)["seen"] == 28  # the iteration was finished
    assert "continue it with --resume auto" in capsys.readouterr().err

    assert complete(store, outdir, CONFIG, "--resume", "auto") == run
    assert state_differences(run, unbroken) == []
    check_one_row_a_tick(run, KIMG)
    assert read_status(run)["finished"] is True


def test_sigterm_to_all_processes_of_a_job(store, tmp_path):
    """Schedulers signal the data workers too; their death must not become the run's."""
    outdir = tmp_path / "runs"
    flags = ["--workers", "1", "--sigterm-exit-code", "7"]
    with in_background(store, outdir, *flags) as process:
        os.killpg(process.pid, signal.SIGTERM)
        status = process.wait(timeout=60)
    output = output_of(outdir).read_text()
    assert status == 7, output
    assert "Traceback" not in output
    run = run_in(outdir)
    written = read_status(run)
    assert written is not None
    assert written["reason"] == "stopped by SIGTERM"
    assert state_of(run)["seen"] == round(written["kimg"] * 1000) >= 16


def test_data_workers_heed_their_parent_only(store):
    """They outlive the signals of others, and can be ended at exit after an error."""
    pairs = ClipPairs(Store(store), 4, seed=0)
    before = set(multiprocessing.active_children())
    batches = pair_loader(pairs, ([n] for n in range(1000)), workers=1, prefetch=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    for name in ("TERM", "INT"):
        subprocess.run(["kill", "-s", name, str(worker.pid)], check=True)
    for _ in range(20):
        next(batches)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0
    batches.close()


def test_handlers_are_put_back(store, tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(tiny_config(kimg=0.004), store, tmp_path, progress=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_ctrl_c_stops_at_once(store, tmp_path, monkeypatch, capsys):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(1, twice, monkeypatch)
    assert main(command(store, tmp_path / "runs", CONFIG)) == 130
    assert capsys.readouterr().err.endswith("digan: interrupted\n")
    assert not (run_in(tmp_path / "runs") / LATEST).exists()


# ---------------------------------------------------------------- other settings


def test_other_settings_are_refused_by_name_and_value(store, stopped, capsys):
    flags = ["--resume", "auto", "--gamma", "3.5", "--generator.rank", "4", "--no-mirror"]
    assert main(command(store, stopped.parent, CONFIG, *flags)) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"digan: error: {stopped} was trained with other settings")
    found = re.search(r"settings \((.*)\): repeat them, or start anew with --resume none", err)
    assert found is not None
    assert found[1] == "gamma 1.0 -> 3.5, generator.rank 3 -> 4, mirror True -> False"


def test_settings_that_do_not_enter_the_weights_may_change(store, stopped, unbroken):
    flags = ["--resume", "auto", "--workers", "1", "--tick", "0.1", "--snap", "1"]
    flags += ["--max-nonfinite", "3"]
    shutil.copy(stopped / PREVIOUS, stopped / LATEST)  # 4 iterations to go
    assert complete(store, stopped.parent, CONFIG, *flags) == stopped
    assert state_differences(stopped, unbroken) == []


def test_another_number_of_threads_is_said_in_one_line(store, stopped, capsys):
    flags = ["--resume", "auto", "--threads", "2"]
    assert complete(store, stopped.parent, CONFIG, *flags) == stopped
    sentence = "the continuation is not bit-identical to an unbroken run: threads 1 -> 2"
    assert capsys.readouterr().err.splitlines().count(sentence) == 1


def test_other_kernels_are_said_in_one_line(store, stopped, capsys):
    """A state says which ops ran on kernels; here none does."""
    state = torch.load(stopped / LATEST, weights_only=True)
    assert state["surroundings"]["kernels"] == "none"
    state["surroundings"]["kernels"] = "bias_act, fir_resample"
    torch.save(state, stopped / LATEST)
    assert complete(store, stopped.parent, CONFIG, "--resume", "auto") == stopped
    sentence = (
        "the continuation is not bit-identical to an unbroken run: "
        "kernels bias_act, fir_resample -> none"
    )
    assert capsys.readouterr().err.splitlines().count(sentence) == 1
    assert "ops: auto; reference (" in (stopped / "log.txt").read_text()


def test_fused_ops_of_a_run(monkeypatch):
    """Those with kernels, on a GPU, unless the formulas were asked for."""
    paths = {"bias_act": "fused", "coord_linear": "reference (a reason)", "fir_resample": "fused"}
    monkeypatch.setattr(ops, "status", lambda: paths)

    def found(kernels: str, device: str) -> list[str]:
        return checkpoint.fused_ops(
            SimpleNamespace(config=SimpleNamespace(kernels=kernels), device=torch.device(device))
        )

    monkeypatch.delenv("DIGAN_OPS", raising=False)
    assert found("auto", "cuda") == found("fused", "cuda") == ["bias_act", "fir_resample"]
    assert found("auto", "cpu") == found("reference", "cuda") == []
    monkeypatch.setenv("DIGAN_OPS", "reference")
    assert found("auto", "cuda") == []


# ---------------------------------------------------------------- out of disk


@pytest.fixture
def small_files() -> Iterator[Callable[[], None]]:
    """A function after which this process cannot write files beyond 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_that_does_not_fit_on_the_disk(
    store, tmp_path, unbroken, monkeypatch, small_files, capsys
):
    """The second state cannot be written; the first stays, and the run goes on from it."""
    outdir = tmp_path / "runs"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        at_step(6, small_files, patch)
        assert main(command(store, outdir, CONFIG)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run = run_in(outdir)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"digan: error: {run / LATEST} cannot be written: the disk may be full")
    assert state_of(run)["seen"] == 16
    assert not list(run.glob(".*"))
    assert read_status(run)["finished"] is False

    assert complete(store, outdir, CONFIG, "--resume", "auto") == run
    assert state_differences(run, unbroken) == []


def test_the_older_state_survives_an_error_at_any_step_of_saving(stopped, monkeypatch):
    trainer = Trainer(tiny_config(resolution=32))
    before = state_of(stopped)["seen"], state_of(stopped, PREVIOUS)["seen"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "replace", "chmod"):
        with monkeypatch.context() as patch:
            patch.setattr(f"digan.files.os.{name}", full)
            with pytest.raises(DiganError, match=f"{LATEST} cannot be written: No space left"):
                checkpoint.save_state(stopped, trainer, "data")
        assert state_of(stopped)["seen"] == before[0]
        assert state_of(stopped, PREVIOUS)["seen"] in before
        assert not list(stopped.glob(".*"))


def test_states_are_kept_where_there_are_no_hard_links(stopped, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    trainer = Trainer(tiny_config(resolution=32))
    checkpoint.save_state(stopped, trainer, "data")
    assert state_of(stopped)["seen"] == 0
    assert state_of(stopped, PREVIOUS)["seen"] == 48


@pytest.mark.parametrize("name", ["log.txt", "stats.jsonl"])
def test_a_log_on_a_full_disk_is_a_one_line_error(store, stopped, name, capsys):
    (stopped / name).unlink()
    (stopped / name).symlink_to("/dev/full")
    flags = ["--resume", str(stopped), "--kimg", "0.052"]
    assert main(command(store, stopped.parent, CONFIG, *flags)) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("digan: error: ")
    assert f"{name} cannot be written: No space left on device" in last
    state = state_of(stopped)
    assert state["seen"] == 48
    assert load_network(stopped)[1].kimg == KIMG
