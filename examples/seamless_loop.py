"""A video that loops without a seam: its last frame leads into its first.

The codes walk through the seeds and back to the first, and time swings from 0 to --t-end and
back, so every frame has two neighbours and none is the end. It is the Python of
`digan generate --walk both --loop`, with the proof: how much changes from frame to frame, and at
the seam.

    python examples/seamless_loop.py
    python examples/seamless_loop.py --network runs/00000-... --seeds 3-6 --walk motion
    python examples/seamless_loop.py --seconds 12 --fps 30 --density 8 --t-end 2

Writes to --outdir: loop.gif (once; viewers repeat it), loop.mp4 (--times in a row, to see the
seam) and loop.png (eight frames of it).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from fitting import at_least, main

from digan import synthesis
from digan.data.images import write_frame_sheet
from digan.data.progress import progress_bar
from digan.data.video import VideoWriter
from digan.errors import DiganError
from digan.files import writable_folder
from digan.nn import Generator
from digan.nn.snapshot import load_network
from digan.ranges import parse_seeds


def loop(generator: Generator, asked: argparse.Namespace) -> synthesis.Shot:
    """The closed walk. Frame T would be frame 0 again, so T frames are one turn."""
    seeds, classes = parse_seeds(asked.seeds), generator.config.num_classes
    if len(seeds) < 2:
        raise DiganError(f"--seeds must be two or more, got {asked.seeds}")
    frames = round(asked.seconds * asked.fps)
    if frames < 2:
        raise DiganError(f"a loop must have at least 2 frames, got {frames}")
    labels = [seed % classes for seed in seeds] if classes else None
    stops = synthesis.seed_codes(generator, seeds, labels=labels)
    t = synthesis.curve_times(synthesis.swing, frames, 0.0, asked.t_end, closed=True)
    walk = synthesis.walk(
        stops, t, content=asked.walk != "motion", motion=asked.walk != "content", closed=True
    )
    return synthesis.denser(walk, asked.density)


def frames_of(generator: Generator, shot: synthesis.Shot) -> Iterator[np.ndarray]:
    """Frames, uint8 [H, W, 3], one after the other."""
    for chunk in synthesis.stream(generator, shot):
        yield from chunk[0].numpy()


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean difference of two frames, of 255."""
    return float(np.abs(before.astype(np.int16) - after).mean())


def write(
    folder: Path, generator: Generator, shot: synthesis.Shot, asked: argparse.Namespace
) -> str:
    """Writes the files; returns what they show."""
    shown = set(np.linspace(0, shot.frames, 8, endpoint=False).astype(int).tolist())
    kept, changes = [], []
    first = last = None
    with (
        VideoWriter(folder / "loop.mp4", asked.fps) as movie,
        VideoWriter(folder / "loop.gif", asked.fps) as gif,
        progress_bar("loop", shot.frames * asked.times, "frames", shown=True) as bar,
    ):
        for turn in range(asked.times):  # made again, not kept: a loop may be long
            for number, frame in enumerate(frames_of(generator, shot)):
                movie.write(frame)
                bar.update()
                if turn:
                    continue
                gif.write(frame)
                if last is not None:
                    changes.append(change(last, frame))
                first = frame if first is None else first
                last = frame
                if number in shown:
                    kept.append(frame)
    write_frame_sheet(folder / "loop.png", np.stack(kept))
    return (
        f"{shot.frames} frames; from one to the next {np.mean(changes):.2f} of 255 change, "
        f"at most {np.max(changes):.2f}; at the seam {change(last, first):.2f}"
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--network", default="demo", help="file, a run's folder, or demo (%(default)s)")
    add("--seeds", default="0-2", help="the stops, two or more (%(default)s)")
    add("--walk", choices=("content", "motion", "both"), default="both", help="(%(default)s)")
    add("--t-end", type=float, default=1.0, help="time swings from 0 to here (%(default)s)")
    add("--seconds", type=float, default=6.0, help="of one turn (%(default)s)")
    add("--fps", type=at_least(1), default=16, help="frames a second (%(default)s)")
    add("--density", type=at_least(1), default=4, help="times the pixels a side (%(default)s)")
    add("--times", type=at_least(1), default=2, help="turns in the mp4 (%(default)s)")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path("runs/seamless-loop"), help="(%(default)s)")
    return flags


def run(asked: argparse.Namespace) -> None:
    """Makes the loop."""
    generator, _ = load_network(asked.network)
    shot = loop(generator, asked)
    print(f"{asked.outdir}: {write(writable_folder(asked.outdir), generator, shot, asked)}")


if __name__ == "__main__":
    sys.exit(main(parser(), run))
