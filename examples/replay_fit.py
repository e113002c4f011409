"""Fits a clip with a coordinate network (x, y, t) -> RGB and replays it at 4 times its frame rate.

A network knows no frames, so nothing has to be invented between two of them but what it has
learned: it is asked at the times between. Every 4th frame of the replay is the fit at a time of the
clip. If every n-th frame of the file was fitted, n divisible by 4, the file has the frames between
too, and the replay is measured against them, beside holding each frame and blending the two around.

    python examples/replay_fit.py --video clip.mp4
    python examples/replay_fit.py --video clip.mp4 --frames 24 --size 96 --steps 4000
    python examples/replay_fit.py --video clip.mp4 --every 4    # against frames it never saw
    python examples/replay_fit.py --video clip.mp4 --time-scale 0.5    # smoother between
    python examples/replay_fit.py --video clip.mp4 --baseline    # nn.Sequential fitted beside it

Writes to --outdir: psnr.csv (the curve); replay.mp4 (left: the clip, right: the replay);
replay.png (two frames of the clip and what is between them, over the same times of the replay);
slices.png (the row of pixels that moves most, time running down: left the clip, right the replay).
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from fit_clip import (
    Render,
    enlarged,
    fit,
    flags,
    new_network,
    psnr,
    read_clip,
    to_uint8,
    what_runs,
    write_video,
)
from fitting import main, write_curves
from torch import Tensor, nn

from digan.bench.plain_mlp import plain_layers
from digan.data.images import write_frame_sheet
from digan.execution import choose_device
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid, frame_times
from digan.ops import CoordMLP

FACTOR = 4
SHEET_FRAMES = FACTOR + 1  # two of the clip's, and those between


@torch.no_grad()
def replay(network: CoordMLP, frames: int, size: int, factor: int, like: Tensor) -> Tensor:
    """The clip of so many frames with the step of time divided by `factor`.

    Returns:
        [factor*(frames-1)+1, size, size, 3], about [-1, 1], with the dtype and device of `like`.
    """
    t = frame_times(frames, frames, time_density=factor).to(like)
    y, x = SpaceTimeGrid(t).axes(size, like)
    written = network.write()
    # One frame at a time: the memory does not grow with the clip, and a frame is the same
    # number whichever others are asked for.
    return torch.cat([written.on_grid(y, x, moment)[0] for moment in t.split(1)])


def compare(replayed: Tensor, clip: Tensor, truth: Tensor) -> None:
    """Prints how near frames between are to those of the file, which were not fitted."""
    between = torch.arange(len(truth), device=truth.device) % FACTOR != 0
    held = clip.repeat_interleave(FACTOR, dim=0)[: len(truth)]
    after = torch.cat([clip[1:], clip[-1:]]).repeat_interleave(FACTOR, dim=0)[: len(truth)]
    share = (torch.arange(len(truth), device=truth.device) % FACTOR / FACTOR)[:, None, None, None]
    for name, frames in (
        ("the network", replayed),
        ("each frame held", held),
        ("the two around blended", held.lerp(after, share)),
    ):
        print(f"frames between, never seen: {name} {psnr(frames[between], truth[between]):.2f} dB")


def run(asked: argparse.Namespace) -> None:
    writable_folder(asked.outdir)
    device = choose_device(asked.device)
    print(f"layers on {device}: {what_runs(asked.impl, device)}")
    clip, fps = read_clip(asked.video, asked.frames, asked.size, asked.every)
    clip = clip.to(device)
    t = frame_times(asked.frames, asked.frames).to(clip)
    y, x = SpaceTimeGrid(t).axes(asked.size, clip)
    times, rows, columns = torch.meshgrid(t, y, x, indexing="ij")
    coords = torch.stack([columns, rows, times], dim=-1)

    network = new_network(asked).to(device)
    networks: dict[str, nn.Module] = {"CoordMLP": network}
    renders: dict[str, Render] = {"CoordMLP": lambda chosen: network.on_grid(y, x, t[chosen])[0]}
    if asked.baseline:
        networks["nn.Sequential"] = baseline = plain_layers(network).to(device)
        renders["nn.Sequential"] = lambda chosen: baseline(coords[chosen])
    fits = fit(renders, networks, clip, coords, asked)
    write_curves(asked.outdir / "psnr.csv", fits, ".3f")

    replayed = replay(network, asked.frames, asked.size, FACTOR, clip)
    fitted = replay(network, asked.frames, asked.size, 1, clip)
    apart = (replayed[::FACTOR] - fitted).abs().max().item()
    print(
        f"{len(replayed)} frames at {FACTOR * fps:.4g} fps; every {FACTOR}th is the fit at a time"
        f" of the clip, largest difference {apart:.1g}"
    )
    if asked.every % FACTOR == 0:
        truth, _ = read_clip(asked.video, len(replayed), asked.size, asked.every // FACTOR)
        compare(replayed, clip, truth.to(device))

    held = to_uint8(clip).repeat(FACTOR, axis=0)[: len(replayed)]
    shown = to_uint8(replayed)
    both = np.concatenate([enlarged(held), enlarged(shown)], axis=2)
    write_video(asked.outdir / "replay.mp4", both, FACTOR * fps)
    start = FACTOR * ((asked.frames - 2) // 2)
    some = slice(start, start + SHEET_FRAMES)
    write_frame_sheet(
        asked.outdir / "replay.png",
        np.stack([held[some], shown[some]]),
        columns=SHEET_FRAMES,
        upscale=max(1, 192 // asked.size),
    )
    # The row of pixels with the most motion, over time: steps on the left, curves on the right.
    row = int(clip.diff(dim=0).abs().mean(dim=(0, 2, 3)).argmax())
    write_frame_sheet(
        asked.outdir / "slices.png",
        np.stack([held[:, row], shown[:, row]]),
        upscale=max(1, 384 // asked.size),
        gap=6,
    )
    names = ("replay.mp4", "replay.png", "slices.png")
    print("open " + ", ".join(str(asked.outdir / name) for name in names))


if __name__ == "__main__":
    parser = flags(__doc__, "runs/replay-fit")
    parser.set_defaults(time_scale=1.0)
    sys.exit(main(parser, run))
