"""Does a metric see what is wrong? Real clips are spoilt step by step, and measured.

From your own videos, small windows that move are cut. One half is the reference; the other half is
blurred, made noisy, shuffled in time or played faster, and its distance from the reference is
taken, in multiples of the floor (the unspoilt half). A good video metric grows with each fault.

    python examples/metric_distortions.py VIDEO [VIDEO ...]
    python examples/metric_distortions.py a.mp4 b.mp4 --clips 128 --i3d i3d_torchscript.pt

Writes to --outdir: metric-distortions.png and metric-distortions.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fitting import at_least, main
from numpy.typing import NDArray

from digan.data.progress import progress_bar
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.files import writable_folder
from digan.metrics import Random3d, frechet_distance, load_detector
from digan.plotting import pyplot
from digan.randomness import sample_rng

FRAMES = 16
FASTEST = 4
LONG = FRAMES * FASTEST  # frames that are cut, so that a clip can be played faster
Clips = NDArray[np.uint8]  # [N, T, H, W, 3]


def cut_windows(
    paths: Sequence[Path], count: int, size: int, seed: int, candidates: int = 3
) -> Clips:
    """Windows [count, 64, size, size, 3] at random places and times of the videos, halved in size.

    Of `candidates` times as many the ones with the most motion are kept: a fixed camera sees
    mostly ground, on which no speed can be told.
    """
    found: list[Clips] = []
    for number, path in enumerate(paths):
        video = np.stack([frame.image[::2, ::2] for frame in decode_frames(path)])
        t, height, width = video.shape[:3]
        if t < LONG or min(height, width) < size:
            raise DiganError(
                f"{path} must have {LONG} frames of {2 * size} pixels, it has {t} of "
                f"{2 * width}x{2 * height}"
            )
        for i in range(candidates * count // len(paths) + 1):
            u = sample_rng(seed, f"windows {number}", i).random(3)
            place = (u * [t - LONG + 1, height - size + 1, width - size + 1]).astype(int)
            cut = tuple(slice(p, p + n) for p, n in zip(place, (LONG, size, size), strict=True))
            found.append(video[cut])
    motion = [np.abs(np.diff(clip[:FRAMES].astype(np.int16), axis=0)).mean() for clip in found]
    most = np.argsort(motion)[::-1][:count]
    # In an order of their own: neighbours in motion must not be dealt out by turns.
    order = np.argsort(sample_rng(seed, "windows order", 0).random(count), kind="stable")
    return np.stack([found[most[i]] for i in order])


def _levels(values: NDArray[np.floating]) -> Clips:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def blur(windows: Clips, strength: int) -> Clips:
    """Binomial blur, [1 2 1] / 4 in both directions, 2^strength times."""
    clips = windows[:, :FRAMES].astype(np.float32)
    for _ in range(1 << strength):
        for axis in (2, 3):
            first = np.take(clips, [0], axis)
            last = np.take(clips, [-1], axis)
            padded = np.concatenate([first, clips, last], axis)
            n = clips.shape[axis]
            middle = np.take(padded, range(1, n + 1), axis)
            sides = np.take(padded, range(n), axis) + np.take(padded, range(2, n + 2), axis)
            clips = (sides + 2 * middle) / 4
    return _levels(clips)


def noise(windows: Clips, strength: int) -> Clips:
    """Normal noise of 3 * 2^strength grey levels."""
    clips = windows[:, :FRAMES]
    rng = np.random.default_rng(strength)
    return _levels(clips + rng.normal(0, 3 * 2.0**strength, clips.shape).astype(np.float32))


def shuffle(windows: Clips, strength: int) -> Clips:
    """Frames exchanged at random within stretches of 2^strength; 2 are swapped."""
    run = 1 << strength
    rng = np.random.default_rng(strength)
    out = windows[:, :FRAMES].copy()
    for clip in out:
        for start in range(0, FRAMES, run):
            order = np.arange(run)
            while np.array_equal(order, np.arange(run)):
                order = rng.permutation(run)
            clip[start : start + run] = clip[start + order]
    return out


def faster(windows: Clips, strength: int) -> Clips:
    """Every 2nd, 3rd or 4th frame, for strength 1, 2 and 3."""
    return windows[:, : FRAMES * (strength + 1) : strength + 1]


DISTORTIONS: dict[str, tuple[Callable[[Clips, int], Clips], Sequence[tuple[int, str]]]] = {
    "blur": (blur, [(n, f"{1 << n}x") for n in range(5)]),
    "noise": (noise, [(n, f"{3 * 2**n}") for n in range(5)]),
    "frame shuffling": (shuffle, [(n, f"{1 << n}") for n in range(1, 5)]),
    "speed": (faster, [(n, f"{n + 1}x") for n in range(1, 4)]),
}
AXES = {
    "blur": "times [1 2 1] / 4",
    "noise": "deviation, grey levels",
    "frame shuffling": "frames in a stretch",
    "speed": "faster",
}


def measure(
    windows: Clips, features: Callable[[Clips], object]
) -> tuple[float, dict[str, list[tuple[str, float]]]]:
    """The floor, and for every distortion its labels and distances.

    Args:
        windows: [N, 64, H, W, 3]; even ones are the reference, odd ones are spoilt.
        features: of clips [N, T, H, W, 3], see `Detector`.
    """
    reference = features(np.ascontiguousarray(windows[::2, :FRAMES]))
    other = windows[1::2]
    floor = frechet_distance(reference, features(np.ascontiguousarray(other[:, :FRAMES])))
    found: dict[str, list[tuple[str, float]]] = {}
    steps = sum(len(strengths) for _, strengths in DISTORTIONS.values())
    with progress_bar("distortions", steps, "steps", shown=True) as bar:
        for name, (spoil, strengths) in DISTORTIONS.items():
            found[name] = []
            for strength, label in strengths:
                spoilt = np.ascontiguousarray(spoil(other, strength))
                found[name].append((label, frechet_distance(reference, features(spoilt))))
                bar.update()
    return floor, found


def plot(path: Path, floor: float, found: dict[str, list[tuple[str, float]]], metric: str) -> None:
    """One panel a distortion, distances in multiples of the floor."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(found), figsize=(11, 3.2), sharey=True, layout="constrained")
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        labels = ["none", *(label for label, _ in values)]
        heights = [1.0, *(value / floor for _, value in values)]
        axis.plot(range(len(labels)), heights, "o-", color="#0072b2")
        axis.axhline(1, color="#8c8c8c", linestyle="--", linewidth=1)
        axis.set_xticks(range(len(labels)), labels)
        axis.set_title(name)
        axis.set_xlabel(AXES[name])
        axis.set_yscale("log")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel(f"{metric} / floor")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(asked: argparse.Namespace) -> None:
    """Cuts, spoils, measures, writes."""
    outdir = writable_folder(asked.outdir)
    pyplot()  # before the work, if it is missing
    windows = cut_windows(asked.video, 2 * asked.clips, asked.size, asked.seed)
    if asked.i3d is None:
        network, metric = Random3d(), "fd-random3d"
    else:
        detector, metric = load_detector("i3d", asked.i3d), "FVD"

        def network(clips: Clips) -> object:
            return np.concatenate([detector(clips[i : i + 4]) for i in range(0, len(clips), 4)])

    floor, found = measure(windows, network)
    print(f"floor {floor:.3f}, {asked.clips} clips against {asked.clips}")
    for name, values in found.items():
        shown = "  ".join(f"{label}: {value / floor:.1f}" for label, value in values)
        print(f"{name:16} {shown}")
    with open(outdir / "metric-distortions.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["distortion", "strength", metric])
        rows.writerow(["none", "", floor])
        rows.writerows([name, label, v] for name, values in found.items() for label, v in values)
    plot(outdir / "metric-distortions.png", floor, found, metric)
    print(outdir / "metric-distortions.png")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("video", nargs="+", type=Path, help="video files")
    flags.add_argument("--clips", type=at_least(2), default=128, help="clips on each side")
    flags.add_argument("--size", type=at_least(16), default=48, help="side of a window, pixels")
    flags.add_argument("--seed", type=int, default=0, help="of the windows")
    flags.add_argument("--threads", type=at_least(1), help="threads of PyTorch")
    flags.add_argument("--i3d", type=Path, help="file of an I3D network in place of fd-random3d")
    flags.add_argument("--outdir", type=Path, default=Path("out"), help="where to write")
    return flags


if __name__ == "__main__":
    sys.exit(main(parser(), run))
