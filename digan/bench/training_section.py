"""Whole training iterations: G, D on fakes and reals, average and optimisers; R1 apart.

An iteration and an R1 step are measured as cases of their own; the headline adds them in the
proportion of the lazy interval, iteration + R1 / d_reg_interval.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from digan.bench.cases import Case, Context, Subject, formulas_stand_in
from digan.bench.counting import count_flops
from digan.bench.training_work import training_phases
from digan.training.losses import RealPairs
from digan.training.step import Trainer

_GRAPHS = "digan.training.graphs"
CAPTURED_AFTER = 4  # calls of an iteration
_FORMULAS = "formulas"
KERNELS = {
    "reference": "auto", "compiled": "reference", "fused": "fused", _FORMULAS: "reference",
}  # fmt: skip


def real_batch(context: Context) -> tuple[Tensor, Tensor]:
    """uint8 pairs [B, 2, 3, S, S] and time differences [B]; noise costs what pictures cost."""
    draw = torch.Generator().manual_seed(1)
    batch, size = context.options.batch, context.options.resolution
    frames = torch.randint(256, (batch, 2, 3, size, size), generator=draw, dtype=torch.uint8)
    return frames, torch.rand(batch, generator=draw)


def cases(context: Context) -> Iterator[Case]:
    """One plain iteration, and one R1 step, of B pairs."""
    options = context.options
    size = f"B={options.batch} {options.resolution}x{options.resolution}"
    built = {subject: make() for subject, make in makers(context).items()}
    phases = training_phases(options.config())
    flops = {name: float(count_flops(phase)) for name, phase in phases.items()}
    for index, (name, total) in enumerate(
        (("iteration", flops["G"] + flops["D"]), ("R1 step", flops["R1"]))
    ):
        yield Case(
            f"{name} {size}",
            {subject: steps[index] for subject, steps in built.items()},
            unit="videos",
            items=options.batch,
            work={precision: [(total, 0.0)] for precision in options.precisions},
        )


def own_arithmetic(device: torch.device) -> Any:
    """The original's half-precision blocks are for its CUDA kernels; a CPU crawls in float16."""
    return "published" if device.type == "cuda" else "float32"


def makers(context: Context) -> dict[Subject, Callable[[], tuple[Callable[[], Any], ...]]]:
    """For every provider, what builds its (plain iteration, R1 step)."""
    options = context.options
    found: dict[Subject, Callable[[], tuple[Callable[[], Any], ...]]] = {}
    for precision in options.precisions:
        for provider in KERNELS:
            if options.wants(provider):
                found[provider, precision] = _maker(context, provider, precision)
    if context.original is not None and options.wants("original"):
        found["original", "fp32"] = lambda: _original(context, wide_reals=True)
        if context.device.type == "cuda":  # nothing else has TF32
            found["original-tf32", "tf32"] = lambda: _original(context, wide_reals=True, tf32=True)
    return found


def _maker(
    context: Context, provider: str, precision: str
) -> Callable[[], tuple[Callable[[], Any], ...]]:
    return lambda: _ours(context, provider, precision)


def named_on(device: torch.device, provider: str) -> str:
    """The entry of `KERNELS` for a provider."""
    return _FORMULAS if provider == "reference" and formulas_stand_in(device) else provider


def trainer(context: Context, provider: str, precision: str) -> Trainer:
    """Fresh networks of the preset."""
    provider = named_on(context.device, provider)
    import dataclasses

    kernels: Any = KERNELS[provider]
    config = dataclasses.replace(
        context.options.config(precision), kernels=kernels, compile=provider == "compiled"
    )
    return Trainer(config, device=context.device)


@contextmanager
def run_settings() -> Iterator[None]:
    """PyTorch as a run of digan sets it: cuDNN may search, as it may for the original."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def captured(run: Any, graphs: Any = None) -> str:
    """Lets a trainer repeat its phases as CUDA graphs, as `digan train` does on a GPU.

    Args:
        run: the trainer.
        graphs: what captures; None takes the module of this version, if it has one.

    Returns:
        Why phases are called one operation after the other; empty if they are captured.
    """
    if graphs is None:
        if importlib.util.find_spec(_GRAPHS) is None:
            return "this version captures no phases"
        graphs = importlib.import_module(_GRAPHS)
    reason: str | None = graphs.why_not_graphs("auto", run.device, run.world)
    if reason is None:
        run.phases = graphs.GraphedPhases(graphs.CudaCapture(run.device), _say)
    return reason or ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ours(context: Context, provider: str, precision: str) -> tuple[Callable[[], Any], ...]:
    run = trainer(context, provider, precision)
    frames, dt = real_batch(context)

    def step() -> None:
        run.seen = run.config.batch  # step 1: an iteration without R1
        with run_settings():
            run.iteration(frames, dt, None)

    def regularize() -> None:
        indices = range(run.config.batch)
        with run_settings():
            real = run._reals(frames, dt, None, "R1", indices)
            run.regularize_discriminator(RealPairs(real.frames, real.dt, real.label, real.augment))

    if provider == "fused" and not captured(run):
        for _ in range(CAPTURED_AFTER):
            step()
    return step, regularize


def _original(
    context: Context, *, wide_reals: bool, tf32: bool = False
) -> tuple[Callable[[], Any], ...]:
    from digan.bench.official_training import published_settings

    run = context.original.iteration(
        context.options.config(), 0, context.device, arithmetic=own_arithmetic(context.device),
        wide_reals=wide_reals,
    )  # fmt: skip
    frames, dt = real_batch(context)

    def step() -> None:
        run.iterations = 1  # not one of the iterations with its empty generator phase
        with published_settings(tf32=tf32):
            run.step(frames, dt)

    def regularize() -> None:
        with published_settings(tf32=tf32):
            run.regularize(run.prepare(frames, dt))

    return step, regularize
