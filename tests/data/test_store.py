"""Opening a store, reading single frames, and what is said when it is damaged."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digan.data.check import check
from digan.data.prepare import prepare
from digan.data.store import FRAME_ROW, FRAMES_FILE, Store
from digan.errors import DiganError
from tests.data.clips import write_clip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for n, length in enumerate((4, 9, 20)):
        write_clip(folder / "src" / f"{'xy'[n % 2]}" / f"{n}.mp4", length, shade=n)
    (folder / "src" / "x" / "bad.mp4").write_bytes(b"")
    prepare(folder / "src", folder / "s", resolution=32, workers=1, progress=False)
    return folder / "s"


@pytest.fixture
def store_path(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "s")
    return tmp_path / "s"


def test_one_frame_is_one_record(made: Path) -> None:
    store = Store(made)
    assert (store.num_videos, store.num_frames, store.decoded) == (3, 33, 0)
    store.frame(32)
    assert store.decoded == 1
    store.video_frames(1, [0, 19])
    assert store.decoded == 3
    for bad in (-1, 33):
        with pytest.raises(IndexError):
            store.frame(bad)
    with pytest.raises(IndexError):
        store.video_frames(0, [4])


def test_no_file_needs_unpickling(made: Path) -> None:
    for file in made.glob("*.npy"):
        np.load(file, allow_pickle=False)


def test_for_workers_and_threads(made: Path) -> None:
    store = Store(made)
    store.frame(0)
    data = pickle.dumps(store)  # how worker processes receive it
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy.decoded == 0
    np.testing.assert_array_equal(copy.frame(7), store.frame(7))
    expected = [copy.frame(i) for i in range(33)]
    wrong = []

    def read(step: int) -> None:
        for k in range(200):
            index = k * step % 33
            if not np.array_equal(store.frame(index), expected[index]):
                wrong.append(index)

    before = store.decoded
    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 5, 7, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.decoded - before == 800
    store.close()
    store.frame(0)


def open_shards(folder: Path) -> int:
    """How many shards of a store this process has open."""
    links = Path("/proc/self/fd").iterdir()
    return sum(str(link.resolve()).startswith(f"{folder.resolve()}/frames-") for link in links)


def test_few_of_many_shards_stay_open(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a million clips has thousands of shards, a process often 1,024 open files."""
    monkeypatch.setattr("digan.data.store._KEPT_OPEN", 1)
    one = Store(store_path)
    expected = [one.record(n) for n in range(one.num_frames)]
    spread(store_path)
    many = Store(store_path)
    assert len(many.info["shards"]) == one.num_frames
    one.close()
    for _ in range(2):
        assert [many.record(n) for n in range(many.num_frames)] == expected
        assert open_shards(store_path) == 1
    many.close()
    assert open_shards(store_path) == 0


def spread(path: Path) -> None:
    """Gives every record of a store a shard of its own."""
    store = Store(path)
    records = [store.record(n) for n in range(store.num_frames)]
    store.close()
    (path / "frames-00000.bin").unlink()
    index = np.load(path / FRAMES_FILE)
    index["shard"], index["offset"] = np.arange(len(records)), 0
    np.save(path / FRAMES_FILE, index)
    for number, record in enumerate(records):
        (path / f"frames-{number:05d}.bin").write_bytes(record)
    info = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**info, "shards": list(map(len, records))}))


def test_the_fingerprint_in_pieces_is_that_of_the_whole(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digan.data.store._PIECE", 7)
    store = Store(made)
    whole = zlib.crc32(np.ascontiguousarray(store.frame_checksums).tobytes())
    assert store.fingerprint == f"3 videos, 33 frames, crc {whole:08x}"


def test_what_is_no_store(tmp_path: Path, store_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "half" / ".parts").mkdir(parents=True)
    for name, message in [
        ("none", r"does not exist"),
        ("file", r"is a file, not a prepared store: `digan prepare"),
        ("folder", r"is no prepared store \(it has no store.json\)"),
        ("half", r"is not finished: run the same `digan prepare` again"),
    ]:
        with pytest.raises(DiganError, match=message):
            Store(tmp_path / name)
    info = json.loads((store_path / "store.json").read_text())
    (store_path / "store.json").write_text(json.dumps({**info, "version": 99}))
    with pytest.raises(DiganError, match=r"has format version 99, this digan reads version 1"):
        Store(store_path)
    (store_path / "store.json").write_text(json.dumps({"format": "else"}))
    with pytest.raises(DiganError, match=r"of another program"):
        Store(store_path)
    (store_path / "store.json").write_text("{")
    with pytest.raises(DiganError, match=r"store.json cannot be read"):
        Store(store_path)


def test_truncated_files_are_noticed_on_opening(store_path: Path) -> None:
    shard = store_path / "frames-00000.bin"
    data = shard.read_bytes()
    shard.write_bytes(data[:-10])
    with pytest.raises(DiganError, match=rf"must have {len(data)} bytes, it has {len(data) - 10}"):
        Store(store_path)
    shard.unlink()
    with pytest.raises(DiganError, match=r"frames-00000.bin must have .* it is missing"):
        Store(store_path)
    shard.write_bytes(data)
    np.save(store_path / FRAMES_FILE, np.zeros(5, FRAME_ROW))
    with pytest.raises(DiganError, match=r"index-frames.npy must have 33 rows"):
        Store(store_path)
    (store_path / FRAMES_FILE).write_bytes(b"")
    with pytest.raises(DiganError, match=r"index-frames.npy cannot be read"):
        Store(store_path)


def damage(path: Path, frame: int) -> None:
    """Flip one byte inside a frame's record."""
    row = np.load(path / FRAMES_FILE)[frame]
    with open(path / "frames-00000.bin", "r+b") as shard:
        shard.seek(int(row["offset"]) + int(row["length"]) // 2)
        byte = shard.read(1)
        shard.seek(-1, 1)
        shard.write(bytes([byte[0] ^ 1]))


def test_a_damaged_record_is_named(store_path: Path) -> None:
    damage(store_path, 9)  # video x/0.mp4 has frames 0-3, x/2.mp4 4-23, y/1.mp4 24-32
    store = Store(store_path)
    store.frame(8)
    with pytest.raises(DiganError, match=r"video x/2.mp4, frame 5: its checksum differs"):
        store.frame(9)
    report = check(store_path, progress=False)
    assert not report.good
    assert len(report.unreadable) == 1
    assert "1 UNREADABLE records" in report.format()


def test_a_wrong_record_is_named(store_path: Path) -> None:
    rows = np.load(store_path / FRAMES_FILE)
    rows["length"][3] -= 4
    import zlib

    data = (store_path / "frames-00000.bin").read_bytes()
    start, length = int(rows["offset"][3]), int(rows["length"][3])
    rows["crc"][3] = zlib.crc32(data[start : start + length // 2])
    rows["length"][3] = length // 2
    np.save(store_path / FRAMES_FILE, rows)
    with pytest.raises(DiganError, match=r"video x/0.mp4, frame 3: it does not decode"):
        Store(store_path).frame(3)


def test_check(made: Path, tmp_path: Path) -> None:
    report = check(made, clip_frames=8, sheet=tmp_path / "sheet.png", progress=False)
    assert report.good
    assert (report.videos, report.frames, report.lengths) == (3, 33, (4, 9, 20))
    assert report.clips == (9 - 7) + (20 - 7)
    assert report.too_short == ["x/0.mp4"]
    assert report.classes == {"x": 2, "y": 1}
    assert report.histogram == [(4, 7, 1), (8, 15, 1), (16, 31, 1)]
    assert report.fps == (10, 10, 10)
    assert report.problems == [("x/bad.mp4", "skipped", "no video: it is empty (0 bytes)")]
    text = report.format()
    for part in ("33 frames of 32x32", "lossless", "15 windows in 2 videos", "x/0.mp4",
                 "bad.mp4", "every record is readable", "min 4, median 9, max 20"):  # fmt: skip
        assert part in text, part
    assert Image.open(tmp_path / "sheet.png").size == (8 * 34 + 2, 3 * 34 + 2)
    with pytest.raises(DiganError, match=r"clip_frames must be at least 1"):
        check(made, clip_frames=0)
