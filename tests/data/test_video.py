"""Decoding whatever plays, and writing what browsers and metrics need."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from digan.data.video import VideoWriter, decode_frames, probe, write_frame_sheet
from digan.errors import DiganError
from tests.data.clips import bad_files, picture, write_clip, write_raw


def decoded(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in decode_frames(path)]


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", None), ("a.mp4", "libx264rgb")])
@pytest.mark.parametrize("size", [(48, 64), (47, 61)])
def test_lossless_is_bit_exact(
    tmp_path: Path, name: str, codec: str | None, size: tuple[int, int]
) -> None:
    path = write_clip(tmp_path / name, 5, *size, codec=codec)
    for t, image in enumerate(decoded(path)):
        np.testing.assert_array_equal(image, picture(t, *size))


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 30, 47, 61, fps=29.97)
    info = probe(path)
    assert (info.codec, info.frames, info.width, info.height) == ("h264", 30, 62, 48)
    assert info.fps == pytest.approx(29.97, abs=1e-3)
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first"
    frames = list(decode_frames(path))
    assert len(frames) == 30
    assert frames[29].time == pytest.approx(29 / 29.97, abs=1e-3)
    errors = [np.abs(f.image[:47, :61].astype(int) - picture(t, 47, 61)) for t, f in
              enumerate(frames)]  # fmt: skip
    assert np.mean(errors) < 4
    # The line added to make the size even repeats its neighbour.
    assert np.abs(frames[3].image[:, 61].astype(int) - frames[3].image[:, 60]).mean() < 6


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)])
def test_mp4_keeps_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for _ in range(3):
            writer.write(np.full((32, 32, 3), colour, dtype=np.uint8))
    assert np.abs(decoded(tmp_path / "a.mp4")[1][16, 16].astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("fps", "frames", "kept", "seconds"), [
    (10, 20, 20, 1.9), (30, 70, 70, 69 / 30), (64, 64, 50, 0.98),
])  # fmt: skip
def test_gif(tmp_path: Path, fps: float, frames: int, kept: int, seconds: float) -> None:
    path = write_clip(tmp_path / "a.gif", frames, 32, 40, fps=fps)
    back = list(decode_frames(path))
    assert len(back) == kept
    assert back[-1].time == pytest.approx(seconds, abs=0.011)
    assert np.abs(back[5].image.astype(int) - picture(round(5 * frames / kept), 32, 40)).mean() < 14


def test_gif_of_one_colour(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.gif", 10) as writer:
        writer.write(np.full((9, 7, 3), (10, 200, 30), dtype=np.uint8))
        writer.write(np.full((9, 7, 3), (10, 200, 31), dtype=np.uint8))
    assert np.abs(decoded(tmp_path / "a.gif")[0].astype(int) - (10, 200, 30)).max() <= 1


def test_gif_memory_does_not_grow(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.gif", 25) as writer:
        for t in range(150):
            writer.write(picture(t, 16, 16))
            assert writer._palettes is not None
            assert len(writer._palettes._held) <= 64


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.mkv"])
def test_interrupted_file_plays(tmp_path: Path, name: str) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / name, 10) as writer:
            for t in range(13):
                writer.write(picture(t))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(decoded(tmp_path / name)) == 13


def test_writer_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match=r"cannot be written"):
        VideoWriter(tmp_path / "file" / "a.mp4", 10)
    with pytest.raises(DiganError, match=r"must end in .mp4, .gif or .mkv"):
        VideoWriter(tmp_path / "a.webp", 10)
    with pytest.raises(DiganError, match=r"fps must be above 0"):
        VideoWriter(tmp_path / "a.mp4", 0)
    with pytest.raises(DiganError, match=r"were no frames"), VideoWriter(tmp_path / "a.mp4", 10):
        pass
    assert not (tmp_path / "a.mp4").exists()
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(picture(0))
        with pytest.raises(DiganError, match=r"must be \(48, 64\).*got \(48, 65\)"):
            writer.write(picture(0, 48, 65))
        with pytest.raises(DiganError, match=r"frame must be uint8"):
            writer.write(picture(0).astype(np.float32))

    def no_encoder(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", no_encoder)
    with pytest.raises(DiganError, match=r"no H.264 encoder"):
        VideoWriter(tmp_path / "c.mp4", 10)


def test_grey_alpha_and_palette(tmp_path: Path) -> None:
    grey = [picture(t)[..., 0] for t in range(4)]
    path = write_raw(tmp_path / "g.mkv", "ffv1", "gray", [0, 10, 20, 30], grey, "gray")
    assert np.abs(decoded(path)[2].astype(int) - grey[2][:, :, None]).max() <= 1
    rgba = [np.dstack([picture(t), np.full((48, 64), 51, np.uint8)]) for t in range(3)]
    path = write_raw(tmp_path / "a.apng", "apng", "rgba", [0, 10, 20], rgba, "rgba")
    expected = np.round(picture(1).astype(float) * 51 / 255)
    assert np.abs(decoded(path)[1] - expected).max() <= 1


def test_variable_frame_rate_keeps_times(tmp_path: Path) -> None:
    times = [0, 10, 15, 50, 55, 120]
    path = write_raw(tmp_path / "v.mkv", "ffv1", "bgr0", times, [picture(t) for t in range(6)])
    assert [f.time for f in decode_frames(path)] == pytest.approx(
        [t / 100 for t in times], abs=2e-3
    )


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    image = picture(0)
    path = write_raw(
        tmp_path / "r.mp4", "libx264", "yuv420p", [0, 10], [image, image], rotation=rotation
    )
    expected = np.rot90(image, rotation // 90 % 4)
    found = decoded(path)[0]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_bad_files_yield_what_decodes(tmp_path: Path) -> None:
    statuses = bad_files(tmp_path)
    for name, status in statuses.items():
        if status == "skipped" and name != "single.mp4":
            with pytest.raises(DiganError, match=rf"{name} is no video: "):
                list(decode_frames(tmp_path / name))
            continue
        decoding = decode_frames(tmp_path / name)
        count = len(list(decoding))
        assert count >= (1 if name == "single.mp4" else 5)
        assert bool(decoding.problems) == (status == "partial"), (name, decoding.problems)


def test_header_that_lies(shared_data_dir: Path) -> None:
    decoding = decode_frames(shared_data_dir / "tree.avi")
    frames = list(decoding)
    assert len(frames) == 68
    assert decoding.info.frames == 444
    assert decoding.problems == ["the header claims 444 frames, 68 decode"]
    assert all(b.time > a.time for a, b in itertools.pairwise(frames))


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello\n" * 1000)
    for path, why in [
        (tmp_path / "a.txt", "it is text"),
        (tmp_path / "none.mp4", "No such file"),
        (tmp_path, "it is a folder"),
    ]:
        with pytest.raises(DiganError, match=f"is no video: {why}"):
            probe(path)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    with pytest.raises(DiganError, match=r"is no video"):
        list(decode_frames(playlist))


def test_frame_sheet(tmp_path: Path) -> None:
    video = np.stack([np.full((8, 6, 3), t, np.uint8) for t in range(10)])
    write_frame_sheet(tmp_path / "s.png", video, columns=4, upscale=2, gap=1)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (2 * 8 + 2, 4 * (12 + 1) + 1, 3)
    assert [int(sheet[5, 5 + 13 * k, 0]) for k in range(4)] == [0, 3, 6, 9]
    write_frame_sheet(tmp_path / "deep" / "n.png", np.stack([video, video, video]), columns=99)
    assert Image.open(tmp_path / "deep" / "n.png").size == (10 * 8 + 2, 3 * 10 + 2)
    with pytest.raises(DiganError, match=r"frames must be uint8"):
        write_frame_sheet(tmp_path / "s.png", video[0])
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match=r"cannot be written"):
        write_frame_sheet(tmp_path / "file" / "s.png", video)


def test_names_that_look_like_addresses(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        write_clip(Path("a:b %02d.mp4"), 3)
        assert len(decoded(Path("a:b %02d.mp4"))) == 3
    finally:
        os.chdir(here)
