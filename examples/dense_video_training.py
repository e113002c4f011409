"""Trains a generator on every frame of a clip, in the memory of a few frames.

Adversarial training looks at two frames of a video; other losses want all of them. Here a trained
generator learns to show a given clip for one seed: each step sees all T frames, whose loss is
taken chunk by chunk (`digan.nn.loss_over_time`), so that memory does not grow with T. With --motion
the changes from frame to frame are compared too. That loss needs all frames at once, so it is taken
of `VideoINR.render(grid, recompute=True)`, which keeps the frames and no activations.

    python examples/dense_video_training.py
    python examples/dense_video_training.py --video clip.mp4 --frames 128 --steps 200
    python examples/dense_video_training.py --network RUN --motion 1 --chunk 4

Writes to --outdir: network.safetensors; and sheet.png, rows from above: frames of the clip, of the
seed before, and after. Without --video a clip of drifting clouds is made.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from fitting import at_least, main
from torch import Tensor

from digan.data.images import write_frame_sheet
from digan.data.progress import progress_bar
from digan.data.synthetic import write_clouds
from digan.demo import DETAIL
from digan.execution import choose_device
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid
from digan.inversion import read_clip
from digan.nn import Generator, VideoINR, loss_over_time
from digan.nn.snapshot import load_network, save_network
from digan.synthesis import Codes, Shot, render, seed_codes, to_uint8

COLUMNS = 8  # of the sheet


def dense_loss(video: VideoINR, t: Tensor, wanted: Tensor, asked: argparse.Namespace) -> Tensor:
    """Mean square error over all frames [T, H, W, 3], and of their changes where that is asked."""

    def of_frames(seen: Tensor, place: slice) -> Tensor:
        return (seen[0] - wanted[place]).square().sum() / wanted.numel()

    if not asked.motion:
        return loss_over_time(video, t, of_frames, frames=asked.chunk)
    frames = video.render(SpaceTimeGrid(t), recompute=True)
    changes = (frames[0].diff(dim=0) - wanted.diff(dim=0)).square().mean()
    return of_frames(frames, slice(None)) + asked.motion * changes


def learn(
    generator: Generator, codes: Codes, t: Tensor, wanted: Tensor, asked: argparse.Namespace
) -> None:
    """Moves all parameters but the mapping's: the seed keeps its codes."""
    for block in generator.synthesis_blocks():
        block.requires_grad_(True)
    moving = [p for p in generator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=asked.lr, betas=(0.9, 0.99))
    with progress_bar("training", asked.steps, "steps", shown=True) as bar:
        for _ in range(asked.steps):
            loss = dense_loss(codes.write(generator), t, wanted, asked)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.set_postfix_str(f"loss {loss.item():.5f}", refresh=False)
            bar.update()


def shown(generator: Generator, codes: Codes, t: Tensor) -> np.ndarray:
    """The video as it is now, uint8 [T, H, W, 3]."""
    return to_uint8(render(generator, Shot(codes, SpaceTimeGrid(t))))[0].cpu().numpy()


def psnr(frames: np.ndarray, clip: np.ndarray) -> float:
    """Of uint8 frames, in dB."""
    error = np.square(frames.astype(float) - clip).mean()
    return 10 * math.log10(255**2 / max(error, 1e-9))


def run(asked: argparse.Namespace) -> None:
    """Trains, measures, writes."""
    device = choose_device(asked.device)
    generator, info = load_network(asked.network, device=device)
    writable_folder(asked.outdir)
    video = asked.video
    if video is None:
        (video,) = write_clouds(
            asked.outdir / "clouds", videos=1, frames=asked.frames, seed=1, detail=DETAIL,
            progress=False,
        )  # fmt: skip
    clip = read_clip(video, info.generator.resolution, info.clip_frames, frames=asked.frames)
    wanted = torch.from_numpy(clip.frames).to(device, torch.float32) / 127.5 - 1
    labels = [0] if info.generator.num_classes else None
    codes = seed_codes(generator, [asked.seed], labels=labels)
    t = clip.t.to(device)
    before = shown(generator, codes, t)
    learn(generator, codes, t, wanted, asked)
    after = shown(generator, codes, t)
    save_network(asked.outdir / "network.safetensors", generator, info)
    columns = np.linspace(0, len(clip) - 1, min(COLUMNS, len(clip))).round().astype(int)
    rows = np.stack([frames[columns] for frames in (clip.frames, before, after)])
    write_frame_sheet(asked.outdir / "sheet.png", rows, len(columns))
    print(
        f"{len(clip)} frames a step: {psnr(before, clip.frames):.1f} dB before, "
        f"{psnr(after, clip.frames):.1f} dB after {asked.steps} steps"
    )
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--video", type=Path, help="the clip; made clouds by default")
    add("--network", default="demo", help="file, a run's folder, or demo (%(default)s)")
    add("--frames", type=at_least(2), default=48, help="of the clip (%(default)s)")
    add("--chunk", type=at_least(1), help="frames at once; by default 8 of 128x128")
    add("--motion", type=float, default=0.0, help="weight of the changes (%(default)s)")
    add("--steps", type=at_least(1), default=60, help="(%(default)s)")
    add("--lr", type=float, default=2e-3, help="of Adam (%(default)s)")
    add("--seed", type=int, default=0, help="whose video changes (%(default)s)")
    add("--device", help="cpu or cuda; the GPU where there is one by default")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path("runs/dense-video-training"), help="(%(default)s)")
    return flags


if __name__ == "__main__":
    sys.exit(main(parser(), run))
