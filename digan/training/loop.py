"""A training run, from the store to its last snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml

from digan import ops
from digan.config import TrainConfig, to_dict
from digan.data.datasets import ClipPairs, PairBatch, dead_workers_named, pair_loader
from digan.data.progress import duration
from digan.data.store import Store
from digan.errors import DiganError
from digan.execution import choose_device, choose_impl
from digan.files import write_text
from digan.metrics import MetricResult, Random3dResult
from digan.nn.snapshot import NetworkInfo, save_network
from digan.processes import Vote, joined
from digan.training import checkpoint, runs
from digan.training.environment import Environment
from digan.training.graphs import CudaCapture, GraphedPhases, why_not_graphs
from digan.training.inputs import Inputs, Prefetcher
from digan.training.log import Log, RunLog
from digan.training.measuring import SnapshotMetrics
from digan.training.opening import (
    begin_from,
    describe,
    find_run,
    open_data,
    same_everywhere,
    settle,
)
from digan.training.samples import Random3dMetric, SampleWriter
from digan.training.step import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Path
    finished: bool
    kimg: float


class _Interrupt:
    """Turns SIGTERM and Ctrl-C into a request that the loop sees after the iteration."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Interrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._request)
            except ValueError:  # not in the main thread: the caller handles signals
                break
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)


def train(
    config: TrainConfig,
    store_path: Path,
    outdir: Path,
    *,
    resume: str = "none",
    init: str | None = None,
    init_discriminators: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Outcome:
    """Trains, or continues, a run.

    Args:
        config: settings; resolution and classes are taken from the store.
        store_path: a store made by `digan prepare`.
        outdir: where run folders are made.
        resume: `none` starts a new run; `auto` continues the newest unfinished run of the
            same name, or starts one; otherwise a run's folder.
        init: network file from which both generators start (a new run only).
        init_discriminators: file from which the discriminators start (a new run only).
        device: `cuda` where there is one, by default.
        progress: whether to write to standard error.

    Raises:
        DiganError: anything that a user can mend, as far as possible before the first step.

    Under torchrun all processes call it; the first one reads and writes the run's folder.
    """
    with joined(choose_device(device)) as (world, chosen):
        choose_impl(config.kernels, chosen)
        why_not_graphs(config.cuda_graphs, chosen, world)  # an error before anything is made
        config, store, pairs = open_data(config, store_path)
        same_everywhere(world, store)
        measures = SnapshotMetrics(config, pairs, chosen, world)
        run, state, found = (
            find_run(config, store, outdir, resume) if world.is_first else (None, None, [])
        )
        with Environment(config):
            config, settled = settle(config, pairs, world, chosen, state)
            labels = pairs.labels if config.cond else None
            trainer = Trainer(config, labels=labels, world=world, device=chosen)
            notes = found + describe(config, store, pairs, world) + ([settled] if settled else [])
            if world.is_first:
                notes += begin_from(trainer, outdir, state, init, init_discriminators)
                run = run or runs.new_run(outdir, runs.run_suffix(config, store.path.name))
                text = yaml.safe_dump(to_dict(config), sort_keys=False)
                write_text(run / "config.yaml", text)
            checkpoint.share_state(trainer)
            run = Path(world.tell(str(run)))
            return _Run(trainer, store, pairs, run, progress, measures).go(notes)


class _Run:
    """The loop around the iteration: ticks, snapshots, interruption."""

    def __init__(
        self,
        trainer: Trainer,
        store: Store,
        pairs: ClipPairs,
        run: Path,
        progress: bool,
        measures: SnapshotMetrics,
    ) -> None:
        self.measures = measures
        self.trainer, self.store, self.pairs, self.run = trainer, store, pairs, run
        self.config = trainer.config
        self.total = math.ceil(self.config.kimg * 1000 / self.config.batch) * self.config.batch
        self.world = trainer.world
        self.log = Log()
        if self.world.is_first:
            self.log = RunLog(run, self.total / 1000, trainer.seen / 1000, progress)
        self.samples = SampleWriter(run, pairs, store.fps, self.world)
        self.metric: Random3dMetric | None = None
        self.data_wait = 0.0
        self.tick_start, self.tick_seen = time.monotonic(), trainer.seen

    @property
    def kimg(self) -> float:
        """Thousands of samples seen."""
        return self.trainer.seen / 1000

    def go(self, notes: list[str]) -> Outcome:
        """Trains to the end, or until a signal."""
        try:
            with dead_workers_named(), _Interrupt() as interrupt:
                self._begin(notes)
                finished = self._iterate(interrupt)
                self._save_state(finished, interrupt)
            return Outcome(self.run, finished, self.kimg)
        except DiganError as error:
            with contextlib.suppress(DiganError):  # on a full disk the log is full too
                self.log.say(f"stopped: {error}")
                self._write_status(f"failed: {error}"[:200])
            raise
        finally:
            self._report()
            self.log.close()

    def _write_status(self, reason: str, *, finished: bool = False) -> None:
        if self.world.is_first:
            runs.write_status(self.run, finished=finished, kimg=self.kimg, reason=reason)

    def _report(self) -> None:
        """Leaves the page of the run; a run does not fail for want of it."""
        if not self.world.is_first:
            return
        from digan.watching import write_report  # it brings the pages along

        try:
            write_report(self.run)
        except DiganError as error:
            with contextlib.suppress(DiganError):
                self.log.say(f"WARNING: no report: {error}")

    def _begin(self, notes: list[str]) -> None:
        for line in notes:
            self.log.say(line)
        fused = checkpoint.fused_ops(self.trainer)
        others: dict[str, list[str]] = {}
        for name, path in ops.status().items():
            if name not in fused:
                why = path if path != "fused" else "reference"
                others.setdefault(why, []).append(name)
        paths = [f"fused: {', '.join(fused)}"] if fused else []
        paths += [f"{path}: {', '.join(names)}" for path, names in others.items()]
        self.log.say(f"ops: {self.config.kernels}; {'; '.join(paths)}")
        self._choose_phases()
        verb = "continues" if self.trainer.seen else "starts"
        self.log.say(f"run {self.run} {verb} at {self.kimg:g} of {self.total / 1000:g} kimg")
        self._write_status("running")
        if self.trainer.seen == 0:
            if self.world.is_first:
                self.log.strip("reals", self.samples.write_reals(), 0.0)
            self._snapshot()
            self._report()

    def _choose_phases(self) -> None:
        """Captures the phases of iterations where that can be, and says so or why not."""
        trainer = self.trainer
        reason = why_not_graphs(self.config.cuda_graphs, trainer.device, trainer.world)
        if reason is None:
            trainer.phases = GraphedPhases(CudaCapture(trainer.device), self.log.say)
        self.log.say(f"CUDA graphs: {f'none, {reason}' if reason else 'one for each phase'}")

    def _iterate(self, interrupt: _Interrupt) -> bool:
        """True if the run came to its end, False if a signal asked it to stop."""
        config, trainer = self.config, self.trainer
        tick, snap = (max(round(x * 1000), 1) for x in (config.tick, config.snap))
        inputs, vote = self._inputs(), Vote(self.world)
        while trainer.seen < self.total:
            before = trainer.seen
            self._wait_for(inputs.fetch)  # at most the first time there is something to do
            trainer.advance(inputs.take())
            self._wait_for(inputs.fetch)  # while a GPU is busy with this one
            self.log.advance(config.batch)
            at_end = trainer.seen >= self.total
            stop = vote(interrupt.signal is not None) and not at_end
            if trainer.seen // tick > before // tick or at_end or stop:
                self._tick()
            if trainer.seen // snap > before // snap or at_end:
                self._snapshot()
                if not at_end:  # else both are written behind the loop
                    self._write_state()
                    self._report()
            if stop:
                break
        vote.close()
        return trainer.seen >= self.total

    def _wait_for(self, fetch: Callable[[], None]) -> None:
        waiting = time.monotonic()
        fetch()
        self.data_wait += time.monotonic() - waiting

    def _inputs(self) -> Prefetcher:
        trainer = self.trainer

        def prepare(batch: PairBatch, seen: int) -> Inputs:
            return trainer.prepare(batch.frames, batch.dt, batch.label, seen)

        return Prefetcher(
            self._batches(),
            prepare,
            seen=trainer.seen,
            size=self.config.batch,
            device=trainer.device,
        )

    def _batches(self) -> Iterator[PairBatch]:
        starts = range(self.trainer.seen, self.total, self.config.batch)
        numbers = (self.trainer.numbers(start) for start in starts)
        return pair_loader(
            self.pairs,
            numbers,
            self.config.workers,
            pin_memory=self.trainer.device.type == "cuda",
        )

    def _write_state(self) -> None:
        if self.world.is_first:
            checkpoint.save_state(self.run, self.trainer, self.store.fingerprint)

    def _save_state(self, finished: bool, interrupt: _Interrupt) -> None:
        self._write_state()
        reason = "finished"
        if not finished:
            name = "a signal" if interrupt.signal is None else interrupt.signal.name
            reason = f"stopped by {name}"
        self._write_status(reason, finished=finished)
        cure = "" if finished else "; continue it with --resume auto"
        self.log.say(f"run {self.run} {reason} at {self.kimg:g} kimg{cure}")

    def _tick(self) -> None:
        """Reads the statistics, and stops a run whose gradients stay non-finite."""
        now = time.monotonic()
        seconds, samples = now - self.tick_start, self.trainer.seen - self.tick_seen
        wait = self.data_wait / max(seconds, 1e-9)
        self.tick_start, self.tick_seen, self.data_wait = now, self.trainer.seen, 0.0
        values: dict[str, Any] = self.trainer.statistics.read(self.world)
        # Of several processes the slowest loader and the fullest memory count.
        slowest = self.world.gather([wait, _memory_gb(self.trainer.device)])
        wait, memory = (max(column) for column in zip(*slowest, strict=True))
        values |= {
            "seconds_per_kimg": seconds / max(samples, 1) * 1000,
            "data_wait_share": wait,
            "memory_gb": memory,
            "seconds": now - self.log.started,
        }
        remaining = (self.total - self.trainer.seen) / 1000 * values["seconds_per_kimg"]
        line = (
            f"tick kimg {self.kimg:<8g} time {duration(now - self.log.started):<11} "
            f"left {duration(remaining):<11} sec/kimg {values['seconds_per_kimg']:<7.1f} "
            f"data {wait:<4.0%} mem {values['memory_gb']:.2f} GB  "
            f"G {values.get('G/loss', 0):.3f}  D {values.get('D/fake_loss', 0):.3f}+"
            f"{values.get('D/real_loss', 0):.3f}"
        )
        self.log.tick(self.kimg, values, line)
        for guard in (self.trainer.g_guard, self.trainer.d_guard):
            sentences, in_a_row = guard.read()
            for sentence in sentences[:5]:
                self.log.say(f"WARNING: {sentence}")
            if in_a_row >= self.config.max_nonfinite:
                raise DiganError(
                    f"gradients were non-finite in {in_a_row} steps in a row "
                    f"({sentences[0] if sentences else 'see log.txt'}); the last state is in "
                    f"{self.run}"
                )

    def _snapshot(self) -> None:
        """Writes the network, its sample videos, and the metrics."""
        average, config = self.trainer.average, self.config
        path = self.run / f"network-snapshot-{math.floor(self.kimg):06d}.safetensors"
        info = network_info(config, self.store, self.kimg)
        if self.world.is_first:
            save_network(path, average, info)
        self.log.strip("fakes", self.samples.write_fakes(average, self.kimg), self.kimg)
        for name in config.metrics:
            started = time.monotonic()
            result: MetricResult | Random3dResult
            if name == "fd-random3d":
                self.metric = self.metric or Random3dMetric(self.pairs, world=self.world)
                result = self.metric.evaluate(average)
            else:
                result = self.measures.evaluate(name, average, info)
            row = {
                **result.to_json(),
                "kimg": self.kimg,
                "snapshot": path.name,
                "seconds": time.monotonic() - started,
                "timestamp": time.time(),
            }
            self.log.metric(name, row)
            for line in result.format().splitlines():
                self.log.say(line)


def network_info(config: TrainConfig, store: Store, kimg: float) -> NetworkInfo:
    """What a snapshot says about itself."""
    return NetworkInfo(
        generator=dataclasses.replace(config.generator),
        clip_frames=config.clip_frames,
        fps=store.fps,
        classes=tuple(store.classes) if config.cond else (),
        kimg=kimg,
        description=f"trained on {store.path.name}",
    )


def _memory_gb(device: torch.device) -> float:
    """Peak memory: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
