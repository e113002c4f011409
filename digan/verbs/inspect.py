"""`digan inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from digan.cli import parse
from digan.config import Kernels


@dataclass(frozen=True)
class InspectArgs:
    """Show what a network has learned: pictures and numbers of its coordinate networks.

    frequencies.png: the spatial frequencies of every embedding against the limit of its grid, and
    how much content changes them. phases.png: how the motion network moves their phases over
    time, for several motions of one content. change.png: the change from frame to frame within
    the training clip and beyond it, with rows of pixels over time. blocks.png: the picture block
    by block. weights.png: how much of every layer content writes. inspect.json: the numbers.

    Examples:
        digan inspect --network demo
        digan inspect --network RUN --seeds 0-31 --class dusk --outdir runs/look
        digan inspect --network F --before 0 --after 3 --motion-seeds 0,1
    """

    network: str
    """Network file, a run's folder (its newest snapshot), or demo."""
    outdir: Path = Path("out/inspect")
    """Where to write."""
    seeds: str = "0-15"
    """Content seeds that are compared, at least 2: 0-35, or 0,1,4-6; ranges are inclusive.
    All are measured, the first 8 are told apart in pictures."""
    motion_seeds: str = "0-5"
    """Motion seeds, seen with the first content seed."""
    classes: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """One class by number or name; a conditional network takes all in turn by default."""
    before: float = 0.5
    """Clip lengths to look at before the training clip."""
    after: float = 1.0
    """Clip lengths to look at after the training clip."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none.
    --fused-kernels and --no-fused-kernels stand for fused and reference."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: InspectArgs = parse(InspectArgs, arguments, "inspect")
    from digan import generate
    from digan.errors import DiganError
    from digan.inspection.report import InspectSettings, inspect
    from digan.ranges import parse_seeds

    seeds = parse_seeds(asked.seeds)
    motion_seeds = parse_seeds(asked.motion_seeds, "motion seeds")
    generator, info = generate.open_network(
        asked.network, kernels=asked.kernels, device=asked.device
    )
    classes = None if asked.classes is None else generate.parse_classes(asked.classes, info)
    if classes is not None and len(classes) != 1:
        raise DiganError(f"class must be one class, got {len(classes)}")
    videos = generate.choose_videos(info, seeds, None, classes)
    labels = [video.label for video in videos if video.label is not None]
    settings = InspectSettings(seeds, motion_seeds, labels or None, asked.before, asked.after)
    found = inspect(generator, info, asked.outdir, settings)
    print(found.format())
    for path in found.files:
        print(path)
    return 0
