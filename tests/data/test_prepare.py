"""From sources to a store: what is in it, what is said of bad files, and resuming."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import digan.data.parts as parts_module
import digan.data.reading as reading
from digan.data.images import square
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.data.video import Frame, decode_frames
from digan.errors import DiganError
from tests.data.clips import bad_files, picture, quick, write_clip, write_raw


def test_frames_are_the_cropped_and_resized_ones(clips: Path, tmp_path: Path) -> None:
    report = quick(clips, tmp_path / "s")
    assert (report.finished, report.videos, report.frames) == (True, 6, 2 * (12 + 13 + 14))
    assert (report.ok, report.partial, report.skipped, report.problems) == (6, 0, 0, [])
    store = Store(tmp_path / "s")
    assert store.classes == ("a", "b")
    assert store.fps == 10
    assert list(store.videos["label"]) == [0, 0, 0, 1, 1, 1]
    assert store.names[4] == "b/4.mp4"
    originals = [f.image for f in decode_frames(clips / "b" / "4.mp4")]
    found = store.video_frames(4, range(13))
    np.testing.assert_array_equal(found, np.stack([square(o, 32) for o in originals]))
    assert store.info["filter"] == "lanczos"
    assert not store.lossy


def test_square_is_central_and_antialiased() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 255  # exactly the centre square
    np.testing.assert_array_equal(square(image, 32), 255)
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: must become grey
    assert np.abs(square(stripes, 32).astype(int)[:, 2:-2] - 127).max() <= 2
    same = picture(0, 32, 32)
    np.testing.assert_array_equal(square(same, 32), same)
    assert square(picture(0, 33, 20), 32).shape == (32, 32, 3)


def test_real_clips(shared_data_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    shutil.copy(shared_data_dir / "tree.avi", source)
    with open(shared_data_dir / "vtest.avi", "rb") as whole:  # the first seconds of it
        (source / "vtest.avi").write_bytes(whole.read(600_000))
    report = quick(source, tmp_path / "s")
    assert (report.ok, report.partial) == (0, 2)
    reasons = {path: reason for path, _, reason in report.problems}
    assert reasons["tree.avi"] == "the header claims 444 frames, 68 decode"
    assert "the header claims 795 frames" in reasons["vtest.avi"]
    store = Store(tmp_path / "s")
    assert int(store.videos[0]["count"]) == 68
    assert int(store.videos[1]["count"]) > 40
    assert float(store.videos[1]["fps"]) == 10


def test_bad_files_are_reported_once_and_skipped(tmp_path: Path) -> None:
    expected = bad_files(tmp_path / "src")
    report = quick(tmp_path / "src", tmp_path / "s")
    store = Store(tmp_path / "s")
    rows = {row["path"]: row for row in store.report()}
    assert {name: row["status"] for name, row in rows.items()} == expected
    assert sorted(store.names) == sorted(n for n, status in expected.items() if status != "skipped")
    assert rows["single.mp4"]["reason"] == "only 1 frame, at least 2 wanted"
    assert rows["empty.avi"]["reason"] == "no video: it is empty (0 bytes)"
    assert all(rows[n]["reason"] for n, status in expected.items() if status != "ok")
    text = report.format()
    assert all(text.count(name) == 1 for name, status in expected.items() if status != "ok")
    assert "1 files ok, 2 partly used, 5 skipped" in text


def test_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.mp4").write_bytes(b"")
    with pytest.raises(DiganError, match=r"none of the 1 files can be used \(a.mp4: no video"):
        quick(tmp_path / "src", tmp_path / "s")
    with pytest.raises(DiganError, match=r"not finished"):
        Store(tmp_path / "s")


def test_frame_folders_with_odd_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "clip"
    folder.mkdir(parents=True)
    for t in (1, 2, 10):
        Image.fromarray(picture(t)).save(folder / f"f{t}.png")
    Image.fromarray(picture(11)[..., 0]).save(folder / "f11.png")  # grey
    rgba = np.dstack([picture(12), np.full((48, 64), 51, np.uint8)])
    Image.fromarray(rgba).save(folder / "f12.png")
    Image.fromarray(picture(13)).convert("CMYK").save(folder / "f13.jpg")
    deep = (picture(14)[..., 0].astype(np.uint16) << 8) | 7
    Image.fromarray(deep).save(folder / "f14.png")
    Image.fromarray(picture(15)).quantize(32).save(folder / "f15.png")
    (folder / "f16.png").write_bytes(b"no picture")
    report = quick(tmp_path / "src", tmp_path / "s")
    assert report.problems == [("clip", "partial", "1 of 9 pictures do not open")]
    store = Store(tmp_path / "s")
    frames = store.video_frames(0, range(8))
    assert store.fps == 0
    np.testing.assert_array_equal(frames[2], square(picture(10), 32))  # natural order
    np.testing.assert_array_equal(frames[3][..., 0], frames[3][..., 2])
    dim = np.round(picture(12).astype(float) * 51 / 255).astype(np.uint8)
    np.testing.assert_array_equal(frames[4], square(dim, 32))
    grey = np.repeat(picture(14)[..., :1], 3, axis=2)
    np.testing.assert_array_equal(frames[6], square(grey, 32))
    with pytest.raises(DiganError, match=r"fps cannot be set for folders of pictures"):
        quick(tmp_path / "src", tmp_path / "t", fps=8)


def test_gif_and_variable_frame_rate(tmp_path: Path) -> None:
    src = tmp_path / "src"
    write_clip(src / "a.gif", 6)
    times = [0, 5, 10, 40, 45, 50]  # in 1/100 s
    write_raw(src / "v.mkv", "ffv1", "bgr0", times, [picture(t) for t in range(6)])
    quick(src, tmp_path / "s", fps=20)
    store = Store(tmp_path / "s")
    # At 20 fps the times are 0, .05, .10, .15, ... .50: the picture of .10 stays until .25.
    expected = [0, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5]
    found = store.video_frames(1, range(int(store.videos[1]["count"])))
    assert len(found) in (11, 12)  # one more if the header's rate makes the last one longer
    for t, image in enumerate(found[:11]):
        np.testing.assert_array_equal(image, square(picture(expected[t]), 32), err_msg=str(t))
    assert store.fps == 20


@pytest.mark.parametrize(("fps", "stride", "expected", "rate"), [
    (None, 1, list(range(12)), 10), (None, 3, [0, 3, 6, 9], 10 / 3),
    (5, 1, [0, 2, 4, 6, 8, 10], 5), (5, 2, [0, 4, 8], 2.5),
    (10, 1, list(range(12)), 10), (20, 1, [k // 2 for k in range(24)], 20),
])  # fmt: skip
def test_fps_and_stride(
    tmp_path: Path, fps: float | None, stride: int, expected: list[int], rate: float
) -> None:
    write_clip(tmp_path / "src" / "a.mkv", 12)
    quick(tmp_path / "src", tmp_path / "s", fps=fps, stride=stride)
    store = Store(tmp_path / "s")
    assert store.fps == pytest.approx(rate)
    found = store.video_frames(0, range(store.num_frames))
    assert len(found) == len(expected)
    for t, image in zip(expected, found, strict=True):
        choices = [square(picture(k), 32) for k in (t, t + 1)]  # a tie may go either way
        assert any(np.array_equal(image, choice) for choice in choices[: 1 + (fps == 20)])


def test_resample_of_a_broken_clock_stays_small(tmp_path: Path) -> None:
    image = picture(0)
    times = [0, 10, 20, 10_000_000, 10_000_010]
    write_raw(tmp_path / "src" / "v.mkv", "ffv1", "bgr0", times, [image] * 5)
    report = quick(tmp_path / "src", tmp_path / "s", fps=10)
    assert report.frames < 10
    assert "clock jumps" in report.problems[0][2]
    frames = [Frame(k, k / 10, image) for k in range(3)]
    assert [f.index for f in reading.resample(iter(frames), 10, 0.1)] == [0, 1, 2]
    assert [f.index for f in reading.resample(iter(frames[:1]), 1, 0.1)] == [0]


def test_jpeg_is_recorded_as_lossy(clips: Path, tmp_path: Path) -> None:
    quick(clips, tmp_path / "s", codec="jpeg")
    store = Store(tmp_path / "s")
    assert store.lossy
    assert store.info["codec"] == "jpeg"
    assert store.info["quality"] == 95
    original = next(decode_frames(clips / "a" / "0.mp4")).image
    error = np.abs(store.frame(0).astype(int) - square(original, 32))
    assert 0 < error.mean() < 3


def test_arguments(clips: Path, tmp_path: Path) -> None:
    for more, message in [
        ({"resolution": 100}, r"resolution must be a power of two from 32 to 1024, got 100"),
        ({"resolution": 16}, r"resolution must be"),
        ({"fps": 0}, r"fps must be above 0"),
        ({"stride": 0}, r"stride must be at least 1, got 0"),
        ({"codec": "webp"}, r"codec must be png or jpeg, got webp"),
        ({"shard": (3, 2)}, r"shard must be i/n with 1 <= i <= n, got 3/2"),
        ({"workers": 0}, r"workers must be at least 1"),
    ]:
        with pytest.raises(DiganError, match=message):
            quick(clips, tmp_path / "s", **more)
    assert not (tmp_path / "s").exists()


def test_destinations(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiganError, match=r"cannot be the store: it is a file"):
        quick(clips, tmp_path / "file")
    with pytest.raises(DiganError, match=r"cannot be written: Not a directory"):
        quick(clips, tmp_path / "file" / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(DiganError, match=r"already holds other files \(thesis.tex"):
        quick(clips, tmp_path / "full")
    with pytest.raises(DiganError, match=r"the source .* is or lies inside it"):
        quick(clips, clips)
    quick(clips, tmp_path / "s")
    with pytest.raises(DiganError, match=r"was made with other settings \(resolution 32"):
        quick(clips, tmp_path / "s", resolution=64)
    assert not (tmp_path / "s" / ".parts").exists()


def test_store_inside_the_source(clips: Path, tmp_path: Path) -> None:
    src = tmp_path / "src"
    shutil.copytree(clips, src)
    quick(src, src / "store")
    assert quick(src, src / "store").up_to_date


def test_full_disk(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
        with pytest.raises(DiganError, match=r"disk of .* is too small: about .* are needed"):
            quick(clips, tmp_path / "s")
    with monkeypatch.context() as patch:

        def full(self: Any, part: Any, records: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(parts_module.Parts, "finish", full)
        with pytest.raises(DiganError, match=r"the disk of .* is full; what is finished is kept"):
            quick(clips, tmp_path / "s")
    assert quick(clips, tmp_path / "s").finished


def test_a_disk_that_is_full_when_a_file_is_closed(clips: Path, tmp_path: Path) -> None:
    """What was buffered is written then, and fails a second time."""
    code = (
        "import resource, sys\nfrom digan.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["prepare", str(clips), str(tmp_path / "s"), "--resolution", "32", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"digan: error: .* cannot be written: File too large", last(done.stderr))
    assert quick(clips, tmp_path / "s").finished


def last(text: str) -> str:
    return text.splitlines()[-1]


def test_two_runs_at_once(clips: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "s" / ".parts").mkdir(parents=True)
    with open(tmp_path / "s" / ".parts" / "shard-1-of-1.lock", "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DiganError, match=r"another `digan prepare` is writing"):
            quick(clips, tmp_path / "s")


def test_what_is_said(clips: Path, tmp_path: Path, capsys: Any) -> None:
    prepare(clips, tmp_path / "s", resolution=32, workers=1)
    said = capsys.readouterr().err
    assert "6 video files" in said
    assert "2 classes (a, b)" in said
    assert "as PNG records" in said
