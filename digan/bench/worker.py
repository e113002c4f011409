"""One fresh process of the benchmark: a section's rows, or the peak memory of one provider.

`python -m digan.bench.worker` reads a job as JSON from standard input and writes rows as JSON
to the file that the job names. It exists because a number from one process says little: memory
layout, clocks and neighbours differ from process to process.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digan.bench.cases import MODULES, Context, Options
from digan.bench.machine import (
    ceilings_to_dict,
    describe,
    measure_ceilings,
    peak_memory,
    read_clocks,
)
from digan.bench.rows import Row
from digan.bench.timing import Clock, measure
from digan.errors import DiganError


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Attributes:
        kind: times, memory, or original (agreement and op paths of the original).
        section: one of MODULES. allocator: as its environment says.
        options: of the benchmark. folder: scratch. result: file of the rows.
        subject, frames: memory only: the provider, its precision, and T.
        setting: NAME=VALUE of the environment that rows of native kernels are labelled with.
        seconds: after which no case begins; None has no end.
    """

    kind: str
    section: str
    allocator: str
    options: dict[str, Any]
    folder: str
    result: str
    subject: tuple[str, str] | None = None
    frames: int | None = None
    setting: str | None = None
    seconds: float | None = None


def say(text: str) -> None:
    """Progress, one line at a time; the parent passes it on."""
    print(text, file=sys.stderr, flush=True)


def _say_of(case: str, text: str) -> None:
    say(f"{case}: {text}")


def make_context(job: Job) -> Context:
    """Options as objects; the original loaded where it was asked for."""
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in job.options.items()
    }
    options = Options(**values)
    if options.threads:
        torch.set_num_threads(options.threads)
    original = None
    needs_original = job.section != "loader" and (
        job.subject is None or job.subject[0] == "original"
    )
    if options.official and needs_original:
        from digan.bench.official import load_official

        original = load_official(options.official, build_folder=Path(job.folder) / "plugins")
    return Context(options, torch.device(options.device), Path(job.folder), original)


def time_section(job: Job) -> dict[str, Any]:
    """All cases of a section, each provider in turn, and its tables."""
    start = time.monotonic()
    context = make_context(job)
    options = context.options
    clocks = [read_clocks(context.device)]
    say("measuring the machine's ceilings")
    ceilings = measure_ceilings(context.device, list(options.precisions))
    clock, rows = Clock(context.device), []
    tables: dict[str, list[dict[str, Any]]] = {}
    module = importlib.import_module(MODULES[job.section])
    for case in module.cases(context):
        left = math.inf if job.seconds is None else job.seconds - (time.monotonic() - start)
        if left <= 0:
            tables["left out"] = [{"section": job.section, "from": case.name}]
            break
        working = {}
        for subject, work in case.providers.items():
            try:
                say(f"{case.name}: {' '.join(subject)}: first call")
                work()
                working[subject] = work
            except Exception as error:  # a provider that fails has a row that says so
                first = str(error).strip().splitlines()[:1] or [type(error).__name__]
                case.notes[subject] = f"failed: {type(error).__name__}: {first[0][:160]}"
        samples = measure(
            {" ".join(subject): work for subject, work in working.items()},
            clock,
            rounds=options.repeats,
            budget=min(options.budget, left),
            warm_up=0 if context.device.type == "cpu" else 2,  # the first call has been made
            say=functools.partial(_say_of, case.name),
        )
        for provider, precision in case.providers:
            parts = case.work.get(precision, [])
            floor = ceilings.floor(parts, precision) if parts else math.nan
            found = samples.get(f"{provider} {precision}", [])
            if (provider, precision) in case.floor_by:
                least = samples.get(" ".join(case.floor_by[provider, precision]), [])
                floor = float(np.median(least)) if least else math.nan
            rows.append(
                Row(
                    job.section,
                    case.name,
                    labelled(provider, job.setting),
                    precision,
                    job.allocator,
                    case.unit,
                    case.items,
                    [found] if found else [],
                    [floor] if math.isfinite(floor) else [],
                    sum(part[0] for part in parts) or None,
                    sum(part[1] for part in parts) or None,
                    note=case.notes.get((provider, precision), ""),
                )
            )
    rows += getattr(module, "rows", lambda _: [])(context)  # of a section that times nothing
    if hasattr(module, "tables") and "left out" not in tables:
        tables.update(module.tables(context))
    clocks.append(read_clocks(context.device))
    return {
        "rows": [asdict(row) for row in rows],
        "ceilings": {**ceilings_to_dict(ceilings), "clocks_mhz": clocks},
        "machine": describe(context.device),
        "tables": tables,
    }


def labelled(provider: str, setting: str | None) -> str:
    """The native kernels' name under a setting of the environment, which the others ignore."""
    return f"{provider} {setting}" if setting and provider == "fused" else provider


def measure_memory(job: Job) -> dict[str, Any]:
    """The peak of one provider doing one thing."""
    context = make_context(job)
    assert job.subject is not None
    module = importlib.import_module(MODULES[job.section])
    if job.section == "generator":
        assert job.frames is not None
        work = module.makers(context, job.frames)[job.subject]()
    else:
        iteration, penalty = module.makers(context)[job.subject]()

        def work() -> None:
            iteration()
            penalty()

    work()
    return {"peak": peak_memory(context.device)}


def check_original(job: Job) -> dict[str, Any]:
    """Agreement on the same weights, and the paths that its ops take here."""
    from digan.bench.official import check_agreement, op_paths
    from digan.bench.training_section import own_arithmetic

    context = make_context(job)
    config = context.options.config()
    say("comparing with the original on the same weights")
    agreement = asdict(check_agreement(context.original, config, device=context.device))
    say("watching the original's ops")
    arithmetic = own_arithmetic(context.device)
    paths = op_paths(context.original, config, device=context.device, arithmetic=arithmetic)
    return {"commit": context.original.commit, "agreement": agreement, "paths": paths}


def main() -> int:
    """Does the job on standard input."""
    values = json.load(sys.stdin)
    values["subject"] = values["subject"] and tuple(values["subject"])  # JSON has lists only
    job = Job(**values)
    kinds = {"times": time_section, "memory": measure_memory, "original": check_original}
    try:
        found = kinds[job.kind](job)
    except DiganError as error:
        found = {"error": str(error)}
    Path(job.result).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
