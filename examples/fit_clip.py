"""Fits one video clip with a coordinate network (x, y, t) -> RGB, and shows how well.

The network is `digan.ops.CoordMLP`: fixed random Fourier features, then sine layers. It is
trained on whole frames, a few a step, given to it by their axes alone, or on points scattered over
the clip. Afterwards it is a continuous video: it is rendered between the frames and at twice the
resolution too.

    python examples/fit_clip.py --video clip.mp4
    python examples/fit_clip.py --video clip.mp4 --frames 32 --size 128 --steps 4000
    python examples/fit_clip.py --video clip.mp4 --frequencies 0    # a plain SIREN
    python examples/fit_clip.py --video clip.mp4 --points 16384    # scattered points
    python examples/fit_clip.py --video clip.mp4 --impl fused    # native kernels, or an error
    python examples/fit_clip.py --video clip.mp4 --baseline    # beside nn.Sequential

Writes to --outdir: psnr.csv and psnr.png (the curve); original-fit.mp4 and original-fit.png (the
clip and the fit); continuous.mp4 and continuous.png (the clip, and the network at twice its
resolution with three frames between each two).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fitting import Figures, Fit, at_least, fit_in_turns, main, new_parser, write_curves
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from digan.bench.plain_mlp import plain_layers
from digan.data.images import square, write_frame_sheet
from digan.data.video import VideoWriter, decode_frames
from digan.errors import DiganError
from digan.execution import choose_device
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid, frame_times
from digan.ops import CoordMLP, unavailable
from digan.plotting import pyplot

IMPLS = ("auto", "fused", "reference")
Render = Callable[[Tensor], Tensor]  # indices of frames [K] to pictures [K, H, W, 3]


def read_clip(path: Path, frames: int, size: int, every: int) -> tuple[Tensor, float]:
    """The first frames, centre-cropped and resized: [T, H, W, 3] in [-1, 1], and their fps."""
    decoding = decode_frames(path)
    kept = []
    for frame in decoding:
        if frame.index % every == 0:
            kept.append(square(frame.image, size))
        if len(kept) == frames:
            break
    decoding.close()
    if len(kept) < frames:
        raise DiganError(
            f"--frames must be at most {len(kept)} for {path} with --every {every}, got {frames}"
        )
    clip = torch.from_numpy(np.stack(kept)).float() / 127.5 - 1
    return clip, (decoding.info.fps or 10.0) / every


def what_runs(impl: str, device: torch.device) -> str:
    """What the network's layers run on, in words."""
    why = unavailable("coord_linear") or unavailable("modulated_linear")
    if not why and device.type != "cuda":
        why = f"the network is on the {device}; pass --device cuda"
    if impl == "fused" and why:
        raise DiganError(f"--impl fused cannot be kept: {why}")
    if impl == "reference":
        why = "asked for"
    return f"PyTorch formulas: {why}" if why else "native kernels"


def new_network(asked: argparse.Namespace) -> CoordMLP:
    """The network (x, y, t) -> RGB, untrained."""
    return CoordMLP(
        3, 3, width=asked.width, layers=asked.layers, frequencies=asked.frequencies,
        # Pictures have many cycles across, a short clip few along.
        frequency_scale=(asked.frequency_scale, asked.frequency_scale, asked.time_scale),
        impl=asked.impl, generator=torch.Generator().manual_seed(asked.seed),
    )  # fmt: skip


def to_uint8(frames: Tensor) -> np.ndarray:
    return ((frames + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def psnr(found: Tensor, truth: Tensor) -> float:
    """In decibels, of colours in [-1, 1]."""
    return 10 * math.log10(4 / max((found.clamp(-1, 1) - truth).square().mean().item(), 1e-12))


def fit(
    renders: dict[str, Render],
    networks: dict[str, nn.Module],
    clip: Tensor,
    coords: Tensor,
    asked: argparse.Namespace,
) -> dict[str, Fit]:
    """Trains each network, on the same frames or points; measures the PSNR of the whole clip."""
    generator = torch.Generator().manual_seed(asked.seed)
    colours, places = clip.flatten(0, 2), coords.flatten(0, 2)

    def draw() -> Tensor:
        if asked.points:
            drawn = torch.randint(len(places), (asked.points,), generator=generator)
        else:
            drawn = torch.randperm(len(clip), generator=generator)[: asked.batch_frames]
        return drawn.to(clip.device)

    def loss_of(name: str, chosen: Tensor) -> Tensor:
        if asked.points:
            return (networks[name](places[chosen]) - colours[chosen]).square().mean()
        return (renders[name](chosen) - clip[chosen]).square().mean()

    def measure(name: str) -> Figures:
        with torch.no_grad():
            frames = torch.arange(len(clip), device=clip.device).split(4)
            fitted = torch.cat([renders[name](i) for i in frames])
        return {"psnr_db": psnr(fitted, clip)}

    def line(step: int, found: dict[str, Figures]) -> str:
        values = "  ".join(f"{name} {row['psnr_db']:5.2f} dB" for name, row in found.items())
        return f"step {step:5d}  {values}"

    def decay(step: int) -> float:  # to a hundredth of the first learning rate
        return 0.505 + 0.495 * math.cos(math.pi * step / asked.steps)

    schedules = {
        name: LambdaLR(torch.optim.Adam(network.parameters(), lr=asked.lr), decay)
        for name, network in networks.items()
    }
    fits = fit_in_turns(schedules, asked.steps, draw, loss_of, measure, line)
    for name, fit in fits.items():
        print(f"{name}: {fit.curve[-1]['psnr_db']:.2f} dB after {fit}")
    return fits


def plot_curves(path: Path, fits: dict[str, Fit]) -> None:
    """A picture of the curves, where matplotlib is installed."""
    try:
        plt = pyplot()
    except DiganError:
        print(f"no {path.name}: matplotlib is not installed")
        return
    figure, axes = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for (name, fit), style in zip(fits.items(), ["-", "--"], strict=False):
        points = zip(*((row["step"], row["psnr_db"]) for row in fit.curve), strict=True)
        axes.plot(*points, marker="o", label=name, linestyle=style)
    axes.set(xlabel="step", ylabel="PSNR (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def enlarged(frames: np.ndarray, height: int = 256) -> np.ndarray:
    """Pixels repeated, so that a person sees what is in them."""
    times = max(1, height // frames.shape[-3])
    return frames.repeat(times, axis=-3).repeat(times, axis=-2)


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.write(frame)


def run(asked: argparse.Namespace) -> None:
    writable_folder(asked.outdir)
    device = choose_device(asked.device)
    runs_on = what_runs(asked.impl, device)
    clip, fps = read_clip(asked.video, asked.frames, asked.size, asked.every)
    clip = clip.to(device)
    t = frame_times(asked.frames, asked.frames).float().to(device)
    y, x = SpaceTimeGrid(t).axes(asked.size, t)

    mlp = new_network(asked).to(device)
    count = sum(p.numel() for p in mlp.parameters())
    print(f"{asked.video}: {asked.frames} frames of {asked.size}x{asked.size}; {count} parameters")
    print(f"layers on {device}: {runs_on}")
    networks: dict[str, nn.Module] = {"CoordMLP": mlp}
    renders: dict[str, Render] = {"CoordMLP": lambda chosen: mlp.on_grid(y, x, t[chosen])[0]}
    times, rows, columns = torch.meshgrid(t, y, x, indexing="ij")
    coords = torch.stack([columns, rows, times], dim=-1)  # once: [T, H, W, (x, y, t)]
    if asked.baseline:
        networks["nn.Sequential"] = baseline = plain_layers(mlp).to(device)
        renders["nn.Sequential"] = lambda chosen: baseline(coords[chosen])
    fits = fit(renders, networks, clip, coords, asked)
    write_curves(asked.outdir / "psnr.csv", fits, ".3f")
    plot_curves(asked.outdir / "psnr.png", fits)

    # Twice as dense, and three times between each two frames; streamed in parts.
    fine = frame_times(asked.frames, asked.frames, time_density=4).float().to(device)
    y2, x2 = SpaceTimeGrid(fine, density=2).axes(asked.size, fine)
    with torch.no_grad():
        network = mlp.write()
        fitted = torch.cat([network.on_grid(y, x, part)[0] for part in t.split(4)])
        between = torch.cat([network.on_grid(y2, x2, part)[0] for part in fine.split(4)])
    original, fitted, between = to_uint8(clip), to_uint8(fitted), to_uint8(between)
    both = np.concatenate([enlarged(original), enlarged(fitted)], axis=2)
    write_video(asked.outdir / "original-fit.mp4", both, fps)
    write_frame_sheet(
        asked.outdir / "original-fit.png",
        np.stack([original, fitted]),
        upscale=max(1, 192 // asked.size),
    )
    held = original.repeat(4, axis=0)[: len(between)].repeat(2, axis=1).repeat(2, axis=2)
    both = np.concatenate([enlarged(held), enlarged(between)], axis=2)
    write_video(asked.outdir / "continuous.mp4", both, 4 * fps)
    middle = 4 * (asked.frames // 2 - 1)
    write_frame_sheet(
        asked.outdir / "continuous.png",
        np.stack([held[middle : middle + 5], between[middle : middle + 5]]),
        upscale=max(1, 128 // asked.size),
    )
    print(f"open {asked.outdir / 'original-fit.png'} and {asked.outdir / 'continuous.mp4'}")


def flags(text: str | None = __doc__, outdir: str = "runs/fit-clip") -> argparse.ArgumentParser:
    parser = new_parser(text or "", steps=1000, width=128, lr=1e-3, outdir=outdir)
    add = parser.add_argument
    add("--video", type=Path, required=True, help="a video file")
    add("--frames", type=at_least(2), default=16, help="frames of the clip (16)")
    add("--every", type=at_least(1), default=1, help="use every n-th frame of the file (1)")
    add("--size", type=at_least(8), default=64, help="side of the square frames in pixels (64)")
    add("--batch-frames", type=at_least(1), default=2, help="whole frames a step (2)")
    add("--points", type=at_least(0), default=0, help="scattered points a step in their place (0)")
    add("--impl", choices=IMPLS, default="auto", help="kernels where they run (auto), or demanded")
    add("--device", help="cpu or cuda; the GPU where there is one")
    add("--frequencies", type=at_least(0), default=128, help="Fourier frequencies; 0: SIREN (128)")
    add("--frequency-scale", type=float, default=15.0, help="their spread, radians per unit (15)")
    add("--time-scale", type=float, default=3.0, help="their spread in time (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(flags(), run))
