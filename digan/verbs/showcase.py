"""`digan showcase`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from digan.cli import parse
from digan.config import GeneratorPrecision, Kernels


@dataclass(frozen=True)
class ShowcaseArgs:
    """Write one page with everything a network can show. It needs no server and no network.

    OUT/index.html holds all of its videos and can be mailed; they also lie in OUT/media, with
    the settings that made them, so that a second run makes only what has changed.

    Sections: main, long, time-interpolation, time-extrapolation, diverse-motion,
    space-interpolation, space-extrapolation, classes, prediction, beyond.

    Examples:
        digan showcase --network demo --out showcase
        digan showcase --network RUN --out showcase --sections long,time-interpolation
        digan showcase --network F --out showcase --seeds 7,12,40-53 --size 256
        digan showcase --network F --out showcase --video clip.mp4     # predicted from
    """

    network: str
    """Network file, a run's folder (its newest snapshot), or demo."""
    out: Path = Path("showcase")
    """Folder of the page."""
    sections: str | None = None
    """Sections to make, separated by commas; all by default. Others stay as they are."""
    seeds: str = "0-15"
    """Seeds of the samples: 0-15, or 0,1,4-6; at least 4."""
    size: int | None = None
    """Pixels of the videos, a multiple of the network's resolution; 128 or more by default."""
    frames: int | None = None
    """Frames of a clip at training speed; those of a training clip by default."""
    fps: float = 8.0
    """Playback frames per second at training speed."""
    long: str = "128,256"
    """Frames of the long videos."""
    trunc: float = 1.0
    """Truncation psi: 1 none, 0 the average video."""
    video: Path | None = None
    """A clip whose frames are given in section prediction; by default one of the network's."""
    precision: GeneratorPrecision = "fp32"
    """Arithmetic of the coordinate layers."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: ShowcaseArgs = parse(ShowcaseArgs, arguments, "showcase")
    from digan.ranges import parse_seeds
    from digan.showcase import Settings, showcase

    settings = Settings(
        seeds=tuple(parse_seeds(asked.seeds)),
        size=asked.size,
        frames=asked.frames,
        fps=asked.fps,
        trunc=asked.trunc,
        long=tuple(parse_seeds(asked.long, "long")),
        video=asked.video,
    )
    sections = None
    if asked.sections is not None:
        sections = [part.strip() for part in asked.sections.split(",")]
    print(
        showcase(
            asked.network,
            asked.out,
            settings,
            sections=sections,
            precision=asked.precision,
            kernels=asked.kernels,
            device=asked.device,
        )
    )
    return 0
