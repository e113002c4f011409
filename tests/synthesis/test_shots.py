"""What the model can show: each section's frames against the plain ones they must agree with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator
from digan.nn.snapshot import load_network
from digan.synthesis import (
    Codes,
    Shot,
    class_sweep,
    content_walk,
    denser,
    ease,
    extrapolate_time,
    extrapolated,
    interpolate_codes,
    interpolate_time,
    linear,
    long_video,
    motion_walk,
    render,
    seed_codes,
    single_frame,
    slow_middle,
    slow_motion,
    stream,
    swing,
    two_motions,
    walk,
    wider,
)
from tests.synthesis.rendered import CLIP, furthest, shown
from tests.tiny_runs import tiny_network

CLOSE = 1e-5  # of numbers whose tensors had other shapes


@pytest.fixture(scope="module")
def network() -> Generator:
    """Two grids: 32 and 64."""
    return tiny_network(64)


@pytest.fixture(scope="module")
def codes(network) -> Codes:
    return seed_codes(network, [3, 8])


def fresh_time() -> float:
    return float(np.random.default_rng().uniform(-1, 3))


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    assert torch.isfinite(a).all()
    return float((a - b).abs().max())


# ---------------------------------------------------------------- time


def test_a_long_video_goes_on_at_training_speed(network, codes):
    shot = long_video(codes, CLIP, 13)
    assert torch.equal(shot.grid.t, torch.arange(13, dtype=torch.float64) / 4)
    clip = render(network, long_video(codes, CLIP, CLIP))
    assert clip.shape == (2, CLIP, 64, 64, 3)
    assert difference(render(network, shot)[:, :CLIP], clip) < CLOSE


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_every_frame_is_among_the_interpolated(network, codes, factor):
    plain, dense = long_video(codes, CLIP, 7), interpolate_time(codes, CLIP, 7, factor)
    assert dense.frames == factor * 6 + 1
    assert torch.equal(dense.grid.t[::factor], plain.grid.t)
    ours, expected = render(network, dense), render(network, plain)
    assert difference(ours[:, ::factor], expected) < CLOSE
    if factor > 1:  # and what is between is no repetition
        assert all(difference(a, b) > 10 * CLOSE for a, b in itertools.pairwise(ours[0, :factor]))


def test_past_and_future_are_a_clip_and_more(network, codes):
    shot = extrapolate_time(codes, CLIP, 1.0, 2.5)
    assert torch.equal(shot.grid.t, torch.arange(-4, 15, dtype=torch.float64) / 4)
    outside = extrapolated(shot.grid)
    assert outside.tolist() == 4 * [True] + 5 * [False] + 10 * [True]
    clip = render(network, long_video(codes, CLIP, CLIP))
    assert difference(render(network, shot)[:, 4:9], clip) < CLOSE
    assert torch.equal(extrapolate_time(codes, CLIP, 0, 0).grid.t, frame_times(CLIP, CLIP))
    assert float(extrapolate_time(codes, CLIP, 0.6, 0).grid.t[0]) == -0.5  # whole frames
    for before, after in ((-1, 0), (0, float("nan")), (float("inf"), 0)):
        with pytest.raises(DiganError, match="must be 0 or more clip lengths"):
            extrapolate_time(codes, CLIP, before, after)
    with pytest.raises(DiganError, match="a clip must have at least 2 frames, got 1"):
        extrapolate_time(codes, 1, 0, 1)


def test_roundings_at_the_ends_are_no_extrapolation():
    for start in (0.1, 0.3, 1 / 3):
        t = frame_times(8, CLIP, t_start=-start, t_end=1.0) + start
        t = t * (1 / float(t[-1]))
        assert not extrapolated(SpaceTimeGrid(t)).any()
    both = extrapolated(SpaceTimeGrid(torch.tensor([[-0.01, 0.5], [1.0, 1.01]])))
    assert both.tolist() == [[True, False], [False, True]]


def test_slow_motion_shows_the_same_span_in_more_frames(network, codes):
    straight = slow_motion(codes, CLIP, 4, linear, factor=3)
    torch.testing.assert_close(straight.grid.t, interpolate_time(codes, CLIP, 4, 3).grid.t)
    for curve in (ease, slow_middle):
        t = slow_motion(codes, CLIP, 7, curve, factor=8).grid.t
        assert len(t) == 49
        assert (float(t[0]), float(t[-1])) == (0.0, 1.5)
        assert (t.diff() > 0).all()
    t = slow_motion(codes, CLIP, 5, slow_middle, factor=8).grid.t
    assert float(t.diff()[16]) < 0.2 * float(t.diff()[0])
    back = slow_motion(codes, CLIP, 5, swing, factor=2)
    frames = render(network, back)
    assert difference(frames, frames.flip(1)) < CLOSE


def test_one_frame_needs_no_others(network, codes):
    """Alone, in a chunk, in a batch: the same numbers, at any time."""
    t = torch.tensor([fresh_time() for _ in range(5)], dtype=torch.float64)
    together = render(network, Shot(codes, SpaceTimeGrid(t)))
    for place, time in enumerate(t.tolist()):
        alone = render(network, single_frame(codes, time))
        assert alone.shape == (2, 1, 64, 64, 3)
        assert difference(alone[:, 0], together[:, place]) < CLOSE
        of_one = render(network, single_frame(codes.take(slice(1, 2)), time))
        assert difference(of_one[0, 0], together[1, place]) < CLOSE
    bytes_ = shown(network, Shot(codes, SpaceTimeGrid(t)))
    for chunk in (1, 2, 3):
        assert furthest(shown(network, Shot(codes, SpaceTimeGrid(t)), chunk=chunk), bytes_) <= 1
    for time in (float("nan"), float("inf")):
        with pytest.raises(DiganError, match="the time of a frame must be finite"):
            single_frame(codes, time)


def test_the_same_shapes_give_the_same_bits(network, codes):
    """Where a frame stands among others of the same number plays no part."""
    t = torch.tensor([fresh_time() for _ in range(6)], dtype=torch.float64)
    order = torch.randperm(6)
    frames = render(network, Shot(codes, SpaceTimeGrid(t)))
    shuffled = render(network, Shot(codes, SpaceTimeGrid(t[order])))
    assert torch.equal(shuffled, frames[:, order])
    swapped = Codes(codes.ws.flip(0), codes.z_motion.flip(0))
    assert torch.equal(render(network, Shot(swapped, SpaceTimeGrid(t))).flip(0), frames)


# ---------------------------------------------------------------- space


def test_factor_one_is_the_normal_frame_to_the_bit(network, codes):
    plain = long_video(codes, CLIP, 3)
    assert torch.equal(render(network, denser(plain, 1)), render(network, plain))
    assert torch.equal(render(network, wider(plain, 1.0)), render(network, plain))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_denser_frames_show_the_same_picture(network, codes, factor):
    plain = single_frame(codes, 0.7)
    dense = render(network, denser(plain, factor))
    side = 64 * factor
    assert dense.shape == (2, 1, side, side, 3)
    normal = render(network, plain)
    cells = dense.view(2, 1, 64, factor, 64, factor, 3).mean(dim=(3, 5))
    # A cell's mean lies half a pixel beside the training point: what a neighbour is away.
    neighbour = (normal[:, :, 1:] - normal[:, :, :-1]).abs().mean()
    assert float((cells - normal).abs().mean()) < float(neighbour)
    unrelated = (cells - normal.flip(0)).abs().mean()
    assert float((cells - normal).abs().mean()) < 0.3 * float(unrelated)


def test_the_mean_of_a_denser_frame_of_the_trained_network():
    """The demo network: within 8 of 255 in the mean, and its training points unmoved.

    It has one grid, so nothing is upsampled and the points that are shared are equal.
    """
    network, info = load_network("demo")
    seeds = np.random.default_rng().integers(0, 10**6, 8).tolist()
    codes = seed_codes(network, seeds, labels=[0, 1, 2, 3] * 2)
    plain = long_video(codes, info.clip_frames, 2)
    normal = render(network, plain)
    for factor in (4, 8):
        dense = render(network, denser(plain, factor))
        cells = dense.view(8, 2, 32, factor, 32, factor, 3).mean(dim=(3, 5))
        assert float((cells - normal).abs().mean()) * 127.5 < 8
        assert difference(dense[:, :, factor - 1 :: factor, ::factor], normal) < CLOSE
    # A cell lies beside its training point; with the point in its centre it is within 1 of 255.
    dense = render(network, denser(plain, 3)).flatten(0, 1).permute(0, 3, 1, 2)
    around = torch.nn.functional.avg_pool2d(dense, 3, 1, 1)[:, :, 2::3, ::3].permute(0, 2, 3, 1)
    inside = (around - normal.flatten(0, 1))[:, 1:-1, 1:-1]
    assert float(inside.abs().mean()) * 127.5 < 1


@pytest.mark.parametrize("zoom", [1.5, 2.0])
def test_the_centre_of_a_wider_frame_is_the_normal_frame(network, codes, zoom):
    plain = long_video(codes, CLIP, 2)
    normal, wide = render(network, plain), render(network, wider(plain, zoom))
    side = round(64 * zoom)
    edge = (side - 64) // 2
    assert wide.shape == (2, 2, side, side, 3)
    assert difference(wide[:, :, edge : edge + 64, edge : edge + 64], normal) < CLOSE
    both = render(network, wider(denser(plain, 2), zoom))
    centre = both[:, :, 2 * edge : 2 * (edge + 64), 2 * edge : 2 * (edge + 64)]
    assert difference(centre, render(network, denser(plain, 2))) < CLOSE


def test_density_and_zoom_add_up(codes):
    plain = single_frame(codes, 0.0)
    assert denser(denser(plain, 2), 4).grid.density == 8
    assert wider(wider(plain, 1.5), 2.0).grid.zoom == 3.0
    assert denser(plain, 3).codes is codes
    for zoom in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DiganError, match="the zoom must be a positive number"):
            wider(plain, zoom)
    with pytest.raises(DiganError, match="density of the grid must be at least 1, got 0"):
        denser(plain, 0)


# ---------------------------------------------------------------- motion, classes, walks


def test_two_motions_of_one_content(network):
    t = frame_times(CLIP, CLIP)
    shot = two_motions(network, 5, [20, 21], t)
    first, second = render(network, shot)
    assert difference(first[0], second[0]) < CLOSE  # at t = 0 no motion has happened
    assert float((first[-1] - second[-1]).abs().mean()) > 1e-3
    alone = render(network, Shot(seed_codes(network, [5], [21]), SpaceTimeGrid(t)))
    assert difference(alone[0], second) < CLOSE


def test_a_sweep_shows_every_class():
    network = tiny_network(num_classes=3)
    t = frame_times(2, CLIP)
    sweep = class_sweep(network, 7, t, motion_seed=2, truncation=0.8)
    assert sweep.videos == 3
    for label, video in enumerate(render(network, sweep)):
        own = seed_codes(network, [7], [2], [label], truncation=0.8)
        assert difference(video[None], render(network, Shot(own, SpaceTimeGrid(t)))) < CLOSE
    some = render(network, class_sweep(network, 7, t, motion_seed=2, truncation=0.8, classes=[2]))
    assert difference(some, render(network, sweep)[2:]) < CLOSE
    for wanted in (-1, 3):
        with pytest.raises(DiganError, match=f"class must be in 0 to 2, got {wanted}"):
            class_sweep(network, 7, t, classes=[wanted])
    with pytest.raises(DiganError, match="not class-conditional"):
        class_sweep(tiny_network(), 7, t)


def test_a_walk_passes_its_stops(network):
    stops = seed_codes(network, [1, 4, 9])
    t = torch.tensor(np.sort(np.random.default_rng().uniform(0, 1, 9)))
    shot = walk(stops, t)
    assert (shot.videos, shot.frames, len(shot.codes)) == (1, 9, 9)
    for frame, stop in ((0, 0), (4, 1), (8, 2)):
        assert torch.equal(shot.codes.ws[frame], stops.ws[stop])
        assert torch.equal(shot.codes.z_motion[frame], stops.z_motion[stop])
    middle = interpolate_codes(
        stops.take(slice(1, 2)), stops.take(slice(2, 3)), torch.tensor([0.25])
    )
    torch.testing.assert_close(shot.codes.ws[5:6], middle.ws)
    torch.testing.assert_close(shot.codes.z_motion[5:6], middle.z_motion)
    frames = render(network, shot)
    assert frames.shape == (1, 9, 64, 64, 3)
    for n in range(9):  # frame n is code n at time n
        alone = render(network, single_frame(shot.codes.take(slice(n, n + 1)), float(t[n])))
        assert difference(frames[:, n : n + 1], alone) < CLOSE


def test_walks_of_one_code_keep_the_other(network):
    stops = seed_codes(network, [1, 4])
    t = torch.full((6,), 0.8, dtype=torch.float64)
    content, motion = content_walk(stops, t), motion_walk(stops, t)
    assert torch.equal(content.codes.z_motion, stops.z_motion[:1].expand(6, -1))
    assert torch.equal(content.codes.ws[-1], stops.ws[1])
    assert torch.equal(motion.codes.ws, stops.ws[:1].expand(6, -1, -1))
    assert torch.equal(motion.codes.z_motion[-1], stops.z_motion[1])
    # On a third stop, too, the other code is the first one's.
    three = content_walk(seed_codes(network, [1, 4, 6]), t)
    assert torch.equal(three.codes.z_motion, stops.z_motion[:1].expand(6, -1))


@pytest.mark.parametrize("stops", [2, 3, 5])
def test_a_closed_walk_leads_back_to_its_start(network, stops):
    t = torch.full((4 * stops,), 0.5, dtype=torch.float64)
    path = seed_codes(network, list(range(stops)))
    closed = walk(path, t, closed=True)
    for leg in range(stops):
        assert torch.equal(closed.codes.ws[4 * leg], path.ws[leg])
    frames = render(network, closed)[0]
    steps = [float((a - b).abs().mean()) for a, b in itertools.pairwise([*frames, frames[0]])]
    assert 0 < steps[-1] < 2 * max(steps[:-1])  # the seam is a step like the others
    assert steps[-1] > 0.2 * min(steps[:-1])


def test_walks_in_chunks(network):
    stops = seed_codes(network, [1, 4, 9])
    shot = denser(walk(stops, frame_times(11, CLIP), closed=True), 2)
    whole = shown(network, shot)
    assert whole.shape == (1, 11, 128, 128, 3)
    for chunk in (1, 4, 50):
        sizes = [piece.shape[1] for piece in stream(network, shot, chunk=chunk)]
        assert max(sizes) == min(chunk, 11)
        assert furthest(shown(network, shot, chunk=chunk), whole) <= 1


def test_walks_that_cannot_be(network, codes):
    t = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(DiganError, match="at least 2 stops, got 1"):
        walk(codes.take(slice(1)), t)
    with pytest.raises(ValueError, match="codes along time must be one a frame, 3, got 2"):
        Shot(codes, SpaceTimeGrid(t), along_time=True)
    with pytest.raises(ValueError, match=r"t of a shot must be \[T\], got \[2, 3\]"):
        Shot(codes, SpaceTimeGrid(t.expand(2, 3)))


def test_more_stops_than_frames(network):
    """Legs too short for a frame are passed over."""
    stops = seed_codes(network, list(range(6)))
    shot = walk(stops, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(shot.codes.ws[0], stops.ws[0])
    assert torch.equal(shot.codes.ws[2], stops.ws[5])
    single = walk(stops, torch.zeros(1, dtype=torch.float64))
    assert torch.equal(single.codes.ws[0], stops.ws[0])
