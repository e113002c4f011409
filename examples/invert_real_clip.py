"""Inverts a real clip: the codes of a trained network whose video is nearest to it.

The last quarter of the clip is held out, so that what the network expects to come can be compared
with what came. Without --video a clip of drifting clouds is made, of another seed than those that
the network inside the package was trained on: its kind, but never seen.

    python examples/invert_real_clip.py
    python examples/invert_real_clip.py --video clip.mp4 --stride 2
    python examples/invert_real_clip.py --video clip.mp4 --network RUN --space w+ --steps 2000

Writes to --outdir what `digan invert` writes: codes.safetensors, the curve, videos and sheets of
the reconstruction, the future and the past, a higher frame rate; and again.mp4, made from the
codes file alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fitting import main

from digan.bench.flags import at_least
from digan.data.synthetic import write_clouds
from digan.data.video import VideoWriter
from digan.demo import DETAIL, FRAMES
from digan.execution import choose_device
from digan.inversion import FitSettings, invert_to_files, load_codes, read_clip
from digan.nn.snapshot import load_network
from digan.synthesis import interpolate_time, stream

HELD_OUT_SEED = 1  # the packaged network was trained on seed 0


def made_clouds(folder: Path) -> Path:
    """A video of clouds that no network has seen."""
    (path,) = write_clouds(
        folder, videos=1, frames=FRAMES, seed=HELD_OUT_SEED, detail=DETAIL, progress=False
    )
    return path


def run(asked: argparse.Namespace) -> None:
    device = choose_device(asked.device)
    generator, info = load_network(asked.network, device=device)
    video = asked.video or made_clouds(asked.outdir / "clouds")
    clip = read_clip(
        video, info.generator.resolution, info.clip_frames, start=asked.start, stride=asked.stride
    )
    clip.observed[len(clip) - len(clip) // 4 :] = False
    settings = FitSettings(
        space=asked.space, steps=asked.steps, starts=asked.starts, seed=asked.seed
    )
    seen = len(clip.indices)
    print(f"{video}: {len(clip)} frames, {seen} of them seen, {len(clip) - seen} held out")
    written = invert_to_files(generator, clip, settings, asked.outdir, progress=True)
    print("\n".join([*written.lines, *written.notes]))

    # The codes alone are enough to make any frame again: here 8 times as many a second.
    saved = load_codes(asked.outdir / "codes.safetensors", generator)
    shot = interpolate_time(saved.codes, info.clip_frames, info.clip_frames, 8)
    with VideoWriter(asked.outdir / "again.mp4", 8 * (clip.fps or 8.0)) as writer:
        for frames in stream(generator, shot):
            for frame in frames[0].numpy():
                writer.write(frame)
    print(f"open {asked.outdir / 'future-sheet.png'} and {asked.outdir / 'future.mp4'}")


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--video", type=Path, help="a video file or a folder of pictures; clouds by default")
    add("--network", default="demo", help="network file, a run's folder, or demo (%(default)s)")
    add("--start", type=at_least(0), default=0, help="first frame of the video (%(default)s)")
    add("--stride", type=at_least(1), default=1, help="every how many-th frame (%(default)s)")
    add("--space", choices=("w", "w+"), default="w", help="one content code, or one a layer (w)")
    add("--steps", type=at_least(1), default=600, help="of the optimisation (%(default)s)")
    add("--starts", type=at_least(1), default=16, help="codes that begin together (%(default)s)")
    add("--seed", type=int, default=0, help="of everything drawn at random (%(default)s)")
    add("--device", help="cpu or cuda; the GPU where there is one")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path("runs/invert-real-clip"), help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(flags(), run))
