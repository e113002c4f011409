"""What large frames and long videos cost in memory, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, SOAK

_PEAK = """
import resource, sys, torch
from digan.config import PRESETS, resolve
from digan.nn import Generator
from digan.synthesis import denser, long_video, seed_codes, stream

torch.set_num_threads(1)
preset, resolution, density, frames = sys.argv[1], *map(int, sys.argv[2:])
config = resolve(PRESETS[preset], resolution=resolution, num_classes=0).generator
network = Generator(config).eval().requires_grad_(False)
shot = denser(long_video(seed_codes(network, [1]), 16, frames), density)
count = 0
for piece in stream(network, shot):
    count += piece.shape[1]
assert count == frames and piece.shape[2] == resolution * density
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def peak(preset: str, resolution: int, density: int, frames: int) -> float:
    """Gigabytes of a process that streams a video of a new network."""
    words = [preset, *map(str, (resolution, density, frames))]
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *words], cwd=ROOT, capture_output=True, text=True,
        timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_a_long_video_needs_no_more_than_a_short_one():
    assert peak("tiny", 32, 1, 2000) < peak("tiny", 32, 1, 200) + 0.05


def test_a_large_frame_needs_little_more_than_itself():
    """1024x1024: 12.6 MB as numbers. All of one layer's activations would be 134 MB."""
    assert peak("tiny", 32, 32, 1) < peak("tiny", 32, 1, 1) + 0.12


if SOAK:  # minutes each

    @pytest.mark.soak
    @pytest.mark.parametrize(("density", "gigabytes"), [(8, 1.0), (16, 1.2)])
    def test_frames_of_1024_and_2048_pixels_of_the_published_model(density, gigabytes):
        """0.6 GB of it are Python, PyTorch and the weights; a layer of all pixels is 4.3 GB."""
        assert peak("official", 128, density, 1) < gigabytes

    @pytest.mark.soak
    def test_ten_minutes_of_the_published_size():
        """18,000 frames of 128x128 need no more than 300."""
        assert peak("tiny", 32, 4, 18_000) < peak("tiny", 32, 4, 300) + 0.05
