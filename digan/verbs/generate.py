"""`digan generate`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from digan.cli import parse
from digan.config import GeneratorPrecision, Kernels
from digan.errors import DiganError

if TYPE_CHECKING:
    import torch

    from digan.processes import World

DEFAULT_FPS = 8.0


@dataclass(frozen=True)
class GenerateArgs:
    """Make videos with a trained network. The same seed gives the same video, always.

    Time 0 is the first frame of a training clip, 1 its last. --frames alone continues at
    training speed, beyond the clip if there are more; with --t-end the frames are evenly
    spaced over the range; --time-density k puts k-1 frames between each two. A time curve
    spreads the same frames over the same range in another way. --fps is playback speed only.
    Ctrl-C leaves files that play.

    Examples:
        digan generate --network demo --seeds 0-3
        digan generate --network RUN --seeds 0-35 --grid 6x6 --format mp4,gif
        digan generate --network F --frames 128 --fps 30 --motion-seeds 0-3 --seeds 7
        digan generate --network F --time-density 8 --fps 64     # 8x smoother
        digan generate --network F --frames 64 --t-start -1 --t-end 3 --mark   # past and future
        digan generate --network F --time-density 8 --time-curve slow-middle   # slow motion
        digan generate --network F --seeds 7 --motion-seeds 0,1 --difference   # diverse motion
        digan generate --network F --size 512 --compare          # beside plain enlargement
        digan generate --network F --zoom 1.5 --mark             # wider than the training square
        digan generate --network F --class all --seeds 0-5 --grid 6x4          # a row a class
        digan generate --network F --seeds 0-3 --walk content --frames 120     # seed to seed
        digan generate --network F --codes codes.safetensors --frames 64       # of digan invert
        digan generate --network F --seeds 0-3 --walk both --loop --frames 96  # without a seam
    """

    network: str
    """Network file, a run's folder (its newest snapshot), or demo."""
    seeds: str | None = None
    """Content seeds: 0-35, or 0,1,4-6; ranges are inclusive; 0 by default."""
    motion_seeds: str | None = None
    """Motion seeds; the content seeds by default. One of either goes with all of the other."""
    classes: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Classes by number, range or name, or all; taken in turn by default."""
    codes: Path | None = None
    """Codes file of `digan invert`, in the place of seeds and classes."""
    frames: int | None = None
    """Frames at training speed; a clip by default."""
    t_start: float = 0.0
    """Time of the first frame, in clip units."""
    t_end: float | None = None
    """Time of the last frame."""
    time_density: int = 1
    """k divides the time step: k*(n-1)+1 frames."""
    time_curve: str | None = None
    """How time passes: linear, ease, slow-middle, ping-pong or swing (both there and back),
    or points PLAYBACK:TIME as 0:0,0.4:0.1,1:1, both from 0 to 1."""
    loop: bool = False
    """The last frame leads into the first: time swings there and back, a walk returns."""
    fps: float | None = None
    """Playback frames per second; the training data's by default."""
    size: int | None = None
    """Pixels for the training square, a multiple of the network's resolution."""
    zoom: float = 1.0
    """How many times wider than the training square to look."""
    trunc: float = 1.0
    """Truncation psi: 1 none, 0 the average video."""
    grid: str | None = None
    """COLUMNSxROWS: all videos in one file."""
    walk: Literal["content", "motion", "both"] | None = None
    """One video from seed to seed while it plays; what does not walk stays the first's."""
    difference: bool = False
    """Two videos and where they differ, side by side."""
    compare: bool = False
    """Beside nearest, bilinear and bicubic enlargement, in this order; needs --size."""
    mark: bool = False
    """Red boxes: round frames outside the clip's time, and round the training square."""
    format: str = "mp4"
    """Any of mp4, gif, png, npz, sheet (a few frames in one picture), separated by commas."""
    outdir: Path = Path("out")
    """Where to write."""
    chunk: int | None = None
    """Frames computed at once; chosen by memory by default, and without effect on them."""
    precision: GeneratorPrecision = "fp32"
    """Arithmetic of the coordinate layers."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none.
    --fused-kernels and --no-fused-kernels stand for fused and reference."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: GenerateArgs = parse(GenerateArgs, arguments, "generate")
    from digan import generate
    from digan.execution import choose_device
    from digan.processes import joined
    from digan.ranges import parse_grid, parse_seeds

    if asked.chunk is not None and asked.chunk < 1:
        raise DiganError(f"chunk must be at least 1, got {asked.chunk}")
    if asked.fps is not None and not asked.fps > 0:
        raise DiganError(f"fps must be positive, got {asked.fps}")
    if not math.isfinite(asked.trunc):
        raise DiganError(f"trunc must be finite, got {asked.trunc}")
    formats = generate.check_formats([part.strip() for part in asked.format.split(",")])
    if asked.codes is not None and (asked.seeds or asked.motion_seeds or asked.classes):
        raise DiganError("--codes takes the place of --seeds, --motion-seeds and --class")
    seeds = parse_seeds("0" if asked.seeds is None else asked.seeds)
    motion_seeds = (
        None if asked.motion_seeds is None else parse_seeds(asked.motion_seeds, "motion seeds")
    )
    grid = None if asked.grid is None else parse_grid(asked.grid)
    with joined(choose_device(asked.device)) as (world, device):
        return _generate(asked, seeds, motion_seeds, grid, formats, world, device)


def _generate(
    asked: GenerateArgs,
    seeds: list[int],
    motion_seeds: list[int] | None,
    grid: tuple[int, int] | None,
    formats: tuple[str, ...],
    world: World,
    device: torch.device,
) -> int:
    """Makes the videos; of several processes the first one tells all paths."""
    from digan import generate

    generator, info = generate.open_network(
        asked.network,
        precision=asked.precision,
        kernels=asked.kernels,
        device=str(device),
    )
    classes = None if asked.classes is None else generate.parse_classes(asked.classes, info)
    request = generate.Request(
        t=generate.request_times(
            info,
            asked.frames,
            asked.t_start,
            asked.t_end,
            asked.time_density,
            curve=asked.time_curve,
            loop=asked.loop,
        ),
        fps=asked.fps or info.fps or DEFAULT_FPS,
        density=generate.density_of(asked.size, info.generator.resolution),
        zoom=asked.zoom,
        truncation=asked.trunc,
        chunk=asked.chunk,
        formats=formats,
        outdir=asked.outdir,
        walk=asked.walk,
        closed=asked.loop,
        mark=asked.mark,
        difference=asked.difference,
        compare=asked.compare,
    )
    if asked.codes is None:
        videos = generate.choose_videos(info, seeds, motion_seeds, classes)
    else:
        from digan.inversion import load_codes

        codes = load_codes(asked.codes, generator).codes
        videos = generate.coded_videos(asked.codes.stem, codes)
    try:
        with generate.stoppable():
            paths = generate.render_files(generator, videos, request, grid, world=world)
    except generate.Stopped as stopped:
        kept = f"; what plays: {stopped.done}" if stopped.done else ""
        print(f"digan: stopped by {stopped}{kept}", file=sys.stderr)
        return 128 + stopped.number
    # A process made all the files of its videos, or the first one those of the grid.
    files = [
        list(map(str, paths[i : i + len(formats)])) for i in range(0, len(paths), len(formats))
    ]
    shares = world.gather(files)
    for own in shares[0] if grid is not None else world.deal(shares):
        if world.is_first:
            print("\n".join(own))
    return 0
