"""The sections of the result page: frames a second of each, and what denser frames cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from digan.bench.cases import Case, Context, Subject
from digan.bench.floors import generator_work
from digan.bench.generator_section import PATHS, make_network
from digan.bench.machine import DTYPES
from digan.grid import frame_times
from digan.nn import Generator
from digan.synthesis import (
    Codes,
    Shot,
    denser,
    interpolate_time,
    long_video,
    seed_codes,
    single_frame,
    stream,
    walk,
    wider,
)

DENSITY = 4
NORMAL, DENSER = "normal frames", "denser frame"
ZOOM = 1.5
_LONG = 32


def shots(codes: Codes, clip_frames: int) -> dict[str, Shot]:
    """A shot of every section, by name; codes of two videos."""
    one = codes.take(slice(1))
    few = long_video(one, clip_frames, 8)
    return {
        "long video": long_video(one, clip_frames, _LONG),
        "time x8": interpolate_time(one, clip_frames, 3, 8),
        "single frame": single_frame(one, 0.5),
        f"space x{DENSITY}": denser(single_frame(one, 0.5), DENSITY),
        f"zoom {ZOOM}": wider(few, ZOOM),
        "walk, a code a frame": walk(codes, frame_times(8, clip_frames)),
    }


def cases(context: Context) -> Iterator[Case]:
    """Each section from its codes to bytes, streamed as `digan generate` does."""
    options, config = context.options, context.options.config().generator
    subjects: dict[Subject, Callable[[str], Callable[[], Any]]] = {
        (provider, precision): _streaming(context, precision, impl)
        for precision in options.precisions
        for provider, impl in PATHS
        if provider != "compiled" and options.wants(provider)
    }
    described = shots(_no_codes(config.latent_dim), options.frames)
    for name, shot in described.items():
        side = shot.grid.frame_size(config.resolution)
        # Pixels of the coarsest grid grow by as much as those of the frame.
        frames = shot.frames * (side / config.resolution) ** 2
        yield Case(
            f"{name}, {shot.frames} of {side}x{side}",
            {subject: make(name) for subject, make in subjects.items()},
            unit="frames",
            items=shot.frames,
            work={
                precision: generator_work(config, round(frames), DTYPES[precision].itemsize)
                for precision in options.precisions
            },
        )
    yield _denser_cost(context)


def _no_codes(latent_dim: int) -> Codes:
    """Of two videos: enough to describe shots."""
    return Codes(torch.zeros(2, 1, latent_dim), torch.zeros(2, latent_dim))


def _streaming(context: Context, precision: str, impl: Any) -> Callable[[str], Callable[[], Any]]:
    network = make_network(context, precision, impl)
    found = shots(_codes(network), context.options.frames)

    def make(name: str) -> Callable[[], Any]:
        def work() -> None:
            for _ in stream(network, found[name]):
                pass

        return work

    return make


def _codes(network: Generator) -> Codes:
    labels = [0, 0] if network.config.num_classes else None
    return seed_codes(network, [0, 1], labels=labels)


def _denser_cost(context: Context) -> Case:
    """As many pixels as normal frames, and as one denser frame, in turns."""
    options, config = context.options, context.options.config().generator
    providers: dict[Subject, Callable[[], Any]] = {}
    path = "fused" if options.wants("fused") else "reference"
    if options.wants(path):
        for precision in options.precisions:
            network = make_network(context, precision, dict(PATHS)[path])
            inr = _codes(network).take(slice(1)).write(network)
            normal = long_video(_codes(network), options.frames, DENSITY**2).grid
            dense = denser(single_frame(_codes(network), 0.5), DENSITY).grid
            for name, grid in ((NORMAL, normal), (DENSER, dense)):
                providers[name, precision] = _rendering(inr, grid)
    side = DENSITY * config.resolution
    return Case(
        f"{DENSITY**2} of {config.resolution}x{config.resolution}, or 1 of {side}x{side}",
        providers,
        work={
            precision: generator_work(config, DENSITY**2, DTYPES[precision].itemsize)
            for precision in options.precisions
        },
    )


def _rendering(inr: Any, grid: Any) -> Callable[[], Any]:
    @torch.no_grad()
    def work() -> Any:
        return inr.render(grid)

    return work
