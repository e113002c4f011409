"""Seeds to frames: the same video whatever the batch, the chunk, the density and the extent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from digan.grid import frame_times
from digan.nn import Generator
from digan.synthesis import (
    CHUNK_PIXELS,
    chunk_frames,
    clips,
    stream_frames,
    to_uint8,
    write_videos,
)
from tests.synthesis.rendered import CLIP, frames_of, furthest
from tests.tiny_runs import tiny_network


@pytest.fixture(scope="module")
def network() -> Generator:
    return tiny_network()


def test_the_global_generator_plays_no_part(network):
    t = frame_times(3, CLIP)
    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        found.append(frames_of(write_videos(network, [4]), t))
        assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(*found)


def test_videos_are_worth_comparing(network):
    """Else the tests below would pass for grey stills."""
    frames = frames_of(write_videos(network, [0, 1]), frame_times(CLIP, CLIP))
    assert frames.std() > 10
    assert np.abs(np.diff(frames, axis=1)).mean() > 0.3
    assert np.abs(frames[0] - frames[1]).mean() > 3


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_any_chunk_gives_the_same_video(network, chunk):
    t = frame_times(7, CLIP)
    inr = write_videos(network, [3, 9])
    pieces = [piece.shape[1] for piece in stream_frames(inr, t, chunk=chunk)]
    assert sum(pieces) == 7
    assert max(pieces) == min(chunk, 7)
    assert furthest(frames_of(inr, t, chunk=chunk), frames_of(inr, t)) <= 1


def test_any_batch_gives_the_same_video(network):
    t = frame_times(4, CLIP)
    together = frames_of(write_videos(network, [5, 2, 8]), t)
    for place, seed in enumerate((5, 2, 8)):
        alone = frames_of(write_videos(network, [seed]), t)
        assert furthest(alone[0], together[place]) <= 1


def test_whole_clips_are_the_same_in_any_batch():
    network = tiny_network(num_classes=3)
    t, labels = frame_times(3, CLIP), [0, 1, 2, 0, 1]
    whole = np.concatenate(list(clips(network, range(5), t, labels))).astype(np.int16)
    assert whole.shape == (5, 3, 32, 32, 3)
    sizes = [len(part) for part in clips(network, range(5), t, labels, batch=2)]
    assert sizes == [2, 2, 1]
    parts = np.concatenate(list(clips(network, range(5), t, labels, batch=2))).astype(np.int16)
    assert furthest(parts, whole) <= 1
    # A class changes the video of a seed.
    other = np.concatenate(list(clips(network, range(5), t, [1] * 5))).astype(np.int16)
    assert furthest(other[1], whole[1]) <= 1
    assert np.abs(other[0] - whole[0]).mean() > 1


def test_frames_beyond_the_clip_continue_time(network):
    inr = write_videos(network, [1])
    long = frame_times(12, CLIP)
    assert torch.equal(long[:CLIP], frame_times(CLIP, CLIP))
    assert float(long[4]) == 1.0
    assert float(long[11]) == 11 / 4
    frames = frames_of(inr, long, chunk=1)
    for index in (0, 4, 5, 11):
        alone = frames_of(inr, torch.tensor([index / 4], dtype=torch.float64))
        assert np.array_equal(alone[:, 0], frames[:, index])


@pytest.mark.parametrize("density", [2, 3, 8])
def test_denser_time_holds_the_original_frames_exactly(network, density):
    for options in ({}, {"t_start": 0.3}, {"t_end": 1.7}):
        sparse = frame_times(CLIP, CLIP, **options)
        dense = frame_times(CLIP, CLIP, time_density=density, **options)
        assert len(dense) == density * 4 + 1
        assert torch.equal(dense[::density], sparse)
    inr = write_videos(network, [1])
    dense = frames_of(inr, frame_times(CLIP, CLIP, time_density=density), chunk=1)
    sparse = frames_of(inr, frame_times(CLIP, CLIP), chunk=1)
    assert np.array_equal(dense[:, ::density], sparse)
    between = dense[:, 1 : 1 + density - 1]
    assert (between != sparse[:, :1]).any()


def test_the_time_range_includes_its_end():
    t = frame_times(9, CLIP, t_start=0.25, t_end=1.25)
    assert (float(t[0]), float(t[-1])) == (0.25, 1.25)
    np.testing.assert_allclose(t.numpy(), np.linspace(0.25, 1.25, 9), rtol=0, atol=1e-15)
    assert frame_times(1, CLIP, t_start=0.5, t_end=2).tolist() == [0.5]


@pytest.mark.parametrize(("density", "zoom", "size"), [(1, 1.0, 32), (2, 1.0, 64), (3, 1.0, 96),
                                                       (1, 1.5, 48), (2, 1.5, 96), (1, 0.5, 16),
                                                       (1, 1.1, 36)])  # fmt: skip
def test_size_of_denser_and_wider_frames(network, density, zoom, size):
    frames = frames_of(write_videos(network, [1]), frame_times(2, CLIP), density=density, zoom=zoom)
    assert frames.shape == (1, 2, size, size, 3)


def test_a_wider_frame_has_the_training_frame_in_its_centre(network):
    inr, t = write_videos(network, [1]), frame_times(3, CLIP)
    training = frames_of(inr, t)
    wide = frames_of(inr, t, zoom=1.5)
    assert furthest(wide[:, :, 8:-8, 8:-8], training) <= 1
    assert np.abs(wide[:, :, :8, 8:-8].mean(axis=(2, 3)) - training.mean(axis=(2, 3))).max() > 1
    narrow = frames_of(inr, t, zoom=0.5)
    assert furthest(narrow, training[:, :, 8:-8, 8:-8]) <= 1


def test_motion_seeds_change_motion_only(network):
    t = frame_times(CLIP, CLIP)
    own = frames_of(write_videos(network, [3, 3], [3, 3]), t)
    assert np.array_equal(own[0], own[1])
    assert furthest(frames_of(write_videos(network, [3]), t), own[:1]) <= 1  # the default
    first, second = frames_of(write_videos(network, [3, 3], [10, 11]), t)
    assert furthest(first[0], second[0]) <= 1  # at t = 0 no motion has happened
    assert np.abs(first[-1] - second[-1]).mean() > 0.3


def test_truncation_zero_is_the_average_content(network):
    t = frame_times(2, CLIP)
    first, second = frames_of(write_videos(network, [0, 1], [5, 5], truncation=0.0), t)
    assert furthest(first, second) <= 1
    half = frames_of(write_videos(network, [0, 1], [5, 5], truncation=0.5), t)
    full = frames_of(write_videos(network, [0, 1], [5, 5]), t)
    assert np.abs(half[0] - half[1]).mean() < np.abs(full[0] - full[1]).mean()


def test_chunks_hold_a_bounded_number_of_pixels(network):
    assert chunk_frames(1, 128) == 8
    assert chunk_frames(4, 128) == 2
    assert chunk_frames(1, 4096) == 1
    assert chunk_frames(1, 32) * 32 * 32 == CHUNK_PIXELS
    inr = write_videos(network, [0, 1])
    found = [p.shape[1] for p in stream_frames(inr, frame_times(20, CLIP), density=4)]
    assert found == [4, 4, 4, 4, 4]  # 2 videos of 128 x 128


def test_bytes_are_rounded_and_clamped():
    values = torch.tensor([-3.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 1.0, 1.02, 9.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]
    # Every byte survives the way to [-1, 1] and back.
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(every.float() / 127.5 - 1), every)


def test_wider_arithmetic_is_followed(network):
    """A float64 network gives float64 codes, and the same bytes within 1."""
    t = frame_times(3, CLIP)
    wide = frames_of(write_videos(tiny_network().double(), [6]), t)
    assert furthest(wide, frames_of(write_videos(network, [6]), t)) <= 1
