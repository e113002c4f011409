"""The benchmark as a whole: fresh processes one after the other, their rows put together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digan.bench.cases import Options
from digan.bench.machine import TUNED_ALLOCATOR
from digan.bench.rows import Results, Row, merge
from digan.bench.worker import Job
from digan.errors import DiganError

MEMORY_FRAMES = (1, 16, 128, 256)
# One process shows where time goes; what starts processes itself needs none around it.
ONCE = ("profile", "processes")
_TAIL = 30  # lines of a failed worker that are kept for its error


class Progress:
    """One status line on a terminal, and lines now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.terminal = sys.stderr.isatty()
        self.start = time.monotonic()

    def stage(self, text: str) -> None:
        """A new process begins."""
        self.done += 1
        self.label = f"[{self.done}/{self.total}, {time.monotonic() - self.start:.0f} s] {text}"
        self._print(self.label, end="" if self.terminal else "\n")

    def step(self, text: str) -> None:
        """Something inside the stage; only a terminal shows it."""
        if self.terminal:
            self._print(f"{self.label}: {text}", end="")

    def finish(self) -> None:
        """Clears the status line."""
        if self.terminal:
            self._print("", end="\r")

    def _print(self, text: str, end: str) -> None:
        line = f"\r\x1b[2K{text[:160]}" if self.terminal else text
        print(line, end=end, file=sys.stderr, flush=True)


def jobs(options: Options, folder: Path) -> Iterator[Job]:
    """What is to be done, in order."""

    def job(kind: str, section: str, allocator: str, **more: Any) -> Job:
        result = str(folder / "result.json")
        return Job(kind, section, allocator, asdict(options), str(folder), result, **more)

    if options.official:
        yield job("original", "training", "default")
    settings: tuple[str | None, ...] = options.vary or (None,)
    allocators = options.allocators if options.device == "cpu" else ("default",)
    for section in options.sections:
        for _ in range(1 if section in ONCE else options.processes):
            for allocator in allocators[:1] if section in ONCE else allocators:
                for setting in settings:
                    yield job("times", section, allocator, setting=setting)
        if section not in ("generator", "training") or not options.memory:
            continue
        for subject in _subjects(options):
            if subject[0] == "compiled":
                continue
            for frames in MEMORY_FRAMES if section == "generator" else (None,):
                if not (subject[0] == "original" and (frames or 0) > 16):
                    yield job("memory", section, "default", subject=subject, frames=frames)


def _subjects(options: Options) -> list[tuple[str, str]]:
    ours = [p for p in ("reference", "fused") if options.wants(p)]
    found = [(provider, precision) for precision in options.precisions for provider in ours]
    if options.official and options.wants("original"):
        found.append(("original", "fp32"))
    return found


def run_benchmark(options: Options) -> Results:
    """Measures everything that was asked for.

    Raises:
        DiganError: a worker failed, or the original does not agree with digan.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    rows: list[Row] = []
    memory: list[tuple[Job, int]] = []
    ceilings: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}
    original: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="digan-bench-") as name:
        todo = list(jobs(options, Path(name)))
        progress = Progress(len(todo))
        for index, job in enumerate(todo):
            if options.seconds is not None:
                # Every job has its part of what is left; what it leaves is the next ones'.
                left = options.seconds - (time.monotonic() - start)
                job = replace(job, seconds=max(left, 0.0) / (len(todo) - index))
                if left <= 0:
                    about = {"section": job.section, "from": f"{job.kind} {job.subject or ''}"}
                    tables.setdefault("left out", []).append(about)
                    continue
            who = "" if job.subject is None else f" {' '.join(job.subject)}"
            frames = "" if job.frames is None else f" T={job.frames}"
            set_to = "" if job.setting is None else f", {job.setting}"
            progress.stage(
                f"{job.section} {job.kind}{who}{frames}, allocator {job.allocator}{set_to}"
            )
            found = run_worker(job, progress)
            if job.kind == "original":
                original = found
            elif job.kind == "memory":
                memory.append((job, found["peak"]))
            else:
                rows += [Row(**row) for row in found["rows"]]
                own = {"section": job.section, "allocator": job.allocator}
                ceilings.append({**own, **found["ceilings"]})
                machine = machine or found["machine"]
                for title, lines in found["tables"].items():
                    tables.setdefault(title, []).extend(lines)
        progress.finish()
    rows = merge(rows)
    for job, peak in memory:
        _add_peak(rows, job, peak)
    # The checkout's commit says what it was; its place on this machine is nobody's business.
    kept = {**asdict(options), "official": original.get("commit"), "trace": None}
    return Results(started, kept, machine, ceilings, original, rows, tables)


def _add_peak(rows: list[Row], job: Job, peak: int) -> None:
    """Puts a peak into its row; T without a timing gets a row of its own."""
    assert job.subject is not None
    prefix = "iteration" if job.frames is None else f"T={job.frames} "
    for row in rows:
        same = (row.section, row.provider, row.precision) == (job.section, *job.subject)
        if same and row.allocator == "default" and row.case.startswith(prefix):
            row.peak = peak
            return
    resolution = job.options["resolution"]
    case = f"{prefix}{resolution}x{resolution}" if job.frames else "iteration"
    rows.append(Row(job.section, case, *job.subject, peak=peak, note="memory only"))


def run_worker(job: Job, progress: Progress) -> dict[str, Any]:
    """One fresh process; its standard error is shown as progress.

    Raises:
        DiganError: with what the worker said last.
    """
    environment = {k: v for k, v in os.environ.items() if k not in TUNED_ALLOCATOR}
    if job.allocator == "tuned":
        environment.update(TUNED_ALLOCATOR)
    if job.setting is not None:
        name, _, value = job.setting.partition("=")
        environment[name] = value
    result = Path(job.result)
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "digan.bench.worker"]
    tail: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        try:
            worker.stdin.write(json.dumps(asdict(job)))
            worker.stdin.close()
            for line in worker.stderr:
                tail = [*tail, line.rstrip()][-_TAIL:]
                progress.step(line.strip())
        except BaseException:
            worker.kill()
            raise
    if worker.returncode or not result.exists():
        last = next((line for line in reversed(tail) if line.strip()), "no message")
        raise DiganError(
            f"the benchmark's {job.section} {job.kind} process ended with status "
            f"{worker.returncode}: {last}"
        )
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "error" in found:
        raise DiganError(found["error"])
    return found
