"""Several processes under torchrun: the same training as one, and an end in common."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.processes import RepeatedSum, World, joined
from digan.training.checkpoint import LATEST
from digan.training.distributed import own_parts
from digan.training.runs import read_status
from tests.tiny_runs import tiny_config
from tests.torchrun import ROOT, finished, machines, torchrun
from tests.training.continued import command, complete, run_in, state_of
from tests.training.parity_job import STEPS, judged, trained, weights
from tests.training.stages import BATCH, distance, gradients

NETWORKS = ("generator", "discriminator", "average")


def error(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """norm(ours - expected) / norm(expected), of all tensors together."""
    assert ours.keys() == expected.keys()
    squares = [
        sum(float(each[name].square().sum()) for name in expected)
        for each in ({n: ours[n] - expected[n] for n in expected}, expected)
    ]
    return (squares[0] / squares[1]) ** 0.5


@pytest.fixture(scope="module", params=[2, 4])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """How many processes there were, and what they found."""
    folder = tmp_path_factory.mktemp("parity")
    started = torchrun(request.param, "tests.training.parity_job", str(folder))
    said = finished(started, 300)
    assert started.returncode == 0, said
    return request.param, torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone() -> Iterator[Any]:
    """What one process finds, with one thread as each of several has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    free, single = (
        trained(World(), dtype, steps)
        for dtype, steps in ((torch.float64, STEPS), (torch.float32, 1))
    )
    yield {
        "float64": weights(free),
        "float32": weights(single),
        "gradients": gradients(single.generator),
        "statistics": free.statistics.read(),
        "judged": judged(World()),
    }
    torch.set_num_threads(threads)


def test_ten_steps_in_float64_are_those_of_one_process(job, alone):
    _, found = job
    for name in NETWORKS:
        assert distance(found["float64"][name], alone["float64"][name]) < 1e-9, name
    assert found["same"]  # the processes themselves agree to the bit
    assert found["statistics"] == pytest.approx(alone["statistics"], rel=1e-6, abs=1e-7)


def test_the_first_step_in_float32_is_that_of_one_process(job, alone):
    _, found = job
    assert error(found["gradients"], alone["gradients"]) < 1e-6
    for name in NETWORKS:
        assert error(found["float32"][name], alone["float32"][name]) < 1e-6, name


def test_every_sample_is_taken_once(job):
    size, found = job
    first = STEPS * BATCH
    assert len(found["numbers"]) == size
    assert sorted(chain(*found["numbers"])) == list(range(first, first + BATCH))


def test_metrics_are_those_of_one_process(job, alone):
    size, found = job
    assert found["judged"] == [alone["judged"]] * size


def test_a_state_reaches_every_process(job):
    assert job[1]["shared"] == 0


def test_messages(job):
    size, found = job
    said = found["messages"]
    assert said["told"] == [{"rank": 0, "text": "ä\n"}] * size
    assert said["gathered"] == [[rank, None] for rank in range(size)]
    assert said["rows"] == [[[float(rank)] * 3] * rank for rank in range(size)]
    assert said["dealt"] == list(range(7))
    ranks = size * (size - 1) / 2
    sums = [[ranks + size * i for i in range(count)] for count in (3, 96, 8, 5)]
    assert said["summed"] == [sums] * size
    # One process wished in the second call; all hear of it in the third.
    assert said["answers"] == [[False, False, True, False, False]] * size


def test_a_process_alone_sums_nothing():
    tensors = [torch.ones(3), torch.ones(2)]
    alone = RepeatedSum(World(), tensors)
    assert alone(tensors) is tensors
    assert (alone.bytes, alone.views) == (0, [])


# ---------------------------------------------------------------- the command


CONFIG = tiny_config(batch=8, kimg=0.064)  # 8 iterations; states after 2, 4, 6 and 8


@contextmanager
def long_runs(
    store: Path, outdir: Path, program: str = "digan", count: int = 1
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes in a run that would take hours, after its first state: the job's torchruns."""
    words = [program, *command(store, outdir, CONFIG, "--kimg", "1000")]
    jobs = [torchrun(2, *words)] if count == 1 else machines(count, 2 // count, *words)
    try:
        end = time.monotonic() + 120
        while not any(outdir.glob(f"*/{LATEST}")):
            if any(job.poll() is not None for job in jobs) or time.monotonic() > end:
                for job in jobs:
                    os.killpg(job.pid, signal.SIGKILL)
                pytest.fail(f"no state was written: {[job.communicate()[0] for job in jobs]}")
            time.sleep(0.01)
        yield jobs
    finally:
        for job in jobs:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


@contextmanager
def long_run(store: Path, outdir: Path, program: str = "digan") -> Iterator[subprocess.Popen[str]]:
    """The same on one machine."""
    with long_runs(store, outdir, program) as (job,):
        yield job


def workers_of(job: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, by rank."""
    return list(map(int, Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()))


def check_goes_on_alone(store: Path, outdir: Path, tmp_path: Path) -> None:
    """One process continues where two have stopped, along the same data."""
    run = run_in(outdir)
    seen = state_of(run)["seen"]
    total = f"{(seen + 16) / 1000}"
    assert complete(store, outdir, CONFIG, "--resume", "auto", "--kimg", total) == run
    log = (run / "log.txt").read_text()
    assert "not bit-identical to an unbroken run: processes 2 -> 1" in log
    whole = complete(store, tmp_path / "whole" / "runs", CONFIG, "--kimg", total)
    ours, expected = state_of(run), state_of(whole)
    assert ours["seen"] == expected["seen"] == seen + 16
    # Other samples would give another generator: these are a rounding apart, in float32.
    assert error(ours["generator"], expected["generator"]) < 1e-2


def check_recipe(job: subprocess.Popen[str]) -> None:
    """The pattern of docs/notes/distributed.md finds all processes of a job, and not torchrun."""
    page = (ROOT / "docs" / "notes" / "distributed.md").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'pkill -TERM -f "(.*?)"', page)
    for pid in (job.pid, *workers_of(job)):
        words = " ".join(Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"))
        assert bool(re.search(pattern, words)) == (pid != job.pid), words


@pytest.mark.usefixtures("few_samples")
def test_a_signal_stops_all_and_one_goes_on(store, tmp_path):
    outdir = tmp_path / "runs"
    with long_run(store, outdir) as job:
        job.send_signal(signal.SIGTERM)
        said = finished(job)
    run = run_in(outdir)
    status = read_status(run)
    assert status is not None, said
    assert (status["finished"], status["reason"]) == (False, "stopped by SIGTERM")
    assert status["kimg"] == state_of(run)["seen"] / 1000
    assert said.count("continue it with --resume auto") == 1
    check_goes_on_alone(store, outdir, tmp_path)


def test_a_killed_process_ends_the_job(store, tmp_path):
    with long_run(store, tmp_path / "runs") as job:
        check_recipe(job)
        os.kill(workers_of(job)[1], signal.SIGKILL)
        said = finished(job, 60)
    assert job.returncode != 0
    assert "another process of the job ended without a word" in said
    assert 'Traceback (most recent call last):\n  File "digan' not in said
    log = (run_in(tmp_path / "runs") / "log.txt").read_text()
    assert "stopped: another process of the job ended" in log
    assert state_of(run_in(tmp_path / "runs"))["seen"] > 0


def test_a_machine_that_is_gone_ends_the_job(store, tmp_path):
    """Of two, with one process each, one is killed with all that runs there."""
    with long_runs(store, tmp_path / "runs", count=2) as jobs:
        log = run_in(tmp_path / "runs") / "log.txt"
        assert "processes: 2, each with 4 samples of a batch" in log.read_text()
        first = next(job for job in jobs if is_first(workers_of(job)[0]))
        other = next(job for job in jobs if job is not first)
        killed = workers_of(other)
        os.killpg(other.pid, signal.SIGKILL)
        for pid in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        said = finished(first, 60)
        finished(other, 10)
    assert first.returncode != 0
    assert "digan: error: another process of the job ended without a word" in said
    assert "stopped: another process of the job ended" in log.read_text()


def is_first(pid: int) -> bool:
    """Whether a process has the rank 0."""
    return b"\0RANK=0\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_falls_silent_ends_the_job(store, tmp_path, rank):
    """As a machine without power or network does, it breaks no connection."""
    with long_run(store, tmp_path / "runs", "tests.training.silent_job") as job:
        silent = workers_of(job)[rank]
        os.kill(silent, signal.SIGSTOP)
        said = ""
        assert job.stdout is not None
        while "digan: error: " not in said:  # torchrun ends a stopped process after 30 s more
            said += job.stdout.readline()
        os.kill(silent, signal.SIGKILL)
        said += finished(job, 60)
    assert job.returncode != 0
    assert f"process {rank} of 2 gives no sign of life since 6 s" in said
    assert "Traceback" not in said.partition("torch/distributed")[0]
    run = run_in(tmp_path / "runs")
    assert state_of(run)["seen"] > 0
    if rank == 1:
        assert "stopped: process 1 of 2 gives no sign" in (run / "log.txt").read_text()


def test_the_error_of_one_is_the_error_of_all(store, tmp_path):
    """A damaged record is read by the one process that needs it."""
    copy = tmp_path / "skies"
    shutil.copytree(store, copy)
    for shard in copy.glob("*.bin"):
        content = bytearray(shard.read_bytes())
        for place in range(0, len(content), 512):
            content[place] ^= 0xFF
        shard.write_bytes(content)
    outdir = tmp_path / "runs"
    job = torchrun(2, "digan", *command(copy, outdir, CONFIG))
    said = finished(job, 60)
    assert job.returncode != 0
    found = re.findall(r"^digan: error: (.*)$", said, re.MULTILINE)
    assert len(found) == 2, said
    assert any(re.match(r"process [01] of 2 failed: .*damaged", line) for line in found), said


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"batch": 16}, "batch must be a multiple of the 3 processes, got 16"),
     ({"batch": 48, "batch_gpu": 12}, "batch-gpu must divide the 16 samples of each of 3")],
)  # fmt: skip
def test_batches_that_cannot_be_dealt(changes, words):
    with pytest.raises(DiganError, match=words):
        own_parts(tiny_config(**changes), World(1, 3))


def test_variables_that_are_no_numbers(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    words = "WORLD_SIZE must be a number, got 'two'"
    with pytest.raises(DiganError, match=words), joined(torch.device("cpu")):
        pass


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = "process 1 of this machine has no GPU: there are 1"
    with pytest.raises(DiganError, match=words), joined(torch.device("cuda")):
        pass
