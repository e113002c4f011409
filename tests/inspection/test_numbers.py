"""What an inspection finds, against formulas written here: on networks whose every number is
random.
"""

from __future__ import annotations

import math
import secrets

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid
from digan.inspection import (
    added_by_block,
    block_pictures,
    content_share,
    frame_change,
    inspection_times,
    phase_trajectories,
    spatial_frequencies,
    translation,
    weight_shares,
)
from digan.nn import VideoINR
from digan.synthesis import write_videos
from tests.nn.tiny import tiny_generator

SIZES = (32, 64, 128, 256)


def videos(resolution: int = 64, count: int = 3, classes: int = 0) -> VideoINR:
    """Fresh videos of a fresh network; the seed is printed where a test fails."""
    seed = secrets.randbelow(1 << 20)
    print(f"seed {seed}")
    labels = [n % classes for n in range(count)] if classes else None
    network = tiny_generator(resolution, classes=classes, seed=seed).eval()
    return write_videos(network, range(seed, seed + count), labels=labels)


@pytest.mark.parametrize("resolution", SIZES)
def test_frequencies_are_those_of_the_weights(resolution):
    inr = videos(resolution, classes=2)
    found = spatial_frequencies(inr)
    grids = [size for size in SIZES if size <= resolution]
    assert [one.grid for one in found] == grids
    assert [one.block for one in found] == ["b4", *(f"b{size}" for size in grids[1:])]
    written = [weights.freq for weights in inr.blocks if weights.freq is not None]
    for one, freq in zip(found, written, strict=True):
        assert np.allclose(one.cycles * math.pi, freq.numpy(), rtol=1e-6, atol=0)
        assert np.allclose(one.length, freq.norm(dim=2).numpy() / math.pi, rtol=1e-5)
        assert one.nyquist == one.grid / 2
        inside = (freq.abs() <= math.pi * one.grid / 2).all(dim=2)
        assert one.beyond == pytest.approx(1 - inside.double().mean().item())


def test_a_wave_of_one_cycle_fits_the_image_once():
    """The unit: cos(f x) with f of n cycles per image comes back after 1/n of its pixels."""
    inr = videos()
    one = spatial_frequencies(inr)[1]
    _, x = SpaceTimeGrid(torch.zeros(1)).axes(one.grid, torch.zeros(1, dtype=torch.float64))
    radians = inr.blocks[4].freq
    assert radians is not None
    phase = float(radians[0, 3, 0]) * x.numpy()
    turns = (phase[-1] - phase[0]) / (2 * math.pi) * one.grid / (one.grid - 1)
    assert turns == pytest.approx(one.cycles[0, 3, 0], rel=1e-5)


def test_deviation_is_that_over_contents():
    one = spatial_frequencies(videos(count=5))[0]
    for wave in range(one.cycles.shape[1]):
        own = one.cycles[:, wave]
        squares = [sum((v - w) ** 2) for v in own for w in own]
        # The mean squared distance of two, themselves included, is twice the variance.
        assert one.deviation[wave] == pytest.approx(math.sqrt(np.mean(squares) / 2))


@pytest.mark.parametrize("resolution", [32, 128])
def test_phases_are_those_of_the_embedding(resolution):
    inr = videos(resolution)
    t = inspection_times(6, 0.7, 1.3)
    found = phase_trajectories(inr, t)
    blocks = [
        (block, weights)
        for block, weights in zip(inr.generator.synthesis_blocks(), inr.blocks, strict=True)
        if block.embedding is not None
    ]
    assert len(found) == len(blocks)
    for one, (block, weights) in zip(found, blocks, strict=True):
        assert block.embedding is not None
        assert (one.block, one.grid) == (f"b{block.resolution}", block.grid_size)
        for i in range(len(t)):
            at = t[i].float().expand(3, 1)
            phase = block.embedding.phase(weights.constant, weights.motion, at)[:, 0]
            assert np.allclose(one.phase[:, i], phase.detach().numpy(), rtol=1e-5, atol=1e-5)
        start = int(t.abs().argmin())
        assert t[start] == 0
        assert np.abs(one.moved[:, start]).max() < 1e-6
        step = one.moved[:, 4] - one.moved[:, 3]
        assert np.allclose(one.speed[:, 3], np.sqrt((step**2).mean(axis=1)), rtol=1e-6)
        fast = [abs(v) > math.pi for v in np.diff(one.phase, axis=1).ravel()]
        assert one.too_fast == pytest.approx(sum(fast) / len(fast))


def test_times_run_at_training_speed_and_hold_the_clip():
    t = inspection_times(5, 0.5, 1.3)
    assert np.allclose(np.diff(t.numpy()), 0.25)
    assert t[0] == -0.5
    assert t[-2] < 2.3 <= t[-1]
    assert inspection_times(16, 0, 0).tolist() == [i / 15 for i in range(16)]
    for clip_frames in (2, 8, 23, 50):
        assert {0.0, 1.0} <= set(inspection_times(clip_frames, 0.6, 1).tolist())
    for before, after, sentence in (
        (-0.1, 1, "before must be finite and at least 0, got -0.1"),
        (0, math.nan, "after must be finite and at least 0, got nan"),
        (math.inf, 0, "before must be finite and at least 0, got inf"),
        (0, 1e7, "at most 100000 frames, got 150000016"),
    ):
        with pytest.raises(DiganError, match=sentence):
            inspection_times(16, before, after)


def test_a_shifted_picture_is_found_as_a_shift():
    draws = np.random.default_rng()
    cycles = draws.normal(size=(40, 2)) * 3
    pixels = draws.uniform(-5, 5, size=2)
    # A wave cos(2 pi f (p - v)): the phase changes by -2 pi f v, v in images.
    moved = np.array([-2 * math.pi * (f @ (pixels / 64)) for f in cycles])
    shift, share = translation(cycles, moved, 64)
    assert np.allclose(shift, pixels)
    assert share == pytest.approx(1)
    shift, share = translation(cycles, draws.normal(size=40) * 10, 64)
    assert 0 <= share < 0.5
    assert translation(cycles, np.zeros(40), 64)[1] == 0


def test_change_is_the_mean_difference_of_the_frames():
    inr = videos(count=2)
    t = inspection_times(4, 0.4, 1)
    with torch.no_grad():
        frames = inr.render(SpaceTimeGrid(t)).numpy().astype(np.float64)
    levels = np.clip(np.rint((frames + 1) * 127.5), 0, 255)
    for chunk in (None, 1, 3):
        found = frame_change(inr, t, chunk=chunk)
        wanted = [np.abs(b - a).mean(axis=(1, 2, 3)) for a, b in
                  zip(levels.swapaxes(0, 1), levels.swapaxes(0, 1)[1:], strict=False)]  # fmt: skip
        assert found.change.shape == (2, len(t) - 1)
        assert np.allclose(found.change.T, wanted, atol=0.01)
        assert found.slices.shape == (2, len(t), 64, 3)
        assert np.abs(found.slices - levels[:, :, 32]).max() <= 1


@pytest.mark.parametrize("resolution", [32, 128])
def test_blocks_sum_to_the_frame(resolution):
    inr = videos(resolution, count=2)
    t = inspection_times(3, 0, 0)[:2]
    pictures = block_pictures(inr, t)
    blocks = 4 + (resolution == 128) * 2
    assert list(pictures) == [f"b{4 << i}" for i in range(blocks)]
    with torch.no_grad():
        frames = inr.render(SpaceTimeGrid(t)).numpy()
    assert np.allclose(pictures[f"b{resolution}"], frames, rtol=1e-4, atol=1e-4)
    total = np.zeros(frames.shape)
    for added in added_by_block(pictures).values():
        factor = resolution // added.shape[2]
        total += np.kron(added, np.ones((1, 1, factor, factor, 1)))
    assert np.allclose(total, frames, rtol=1e-4, atol=1e-4)


def test_content_share_is_0_for_equal_and_about_1_for_unrelated_numbers():
    draws = np.random.default_rng()
    one = draws.normal(size=(1, 50, 40))
    assert content_share(one.repeat(4, axis=0)) == pytest.approx(0, abs=1e-7)
    assert content_share(draws.normal(size=(4, 50, 40))) == pytest.approx(1, abs=0.05)
    # Half of the power common: two parts of equal power, one of them shared.
    half = one + draws.normal(size=(4, 50, 40))
    assert content_share(half) == pytest.approx(math.sqrt(0.5), abs=0.05)
    assert content_share(np.zeros((3, 5))) == 0


def test_weight_shares_name_every_layer():
    inr = videos(128)
    found = weight_shares(inr)
    layers = [
        f"b{block.resolution}.{name}"
        for block in inr.generator.synthesis_blocks()
        for name in [*range(len(block.layers)), "rgb"]
    ]
    assert list(found) == layers
    assert all(0 < share < 1.5 for share in found.values())
    same = write_videos(inr.generator, [7, 7], [1, 2])  # one content, two motions
    assert max(weight_shares(same).values()) < 1e-6
    first = inr.blocks[1].layers[0].double()
    spread = sum((a - b).square().mean() for a in first for b in first) / (2 * 3 * 2)
    assert found["b8.0"] == pytest.approx((spread / first.square().mean()).sqrt().item())
