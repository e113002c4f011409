"""Damage to the files of a store and of its preparation, to lists of splits and to arrays."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digan.data.check import check
from digan.data.datasets import ClipPairs
from digan.data.images import encode_record
from digan.data.kinetics_food import read_annotations
from digan.data.layouts import find_dataset
from digan.data.parts import Parts
from digan.data.prepare import prepare
from digan.data.sources import find_sources
from digan.data.split_lists import read_class_list, read_split_lists
from digan.data.store import FRAME_ROW, FRAMES_FILE, STORE_FILE, Store, shard_name
from digan.errors import DiganError
from digan.metrics.clip_sets import open_videos
from tests.hostile.corpus import png
from tests.hostile.strategies import changed, damages, rounds, texts, to_bytes
from tests.hostile.verdict import in_memory, refused_or_read
from tests.tiny_runs import tiny_store

FILES = ("store.json", "index-frames.npy", "index-videos.npy", "names.json", "report.jsonl",
         "frames-00000.bin")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that stays whole."""
    return tiny_store(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, whole: Path) -> Path:
    """A copy of it, one file of which is damaged at a time."""
    folder = tmp_path_factory.mktemp("scratch") / "store"
    shutil.copytree(whole, folder)
    return folder


def read_store(path: Path) -> None:
    store = Store(path)
    pairs = ClipPairs(store, 4, seed=0, use_labels=bool(store.classes))
    for number in range(4):
        _ = pairs[number]
    _ = pairs.labels, store.names, store.fingerprint
    check(path, clip_frames=4, progress=False).format()


@rounds(100)
@given(name=st.sampled_from(FILES), damage=damages)
def test_store(whole, scratch, name, damage):
    content = (whole / name).read_bytes()
    (scratch / name).write_bytes(damage(content))
    refused_or_read(lambda: read_store(scratch))
    (scratch / name).write_bytes(content)


@rounds(100)
@given(data=st.data())
def test_what_a_store_says_of_itself(whole, scratch, data):
    """Values of any type and size in store.json and in the first line of the report."""
    name = data.draw(st.sampled_from(["store.json", "report.jsonl"]))
    first, *others = (whole / name).read_text().splitlines()
    base = json.loads(first) if others and name.endswith("l") else json.loads(
        (whole / name).read_text())  # fmt: skip
    text = json.dumps(data.draw(changed(base)))
    (scratch / name).write_text("\n".join([text, *others]) if name.endswith("l") else text)
    refused_or_read(lambda: read_store(scratch))
    shutil.copy(whole / name, scratch / name)


def test_the_whole_store_is_read(whole):
    read_store(whole)


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_store_that_are_missing_or_folders(tmp_path, whole, name):
    shutil.copytree(whole, tmp_path / "store")
    (tmp_path / "store" / name).unlink()
    refused_or_read(lambda: read_store(tmp_path / "store"))
    (tmp_path / "store" / name).mkdir()
    refused_or_read(lambda: read_store(tmp_path / "store"))


def with_record(store: Path, record: bytes, length: int | None = None) -> None:
    """Makes a record the first one of a store, with its checksum right."""
    shard = store / shard_name(0)
    offset = shard.stat().st_size
    shard.write_bytes(shard.read_bytes() + record)
    frames = np.load(store / FRAMES_FILE)
    assert frames.dtype == FRAME_ROW
    frames[0] = (0, len(record) if length is None else length, offset, zlib.crc32(record))
    np.save(store / FRAMES_FILE, frames)
    info = json.loads((store / STORE_FILE).read_text())
    info["shards"] = [shard.stat().st_size]
    (store / STORE_FILE).write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("record", "length"),
    [
        (png(20_000, 20_000, zlib.compress(bytes(1 << 20))), None),  # 1.2 GB of pixels
        (png(8000, 8000, zlib.compress(bytes(8000 * 24001))), None),  # 192 MB in 200 kB
        (encode_record(np.zeros((32, 32, 3), np.uint8), "png"), (1 << 32) - 1),
        (encode_record(np.zeros((64, 64, 3), np.uint8), "png"), None),
        (encode_record(np.zeros((32, 32, 3), np.uint8), "png")[:60], None),
        (b"", None),
    ],
    ids=["claims", "bomb", "length", "size", "cut", "empty"],
)
def test_records_whose_checksum_is_right(tmp_path, whole, record, length):
    shutil.copytree(whole, tmp_path / "store")
    with_record(tmp_path / "store", record, length)
    with in_memory(100), pytest.raises(DiganError, match=r"store .* is damaged: the record of"):
        Store(tmp_path / "store").frame(0)


# ---------------------------------------------------------------- preparation that goes on


def stop(parts: Parts) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory, whole: Path) -> Path:
    """A preparation that was stopped before its merge: the folder of parts alone."""
    folder = tmp_path_factory.mktemp("unfinished")
    videos = whole.parent / "videos"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "finish_merge", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(videos, folder / "store", resolution=32, workers=1, progress=False)
    return folder / "store"


def go_on(store: Path, whole: Path) -> None:
    prepare(whole.parent / "videos", store, resolution=32, workers=1, progress=False)
    read_store(store)


@rounds(15)
@given(number=st.integers(0, 20), damage=damages)
def test_parts_of_a_preparation(tmp_path_factory, whole, unfinished, number, damage):
    store = tmp_path_factory.mktemp("parts") / "store"
    shutil.copytree(unfinished, store)
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[number % len(files)]
    path.write_bytes(damage(path.read_bytes()))
    refused_or_read(lambda: go_on(store, whole))
    shutil.rmtree(store.parent)


# ---------------------------------------------------------------- lists and arrays

CLASS_LIST = b"1 Archery\n2 Bowling\n"
SPLIT_LIST = b"Archery/v_Archery_g01_c01.avi 1\nBowling/v_Bowling_g01_c01.avi 2\n"
ANNOTATIONS = (
    b"label,youtube_id,time_start,time_end,split\nbaking cookies,abcdefghijk,0,10,train\n"
    b'"making, tea",bcdefghijkl,0,10,val\n'
)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of UCF-101 and of Kinetics-food, with empty videos."""
    folder = tmp_path_factory.mktemp("listed")
    for name in ("ucf/UCF-101/Archery/v_Archery_g01_c01.avi", "food/clips/abcdefghijk.mp4",
                 "ucf/UCF-101/Bowling/v_Bowling_g01_c01.avi", "ucf/lists/none"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read_lists(folder: Path) -> None:
    lists = folder / "ucf" / "lists"
    for read in (
        lambda: read_class_list(lists / "classInd.txt"),
        lambda: read_split_lists([lists / "trainlist01.txt"], strict=True),
        lambda: read_split_lists([lists / "trainlist01.txt"]),
        lambda: read_annotations([folder / "food" / "train.csv"]),
        lambda: find_dataset("ucf101", folder / "ucf"),
        lambda: find_dataset("kinetics-food", folder / "food"),
        lambda: find_sources(folder / "ucf").format(),
    ):
        refused_or_read(read)


@rounds(80)
@given(data=st.data())
def test_lists_of_known_sets(listed, data):
    line = st.lists(texts, max_size=4).map(lambda words: to_bytes(" ".join(words)))
    found = st.one_of(damages, st.lists(line, max_size=5).map(b"\n".join))
    for name, base in (("ucf/lists/classInd.txt", CLASS_LIST), ("food/train.csv", ANNOTATIONS),
                       ("ucf/lists/trainlist01.txt", SPLIT_LIST)):  # fmt: skip
        drawn = data.draw(found, name)
        (listed / name).write_bytes(drawn if isinstance(drawn, bytes) else drawn(base))
    read_lists(listed)


def npz(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("frames.npy", "w") as entry,
    ):
        np.save(entry, array)
    return packed.getvalue()


ARRAY = npz(np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3))


def read_arrays(folder: Path) -> int:
    videos = open_videos(folder)
    _ = videos.content_sha256(), videos.to_json()
    return len(videos.read(0, range(int(videos.lengths[0]))))


@rounds(100)
@given(damage=damages)
def test_arrays(tmp_path_factory, damage):
    folder = tmp_path_factory.mktemp("arrays")
    (folder / "a.npz").write_bytes(damage(ARRAY))
    refused_or_read(lambda: read_arrays(folder))


def header(text: str, data: bytes = b"") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = text.encode("latin-1").ljust(117) + b"\n"
        archive.writestr(
            "a.npy", b"\x93NUMPY\1\0" + len(lines).to_bytes(2, "little") + lines + data
        )
    return packed.getvalue()


SHAPED = "{{'descr': '|u1', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    "content",
    [
        header(SHAPED.format((10**9, 8192, 8192, 3))),
        header(SHAPED.format((4, 65536, 65536, 3)), bytes(1000)),
        header(SHAPED.format((4, -1, 8, 3)), bytes(1000)),
        header(SHAPED.format((True, 8, 8, 3)), bytes(1000)),
        header(SHAPED.format((0, 8, 8, 3))),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."),
        header("__import__('os').system('true')"),
        header("[" * 100),
        npz(np.array([print], dtype=object)),
        npz(np.zeros((4, 8, 8, 3), np.float32)),
        npz(np.zeros((4, 8, 8), np.uint8)),
        npz(np.zeros((0, 8, 8, 3), np.uint8)),
        npz(np.zeros((2, 8, 8, 3), np.uint8))[:-40],
        b"PK\5\6" + bytes(18),
        b"", b"\x93NUMPY\1\0",
    ],
)  # fmt: skip
def test_arrays_that_lie(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with in_memory(200), pytest.raises(DiganError):
        read_arrays(tmp_path)


def test_arrays_are_read_whole(tmp_path):
    """In both orders of memory; of a long one that packs well, frame after frame."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    for order in ("C", "F"):
        (tmp_path / "a.npz").write_bytes(npz(np.asarray(frames, order=order)))
        assert (open_videos(tmp_path).read(0, range(5)) == frames).all()
    (tmp_path / "a.npz").write_bytes(npz(np.zeros((3000, 128, 128, 3), np.uint8)))
    with in_memory(100):
        assert read_first(tmp_path) == (3000, (1, 128, 128, 3))


def read_first(folder: Path) -> tuple[int, tuple[int, ...]]:
    videos = open_videos(folder)
    return int(videos.lengths[0]), videos.read(0, range(1)).shape
