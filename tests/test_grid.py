"""Where a video is evaluated: times, axes, zoom and density."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digan.errors import DiganError
from digan.grid import BASE_SIZE, SpaceTimeGrid, frame_times

WIDE = torch.zeros(1, dtype=torch.float64)
NARROW = torch.zeros(1, dtype=torch.float32)
SIZES = (32, 64, 128, 256)


def grid(**settings) -> SpaceTimeGrid:
    return SpaceTimeGrid(torch.zeros(1), **settings)


# ---------------------------------------------------------------- time


def test_training_frames_span_the_unit_interval():
    """Frame i of a clip of N lies at i/(N-1): 0 first, 1 last, exactly."""
    for clip_frames in (2, 16, 128):
        t = frame_times(clip_frames, clip_frames)
        assert t.dtype == torch.float64
        assert t.tolist() == [i / (clip_frames - 1) for i in range(clip_frames)]
        assert (t[0], t[-1]) == (0, 1)


def test_more_frames_than_a_clip_run_beyond_one():
    """Extrapolation at training speed: the first N are the clip's, bit by bit."""
    t = frame_times(40, 16)
    assert torch.equal(t[:16], frame_times(16, 16))
    assert t[-1] == 39 / 15
    assert t[16] > 1


@given(
    frames=st.integers(1, 40),
    clip_frames=st.integers(2, 200),
    density=st.integers(1, 9),
    t_start=st.sampled_from([0.0, 0.25, -0.3, 1.1]),
    t_end=st.sampled_from([None, 1.0, 1.7]),
)
def test_denser_time_contains_the_frames_bitwise(frames, clip_frames, density, t_start, t_end):
    """k-fold of n frames: k(n-1)+1 frames, every k-th of which is one of the n, exactly."""
    settings = {"t_start": t_start, "t_end": None if t_end is None else t_start + t_end}
    normal = frame_times(frames, clip_frames, **settings)
    dense = frame_times(frames, clip_frames, time_density=density, **settings)
    assert len(normal) == frames
    assert len(dense) == density * (frames - 1) + 1
    assert torch.equal(dense[::density], normal)
    assert (dense.diff() > 0).all()


def test_a_given_end_is_the_originals_linspace():
    """t_end spreads the frames evenly over the range, both ends included."""
    assert frame_times(5, 16, t_end=1.0).tolist() == [0, 0.25, 0.5, 0.75, 1]
    t = frame_times(7, 16, t_start=0.1, t_end=0.7)
    assert t.tolist() == pytest.approx(torch.linspace(0.1, 0.7, 7, dtype=torch.float64).tolist())
    assert t[0] == 0.1
    assert frame_times(1, 16, t_start=0.3, t_end=0.9).tolist() == [0.3]
    assert frame_times(3, 16, t_start=0.3, t_end=0.3).tolist() == [0.3] * 3


def test_start_shifts_all_frames():
    assert frame_times(3, 5, t_start=0.5).tolist() == [0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "number of frames must be at least 1, got 0"),
        ({"frames": -3}, "number of frames must be at least 1, got -3"),
        ({"clip_frames": 1}, "at least 2 frames, got 1"),
        ({"time_density": 0}, "time density must be at least 1, got 0"),
        ({"t_start": math.nan}, "time range must be finite"),
        ({"t_start": math.inf}, "time range must be finite"),
        ({"t_end": math.nan}, "time range must be finite"),
        ({"t_start": 0.5, "t_end": 0.25}, "must not be reversed, got 0.5 to 0.25"),
    ],
)
def test_impossible_times(arguments, message):
    """Counts below one and ranges that are no range are refused, with what came."""
    with pytest.raises(DiganError, match=message):
        frame_times(**{"frames": 4, "clip_frames": 16, **arguments})


def test_times_of_a_batch():
    """[T] is shared by all videos, [B, T] must fit; cast once to the network's dtype."""
    t = frame_times(5, 16)
    shared = SpaceTimeGrid(t).times(3, NARROW)
    assert shared.shape == (3, 5)
    assert shared.dtype == torch.float32
    assert torch.equal(shared[2], t.float())
    own = torch.stack([t, t + 1])
    assert torch.equal(SpaceTimeGrid(own).times(2, WIDE), own)
    with pytest.raises(ValueError, match=r"t must be \[T\] or \[3, T\], got \[2, 5\]"):
        SpaceTimeGrid(own).times(3, WIDE)


# ---------------------------------------------------------------- space


@pytest.mark.parametrize("size", SIZES)
def test_axes_are_left_edges(size):
    """x_i = 2i/S - 1 exactly, 1 is never reached; y is the same table upside down."""
    y, x = grid().axes(size, WIDE)
    assert x.tolist() == [2 * i / size - 1 for i in range(size)]
    assert torch.equal(y, x.flip(0))
    assert x[0] == -1
    assert x[-1] == y[0] == 1 - 2 / size


@pytest.mark.parametrize("density", [2, 3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_density_keeps_the_training_coordinates(size, density):
    """They are the left column and the bottom row of each s x s cell, bit by bit."""
    y, x = grid().axes(size, NARROW)
    dense_y, dense_x = grid(density=density).axes(size, NARROW)
    assert len(dense_x) == len(dense_y) == density * size
    assert torch.equal(dense_x[::density], x)
    assert torch.equal(dense_y[density - 1 :: density], y)
    assert (dense_x.min(), dense_x.max() < 1) == (-1, True)


@pytest.mark.parametrize("density", [1, 3])
@pytest.mark.parametrize("zoom", [0.25, 0.6, 1.0, 1.01, 1.5, 2.0, 3.3])
@pytest.mark.parametrize("size", SIZES)
def test_zoom_keeps_the_floats_of_the_centre(size, zoom, density):
    """Outwards the training axis is the middle of the wide one; inwards the reverse."""
    wide = grid(zoom=zoom, density=density)
    extra = density * wide.margin * size // BASE_SIZE
    for wider, normal in zip(
        wide.axes(size, NARROW), grid(density=density).axes(size, NARROW), strict=True
    ):
        assert len(wider) == len(normal) + 2 * extra
        if extra >= 0:
            assert torch.equal(wider[extra : len(wider) - extra], normal)
        else:
            assert torch.equal(wider, normal[-extra:extra])
        assert torch.allclose(wider.diff().abs(), torch.tensor(2 / (density * size)), atol=1e-6)


@pytest.mark.parametrize(
    ("zoom", "margin"),
    [(1.0, 0), (1.01, 1), (1.0625, 1), (1.07, 2), (1.5, 8), (2.0, 16), (0.5, -8), (0.01, -15)],
)
def test_margin(zoom, margin):
    """ceil(16(z-1)) cells of the 32 grid on each side."""
    assert grid(zoom=zoom).margin == margin
    y, _ = grid(zoom=zoom).axes(32, WIDE)
    assert len(y) == 32 + 2 * margin


@pytest.mark.parametrize(
    ("zoom", "density", "size"),
    [(1, 1, 128), (1, 3, 384), (2, 1, 256), (1.5, 2, 384), (1.01, 1, 130), (0.5, 1, 64)],
)
def test_frame_size(zoom, density, size):
    """s times 2*round(S*z/2), at S = 128."""
    assert grid(zoom=zoom, density=density).frame_size(128) == size


@given(
    zoom=st.floats(0.01, 6), density=st.integers(1, 4), resolution=st.sampled_from([32, 64, 128])
)
def test_the_crop_is_centred_and_covers_the_zoom(zoom, density, resolution):
    """The grid is never smaller than the frame, and equal edges are cut on all sides."""
    wide = grid(zoom=zoom, density=density)
    y, x = wide.axes(resolution, WIDE)
    assert len(x) == density * (resolution + 2 * wide.margin * resolution // 32)
    coordinates = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)[None, None]
    cut = wide.crop(coordinates, resolution)
    side = wide.frame_size(resolution)
    assert cut.shape == (1, 1, side, side, 2)
    # Left edges: the first and the last pixel of the training square are one step asymmetric.
    step = 2 / (density * resolution)
    first, last = float(cut[0, 0, 0, 0, 1]), float(cut[0, 0, 0, -1, 1])
    assert first == pytest.approx(-last - step)
    assert first == pytest.approx(-zoom, abs=2.1 / resolution)


@pytest.mark.parametrize("zoom", [0.0, -1.0, math.nan, math.inf])
def test_impossible_zoom(zoom):
    with pytest.raises(DiganError, match=f"zoom must be a positive number, got {zoom}"):
        grid(zoom=zoom)


@pytest.mark.parametrize("density", [0, -2])
def test_impossible_density(density):
    with pytest.raises(DiganError, match=f"density of the grid must be at least 1, got {density}"):
        grid(density=density)


@pytest.mark.parametrize("shape", [(), (2, 3, 1)])
def test_impossible_times_of_a_grid(shape):
    with pytest.raises(ValueError, match=r"t must be \[T\] or \[B, T\]"):
        SpaceTimeGrid(torch.zeros(shape))
