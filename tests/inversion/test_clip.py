"""Reading the clip to invert: from files and folders, cut, thinned, partly hidden, with noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from digan.data.images import square
from digan.data.video import VideoWriter, decode_frames
from digan.errors import DiganError
from digan.inversion import Clip, noisy, parse_frames, read_clip
from tests.data.clips import picture, write_clip

COUNT = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", COUNT)


@pytest.fixture(scope="module")
def pictures():
    return np.stack([square(picture(t), 32) for t in range(COUNT)])


def test_a_video_is_cut_to_its_square(video, pictures):
    clip = read_clip(video, 32, 8)
    assert np.array_equal(clip.frames, pictures[:8])
    assert torch.equal(clip.t, torch.arange(8, dtype=torch.float64) / 7)
    assert clip.observed.all()
    assert (clip.fps, clip.source, clip.given) == (10, str(video), None)
    assert clip.seen is clip.frames
    assert np.array_equal(clip.frames[0], square(next(iter(decode_frames(video))).image, 32))


def test_a_shorter_video_is_taken_whole(video, pictures):
    clip = read_clip(video, 32, 128)
    assert np.array_equal(clip.frames, pictures)
    assert clip.t[-1] == pytest.approx((COUNT - 1) / 127)


def test_start_stride_and_frames(video, pictures):
    clip = read_clip(video, 32, 8, start=2, stride=3, frames=3, observe="0,2")
    assert np.array_equal(clip.frames, pictures[[2, 5, 8]])
    assert clip.observed.tolist() == [True, False, True]
    assert clip.indices == [0, 2]
    assert clip.fps == pytest.approx(10 / 3)


def test_times_can_be_chosen(video):
    clip = read_clip(video, 32, 8, frames=4, t_start=-0.25, time_step=0.5)
    assert clip.t.tolist() == [-0.25, 0.25, 0.75, 1.25]


def test_a_folder_of_pictures_in_natural_order(tmp_path, pictures):
    for t in range(COUNT):
        Image.fromarray(picture(t)).save(tmp_path / f"frame{t}.png")
    clip = read_clip(tmp_path, 32, 20, start=1)
    assert np.array_equal(clip.frames, pictures[1:])
    assert clip.fps == 0


def test_a_gif(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 10) as writer:
        for t in range(4):
            writer.write(picture(t, 32, 32))
    clip = read_clip(tmp_path / "a.gif", 32, 4)
    wanted = np.stack([picture(t, 32, 32) for t in range(4)]).astype(float)
    assert np.abs(clip.frames - wanted).mean() < 12


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3", [0, 1, 2, 3]), ("0-9:3", [0, 3, 6, 9]), ("5", [5]), ("7, 0-1 ,1", [0, 1, 7]),
     ("0-8:3", [0, 3, 6])],
)  # fmt: skip
def test_numbers_of_frames(text, numbers):
    assert parse_frames(text, 10) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "observe must look like 0-7, 0-14:2 or 0,3,9-12, got ''"),
        ("0-4:0", "observe must look like 0-7, 0-14:2 or 0,3,9-12, got '0-4:0'"),
        ("-1", "observe must look like 0-7, 0-14:2 or 0,3,9-12, got '-1'"),
        ("3:2", "observe must look like 0-7, 0-14:2 or 0,3,9-12, got '3:2'"),
        ("1,7-2", "observe must not be reversed, got '7-2'"),
        ("0,8-10", "observe must be frames of the clip, 0 to 9, got '8-10'"),
        ("10", "observe must be frames of the clip, 0 to 9, got '10'"),
    ],
)
def test_numbers_that_cannot_be(text, message):
    with pytest.raises(DiganError) as error:
        parse_frames(text, 10)
    assert str(error.value) == message


def test_clips_that_cannot_be(video, tmp_path):
    one = write_clip(tmp_path / "one.mkv", 1)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for path, options, message in [
        (tmp_path / "none.mp4", {}, f"the video {tmp_path / 'none.mp4'} does not exist"),
        (tmp_path / "text.mp4", {}, f"{tmp_path / 'text.mp4'} is no video: "),
        (tmp_path / "empty", {}, f"the folder {tmp_path / 'empty'} holds no pictures"),
        (one, {}, f"a clip must have at least 2 frames, {one} has 1"),
        (video, {"start": 11}, f"a clip must have at least 2 frames, {video} has 1 from 11 on"),
        (video, {"start": 99}, f"a clip must have at least 2 frames, {video} has 0 from 99 on"),
        (video, {"frames": 13}, f"frames must be at most 12 for {video}, got 13"),
        (video, {"frames": 4, "start": 2, "stride": 5},
         f"frames must be at most 2 for {video} from 2 on, every 5th, got 4"),
        (video, {"frames": 1}, "frames must be at least 2, got 1"),
        (video, {"start": -1}, "start must be at least 0, got -1"),
        (video, {"stride": 0}, "stride must be at least 1, got 0"),
        (video, {"time_step": 0.0}, "the time step must be a positive number, got 0.0"),
        (video, {"time_step": math.nan}, "the time step must be a positive number, got nan"),
        (video, {"t_start": math.inf}, "the time of the first frame must be finite, got inf"),
        (video, {"observe": "0-8"}, "observe must be frames of the clip, 0 to 7, got '0-8'"),
    ]:  # fmt: skip
        with pytest.raises(DiganError) as error:
            read_clip(path, 32, 8, **options)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


def test_a_clip_checks_itself():
    frames, t = np.zeros((3, 8, 8, 3), np.uint8), torch.arange(3, dtype=torch.float64)
    seen = np.ones(3, bool)
    with pytest.raises(DiganError, match="at least one frame of a clip must be observed, got none"):
        Clip(frames, t, ~seen)
    with pytest.raises(DiganError, match="a clip must have at least 2 frames, a clip has 1"):
        Clip(frames[:1], t[:1], seen[:1])
    for wrong in [
        (frames.astype(np.float32), t, seen), (frames[0], t, seen), (frames, t[:2], seen),
        (frames, t, seen[:2]), (frames, t, seen, 0.0, "", frames[:2]),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            Clip(*wrong)


def test_noise_is_of_the_size_and_leaves_the_truth(video):
    clip = read_clip(video, 32, 8)
    assert noisy(clip, 0, 1) is clip
    seen, again, other = (noisy(clip, 12, seed) for seed in (1, 1, 2))
    assert np.array_equal(seen.frames, clip.frames)
    assert np.array_equal(seen.seen, again.seen)
    assert not np.array_equal(seen.seen, other.seen)
    middle = (clip.frames > 60) & (clip.frames < 195)  # where nothing is clipped
    apart = (seen.seen.astype(float) - clip.frames)[middle]
    assert abs(apart.mean()) < 0.5
    assert 11.5 < apart.std() < 12.5
    for sigma in (-1.0, math.nan, math.inf):
        with pytest.raises(DiganError, match="noise must be 0 or more levels of 255"):
            noisy(clip, sigma, 0)
