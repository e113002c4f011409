"""The trained network's own clips, whose codes nobody tells: found, and their future foreseen."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from digan.inversion import FitSettings, fit_clip, make_results, psnr
from digan.nn.snapshot import load_network
from tests.inversion.made import frames_of, made_clip

CLIPS = range(101, 106)
FEW = range(101, 104)
SHORT = FitSettings(steps=200, starts=8, batch_frames=4)


@pytest.fixture(scope="module")
def network():
    return load_network("demo")


@pytest.mark.slow
@pytest.mark.soak
def test_its_own_clips_are_found_from_the_average_code(network, soak):
    generator, info = network
    found = []
    for seed in CLIPS if soak else FEW:
        clip = made_clip(generator, seed, info.clip_frames)
        inversion = fit_clip(generator, clip, FitSettings() if soak else SHORT)
        # Of 8-bit frames, as a user sees them: above 45 dB their rounding counts.
        found.append(psnr(frames_of(generator, inversion.codes, clip.t), clip.frames))
    print("reconstruction", np.round(found, 2))
    assert statistics.median(found) > 30


@pytest.mark.slow
@pytest.mark.soak
def test_the_second_half_is_foreseen_from_the_first(network, soak):
    generator, info = network
    half = info.clip_frames // 2
    gains = []
    for seed in CLIPS if soak else FEW:
        clip = made_clip(generator, seed, info.clip_frames, observe=range(half))
        inversion = fit_clip(generator, clip, FitSettings() if soak else SHORT)
        (future,) = make_results(generator, inversion.codes, clip, names=["future"])
        assert future.frames == info.clip_frames - half
        model, held = future.measures["model"], future.measures["repeating the last"]
        print(f"seed {seed}: model {model:.2f} dB, repeating the last {held:.2f} dB")
        gains.append(model - held)
    assert statistics.median(gains) > 0
