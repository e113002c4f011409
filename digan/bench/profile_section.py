"""One training iteration under torch.profiler, and one with R1: where their time goes.

On a GPU an iteration is traced between two others, without a wait between them, so that its
time is that of a run; it is also timed without the profiler, which slows launches. On a CPU,
where nothing runs ahead, it is traced alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from digan.bench.cases import Case, Context
from digan.bench.trace import ITERATION, PREFIX, read_events, summarize
from digan.bench.training_section import captured, real_batch, run_settings, trainer
from digan.training.step import Trainer

PHASES = {
    "train_generator": "G",
    "train_discriminator": "D",
    "regularize_discriminator": "R1",
    "update_average": "EMA",
}
WARM_UPS = 5  # on a GPU: buffers, choices of algorithms, captured graphs
LABELS = {False: "iteration", True: "iteration with R1"}


def cases(context: Context) -> Iterator[Case]:
    """None: nothing of this section is timed in turns."""
    return iter(())


def tables(context: Context) -> dict[str, list[dict[str, Any]]]:
    """`profile`: of the best provider, in every precision, an iteration with and without R1."""
    options = context.options
    provider = "fused" if options.wants("fused") else "reference"
    found = []
    for precision in options.precisions:
        run = trainer(context, provider, precision)
        if provider == "fused":
            captured(run)
        mark_phases(run)
        frames, dt = real_batch(context)
        for penalty in LABELS:
            found.append(
                trace_iteration(
                    _iteration(run, frames, dt, penalty),
                    _iteration(run, frames, dt, False),
                    context,
                    label=LABELS[penalty],
                    provider=provider,
                    precision=precision,
                )
            )
    return {"profile": found}


def mark_phases(run: Trainer) -> None:
    """The phases of a trainer's iterations appear in traces under their names.

    A trainer that repeats captured phases calls them by name, through `phases.run`, and not its
    methods.
    """
    for method, name in PHASES.items():
        setattr(run, method, _marked(getattr(run, method), name))
    phases: Any = getattr(run, "phases", None)
    if phases is not None:
        call = phases.run
        phases.run = lambda name, work: _marked(call, name)(name, work)


def _marked(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def marked(*arguments: Any, **named: Any) -> Any:
        with record_function(PREFIX + name):
            return method(*arguments, **named)

    return marked


def _iteration(run: Trainer, frames: Any, dt: Any, penalty: bool) -> Callable[[], None]:
    interval = run.config.d_reg_interval

    def work() -> None:
        # R1 comes in iterations whose number its interval divides.
        run.seen = run.config.batch * (interval if penalty else interval + 1)
        with run_settings():
            run.iteration(frames, dt, None)

    return work


def trace_iteration(
    work: Callable[[], None],
    neighbour: Callable[[], None],
    context: Context,
    *,
    label: str,
    provider: str,
    precision: str,
) -> dict[str, Any]:
    """Traces `work` and sums it up.

    Args:
        work: the iteration. neighbour: what runs before and after it on a GPU.
        context: of the section; its options name where the trace itself is kept.
        label, provider, precision: as in `Profile`.
    """
    on_gpu = context.device.type == "cuda"
    for _ in range(WARM_UPS if on_gpu else 1):
        work()
    calls = (neighbour, work, neighbour) if on_gpu else (work,)
    untraced = _untraced(work, neighbour, context.device) if on_gpu else None
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as traced:
        for call in calls:
            with record_function(ITERATION):
                call()
        if on_gpu:
            torch.cuda.synchronize(context.device)
    path = trace_path(context, label, precision)
    traced.export_chrome_trace(str(path))
    return summarize(
        read_events(path),
        which=len(calls) // 2,
        label=label,
        provider=provider,
        precision=precision,
        untraced=untraced,
    ).to_dict()


def _untraced(
    work: Callable[[], None], neighbour: Callable[[], None], device: torch.device
) -> float:
    """Seconds of the iteration in a row of others, which the host need not wait for."""
    rows: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(5):
        for extra, own in rows.items():
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            for call in (neighbour, *[work] * extra, neighbour):
                call()
            torch.cuda.synchronize(device)
            own.append(time.perf_counter() - start)
    return min(rows[1]) - min(rows[0])


def trace_path(context: Context, label: str, precision: str) -> Path:
    """Where a trace is written: beside the name asked for, else in the scratch folder."""
    name = f"{label.replace(' ', '-')}-{precision}"
    if context.options.trace is None:
        return context.folder / f"{name}.json"
    asked = Path(context.options.trace)
    return asked.with_name(f"{asked.stem}-{name}.json")
