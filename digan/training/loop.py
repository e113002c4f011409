"""A training run, from the store to its last snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml

from digan import ops
from digan.config import TrainConfig, resolve, to_dict
from digan.data.datasets import ClipPairs, PairBatch, pair_loader
from digan.data.progress import duration
from digan.data.store import Store
from digan.errors import DiganError
from digan.execution import choose_device, choose_impl
from digan.files import writable_folder, write_text
from digan.metrics import MetricResult, Random3dResult
from digan.nn.snapshot import NetworkInfo, load_discriminators, load_network, save_network
from digan.training import checkpoint, runs
from digan.training.log import RunLog
from digan.training.measuring import SnapshotMetrics
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


def open_data(config: TrainConfig, store_path: Path) -> tuple[TrainConfig, Store, ClipPairs]:
    """Opens the store and fits the configuration to it.

    Raises:
        DiganError: no store, labels asked but missing, no clip long enough.
    """
    store = Store(store_path)
    config = resolve(config, resolution=store.resolution, num_classes=len(store.classes))
    pairs = ClipPairs(
        store,
        config.clip_frames,
        seed=config.seed,
        mirror=config.mirror,
        split=config.split,
        use_labels=config.cond,
    )
    return config, store, pairs


def describe(config: TrainConfig, store: Store, pairs: ClipPairs) -> list[str]:
    """What a user should know before a run starts; unused labels are said loudly."""
    lines = [
        f"data: {store.path}: {store.num_videos} videos, {store.num_frames} frames of "
        f"{store.resolution} x {store.resolution}, {pairs.num_windows} clips of "
        f"{config.clip_frames} frames"
    ]
    if store.splits:
        lines.append(f"data: split {config.split} of {', '.join(store.splits)}")
    part, group = config.batch_gpu or config.batch, config.discriminator.group_size
    if part < min(group, config.batch):
        lines.append(
            f"micro-batches of {part}: the minibatch statistic has groups of {part}, not "
            f"{group}; results differ from those of whole groups"
        )
    if pairs.too_short:
        lines.append(f"data: {pairs.too_short} videos are shorter than the clip and left out")
    if store.lossy:
        lines.append("data: the store's frames are JPEG: metrics will show it")
    if store.classes and not config.cond:
        lines.append(
            f"WARNING: the store has labels of {len(store.classes)} classes and they are NOT "
            "used; --cond trains with them"
        )
    return lines


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
    """
    chosen = choose_device(device)
    choose_impl(config.kernels, chosen)
    config, store, pairs = open_data(config, store_path)
    measures = SnapshotMetrics(config, pairs, chosen)
    writable_folder(outdir)
    run, state = _find_run(config, store, outdir, resume)
    if run is not None:
        writable_folder(run)
    with _Environment(config):
        trainer = Trainer(config, labels=pairs.labels if config.cond else None, device=chosen)
        # Two states and a few snapshots, of networks, average and two moments each.
        size = sum(
            p.numel() * p.element_size()
            for net in (trainer.generator, trainer.discriminator)
            for p in net.parameters()
        )
        writable_folder(outdir, need_bytes=12 * size + (100 << 20))
        notes = describe(config, store, pairs)
        if state is not None:
            said, values = state
            notes += [s for s in (said, checkpoint.restore(trainer, values)) if s]
        else:
            if init is not None:
                notes.append(_start_from(trainer, init))
            if init_discriminators is not None:
                notes.append(_start_discriminators_from(trainer, init_discriminators))
        if run is None:
            run = runs.new_run(outdir, runs.run_suffix(config, store.path.name))
        write_text(run / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
        return _Run(trainer, store, pairs, run, progress, measures).go(notes)


def _find_run(
    config: TrainConfig, store: Store, outdir: Path, resume: str
) -> tuple[Path | None, tuple[str, dict[str, Any]] | None]:
    """The folder to continue and its state, or nothing for a new run."""
    if resume == "none":
        return None, None
    if resume == "auto":
        run = runs.unfinished_run(outdir, runs.run_suffix(config, store.path.name))
        if run is None:
            return None, None
        if not (run / checkpoint.LATEST).exists() and not (run / checkpoint.PREVIOUS).exists():
            return None, None  # stopped before its first state: there is nothing to continue
    else:
        run = Path(resume)
        if not run.is_dir():
            raise DiganError(f"the run to resume, {run}, is no folder")
    values, said = checkpoint.read_state(run)
    checkpoint.check_same_settings(values, config, store.fingerprint, run)
    return run, (said, values)


def _start_from(trainer: Trainer, init: str) -> str:
    """Copies a network file's generator into both generators."""
    source, info = load_network(init, device=trainer.device)
    try:
        for network in (trainer.generator, trainer.average):
            network.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise DiganError(
            f"the network {init} ({info.generator}) does not fit this run's generator "
            f"({trainer.config.generator})"
        ) from error
    return f"the generator starts from {init}"


def _start_discriminators_from(trainer: Trainer, init: str) -> str:
    """Copies a file's pair of discriminators into the run's."""
    source = load_discriminators(init, device=trainer.device)
    try:
        trainer.discriminator.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise DiganError(
            f"the discriminators {init} ({source.config}) do not fit this run's "
            f"({trainer.config.discriminator})"
        ) from error
    return f"the discriminators start from {init}"


class _Environment:
    """Process-wide settings of PyTorch for a run, put back afterwards."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        self.fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        self.benchmark = torch.backends.cudnn.benchmark
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        torch.use_deterministic_algorithms(self.config.deterministic, warn_only=True)
        torch.backends.cudnn.benchmark = not self.config.deterministic
        # Deterministic mode would otherwise write NaN into every new tensor first.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = self.benchmark


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
        self.log = RunLog(run, self.total / 1000, trainer.seen / 1000, progress)
        self.samples = SampleWriter(run, pairs, store.fps)
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
            with _Interrupt() as interrupt:
                self._begin(notes)
                finished = self._iterate(interrupt)
                self._save_state(finished, interrupt)
            return Outcome(self.run, finished, self.kimg)
        except DiganError as error:
            with contextlib.suppress(DiganError):  # on a full disk the log is full too
                self.log.say(f"stopped: {error}")
                runs.write_status(
                    self.run, finished=False, kimg=self.kimg, reason=f"failed: {error}"[:200]
                )
            raise
        finally:
            self._report()
            self.log.close()

    def _report(self) -> None:
        """Leaves the page of the run; a run does not fail for want of it."""
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
        verb = "continues" if self.trainer.seen else "starts"
        self.log.say(f"run {self.run} {verb} at {self.kimg:g} of {self.total / 1000:g} kimg")
        runs.write_status(self.run, finished=False, kimg=self.kimg, reason="running")
        if self.trainer.seen == 0:
            self.log.strip("reals", self.samples.write_reals(), 0.0)
            self._snapshot()

    def _iterate(self, interrupt: _Interrupt) -> bool:
        """True if the run came to its end, False if a signal asked it to stop."""
        config, trainer = self.config, self.trainer
        tick, snap = (max(round(x * 1000), 1) for x in (config.tick, config.snap))
        batches = self._batches()
        while trainer.seen < self.total:
            waiting = time.monotonic()
            batch = next(batches)
            self.data_wait += time.monotonic() - waiting
            label = batch.label if config.cond else None
            before = trainer.seen
            trainer.iteration(batch.frames, batch.dt, label)
            self.log.advance(config.batch)
            at_end = trainer.seen >= self.total
            stop = interrupt.signal is not None
            if trainer.seen // tick > before // tick or at_end or stop:
                self._tick()
            if trainer.seen // snap > before // snap or at_end:
                self._snapshot()
                if not at_end:
                    checkpoint.save_state(self.run, trainer, self.store.fingerprint)
            if stop and not at_end:
                return False
        return True

    def _batches(self) -> Iterator[PairBatch]:
        size = self.config.batch
        numbers = (
            list(range(start, start + size)) for start in range(self.trainer.seen, self.total, size)
        )
        return pair_loader(
            self.pairs,
            numbers,
            self.config.workers,
            pin_memory=self.trainer.device.type == "cuda",
        )

    def _save_state(self, finished: bool, interrupt: _Interrupt) -> None:
        checkpoint.save_state(self.run, self.trainer, self.store.fingerprint)
        reason = "finished"
        if not finished:
            assert interrupt.signal is not None
            reason = f"stopped by {interrupt.signal.name}"
        runs.write_status(self.run, finished=finished, kimg=self.kimg, reason=reason)
        cure = "" if finished else "; continue it with --resume auto"
        self.log.say(f"run {self.run} {reason} at {self.kimg:g} kimg{cure}")

    def _tick(self) -> None:
        """Reads the statistics, and stops a run whose gradients stay non-finite."""
        now = time.monotonic()
        seconds, samples = now - self.tick_start, self.trainer.seen - self.tick_seen
        wait = self.data_wait / max(seconds, 1e-9)
        self.tick_start, self.tick_seen, self.data_wait = now, self.trainer.seen, 0.0
        values: dict[str, Any] = self.trainer.statistics.read()
        values |= {
            "seconds_per_kimg": seconds / max(samples, 1) * 1000,
            "data_wait_share": wait,
            "memory_gb": _memory_gb(self.trainer.device),
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
        save_network(path, average, info)
        self.log.strip("fakes", self.samples.write_fakes(average, self.kimg), self.kimg)
        for name in config.metrics:
            started = time.monotonic()
            result: MetricResult | Random3dResult
            if name == "fd-random3d":
                self.metric = self.metric or Random3dMetric(self.pairs)
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
        self._report()


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
