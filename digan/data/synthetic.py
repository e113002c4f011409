"""Drifting clouds: a video set made from nothing, for the demo, the tests and trials.

Each video is a sky at dawn, day, dusk or night (the class), with clouds that drift with the
wind and slowly change. A cloud field is a sum of plane waves with random phases and an
amplitude that falls with frequency (fractional Brownian motion): multiplying a wave's
phase by time moves it, exactly and smoothly, and small waves are moved a little faster
than large ones and drift apart, so that clouds form and dissolve. Light comes from the
sun's side: the field's slope in that direction makes bright edges and dark undersides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digan.data.progress import progress_bar
from digan.data.video import VideoWriter
from digan.errors import DiganError
from digan.randomness import sample_rng

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Hour:
    """Colours of an hour, sRGB in [0, 1]: sky from top to horizon, clouds in light and shade."""

    top: tuple[float, float, float]
    middle: tuple[float, float, float]
    horizon: tuple[float, float, float]
    lit: tuple[float, float, float]
    shade: tuple[float, float, float]
    glow: tuple[float, float, float]  # around the sun or moon
    glow_size: float  # of the frame
    height: tuple[float, float]  # of the sun or moon, 0 top, 1 bottom


HOURS: dict[str, _Hour] = {
    "dawn": _Hour(
        (0.27, 0.36, 0.58), (0.74, 0.62, 0.68), (0.99, 0.80, 0.62),
        (1.00, 0.87, 0.80), (0.52, 0.47, 0.60), (1.00, 0.86, 0.62), 0.45, (0.75, 1.05),
    ),
    "day": _Hour(
        (0.13, 0.36, 0.72), (0.33, 0.58, 0.87), (0.70, 0.84, 0.95),
        (1.00, 1.00, 0.99), (0.60, 0.66, 0.75), (1.00, 0.98, 0.90), 0.30, (0.00, 0.30),
    ),
    "dusk": _Hour(
        (0.15, 0.13, 0.35), (0.62, 0.27, 0.42), (0.99, 0.53, 0.24),
        (1.00, 0.62, 0.42), (0.30, 0.18, 0.34), (1.00, 0.75, 0.35), 0.50, (0.80, 1.05),
    ),
    "night": _Hour(
        (0.02, 0.03, 0.09), (0.05, 0.08, 0.19), (0.12, 0.17, 0.31),
        (0.48, 0.54, 0.68), (0.10, 0.13, 0.22), (0.75, 0.80, 0.90), 0.22, (0.10, 0.45),
    ),
}  # fmt: skip


def cloud_frames(
    hour: str, size: int, frames: int, seed: int, index: int, detail: float = 1.0
) -> Iterator[Array]:
    """The frames of one cloud video, float in [0, 1], RGB [size, size, 3], one at a time.

    A pure function of its arguments. `hour` is one of HOURS. The wind carries the clouds
    between 0.15 and 1.1 frame widths over the clip, mostly sideways. `detail` below 1 leaves
    out the finest waves and softens the edges: clouds for small frames.
    """
    rng = sample_rng(seed, f"clouds {hour}", index)
    palette = HOURS[hour]
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    # One wave period is two frames, so that nothing comes back within the clip.
    grid = 2 * size
    fy = np.fft.fftfreq(grid, 1 / grid)[:, None]
    fx = np.fft.rfftfreq(grid, 1 / grid)[None, :]
    stretch = rng.uniform(1.3, 2.4)  # clouds are wider than high
    scale = rng.uniform(1.6, 3.4)  # waves shorter than the field by this
    radius = np.hypot(fy / stretch, fx) * np.sqrt(stretch)
    slope = rng.uniform(1.75, 2.05)
    amplitude = (radius / scale + 1e-9) ** -slope * (1 - np.exp(-((radius / scale) ** 3)))
    # Finer than four pixels a wave the fields would twinkle.
    amplitude *= np.exp(-((radius / (grid * 0.22 * detail)) ** 4))
    spectrum = amplitude * np.exp(2j * np.pi * rng.random(radius.shape))
    direction = rng.choice([-1, 1])
    distance = rng.uniform(0.15, 1.1)  # frame widths over the whole clip
    tilt = rng.uniform(-0.25, 0.25)
    # Small waves run ahead a little, and every wave has a pace of its own.
    pace = 1 + 0.06 * np.log2(1 + radius / scale)
    travel = np.pi * direction * distance * (fx + tilt * fy) * pace
    churn = rng.normal(size=radius.shape) * (radius / scale) ** 0.6 * rng.uniform(0.35, 0.9)
    cover = rng.uniform(0.30, 0.72)
    soft = rng.uniform(0.9, 1.5) * detail**-0.4
    sun_x = rng.uniform(0.1, 0.9)
    sun_y = rng.uniform(*palette.height)
    tint = rng.uniform(0.97, 1.03, 3) * rng.uniform(0.92, 1.06)
    sky = _sky(palette, x, y, sun_x, sun_y)
    if hour == "night":
        sky = _night(sky, palette, x, y, sun_x, sun_y, rng)
    # Clouds near the horizon are seen from the side: flatter and paler.
    haze = 0.45 * y[..., None] ** 2
    lit, shade = np.array(palette.lit), np.array(palette.shade)
    horizon = np.array(palette.horizon)
    unit: float | None = None
    threshold = 0.0
    toward = np.array([sun_x - 0.5, min(sun_y, 0.9) - 0.75])
    toward = toward / np.hypot(*toward) / size * 2.2
    shift = np.exp(2j * np.pi * (fx * toward[0] + fy * toward[1]) / 2)
    for t in range(frames):
        time = t / max(frames - 1, 1)
        moved = spectrum * np.exp(1j * time * (churn - travel))
        field = np.fft.irfft2(moved, s=(grid, grid))[:size, :size]
        nearer = np.fft.irfft2(moved * shift, s=(grid, grid))[:size, :size]
        if unit is None:
            whole = np.fft.irfft2(spectrum, s=(grid, grid))
            unit = float(whole.std())
            threshold = float(np.quantile(whole / unit, 1 - cover))
        depth = (field / unit - threshold) / soft
        density = _smoothstep(depth + 0.12)
        # Towards the sun there is less cloud: this side is lit.
        light = np.clip(0.62 + (field - nearer) / unit * 1.6 - 0.42 * np.clip(depth, 0, 1.2), 0, 1)
        cloud = shade + (lit - shade) * light[..., None]
        cloud = cloud * (1 - haze) + horizon * haze
        alpha = (density * (0.97 - 0.25 * y**3))[..., None]
        yield np.clip((sky * (1 - alpha) + cloud * alpha) * tint, 0, 1)


def _sky(palette: _Hour, x: Array, y: Array, sun_x: float, sun_y: float) -> Array:
    stops = np.array([palette.top, palette.middle, palette.horizon])
    sky = np.stack([np.interp(y, [0.0, 0.62, 1.0], stops[:, c]) for c in range(3)], axis=-1)
    distance = np.hypot(x - sun_x, (y - sun_y) * 1.1)
    glow = np.exp(-((distance / palette.glow_size) ** 1.5))[..., None]
    strength = 0.35 if palette is HOURS["night"] else 0.75
    return np.asarray(sky + (np.array(palette.glow) - sky) * glow * strength)


def _night(
    sky: Array,
    palette: _Hour,
    x: Array,
    y: Array,
    moon_x: float,
    moon_y: float,
    rng: np.random.Generator,
) -> Array:
    """Add the moon's disc and stars, which stand still behind the clouds."""
    radius = rng.uniform(0.045, 0.08)
    disc = np.clip((radius - np.hypot(x - moon_x, y - moon_y)) * len(x) / 1.5 + 0.5, 0, 1)
    sky = sky + (np.array([0.95, 0.95, 0.88]) - sky) * disc[..., None]
    for _ in range(int(rng.integers(10, 30))):
        star_x, star_y, bright = rng.random(), rng.random() * 0.85, rng.uniform(0.25, 0.8)
        spot = np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / (0.45 / 64) ** 2)
        sky = sky + spot[..., None] * bright
    return np.clip(sky, 0, 1)


def _smoothstep(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def write_clouds(
    dst: str | os.PathLike[str],
    *,
    videos: int = 96,
    frames: int = 48,
    size: int = 64,
    fps: float = 12,
    seed: int = 0,
    detail: float = 1.0,
    progress: bool = True,
) -> list[Path]:
    """Write cloud videos as `dst/HOUR/clouds0000.mp4`, the hours in turn; returns the paths.

    The pictures are a pure function of (seed, number, size, frames, detail). Raises
    DiganError if `dst` cannot be written.
    """
    if not 0 < detail <= 1:
        raise DiganError(f"detail must be above 0 and at most 1, got {detail}")
    for name, value, least in (("videos", videos, 1), ("frames", frames, 1), ("size", size, 8)):
        if value < least:
            raise DiganError(f"{name} must be at least {least}, got {value}")
    paths = []
    hours = list(HOURS)
    with progress_bar("clouds", videos, "video", progress) as bar:
        for index in range(videos):
            hour = hours[index % len(hours)]
            path = Path(dst) / hour / f"clouds{index:04d}.mp4"
            with VideoWriter(path, fps) as writer:
                for frame in cloud_frames(hour, size, frames, seed, index, detail):
                    writer.write((frame * 255 + 0.5).astype(np.uint8))
            paths.append(path)
            bar.update()
    return paths
