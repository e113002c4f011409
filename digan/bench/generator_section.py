"""Synthesis, and the generator's share of a training step: the same weights in every provider."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from digan.bench.cases import Case, Context, Subject, formulas_stand_in
from digan.bench.floors import generator_work
from digan.bench.machine import DTYPES
from digan.errors import DiganError
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator
from digan.synthesis import stream_frames
from digan.training.batch_size import available_memory

FRAMES = (1, 16, 128, 256)
# The path of the ops of each of our providers.
PATHS = (("reference", None), ("fused", "fused"), ("compiled", "reference"))
# The native kernels layer by layer, where a generator chains layers unless told otherwise.
UNCHAINED = "unchained"
# The original holds all frames at once: what it took per frame of 128x128, measured.
_ORIGINAL_BYTES_PER_PIXEL = 3.1e9 / (16 * 128 * 128)


def times(context: Context, frames: int) -> Tensor:
    """Time stamps at training speed."""
    return frame_times(frames, context.options.frames).to(context.device)


def cases(context: Context) -> Iterator[Case]:
    """T frames of one video, weights included in none: synthesis from a written network."""
    for frames in FRAMES:
        providers = {
            subject: make()
            for subject, make in makers(context, frames).items()
            # Without streaming the original's time is linear in T from 16 on.
            if not (subject[0] in ("original", "compiled") and frames > 16)
        }
        if frames == FRAMES[-1]:
            continue  # memory only
        config = context.options.config().generator
        yield Case(
            f"T={frames} {config.resolution}x{config.resolution}",
            providers,
            unit="frames",
            items=frames,
            work={
                name: generator_work(config, frames, DTYPES[name].itemsize)
                for name in context.options.precisions
            },
        )
    yield training_case(context)


def training_case(context: Context) -> Case:
    """Codes to frames and gradients back to all parameters, for B videos of two frames."""
    options, config = context.options, context.options.config().generator
    return Case(
        f"T=2 B={options.batch} {config.resolution}x{config.resolution} +backward",
        {
            (provider, precision): _step(context, precision, provider, impl)
            for precision in options.precisions
            for provider, impl in PATHS
            if options.wants(provider)
        },
        unit="frames",
        items=2 * options.batch,
        work={
            name: generator_work(config, 2 * options.batch, DTYPES[name].itemsize, passes=3)
            for name in options.precisions
        },
    )


def _step(context: Context, precision: str, provider: str, impl: Any) -> Callable[[], Any]:
    options, device = context.options, context.device
    network = make_network(context, precision, impl).requires_grad_()
    draw = torch.Generator().manual_seed(2)
    dim, side = network.config.latent_dim, network.config.resolution
    z, z_motion = torch.randn(2, options.batch, dim, generator=draw).to(device)
    grid = SpaceTimeGrid(torch.rand(options.batch, 2, generator=draw).sort().values.to(device))
    cotangent = torch.randn(options.batch, 2, side, side, 3, generator=draw).to(device)
    render = torch.compile(network) if provider == "compiled" else network
    parameters = list(network.parameters())

    def step() -> Any:
        return torch.autograd.grad(render(z, z_motion, grid), parameters, cotangent)

    return step


def makers(context: Context, frames: int) -> dict[Subject, Callable[[], Callable[[], Any]]]:
    """For every provider, what builds its work: one call renders all frames to RGB numbers."""
    options, device = context.options, context.device
    found: dict[Subject, Callable[[], Callable[[], Any]]] = {}
    for precision in options.precisions:
        for provider, impl in PATHS:
            if options.wants(provider):
                found[provider, precision] = _ours(context, frames, precision, provider, impl)
        if options.wants("fused") and can_chain():
            found[UNCHAINED, precision] = _ours(context, frames, precision, UNCHAINED, "fused")
    if context.original is not None and options.wants("original"):
        needed = _ORIGINAL_BYTES_PER_PIXEL * frames * options.resolution**2
        if device.type != "cpu" or needed < _room():
            found["original", "fp32"] = lambda: _original(context, frames)
    return found


def _room() -> float:
    """Bytes that this machine can give; infinity where it does not say."""
    try:
        return available_memory()
    except DiganError:
        return math.inf


def can_chain() -> bool:
    """True if this version's generator has the setting."""
    return "chained" in inspect.signature(Generator).parameters


def _latents(context: Context) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    dim = context.options.config().generator.latent_dim
    z, z_motion = torch.randn(2, 1, dim, generator=draw).to(context.device)
    return z, z_motion


def make_network(context: Context, precision: str, impl: Any) -> Generator:
    """With the original's weights where there is an original."""
    config = context.options.config().generator
    dtype = None if precision == "fp32" else DTYPES[precision]
    if impl is None and formulas_stand_in(context.device):
        impl = "reference"
    if context.original is not None:
        from digan.bench.official import copied_generator

        theirs = context.original.generator(config, 0, context.device)
        network = copied_generator(theirs, config, impl=impl, dtype=dtype)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Generator(config, impl=impl, dtype=dtype)
    return network.to(context.device).eval().requires_grad_(False)


def _ours(
    context: Context, frames: int, precision: str, provider: str, impl: Any
) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        network = make_network(context, precision, impl)
        if provider == UNCHAINED:
            chaining: Any = network
            chaining.chained = False
        t = times(context, frames)
        with torch.no_grad():
            ws = network.map(_latents(context)[0])
        z_motion = _latents(context)[1]

        @torch.no_grad()
        def render(t: Tensor) -> Tensor:
            return network.write(ws, z_motion).render(SpaceTimeGrid(t))

        if provider == "compiled":
            compiled = torch.compile(render)
            return lambda: compiled(t)
        if frames <= 16:
            return lambda: render(t)

        @torch.no_grad()
        def stream() -> None:
            for _ in stream_frames(network.write(ws, z_motion), t):
                pass

        return stream

    return make


def _original(context: Context, frames: int) -> Callable[[], Any]:
    code = context.original
    config = context.options.config().generator
    network = code.generator(config, 0, context.device)
    (z, z_motion), t = _latents(context), times(context, frames)[None]

    @torch.no_grad()
    def render() -> Any:
        from digan.bench.official_training import published_settings

        with published_settings():
            return code.frames(network, z, z_motion, t)

    return render
