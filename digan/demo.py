"""`digan demo`: from made videos to generated videos, with the proof that something was learnt.

videos    drifting clouds at four hours of the day, written as real .mp4 files
store     prepared from them as from any user's videos
run       the tiny preset, with fd-random3d, its floor and its controls at both ends
results   a grid of samples, one video that goes on beyond the clip, frame sheets, a page
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digan.config import PRESETS, TrainConfig, to_dict
from digan.data.datasets import ClipPairs
from digan.data.images import write_frame_sheet
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.data.synthetic import write_clouds
from digan.demo_page import write_page
from digan.errors import DiganError
from digan.files import writable_folder, write_json
from digan.formats import from_yaml
from digan.generate import Request, choose_videos, render_files
from digan.grid import frame_times
from digan.nn.snapshot import load_network, network_path
from digan.synthesis import clips
from digan.training.loop import train
from digan.training.opening import open_data
from digan.training.runs import read_status
from digan.training.samples import real_clips

RESOLUTION = 32
CLIP_FRAMES = 16
DETAIL = 0.3
DENSITY = 4  # of the grid that samples are shown on
VIDEOS = 96
FRAMES = 48


@dataclass(frozen=True)
class DemoSettings:
    """How long the demo takes.

    Attributes:
        kimg: thousands of samples of training. videos: made videos.
        seed: of the videos and of the run.
    """

    kimg: float = 6.0
    videos: int = VIDEOS
    seed: int = 0


def demo_config(settings: DemoSettings) -> TrainConfig:
    """The run's settings: the tiny preset, measured at both ends."""
    return dataclasses.replace(
        PRESETS["tiny"],
        clip_frames=CLIP_FRAMES,
        cond=True,
        # At this size a second thread saves a quarter on an idle machine, and beside another
        # busy process it costs ten times as much.
        threads=1,
        kimg=settings.kimg,
        tick=max(settings.kimg / 16, 0.001),
        snap=settings.kimg,
        seed=settings.seed,
        metrics=("fd-random3d",),
    )


def demo(outdir: Path, settings: DemoSettings | None = None, *, progress: bool = True) -> Path:
    """Runs the demo; returns the page it wrote.

    Raises:
        DiganError: the folder cannot be written, or holds something else than a demo.
    """
    settings = settings or DemoSettings()
    started = time.monotonic()
    writable_folder(outdir, need_bytes=200 << 20)
    marker = outdir / "demo.json"
    strangers = [p.name for p in outdir.iterdir() if p.name not in _OWN]
    if strangers and not marker.exists():
        raise DiganError(f"{outdir} holds other files ({strangers[0]}): choose another --outdir")
    write_json(marker, dataclasses.asdict(settings))

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    say(f"1/4 making {settings.videos} videos of drifting clouds in {outdir / 'videos'}")
    write_clouds(
        outdir / "videos", videos=settings.videos, frames=FRAMES, seed=settings.seed,
        detail=DETAIL, progress=progress,
    )  # fmt: skip
    say("2/4 preparing a store from them")
    report = prepare(outdir / "videos", outdir / "store", resolution=RESOLUTION, progress=progress)
    say(report.format())
    say("3/4 training (a few minutes)")
    config = demo_config(settings)
    run = _finished_run(outdir, config)
    if run is None:
        outcome = train(config, outdir / "store", outdir / "runs", resume="auto", progress=progress)
        if not outcome.finished:
            raise KeyboardInterrupt
        run = outcome.run
    say("4/4 generating")
    page = show(outdir, run, progress=progress)
    say(f"done in {time.monotonic() - started:.0f} s: open {page}")
    return page


def _finished_run(outdir: Path, config: TrainConfig) -> Path | None:
    """The newest finished run of these settings, which then need not be repeated."""
    wanted = to_dict(open_data(config, outdir / "store")[0])
    for run in sorted((outdir / "runs").glob("*"), reverse=True):
        try:
            status = read_status(run)
            made = from_yaml((run / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, DiganError):
            continue  # a damaged run is made anew
        if status is not None and status.get("finished") and made == wanted:
            return run
    return None


_OWN = {"demo.json", "videos", "store", "runs", "results", "index.html"}


def show(outdir: Path, run: Path, *, progress: bool = True) -> Path:
    """Generates what the demo shows of a finished run, and the page; returns the page."""
    results = outdir / "results"
    generator, info = load_network(network_path(run))
    fps = info.fps or 8.0
    columns, classes = 6, list(range(len(info.classes)))
    clip = frame_times(CLIP_FRAMES, CLIP_FRAMES)
    longer = frame_times(4 * CLIP_FRAMES, CLIP_FRAMES)

    def grid(seeds: list[int], chosen: list[int] | None, request: Request) -> list[Path]:
        videos = choose_videos(info, seeds, None, chosen)
        shape = (min(len(videos), columns), -(-len(videos) // columns))
        return render_files(generator, videos, request, shape, progress=progress)

    (samples, _) = grid(
        list(range(columns)),
        classes,  # one row a class
        Request(t=clip, fps=fps, density=DENSITY, formats=("mp4", "gif"), outdir=results),
    )
    (beyond,) = grid(
        list(range(columns)), None, Request(t=longer, fps=fps, density=DENSITY, outdir=results)
    )
    store = Store(outdir / "store")
    real = np.concatenate(list(real_clips(ClipPairs(store, CLIP_FRAMES, seed=0), 8, "reals")))
    write_frame_sheet(results / "real.png", real, columns=8, upscale=3)
    labels = [seed % len(classes) for seed in range(8)]
    made = np.concatenate(list(clips(generator, range(8), clip, labels)))
    write_frame_sheet(results / "generated.png", made, columns=8, upscale=3)
    return write_page(outdir, run, samples, beyond)
