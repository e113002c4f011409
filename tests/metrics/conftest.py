"""Made video for the tests of the metrics: fractal clouds that drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

PALETTES = np.array(
    [
        [[20, 40, 120], [230, 240, 255]],
        [[90, 30, 20], [255, 200, 120]],
        [[10, 60, 40], [220, 250, 180]],
        [[40, 20, 70], [240, 190, 230]],
    ],
    dtype=np.float64,
)
CloudMaker = Callable[..., np.ndarray]


def drifting_clouds(
    count: int,
    seed: int,
    frames: int = 16,
    size: int = 32,
    speed: float = 0.5,
    slope: float = 1.6,
) -> np.ndarray:
    """Clouds uint8 [count, frames, size, size, 3] of one of four palettes.

    Each clip drifts in its own direction at 0.3 to 1.5 times `speed` pixels a frame and
    changes slowly. `slope` is the fall of the amplitude spectrum: larger is smoother.
    """
    rng = np.random.default_rng(seed)
    freq = np.fft.fftfreq(size)
    radius = np.hypot(freq[:, None], freq)
    radius[0, 0] = np.inf  # no constant part
    amplitude = radius**-slope
    times = np.arange(frames)[:, None, None]
    videos = np.empty((count, frames, size, size, 3), np.uint8)
    for video in videos:
        first, second = rng.normal(size=(2, size, size)) + 1j * rng.normal(size=(2, size, size))
        angle = rng.uniform(0, 2 * np.pi)
        velocity = speed * rng.uniform(0.3, 1.5)
        dark, light = PALETTES[rng.integers(len(PALETTES))]
        path = freq[:, None] * np.sin(angle) + freq * np.cos(angle)
        spectrum = np.cos(0.05 * times) * first + np.sin(0.05 * times) * second
        moved = spectrum * amplitude * np.exp(-2j * np.pi * path * velocity * times)
        field = np.fft.ifft2(moved).real
        cover = np.clip(0.5 + 0.25 * field / field[0].std(), 0, 1)[..., None]
        video[:] = np.round(dark * (1 - cover) + light * cover)
    return videos


@pytest.fixture(scope="session")
def make_clouds() -> CloudMaker:
    """`drifting_clouds`."""
    return drifting_clouds
