"""`digan invert`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from digan.cli import parse
from digan.config import Kernels


@dataclass(frozen=True)
class InvertArgs:
    """Find the codes of a given clip, then show its past, its future and what lies between.

    Content and motion codes are sought by gradient descent from the average code, from several
    starts. Frames that --observe leaves out are held out: what the model predicts there is
    measured against them, beside what one would guess without a network. Ctrl-C keeps the best
    so far, and shows it.

    Frames count from 0 within the clip. Frame i lies at time i / (N - 1), N being the frames of
    a training clip; the network has learned times from 0 to 1.

    Examples:
        digan invert --network demo clip.mp4
        digan invert --network RUN clip.mp4 --observe 0-7        # predict the rest
        digan invert --network RUN clip.mp4 --observe 0-15:2     # every second, the others between
        digan invert --network RUN frames/ --start 100 --stride 2 --space w+
        digan invert --network RUN clip.mp4 --noise 25           # how well it denoises
    """

    video: Annotated[Path, tyro.conf.Positional]
    """A video file, a GIF, or a folder of pictures; cut to its centre square and resized."""
    network: str
    """Network file, a run's folder (its newest snapshot), or demo."""
    outdir: Path = Path("out/inversion")
    """Where to write."""
    start: int = 0
    """First frame of the video that is used."""
    stride: int = 1
    """Every how many-th frame is used."""
    frames: int | None = None
    """Frames of the clip; as many as of a training clip by default, or as there are."""
    observe: str | None = None
    """Frames that are seen: 0-7, 0-14:2 (every second) or 0,3,9-12; all by default."""
    t_start: float = 0.0
    """Time of the first frame, in clip units."""
    time_step: float | None = None
    """Time between two frames; that of training by default."""
    noise: float = 0.0
    """Noise added to what is seen, a standard deviation in levels of 255."""
    space: Literal["w", "w+"] = "w"
    """w: one content code for all layers. w+: one per layer, nearer to the clip."""
    steps: int = 600
    """Steps of the optimisation, in all."""
    starts: int = 16
    """Codes that begin together; the best are kept from phase to phase."""
    lr: float = 0.1
    """Largest learning rate."""
    batch_frames: int = 6
    """Frames of a step."""
    prior_content: float = 1e-4
    """Pull of the content code towards the average."""
    prior_motion: float = 1e-4
    """Pull of the motion code towards 0."""
    prior_layers: float = 1e-3
    """Pull of the layers' codes towards one another, in w+."""
    patience: int = 100
    """The last phase ends after so many steps without progress."""
    stop_psnr: float = 50.0
    """It ends when the observed frames are as good as this, in dB."""
    seed: int = 0
    """Of all that is drawn; the same seed finds the same codes."""
    past: float = 0.5
    """How far before the first observed frame to show, in clip lengths."""
    future: float = 1.0
    """How far beyond the last, in clip lengths."""
    rate: int = 4
    """Factor of the higher frame rate."""
    results: str = "reconstruction,future,past,between,rate,denoised"
    """What to show, separated by commas."""
    fps: float | None = None
    """Playback frames per second; the clip's own by default."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none.
    --fused-kernels and --no-fused-kernels stand for fused and reference."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""


def run(arguments: list[str]) -> int:
    """Runs the verb. Exit status 130 where the optimisation was interrupted."""
    asked: InvertArgs = parse(InvertArgs, arguments, "invert")
    from digan.generate import open_network
    from digan.inversion import FitSettings, ResultSettings, invert_to_files, noisy, read_clip
    from digan.inversion.results import parse_results

    names = parse_results(asked.results)
    shown = ResultSettings(asked.past, asked.future, asked.rate, asked.fps)
    settings = FitSettings(
        **{name: getattr(asked, name) for name in FitSettings.__dataclass_fields__}
    )
    generator, info = open_network(asked.network, kernels=asked.kernels, device=asked.device)
    clip = read_clip(
        asked.video,
        info.generator.resolution,
        info.clip_frames,
        start=asked.start,
        stride=asked.stride,
        frames=asked.frames,
        observe=asked.observe,
        t_start=asked.t_start,
        time_step=asked.time_step,
    )
    clip = noisy(clip, asked.noise, asked.seed)
    written = invert_to_files(
        generator, clip, settings, asked.outdir, shown=shown, names=names, progress=True
    )
    for line in written.lines:
        print(line)
    for note in written.notes:
        print(note, file=sys.stderr)
    for path in written.paths:
        print(path)
    return 130 if written.inversion.ended == "interrupted" else 0
