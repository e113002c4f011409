"""PSNR, and what one would guess without a network."""

from __future__ import annotations

import math

import numpy as np
import pytest

from digan.inversion import blend_frames, psnr, repeat_frames

RNG = np.random.default_rng(3)


def random_frames(count: int, size: int = 5) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_psnr_is_the_formula():
    truth = random_frames(3).clip(10, 245)
    assert psnr(truth, truth) == math.inf
    assert psnr(truth + np.uint8(10), truth) == pytest.approx(10 * math.log10(255**2 / 100))
    assert psnr(np.full_like(truth, 255), np.zeros_like(truth)) == pytest.approx(0)
    found = random_frames(3)
    error = np.mean([(int(a) - int(b)) ** 2 for a, b in zip(found.flat, truth.flat, strict=True)])
    assert psnr(found, truth) == pytest.approx(10 * math.log10(255**2 / error))
    for other in (truth[:2], truth[:, :4], truth[:0]):
        with pytest.raises(ValueError, match="of one shape and not none"):
            psnr(other, truth[:0] if not len(other) else truth)


def test_repeated_frames_are_the_nearest_and_stay_at_the_ends():
    frames, t = random_frames(3), np.array([0.0, 0.4, 1.0])
    held = repeat_frames(frames, t, np.array([-3.0, 0.0, 0.19, 0.21, 0.69, 0.71, 5.0]))
    assert np.array_equal(held, frames[[0, 0, 0, 1, 1, 2, 2]])


def test_blended_frames_are_mixtures_of_their_neighbours():
    frames, t = random_frames(3), np.array([0.0, 0.4, 1.0])
    mixed = blend_frames(frames, t, np.array([-1.0, 0.1, 0.4, 0.85, 2.0]))
    assert np.array_equal(mixed[[0, 2, 4]], frames)
    for found, (before, after, share) in zip(
        mixed[[1, 3]], [(0, 1, 0.25), (1, 2, 0.75)], strict=True
    ):
        wanted = (1 - share) * frames[before].astype(float) + share * frames[after]
        assert np.abs(found - wanted).max() <= 0.5 + 1e-9
