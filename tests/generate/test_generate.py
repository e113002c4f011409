"""`digan generate`: what is asked for, what the files are called, and what is in them."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from digan.cli import main
from digan.config import GeneratorConfig
from digan.data.video import decode_frames, probe
from digan.errors import DiganError
from digan.generate import (
    Request,
    Video,
    check_formats,
    choose_videos,
    density_of,
    open_network,
    parse_classes,
    render_files,
    request_times,
)
from digan.grid import frame_times
from digan.nn import VideoINR
from digan.nn.snapshot import NetworkInfo
from digan.ranges import parse_grid, parse_seeds
from digan.synthesis import streaming
from tests.tiny_runs import CLASSES, network_file, tiny_network

CLIP = 5
PLAIN = NetworkInfo(generator=GeneratorConfig(resolution=32), clip_frames=CLIP, fps=10.0)
NAMED = replace(
    PLAIN, generator=GeneratorConfig(resolution=32, num_classes=3), classes=("dawn", "noon", "9pm")
)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return network_file(tmp_path_factory.mktemp("net") / "net.safetensors", tiny_network())


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("net") / "cond.safetensors"
    return network_file(path, tiny_network(num_classes=2), classes=CLASSES)


def generate(network: Path, outdir: Path, *flags: object) -> list[Path]:
    """The command line; the files it wrote, in order."""
    words = ["generate", "--network", network, "--outdir", outdir, *flags]
    before = set(outdir.rglob("*"))
    assert main([str(word) for word in words]) == 0
    return sorted(path for path in set(outdir.rglob("*")) - before if path.is_file())


def frames_of(network: Path, outdir: Path, *flags: object) -> np.ndarray:
    """The frames of the only video, without loss, as signed integers."""
    (path,) = generate(network, outdir, "--format", "npz", *flags)
    return np.asarray(np.load(path)["frames"]).astype(np.int16)


# ---------------------------------------------------------------- what was asked for


def test_seeds_are_inclusive_ranges():
    assert parse_seeds("3") == [3]
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7, 0-1 ,7") == [7, 0, 1, 7]
    for text in ("", "-1", "1-", "a", "1.5", "1,,2", "1--2"):
        with pytest.raises(DiganError, match="seeds must look like"):
            parse_seeds(text)
    with pytest.raises(DiganError, match="class must not be reversed, got '3-1'"):
        parse_seeds("0,3-1", "class")
    for text in ("0-9999999", "0-600000,0-600000,0"):
        with pytest.raises(DiganError, match="must be at most 1,000,000"):
            parse_seeds(text)


def test_grids_are_columns_by_rows():
    assert parse_grid("6x4") == (6, 4)
    for text in ("6", "0x4", "4x0", "axb", "6x4x2", "-1x2"):
        with pytest.raises(DiganError, match="grid must be COLUMNSxROWS"):
            parse_grid(text)


def pairs(videos: list[Video]) -> list[tuple[int, int]]:
    return [(video.seed, video.motion_seed) for video in videos]


def test_seeds_and_motion_seeds_go_together_or_one_with_all():
    assert pairs(choose_videos(PLAIN, [4, 5], None, None)) == [(4, 4), (5, 5)]
    assert pairs(choose_videos(PLAIN, [4, 5], [8, 9], None)) == [(4, 8), (5, 9)]
    assert pairs(choose_videos(PLAIN, [4], [8, 9], None)) == [(4, 8), (4, 9)]
    assert pairs(choose_videos(PLAIN, [4, 5], [8], None)) == [(4, 8), (5, 8)]
    with pytest.raises(DiganError, match="equally many, or one of either, got 2 and 3"):
        choose_videos(PLAIN, [4, 5], [7, 8, 9], None)


def test_names_say_what_was_asked():
    def names(*arguments: Any) -> list[str]:
        return [video.name for video in choose_videos(*arguments)]

    assert names(PLAIN, [4, 12345], None, None) == ["seed0004", "seed12345"]
    assert names(PLAIN, [4], [8, 9], None) == ["seed0004-motion0008", "seed0004-motion0009"]
    assert names(NAMED, [4], None, [0, 2]) == ["seed0004-class0", "seed0004-class2"]
    assert names(NAMED, [4], [8], [1]) == ["seed0004-motion0008-class1"]


def test_classes_are_made_of_every_seed_or_taken_in_turn():
    found = choose_videos(NAMED, [4, 5], None, [2, 0])
    assert [(v.seed, v.label) for v in found] == [(4, 2), (5, 2), (4, 0), (5, 0)]
    in_turn = choose_videos(NAMED, [0, 1, 2, 3, 7], None, None)
    assert [v.label for v in in_turn] == [0, 1, 2, 0, 1]
    assert [v.label for v in choose_videos(PLAIN, [0, 1], None, None)] == [None, None]
    with pytest.raises(DiganError, match="not class-conditional"):
        choose_videos(PLAIN, [0], None, [0])
    for wanted in (-1, 3):
        with pytest.raises(DiganError, match=f"class must be in 0 to 2, got {wanted}"):
            choose_videos(NAMED, [0], None, [wanted])


def test_classes_have_names_and_numbers():
    assert parse_classes("noon", NAMED) == [1]
    assert parse_classes("2, dawn", NAMED) == [2, 0]
    assert parse_classes("0-2", NAMED) == [0, 1, 2]
    assert parse_classes("9pm", NAMED) == [2]  # a name that begins with a digit
    with pytest.raises(DiganError, match="one of dawn, noon, 9pm, got 'dusk'"):
        parse_classes("noon,dusk", NAMED)
    with pytest.raises(DiganError, match="one of none with a name, got 'dusk'"):
        parse_classes("dusk", PLAIN)


def test_sizes_are_multiples_of_the_training_size():
    assert [density_of(size, 32) for size in (None, 32, 64, 96)] == [1, 1, 2, 3]
    for size in (31, 33, 0, -32, 16):
        with pytest.raises(
            DiganError, match=f"multiple of the network's resolution of 32, got {size}"
        ):
            density_of(size, 32)


def test_times_of_a_request():
    def times(*arguments: Any) -> torch.Tensor:
        return request_times(PLAIN, *arguments)

    assert torch.equal(times(None, 0.0, None, 1), frame_times(CLIP, CLIP))  # a clip by default
    assert float(times(9, 0.0, None, 1)[-1]) == 2.0
    assert len(times(9, 0.0, None, 4)) == 33
    assert times(3, 0.5, 1.5, 1).tolist() == [0.5, 1.0, 1.5]


def test_formats():
    assert check_formats(["mp4", "gif", "mp4"]) == ("mp4", "gif")
    with pytest.raises(DiganError, match="got 'avi'"):
        check_formats(["mp4", "avi"])


# ---------------------------------------------------------------- what the files hold


def test_mp4_has_the_frames_asked_for_at_the_speed_asked_for(network, tmp_path):
    (path,) = generate(network, tmp_path, "--frames", 12, "--fps", 30)
    assert path == tmp_path / "seed0000.mp4"
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 32, 32)
    assert probe(path).fps == 30
    played = np.stack([frame.image for frame in decode_frames(path)]).astype(int)
    exact = frames_of(network, tmp_path, "--frames", 12, "--fps", 5)
    assert np.abs(played - exact).mean() < 6
    (own_speed,) = generate(network, tmp_path / "b")
    assert probe(own_speed).fps == 10  # the training data's
    assert len(list(decode_frames(own_speed))) == CLIP


def test_the_same_seed_is_the_same_video_whatever_is_made_with_it(network, tmp_path):
    """Any chunk, any company, any grid, any range of frames: within 1 of 255."""
    flags = ("--frames", 7)
    alone = frames_of(network, tmp_path / "alone", "--seeds", 5, *flags)
    for chunk in (1, 3, 50):
        out = tmp_path / f"chunk{chunk}"
        assert (
            np.abs(frames_of(network, out, "--seeds", 5, *flags, "--chunk", chunk) - alone).max()
            <= 1
        )

    generate(network, tmp_path / "many", "--seeds", "3-6", "--format", "npz", *flags)
    found = np.load(tmp_path / "many" / "seed0005.npz")["frames"].astype(np.int16)
    assert np.array_equal(found, alone)

    grid = frames_of(network, tmp_path / "grid", "--seeds", "3-5", "--grid", "2x2", *flags)
    assert grid.shape == (7, 64, 64, 3)
    assert np.array_equal(grid[:, 32:, :32], alone)
    assert not grid[:, 32:, 32:].any()  # an empty place is black

    longer = frames_of(network, tmp_path / "longer", "--seeds", 5, "--frames", 11)
    assert np.abs(longer[:7] - alone).max() <= 1
    dense = frames_of(network, tmp_path / "dense", "--seeds", 5, "--time-density", 3, *flags)
    assert dense.shape[0] == 3 * 6 + 1
    assert np.abs(dense[::3] - alone).max() <= 1
    last = frames_of(network, tmp_path / "last", "--seeds", 5, "--frames", 1, "--t-start", 6 / 4)
    assert np.abs(last[0] - alone[6]).max() <= 1


def test_motion_seeds_and_classes_reach_the_video(network, conditional, tmp_path):
    generate(network, tmp_path, "--seeds", 2, "--motion-seeds", "7-8", "--format", "npz")
    first, second = (
        np.load(tmp_path / f"seed0002-motion000{n}.npz")["frames"].astype(int) for n in (7, 8)
    )
    assert np.abs(first[0] - second[0]).max() <= 1
    assert np.abs(first[-1] - second[-1]).mean() > 0.3

    generate(conditional, tmp_path, "--seeds", "1", "--class", "noon,0", "--format", "npz")
    noon, dusk = (np.load(tmp_path / f"seed0001-class{n}.npz")["frames"] for n in (1, 0))
    assert np.abs(noon.astype(int) - dusk.astype(int)).mean() > 1
    generate(conditional, tmp_path, "--seeds", "1", "--format", "npz")
    assert np.array_equal(np.load(tmp_path / "seed0001.npz")["frames"], noon)  # in turn: 1 % 2


def test_truncation_reaches_the_video(network, tmp_path):
    flags = ("--frames", 2, "--motion-seeds", 0, "--trunc", 0)
    first = frames_of(network, tmp_path / "a", "--seeds", 1, *flags)
    assert np.abs(frames_of(network, tmp_path / "b", "--seeds", 2, *flags) - first).max() <= 1


def test_size_and_zoom(network, tmp_path):
    assert frames_of(network, tmp_path / "a", "--size", 96, "--frames", 1).shape[1:3] == (96, 96)
    training = frames_of(network, tmp_path / "b", "--frames", 1)
    wide = frames_of(network, tmp_path / "c", "--zoom", 1.5, "--frames", 1)
    assert np.abs(wide[:, 8:-8, 8:-8] - training).max() <= 1
    both = frames_of(network, tmp_path / "d", "--zoom", 1.5, "--size", 64, "--frames", 1)
    assert both.shape[1:3] == (96, 96)


def test_every_format_at_once(network, tmp_path):
    found = generate(network, tmp_path, "--seeds", 3, "--format", "mp4,gif,png,npz,sheet")
    assert {str(path.relative_to(tmp_path)) for path in found} == {
        "seed0003-sheet.png", "seed0003.gif", "seed0003.mp4", "seed0003.npz",
        *(f"seed0003/{n:06d}.png" for n in range(CLIP)),
    }  # fmt: skip
    exact = np.load(tmp_path / "seed0003.npz")["frames"]
    for n in range(CLIP):
        assert np.array_equal(np.array(Image.open(tmp_path / f"seed0003/{n:06d}.png")), exact[n])
    with Image.open(tmp_path / "seed0003.gif") as image:
        assert image.n_frames == CLIP
    sheet = np.array(Image.open(tmp_path / "seed0003-sheet.png"))
    assert np.array_equal(sheet[2:98:3, 2:98:3], exact[0])  # 32 pixels are shown as 96
    assert np.array_equal(sheet[2:98:3, 2 + 4 * 98 : 98 + 4 * 98 : 3], exact[4])


def test_grids_are_named_after_their_first_and_last(network, tmp_path):
    for flags, name in (
        (("--seeds", "2-4", "--grid", "3x1"), "gridseed0002-seed0004.mp4"),
        (("--seeds", "2", "--grid", "1x1"), "gridseed0002.mp4"),
    ):
        (path,) = generate(network, tmp_path, "--frames", 2, *flags)
        assert path.name == name


def test_a_grid_that_is_too_small_writes_nothing(network, tmp_path):
    generator, info = open_network(str(network), device="cpu")
    request = Request(t=frame_times(2, CLIP), fps=5, outdir=tmp_path / "out")
    videos = choose_videos(info, range(5), None, None)
    with pytest.raises(DiganError, match="a grid of 2x2 holds 4 videos, got 5"):
        render_files(generator, videos, request, (2, 2), progress=False)
    assert not (tmp_path / "out").exists()


def test_open_network_takes_precision_and_device(network):
    generator, info = open_network(str(network), precision="bf16", device="cpu")
    assert generator.compute_dtype == torch.bfloat16
    assert info.clip_frames == CLIP
    exact, _ = open_network(str(network), device="cpu")
    assert exact.compute_dtype is None
    with pytest.raises(DiganError, match="--fused-kernels cannot be kept"):
        open_network(str(network), kernels="fused", device="cpu")


def test_low_precision_is_close(network, tmp_path):
    exact = frames_of(network, tmp_path / "a", "--frames", 2)
    coarse = frames_of(network, tmp_path / "b", "--frames", 2, "--precision", "bf16")
    assert 0 < np.abs(coarse - exact).mean() < 4


# ---------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_number_of_frames(network, tmp_path, monkeypatch):
    """Nothing is kept of a chunk that is in the files; those that wait: test_encoding.py.

    What the files themselves hold back is bounded: tests/data/test_sinks.py.
    """
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most: dict[str, list[int]] = {"floats": [], "bytes": []}
    render, to_uint8 = VideoINR.render, streaming.to_uint8

    def counted_render(self: VideoINR, grid: Any) -> torch.Tensor:
        most["floats"].append(len(alive))
        frames = render(self, grid)
        alive.add(frames)
        return frames

    def counted_bytes(frames: torch.Tensor, impl: Any) -> torch.Tensor:
        most["bytes"].append(len(alive))
        found = to_uint8(frames, impl)
        alive.add(found)
        return found

    monkeypatch.setattr(VideoINR, "render", counted_render)
    monkeypatch.setattr(streaming, "to_uint8", counted_bytes)
    formats = ("--format", "mp4,gif,png,npz,sheet")
    generate(network, tmp_path, "--frames", 80, "--chunk", 2, "--seeds", "0-1", *formats)
    assert len(most["floats"]) == 80  # 40 chunks of 2 videos
    assert max(most["floats"]) <= 2
    assert max(most["bytes"]) <= 3
    # Of a grid, the last chunk of every video and the one that is coming.
    most["floats"].clear()
    generate(network, tmp_path, "--frames", 40, "--chunk", 2, "--seeds", "0-2", "--grid", "3x1")
    assert len(most["floats"]) == 60
    assert max(most["floats"]) <= 6
