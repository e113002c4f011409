"""Generates videos in Python: from seeds to codes, to any time, density and extent, to files.

Three seeds become codes; the codes become a video at eight times the frame rate and four times
the resolution, written as it is made; and a sheet shows what else the same codes can give: single
frames at any time, a wider view, codes between two seeds.

    python examples/generate_in_python.py
    python examples/generate_in_python.py --network runs/00000-... --seeds 7-9 --density 2
    python examples/generate_in_python.py --time-density 1 --zoom 1.5

Writes to --outdir: video.mp4 (the seeds side by side) and sheet.png, rows from above: the seeds as
trained; the times -1 to 2; the times 0 to 1 seen wider; from the first seed to the second.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from fitting import at_least, main

from digan import synthesis
from digan.data.images import write_frame_sheet
from digan.data.video import VideoWriter
from digan.errors import DiganError
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, load_network
from digan.ranges import parse_seeds

COLUMNS = 8  # of the sheet


def write_video(
    path: Path, generator: Generator, info: NetworkInfo, codes: synthesis.Codes,
    asked: argparse.Namespace,
) -> int:  # fmt: skip
    """A clip of every seed, side by side, frame by frame: nothing is held. Returns the frames."""
    shot = synthesis.interpolate_time(codes, info.clip_frames, info.clip_frames, asked.time_density)
    shot = synthesis.wider(synthesis.denser(shot, asked.density), asked.zoom)
    with VideoWriter(path, (info.fps or 8.0) * asked.time_density) as writer:
        for chunk in synthesis.stream(generator, shot):  # uint8 [B, n, H, W, 3]
            for frame in synthesis.beside(*chunk.numpy()):
                writer.write(frame)
        return writer.frames


def rows_of_sheet(
    generator: Generator, info: NetworkInfo, codes: synthesis.Codes, density: int
) -> np.ndarray:
    """Four rows of frames, uint8 [4, COLUMNS, H, W, 3]."""
    first, second = codes.take(slice(0, 1)), codes.take(slice(1, 2))
    inside = torch.linspace(0, 1, COLUMNS, dtype=torch.float64)
    beyond = torch.linspace(-1, 2, COLUMNS, dtype=torch.float64)
    still = torch.zeros(COLUMNS, dtype=torch.float64)
    shots = [
        synthesis.Shot(first, SpaceTimeGrid(inside)),
        synthesis.Shot(first, SpaceTimeGrid(beyond)),
        synthesis.wider(synthesis.Shot(first, SpaceTimeGrid(inside)), 1.5),
        synthesis.walk(synthesis.cat_codes([first, second]), still),
    ]
    side = density * info.generator.resolution
    rows = []
    for number, shot in enumerate(shots):
        denser = synthesis.denser(shot, density)
        frames = synthesis.to_uint8(synthesis.render(generator, denser))[0].cpu().numpy()
        if number == 1:
            frames = synthesis.red_box(frames, synthesis.extrapolated(shot.grid).numpy())
        if number == 2:
            frames = synthesis.resample(synthesis.square_box(frames, side), side, "bilinear")
        rows.append(frames)
    return np.stack(rows)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--network", default="demo", help="file, a run's folder, or demo (%(default)s)")
    add("--seeds", default="0-2", help="two or more (%(default)s)")
    add("--time-density", type=at_least(1), default=8, help="times the frame rate (%(default)s)")
    add("--density", type=at_least(1), default=4, help="times the pixels a side (%(default)s)")
    add("--zoom", type=float, default=1.0, help="extent of the video (%(default)s)")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path("runs/generate-in-python"), help="(%(default)s)")
    return flags


def run(asked: argparse.Namespace) -> None:
    """Makes the video and the sheet."""
    seeds = parse_seeds(asked.seeds)
    if len(seeds) < 2:
        raise DiganError(f"--seeds must be two or more, got {asked.seeds}")
    generator, info = load_network(asked.network)
    writable_folder(asked.outdir)
    classes = info.generator.num_classes
    labels = [seed % classes for seed in seeds] if classes else None
    codes = synthesis.seed_codes(generator, seeds, labels=labels)
    video, sheet = asked.outdir / "video.mp4", asked.outdir / "sheet.png"
    frames = write_video(video, generator, info, codes, asked)
    write_frame_sheet(sheet, rows_of_sheet(generator, info, codes, asked.density), COLUMNS)
    print(f"{video}: {frames} frames, {len(seeds)} videos side by side")
    print(f"{sheet}: a clip; before and after it; wider; from seed to seed")


if __name__ == "__main__":
    sys.exit(main(parser(), run))
