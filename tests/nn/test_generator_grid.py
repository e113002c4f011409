"""Any time, density and extent from one written network, and at what cost."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator, VideoINR, layers, pieces
from tests.golden_numbers import relative
from tests.nn.tiny import noise, tiny_generator

SAME = 1e-6  # one frame computed in another batch, float32


def written(network: Generator, batch: int = 2) -> VideoINR:
    with torch.no_grad():
        return network.write(network.map(noise(batch, 12, seed=1)), noise(batch, 12, seed=2))


def render(video: VideoINR, t: Tensor, **settings) -> Tensor:
    with torch.no_grad():
        return video.render(SpaceTimeGrid(t, **settings))


# ---------------------------------------------------------------- time

TIMES = torch.tensor([0.0, 1.0, 0.3, 2.5, 0.3, -0.4, 0.71], dtype=torch.float64)


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_any_frame_can_be_made_alone(resolution):
    """Unsorted, repeated, beyond the clip: each frame is the one of the whole list."""
    video = written(tiny_generator(resolution))
    together = render(video, TIMES)
    for i in range(len(TIMES)):
        assert relative(render(video, TIMES[i : i + 1]), together[:, i : i + 1]) < SAME
    assert torch.equal(together[:, 2], together[:, 4])
    assert relative(together[:, 0], together[:, 1]) > 0.01


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4], [2, 2, 2, 1], [6, 1]])
def test_any_chunks_of_time_give_the_same_frames(sizes):
    """How many frames are made at once decides nothing but memory."""
    video = written(tiny_generator(64))
    together = render(video, TIMES)
    chunks = torch.cat([render(video, part) for part in TIMES.split(sizes)], dim=1)
    assert chunks.shape == together.shape
    assert relative(chunks, together) < SAME


def test_order_of_time_decides_nothing():
    """A permuted list of times gives the permuted frames."""
    video = written(tiny_generator(64))
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert relative(render(video, TIMES[order]), render(video, TIMES)[:, order]) < SAME


def test_denser_time_contains_the_frames():
    """The frames of a video are among those of the same video at three times the rate."""
    video = written(tiny_generator(64))
    normal = render(video, frame_times(5, 16))
    dense = render(video, frame_times(5, 16, time_density=3))
    assert dense.shape[1] == 13
    assert relative(dense[:, ::3], normal) < SAME


def test_every_video_may_have_its_own_times():
    """[B, T] times: video b at t[b]."""
    video = written(tiny_generator(64))
    own = render(video, torch.stack([TIMES, TIMES.flip(0)]))
    shared = render(video, TIMES)
    assert relative(own[0], shared[0]) < SAME
    assert relative(own[1], shared[1].flip(0)) < SAME


def test_no_frames():
    """An empty list of times is an empty video, not an error."""
    assert render(written(tiny_generator(64)), TIMES[:0]).shape == (2, 0, 64, 64, 3)


# ---------------------------------------------------------------- density and zoom


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_density_one_is_the_training_frame(resolution):
    """Bit by bit."""
    video = written(tiny_generator(resolution))
    assert torch.equal(render(video, TIMES[:3], density=1, zoom=1.0), render(video, TIMES[:3]))


@pytest.mark.parametrize("density", [2, 3])
def test_a_denser_grid_passes_through_the_training_pixels(density):
    """At 32 pixels the picture is a function of the point alone, with no upsampling in it:

    the left column and the bottom row of each s x s cell are the training frame.
    """
    video = written(tiny_generator(32))
    normal, dense = render(video, TIMES[:3]), render(video, TIMES[:3], density=density)
    assert dense.shape[2:4] == (32 * density, 32 * density)
    assert relative(dense[:, :, density - 1 :: density, ::density], normal) < SAME
    assert relative(dense[:, :, ::density, ::density], normal) > 0.01


def test_density_behind_an_upsampling():
    """At 64 the blocks on the 32 grid still pass through the training pixels.

    The last does not, since its parents stand closer; but it is not another picture.
    """
    network = tiny_generator(64)
    video = written(network)
    images: list[Tensor] = []
    network.blocks[3].register_forward_hook(lambda _, __, out: images.append(out[1]))
    # With gradients on the frame is rendered as a whole.
    normal, dense = (video.render(SpaceTimeGrid(TIMES[:1], density)).detach() for density in (1, 3))
    assert dense.shape == (2, 1, 192, 192, 3)
    assert relative(images[1][:, :, 2::3, ::3], images[0]) < SAME
    assert SAME < relative(dense[:, :, 2::3, ::3], normal) < 1


@pytest.mark.parametrize("zoom", [1.01, 1.25, 2.0, 2.6])
@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_the_centre_of_a_wider_frame_is_the_training_frame(resolution, zoom):
    """A wide frame only adds pixels around."""
    video = written(tiny_generator(resolution), 1)
    normal, wide = render(video, TIMES[:2]), render(video, TIMES[:2], zoom=zoom)
    side = 2 * round(resolution * zoom / 2)
    assert wide.shape[2:4] == (side, side)
    edge = (side - resolution) // 2
    centre = wide[:, :, edge : edge + resolution, edge : edge + resolution]
    assert relative(centre, normal) < SAME


@pytest.mark.parametrize("zoom", [0.3, 0.5, 0.99])
def test_a_narrower_frame_is_the_centre_of_the_training_frame(zoom):
    """Zoomed in, at the same spacing."""
    video = written(tiny_generator(64), 1)
    normal, narrow = render(video, TIMES[:2]), render(video, TIMES[:2], zoom=zoom)
    side = 2 * round(32 * zoom)
    edge = (64 - side) // 2
    assert narrow.shape[2:4] == (side, side)
    assert relative(narrow, normal[:, :, edge : edge + side, edge : edge + side]) < SAME


def test_zoom_and_density_together():
    """The centre of a wide dense frame is the dense training frame."""
    video = written(tiny_generator(64), 1)
    dense = render(video, TIMES[:2], density=2)
    both = render(video, TIMES[:2], density=2, zoom=1.5)
    assert both.shape[2:4] == (192, 192)
    assert relative(both[:, :, 32:160, 32:160], dense) < SAME


# ---------------------------------------------------------------- cost

BATCH, FRAMES, FREQUENCIES, CHANNELS = 2, 8, 24, 8


def largest_allocation(work) -> int:
    """The largest single piece of memory that any operator asked for, in numbers of 4 bytes."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        work()
    events = profile.events()
    assert events is not None
    return max(event.self_cpu_memory_usage for event in events) // 4


def naive_first_layer(network: Generator) -> Tensor:
    """What block 64 avoids: upsample, make every frame's embedding, concatenate, multiply."""
    low = noise(BATCH, FRAMES, 32, 32, CHANNELS, seed=5)
    up = low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    features = noise(BATCH, FRAMES, 64, 64, 2 * FREQUENCIES, seed=6)
    weight = network.blocks[4].layers[0].weight.detach()
    return torch.cat([up, features], dim=-1) @ weight.T


def test_the_meter_sees_the_naive_order():
    """The concatenation of the original's order of computation is found by the meter."""
    network = tiny_generator(64, frequencies=FREQUENCIES)
    concatenated = BATCH * FRAMES * 64 * 64 * (CHANNELS + 2 * FREQUENCIES)
    assert largest_allocation(lambda: naive_first_layer(network)) >= concatenated


def test_rendering_is_economical():
    """No embedding per frame, no concatenation: nothing is larger than an activation."""
    network = tiny_generator(64, frequencies=FREQUENCIES)
    video = written(network, BATCH)
    t = torch.linspace(0, 1, FRAMES, dtype=torch.float64)
    video.render(SpaceTimeGrid(t))
    largest = largest_allocation(lambda: video.render(SpaceTimeGrid(t)))
    assert largest == BATCH * FRAMES * 64 * 64 * CHANNELS


def test_rendering_in_pieces_needs_no_activation_of_all_frames():
    """Without gradients the largest tensor is the picture, or what a piece needs."""
    video = written(tiny_generator(64, frequencies=FREQUENCIES), BATCH)
    t = torch.linspace(0, 1, 64, dtype=torch.float64)
    render(video, t)
    largest = largest_allocation(lambda: render(video, t))
    assert largest == BATCH * 64 * 64 * 64 * 3


@pytest.mark.parametrize("resolution", [32, 128])
@pytest.mark.parametrize("size", [4, 20000, 1 << 17])
def test_pieces_make_the_whole(resolution, size, monkeypatch):
    """Cut into strips, frames and videos in any way, a rendering is the same."""
    monkeypatch.setattr(pieces, "_CPU_BYTES", size)
    monkeypatch.setattr(pieces, "_SHARING_FRAMES", 2)
    video = written(tiny_generator(resolution), 3)
    for settings in ({}, {"zoom": 1.3}, {"density": 2, "zoom": 0.7}):
        cut = render(video, TIMES[:3], **settings)
        whole = video.render(SpaceTimeGrid(TIMES[:3], **settings)).detach()
        assert relative(cut, whole) < SAME


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 32, 512), (16, 16, 32, 512), (3, 200, 34, 40), (2, 5, 7, 9**7), (1, 16, 4096, 1 << 16)],
)
def test_pieces_cover_everything_once(sizes, device):
    """Every video, frame and row is in exactly one piece, and pieces are as large as allowed."""
    videos, frames, rows, row_pixels = sizes
    seen = torch.zeros(videos, frames, rows, dtype=torch.int)
    budget = (pieces._CPU_BYTES if device == "cpu" else pieces._GPU_BYTES) // 2
    for piece in pieces.pieces(*sizes, torch.device(device), torch.bfloat16):
        part = seen[piece.videos, piece.frames, piece.rows]
        part += 1
        # Frames that share an embedding, unless one row of them is already too much; a row.
        shared = min(pieces._SHARING_FRAMES * row_pixels, pieces._SHARED_PIECES * budget)
        assert part.numel() * row_pixels <= max(budget, shared, row_pixels)
    assert (seen == 1).all()


def test_training_makes_no_concatenation():
    """Forward and backward: [B, T, 64, 64, I + 2F] is never formed."""
    network = tiny_generator(64, frequencies=FREQUENCIES)
    t = torch.linspace(0, 1, FRAMES, dtype=torch.float64)
    codes = noise(BATCH, 12, seed=1), noise(BATCH, 12, seed=2)

    def step() -> None:
        network(*codes, SpaceTimeGrid(t)).square().mean().backward()

    largest = largest_allocation(step)
    assert largest < BATCH * FRAMES * 64 * 64 * (CHANNELS + 2 * FREQUENCIES)


@pytest.mark.parametrize("resolution", [64, 128])
def test_matrices_are_written_once_a_video(resolution):
    """One modulation a layer in `write`, none in `render`, however many frames there are."""
    network = tiny_generator(resolution)
    count = sum(len(block.layers) for block in network.blocks)
    spy = mock.Mock(side_effect=layers.factorized_modulation)
    with mock.patch.object(layers, "factorized_modulation", spy):
        video = written(network)
        assert spy.call_count == count == network.num_ws - 1
        for frames in (1, 3, 9):
            render(video, torch.linspace(0, 1, frames))
        assert spy.call_count == count
        for frames in (1, 5):
            spy.reset_mock()
            network(noise(2, 12, seed=1), noise(2, 12, seed=2), SpaceTimeGrid(torch.ones(frames)))
            assert spy.call_count == count
