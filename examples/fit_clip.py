"""Fits one video clip with a coordinate network (x, y, t) -> RGB, and shows how well.

The network is `digan.ops.CoordMLP`: fixed random Fourier features, then sine layers. It is
trained on whole frames, a few a step, given to it by their axes alone. Afterwards it is a
continuous video: it is rendered between the frames and at twice the resolution too.

    python examples/fit_clip.py --video clip.mp4
    python examples/fit_clip.py --video clip.mp4 --frames 32 --size 128 --steps 4000
    python examples/fit_clip.py --video clip.mp4 --frequencies 0    # a plain SIREN
    python examples/fit_clip.py --video clip.mp4 --baseline    # beside nn.Sequential

Writes to --outdir: psnr.csv and psnr.png (the curve); original-fit.mp4 and original-fit.png (the
clip and the fit); continuous.mp4 and continuous.png (the clip, and the network at twice its
resolution with three frames between each two).
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from digan.data.images import square, write_frame_sheet
from digan.data.progress import progress_bar
from digan.data.video import VideoWriter, decode_frames
from digan.errors import DiganError
from digan.files import writable_folder
from digan.grid import SpaceTimeGrid, frame_times
from digan.ops import CoordMLP

POINTS = 9  # of the printed curve
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


def to_uint8(frames: Tensor) -> np.ndarray:
    return ((frames + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def psnr(found: Tensor, truth: Tensor) -> float:
    """In decibels, of colours in [-1, 1]."""
    return 10 * math.log10(4 / max((found.clamp(-1, 1) - truth).square().mean().item(), 1e-12))


class Sine(nn.Module):
    def __init__(self, w0: float) -> None:
        super().__init__()
        self.w0 = w0

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.w0 * x)


class FourierFeatures(nn.Module):
    def __init__(self, freq: Tensor) -> None:
        super().__init__()
        self.register_buffer("freq", freq.clone())

    def forward(self, x: Tensor) -> Tensor:
        angle = x @ self.freq.T
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def sequential(mlp: CoordMLP) -> nn.Sequential:
    """The same network with the same weights, as one would write it in plain PyTorch."""
    layers: list[nn.Module] = [] if mlp.freq is None else [FourierFeatures(mlp.freq[0])]
    for index, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        linear = nn.Linear(weight.shape[2], weight.shape[1])
        linear.weight.data.copy_(weight[0])
        linear.bias.data.copy_(bias[0])
        layers += [linear, Sine(mlp.first_alpha if index == 0 and mlp.freq is None else mlp.alpha)]
    return nn.Sequential(*layers[:-1])


def fit(
    renders: dict[str, Render],
    networks: dict[str, nn.Module],
    clip: Tensor,
    asked: argparse.Namespace,
) -> dict[str, list[tuple[int, float]]]:
    """Trains the networks in turns, on the same frames, so that their times compare.

    Returns the curve of each: step and PSNR of the whole clip.
    """
    optimizers = {n: torch.optim.Adam(net.parameters(), lr=asked.lr) for n, net in networks.items()}
    generator = torch.Generator().manual_seed(asked.seed)
    shown = {round(asked.steps * i / (POINTS - 1)) for i in range(POINTS)}
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in networks}
    spent: dict[str, list[float]] = {name: [] for name in networks}
    with progress_bar("fitting", asked.steps, "steps", shown=True) as bar:
        for step in range(asked.steps + 1):
            if step in shown:
                for name, render in renders.items():
                    with torch.no_grad():
                        fitted = torch.cat([render(i) for i in torch.arange(len(clip)).split(4)])
                    curves[name].append((step, psnr(fitted, clip)))
                values = "  ".join(f"{n} {curve[-1][1]:5.2f} dB" for n, curve in curves.items())
                bar.write(f"step {step:5d}  {values}")
            if step == asked.steps:
                break
            chosen = torch.randperm(len(clip), generator=generator)[: asked.batch_frames]
            rate = asked.lr * (0.505 + 0.495 * math.cos(math.pi * step / asked.steps))
            for name, render in renders.items():
                started = time.perf_counter()
                optimizers[name].param_groups[0]["lr"] = rate
                loss = (render(chosen) - clip[chosen]).square().mean()
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()
                spent[name].append(time.perf_counter() - started)
            bar.update()
    for name, curve in curves.items():
        median = 1e3 * statistics.median(spent[name])
        print(f"{name}: {curve[-1][1]:.2f} dB after {asked.steps} steps of {median:.1f} ms")
    return curves


def write_curves(outdir: Path, curves: dict[str, list[tuple[int, float]]]) -> None:
    """psnr.csv, and psnr.png where matplotlib is installed."""
    with open(outdir / "psnr.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["network", "step", "psnr_db"])
        for name, curve in curves.items():
            rows.writerows([name, step, f"{value:.3f}"] for step, value in curve)
    try:
        import matplotlib
    except ImportError:
        print("no psnr.png: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    styles = iter(["-", "--"])
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name, linestyle=next(styles))
    axes.set(xlabel="step", ylabel="PSNR (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(outdir / "psnr.png", dpi=120)
    pyplot.close(figure)


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
    clip, fps = read_clip(asked.video, asked.frames, asked.size, asked.every)
    t = frame_times(asked.frames, asked.frames).float()
    y, x = SpaceTimeGrid(t).axes(asked.size, t)

    mlp = CoordMLP(
        3, 3, width=asked.width, layers=asked.layers, frequencies=asked.frequencies,
        # Pictures have many cycles across, a short clip few along.
        frequency_scale=(asked.frequency_scale, asked.frequency_scale, 3.0),
        generator=torch.Generator().manual_seed(asked.seed),
    )  # fmt: skip
    count = sum(p.numel() for p in mlp.parameters())
    print(f"{asked.video}: {asked.frames} frames of {asked.size}x{asked.size}; {count} parameters")
    networks: dict[str, nn.Module] = {"CoordMLP": mlp}
    renders: dict[str, Render] = {"CoordMLP": lambda chosen: mlp.on_grid(y, x, t[chosen])[0]}
    if asked.baseline:
        networks["nn.Sequential"] = baseline = sequential(mlp)
        times, rows, columns = torch.meshgrid(t, y, x, indexing="ij")
        coords = torch.stack([columns, rows, times], dim=-1)  # once: [T, H, W, (x, y, t)]
        renders["nn.Sequential"] = lambda chosen: baseline(coords[chosen])
    curves = fit(renders, networks, clip, asked)
    write_curves(asked.outdir, curves)

    # Twice as dense, and three times between each two frames; streamed in parts.
    fine = frame_times(asked.frames, asked.frames, time_density=4).float()
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


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    def at_least(low: int) -> Callable[[str], int]:
        def number(text: str) -> int:
            if int(text) < low:
                raise argparse.ArgumentTypeError(f"must be at least {low}, got {text}")
            return int(text)

        return number

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--video", type=Path, required=True, help="a video file")
    add("--frames", type=at_least(2), default=16, help="frames of the clip (16)")
    add("--every", type=at_least(1), default=1, help="use every n-th frame of the file (1)")
    add("--size", type=at_least(8), default=64, help="side of the square frames in pixels (64)")
    add("--steps", type=at_least(1), default=1000, help="training steps (1000)")
    add("--batch-frames", type=at_least(1), default=2, help="whole frames a step (2)")
    add("--width", type=at_least(1), default=128, help="units of a hidden layer (128)")
    add("--layers", type=at_least(1), default=2, help="hidden layers (2)")
    add("--frequencies", type=at_least(0), default=128, help="Fourier frequencies; 0: SIREN (128)")
    add("--frequency-scale", type=float, default=15.0, help="their spread, radians per unit (15)")
    add("--lr", type=float, default=1e-3, help="first learning rate of Adam (0.001)")
    add("--baseline", action="store_true", help="fit plain nn.Sequential too")
    add("--seed", type=int, default=0, help="of weights and batches (0)")
    add("--threads", type=at_least(1), help="threads of PyTorch; its own choice by default")
    add("--outdir", type=Path, default=Path("runs/fit-clip"), help="(runs/fit-clip)")
    return parser.parse_args(arguments)


def main() -> int:
    asked = parse()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        run(asked)
    except DiganError as error:
        print(f"fit_clip: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
