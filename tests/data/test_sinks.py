"""Frames into files: what is written is what was given, and half a file is not left for whole."""

from __future__ import annotations

import errno
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from digan.data.sinks import FORMATS, PngFolder, SheetFile, open_sink, tile_frames
from digan.data.video import decode_frames, probe
from digan.errors import DiganError
from tests.data.clips import picture

ROOT = Path(__file__).resolve().parents[2]
FRAMES = np.stack([picture(t, 32, 48) for t in range(10)])


def write(
    path: Path, frames: np.ndarray = FRAMES, fps: float = 12.0, count: int | None = None
) -> None:
    with open_sink(path, fps, len(frames) if count is None else count) as sink:
        for frame in frames:
            sink.write(frame)


def write_and_break_off(path: Path, frames: np.ndarray) -> None:
    with open_sink(path, 10, 10) as sink:
        for frame in frames:
            sink.write(frame)
        raise KeyboardInterrupt


def test_mp4_plays_in_browsers(tmp_path):
    write(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (48, 32)
        assert stream.average_rate == 12
    found = [frame.image.astype(int) for frame in decode_frames(tmp_path / "a.mp4")]
    assert len(found) == 10
    assert np.abs(np.stack(found) - FRAMES).mean() < 4
    # The index comes first, so that a browser can start before all of it is there.
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("fps", [8.0, 29.97, 64.0, 0.5])
def test_fps_is_kept(tmp_path, fps):
    write(tmp_path / "a.mp4", fps=fps)
    info = probe(tmp_path / "a.mp4")
    assert info.fps == pytest.approx(fps, rel=1e-3)
    assert len(list(decode_frames(tmp_path / "a.mp4"))) == 10


def test_gif_has_all_frames_at_their_time(tmp_path):
    write(tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 10
        durations, found = [], []
        for n in range(10):
            image.seek(n)
            durations.append(image.info["duration"])
            found.append(np.array(image.convert("RGB")).astype(int))
    assert durations == [100] * 10
    assert np.abs(np.stack(found) - FRAMES).mean() < 8  # 256 colours


def test_png_folder_is_lossless_and_in_order(tmp_path):
    write(tmp_path / "deep" / "a")
    names = sorted(path.name for path in (tmp_path / "deep" / "a").iterdir())
    assert names == [f"{n:06d}.png" for n in range(10)]
    for name, frame in zip(names, FRAMES, strict=True):
        assert np.array_equal(np.array(Image.open(tmp_path / "deep" / "a" / name)), frame)


def test_npz_equals_the_frames(tmp_path):
    write(tmp_path / "deep" / "a.npz")
    with np.load(tmp_path / "deep" / "a.npz", allow_pickle=False) as found:
        assert found.files == ["frames"]
        assert found["frames"].dtype == np.uint8
        assert np.array_equal(found["frames"], FRAMES)
    assert (tmp_path / "deep" / "a.npz").stat().st_size < FRAMES.nbytes  # compressed


def test_npz_takes_frames_that_are_views(tmp_path):
    flipped = FRAMES[:, ::-1, ::-1]
    assert not flipped[0].flags.c_contiguous
    write(tmp_path / "a.npz", flipped)
    assert np.array_equal(np.load(tmp_path / "a.npz")["frames"], flipped)


def test_an_npz_that_broke_off_is_not_left(tmp_path):
    for count in (0, 1, 10):
        with pytest.raises(KeyboardInterrupt):
            write_and_break_off(tmp_path / "a.npz", FRAMES[:count])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [0, 3, 10])
def test_an_npz_with_another_number_of_frames_is_an_error(tmp_path, given):
    with pytest.raises(DiganError, match=rf"a.npz must get 9 frames, got {given}"):
        write(tmp_path / "a.npz", FRAMES[:given], count=9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["writing", "closing"])
def test_an_npz_on_a_full_disk(tmp_path, monkeypatch, when):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real, really_close = zipfile.ZipFile.open, zipfile.ZipFile.close

    def closed(self: zipfile.ZipFile) -> None:
        if self.fp is not None:  # not again by the garbage collector
            really_close(self)
            full()

    def opened(self: zipfile.ZipFile, *names: object, **options: object) -> object:
        entry = real(self, *names, **options)
        written = entry.write
        monkeypatch.setattr(entry, "write", lambda b: full() if len(b) == 4608 else written(b))
        return entry

    with monkeypatch.context() as patch:
        if when == "writing":
            patch.setattr(zipfile.ZipFile, "open", opened)
        else:
            patch.setattr(zipfile.ZipFile, "close", closed)
        with pytest.raises(DiganError, match="a.npz cannot be written: No space left on device"):
            write(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_sheet_shows_first_last_and_between(tmp_path):
    count = 22
    frames = np.stack([np.full((16, 16, 3), 10 * t, np.uint8) for t in range(count)])
    write(tmp_path / f"a{SheetFile.ENDING}", frames)
    sheet = np.array(Image.open(tmp_path / "a-sheet.png"))
    assert sheet.shape == (100, 2 + 8 * 98, 3)  # 16 pixels are shown as 96
    shown = [int(sheet[50, 2 + 98 * column + 48, 0]) for column in range(8)]
    assert shown == [10 * t for t in (0, 3, 6, 9, 12, 15, 18, 21)]


def test_a_sheet_of_few_frames_shows_them_all(tmp_path):
    write(tmp_path / "a-sheet.png", FRAMES[:3])
    assert np.array(Image.open(tmp_path / "a-sheet.png")).shape == (100, 2 + 3 * 146, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.npz", "a", "a-sheet.png"])
def test_places_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match="cannot be written"):
        write(tmp_path / "file" / name)


def test_a_png_folder_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(DiganError, match="a cannot be written: File exists"):
        PngFolder(tmp_path / "a")


def test_an_mp4_that_broke_off_still_plays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_break_off(tmp_path / "a.mp4", FRAMES[:4])
    assert len(list(decode_frames(tmp_path / "a.mp4"))) == 4


def test_every_format_has_a_sink(tmp_path):
    endings = {"png": "a", "sheet": f"b{SheetFile.ENDING}"}
    for kind in FORMATS:
        write(tmp_path / endings.get(kind, f"c.{kind}"), FRAMES[:2])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a", "b-sheet.png", "c.gif", "c.mp4", "c.npz"]


PEAK = """
import sys
from pathlib import Path
import numpy as np
from digan.data.sinks import open_sink

path, count = Path(sys.argv[1]), int(sys.argv[2])
frame = np.full((256, 256, 3), 90, np.uint8)
with open_sink(path, 10, count) as sink:
    for _ in range(count):
        sink.write(frame.copy())
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""


def peak_memory(path: Path, frames: int) -> int:
    """The most bytes that a process of its own held while it wrote so many frames."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(frames)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return 1024 * int(done.stdout)


@pytest.mark.parametrize("name", ["a.mp4", "a.npz", "a-sheet.png"])
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, name):
    # The encoder looks ahead by some dozen frames.
    few, many = peak_memory(tmp_path / name, 96), peak_memory(tmp_path / name, 352)
    assert many - few < 256 * 256 * 256 * 3 / 4  # of 50 MB


def test_tiles_go_by_rows_and_end_in_black():
    frames = np.stack([np.full((2, 3, 3), n + 1, np.uint8) for n in range(5)])
    tiled = tile_frames(frames, 3)
    assert tiled.shape == (4, 9, 3)
    assert tiled[::2, ::3, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert np.array_equal(tile_frames(frames[:1], 1), frames[0])
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    assert np.array_equal(tile_frames(noise, 2)[5:, :7], noise[2])
