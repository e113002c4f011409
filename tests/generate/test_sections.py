"""Every section of the result page is a flag: the files hold what the flag says."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from digan.data.video import decode_frames
from digan.synthesis import difference, resample
from digan.synthesis.marks import RED
from tests.command_line import Digan, command
from tests.tiny_runs import CLASSES, network_file, tiny_network


@pytest.fixture
def digan(capsys) -> Digan:
    return command(capsys)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return network_file(tmp_path_factory.mktemp("net") / "net.safetensors", tiny_network())


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("net") / "cond.safetensors"
    return network_file(path, tiny_network(num_classes=2), classes=CLASSES)


@pytest.fixture
def made(digan, network, tmp_path):
    """Frames of the only file of a request, as signed integers, and its name."""
    count = itertools.count()

    def make(*flags: object, of: Path = network) -> tuple[np.ndarray, str]:
        out = tmp_path / str(next(count))
        said = digan("generate", "--network", of, "--outdir", out, "--format", "npz", *flags)
        assert said.status == 0, said.err
        (path,) = out.iterdir()
        return np.load(path)["frames"].astype(np.int16), path.stem

    return make


def is_red(frames: np.ndarray) -> np.ndarray:
    return (frames == RED).all(axis=-1)


# ---------------------------------------------------------------- time


def test_a_time_curve_spreads_the_same_frames_over_the_same_time(made):
    plain, _ = made("--time-density", 8)
    assert len(plain) == 33
    slow, _ = made("--time-density", 8, "--time-curve", "slow-middle")
    assert slow.shape == plain.shape
    for n in (0, 16, 32):  # both curves meet at the ends and in the middle
        assert np.abs(slow[n] - plain[n]).max() <= 1
    change = np.abs(np.diff(slow, axis=0)).mean(axis=(1, 2, 3))
    assert change[15:17].mean() < 0.5 * change[[0, 1, -2, -1]].mean()
    points, _ = made("--time-density", 8, "--time-curve", "0:0,1:1")
    assert np.abs(points - plain).max() <= 1


def test_there_and_back(made):
    there, _ = made("--frames", 5)
    frames, _ = made("--frames", 5, "--time-density", 2, "--time-curve", "ping-pong")
    assert np.abs(frames - frames[::-1]).max() <= 1
    assert np.abs(frames[:5] - there).max() <= 1


def test_loops_close(made):
    for flags in (("--frames", 12), ("--frames", 12, "--time-curve", "ping-pong")):
        frames, _ = made("--loop", *flags, "--t-end", 1.5)
        assert len(frames) == 12
        again = np.concatenate([frames, frames[:1]])
        change = np.abs(np.diff(again, axis=0)).mean(axis=(1, 2, 3))
        assert change[-1] == pytest.approx(change[0], abs=0.05)  # there as back
        assert (change > 0).all()


def test_red_boxes_tell_what_is_beyond_the_clip(made):
    flags = ("--frames", 9, "--t-start", -0.5, "--t-end", 1.5)
    plain, _ = made(*flags)
    marked, _ = made(*flags, "--mark")
    outside = [True, True, False, False, False, False, False, True, True]
    assert is_red(marked)[:, 0].all(axis=1).tolist() == outside
    assert is_red(marked)[:, :, -1].all(axis=1).tolist() == outside
    assert np.array_equal(marked[:, 1:-1, 1:-1], plain[:, 1:-1, 1:-1])
    assert np.array_equal(marked[2:7], plain[2:7])
    for chunk in (1, 4):  # which frames are marked does not depend on chunks
        other, _ = made(*flags, "--mark", "--chunk", chunk)
        assert np.abs(other - marked).max() <= 1


# ---------------------------------------------------------------- space


def test_a_red_box_round_the_training_square(made):
    plain, _ = made("--frames", 2, "--zoom", 1.5, "--size", 64)
    marked, _ = made("--frames", 2, "--zoom", 1.5, "--size", 64, "--mark")
    assert np.array_equal(marked[:, 16:80, 16:80], plain[:, 16:80, 16:80])
    assert is_red(marked)[:, 14:16, 14:82].all()
    assert np.array_equal(marked[:, :14], plain[:, :14])


def test_beside_plain_enlargements(made):
    small, _ = made("--frames", 2, "--seeds", 4)
    large, _ = made("--frames", 2, "--seeds", 4, "--size", 96)
    frames, _ = made("--frames", 2, "--seeds", 4, "--size", 96, "--compare")
    assert frames.shape == (2, 96, 4 * 96, 3)
    for place, how in enumerate(("nearest", "bilinear", "bicubic")):
        expected = resample(small.astype(np.uint8), 96, how)
        assert np.abs(frames[:, :, 96 * place : 96 * (place + 1)] - expected).max() <= 1
    assert np.abs(frames[:, :, -96:] - large).max() <= 1
    wide, _ = made("--frames", 1, "--size", 64, "--compare", "--zoom", 1.5, "--mark")
    assert wide.shape == (1, 96, 4 * 96, 3)
    assert is_red(wide)[0, 15, 20:76].all()
    assert is_red(wide)[0, 15, -76:-20].all()


# ---------------------------------------------------------------- motion, classes, walks


def test_two_motions_and_their_difference(made):
    flags = ("--seeds", 6, "--frames", 5, "--t-end", 40)  # late: the tiny network moves little
    first, _ = made(*flags, "--motion-seeds", 1)
    second, _ = made(*flags, "--motion-seeds", 2)
    frames, name = made(*flags, "--motion-seeds", "1,2", "--difference")
    assert name == "seed0006-motion0001-to-seed0006-motion0002-difference"
    assert frames.shape == (5, 32, 96, 3)
    assert np.array_equal(frames[:, :, :32], first)
    assert np.array_equal(frames[:, :, 32:64], second)
    apart = difference(first.astype(np.uint8), second.astype(np.uint8))
    assert np.array_equal(frames[:, :, 64:], apart)
    assert apart[0].max() <= 4  # nothing has moved at t = 0
    assert apart[-1].max() > 20
    both, _ = made(*flags, "--motion-seeds", "1,2", "--difference", "--size", 64, "--compare")
    assert both.shape == (5, 64, 9 * 64, 3)


def test_a_row_for_every_class(made, conditional):
    frames, name = made("--class", "all", "--seeds", "3-5", "--grid", "3x2", of=conditional)
    assert name == "gridseed0003-class0-seed0005-class1"
    assert frames.shape == (5, 64, 96, 3)
    for row in range(2):
        for column in range(3):
            alone, _ = made("--class", row, "--seeds", 3 + column, of=conditional)
            place = frames[:, 32 * row : 32 * (row + 1), 32 * column : 32 * (column + 1)]
            assert np.array_equal(place, alone)


def test_walks_begin_and_end_at_their_seeds(made):
    flags = ("--frames", 7, "--t-start", 0.8, "--t-end", 0.8)
    stops = {seed: made("--seeds", seed, *flags)[0] for seed in (2, 5, 9)}
    frames, name = made("--seeds", "2,5,9", "--walk", "both", *flags)
    assert name == "seed0002-to-seed0009-walk"
    for place, seed in ((0, 2), (3, 5), (6, 9)):
        assert np.abs(frames[place] - stops[seed][0]).max() <= 1
    content, name = made("--seeds", "2,5", "--walk", "content", *flags)
    assert name == "seed0002-to-seed0005-content-walk"
    expected, _ = made("--seeds", 5, "--motion-seeds", 2, *flags)
    assert np.abs(content[-1] - expected[0]).max() <= 1
    motion, name = made("--seeds", 2, "--motion-seeds", "2,5", "--walk", "motion", *flags)
    assert name == "seed0002-motion0002-to-seed0002-motion0005-motion-walk"
    expected, _ = made("--seeds", 2, "--motion-seeds", 5, *flags)
    assert np.abs(motion[-1] - expected[0]).max() <= 1


def test_a_walk_that_loops(made):
    frames, _ = made("--seeds", "2,5,9", "--walk", "both", "--loop", "--frames", 24, "--t-end", 1)
    again = np.concatenate([frames, frames[:1]])
    change = np.abs(np.diff(again, axis=0)).mean(axis=(1, 2, 3))
    assert change[-1] < 2 * change[:-1].max()
    assert change[-1] < 0.5 * np.abs(frames[8] - frames[0]).mean()


def test_a_walk_in_every_class(made, conditional):
    flags = ("--seeds", "1,2", "--walk", "content", "--frames", 3)
    frames, _ = made("--class", "all", "--grid", "1x2", *flags, of=conditional)
    assert frames.shape == (3, 64, 32, 3)
    noon, _ = made("--class", "noon", *flags, of=conditional)
    assert np.array_equal(frames[:, 32:], noon)


# ---------------------------------------------------------------- together, and what cannot be


def test_sections_reach_every_format(digan, network, tmp_path):
    said = digan("generate", "--network", network, "--outdir", tmp_path, "--seeds", "0,1",
                 "--difference", "--mark", "--frames", 7, "--size", 64,
                 "--format", "mp4,gif,png,npz,sheet")  # fmt: skip
    assert said.status == 0
    stem = "seed0000-to-seed0001-difference"
    exact = np.load(tmp_path / f"{stem}.npz")["frames"]
    assert exact.shape == (7, 64, 192, 3)
    played = np.stack([frame.image for frame in decode_frames(tmp_path / f"{stem}.mp4")])
    assert np.abs(played.astype(int) - exact).mean() < 8
    for n in range(7):
        picture = np.array(Image.open(tmp_path / stem / f"{n:06d}.png"))
        assert np.array_equal(picture, exact[n])
    assert len(said.out.splitlines()) == 5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--time-curve bounce", "time-curve must be one of linear, ease"),
        ("--time-curve 0:0,0.5:1", "must rise from 0 to 1 in playback"),
        ("--loop --time-curve ease", "--loop needs a time curve that returns"),
        ("--loop --frames 0", "the number of frames must be at least 1, got 0"),
        ("--t-start 1 --t-end 0.5 --time-curve ease", "the time range must not be reversed"),
        ("--t-end inf --loop", "the time range must be finite"),
        ("--walk both", "--walk needs at least two --seeds or --motion-seeds"),
        ("--walk both --difference --seeds 0,1", "cannot go together"),
        ("--difference", "--difference needs two videos"),
        ("--difference --seeds 0-2", "--difference needs two videos"),
        ("--compare", "--compare needs a --size above the network's resolution of 32"),
        ("--compare --size 32", "--compare needs a --size above"),
        ("--compare --size 8192", "pictures must be at most 16384 pixels a side, got 32768x8192"),
        ("--seeds 0-599 --grid 600x1", "pictures must be at most 16384 pixels a side, got 19200"),
        ("--class all", "the network is not class-conditional: leave out --class"),
        ("--seeds 0,1 --difference --grid 1x1 --zoom -1", "zoom must be a positive number"),
    ],
)
def test_requests_that_cannot_be(digan, network, tmp_path, flags, sentence):
    said = digan("generate", "--network", network, "--outdir", tmp_path / "o", *flags.split())
    assert said.status == 1
    assert sentence in said.error
    assert not (tmp_path / "o").exists()  # nothing was begun


def test_more_walks_than_a_grid_holds(digan, conditional, tmp_path):
    said = digan("generate", "--network", conditional, "--outdir", tmp_path / "o", "--seeds",
                 "0,1", "--walk", "both", "--class", "all", "--grid", "1x1")  # fmt: skip
    assert (said.status, said.error) == (1, "a grid of 1x1 holds 1 videos, got 2")


def test_wrong_walks_are_wrong_usage(digan, network):
    said = digan("generate", "--network", network, "--walk", "random")
    assert said.status == 2


def test_no_h264_encoder(digan, network, tmp_path, monkeypatch):
    def no_encoder(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", no_encoder)
    said = digan("generate", "--network", network, "--outdir", tmp_path, "--frames", 2)
    assert said.status == 1
    assert said.error.startswith("no H.264 encoder: this installation of PyAV")
    assert list(tmp_path.iterdir()) == []
    said = digan("generate", "--network", network, "--outdir", tmp_path, "--format", "npz",
                 "--frames", 2)  # fmt: skip
    assert said.status == 0


def test_a_file_in_the_way(digan, network, tmp_path):
    (tmp_path / "seed0000.mp4").mkdir()
    said = digan("generate", "--network", network, "--outdir", tmp_path, "--frames", 2)
    assert said.status == 1
    assert "seed0000.mp4 cannot be written" in said.error


def test_frames_of_2048_pixels(digan, network, tmp_path):
    """One frame, in strips: nothing as large as an activation of all of it is allocated."""
    torch.manual_seed(0)
    said = digan("generate", "--network", network, "--outdir", tmp_path, "--frames", 1, "--size",
                 2048, "--format", "png")  # fmt: skip
    assert said.status == 0
    with Image.open(tmp_path / "seed0000" / "000000.png") as picture:
        assert picture.size == (2048, 2048)
        large = np.asarray(picture).astype(int)
    said = digan("generate", "--network", network, "--outdir", tmp_path / "n", "--frames", 1,
                 "--format", "png")  # fmt: skip
    normal = np.asarray(Image.open(tmp_path / "n" / "seed0000" / "000000.png")).astype(int)
    assert np.abs(large[63::64, ::64] - normal).max() <= 1  # the points that both have
