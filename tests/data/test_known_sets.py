"""The paper's data sets from published tree to store: contents, counts, resuming, bad stores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digan.data.reading as reading
from digan.cli import main
from digan.data.check import check
from digan.data.datasets import ClipPairs, in_split
from digan.data.images import square
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.data.video import VideoWriter, decode_frames
from digan.errors import DiganError
from tests.data.clips import contents, killed_preparation, picture, quick, write_raw

Clip = list[np.ndarray]


def synthetic(frames: int) -> Iterator[Clip]:
    """Clips of moving pictures, each of another shade."""
    shade = 0
    while True:
        yield [picture(t, shade=shade) for t in range(frames)]
        shade += 1


def real(folder: Path, frames: int) -> Iterator[Clip]:
    """Pieces of the real clips, one after the other."""
    images = [frame.image for frame in decode_frames(folder / "tree.avi")][:60]
    while True:
        yield from (images[i : i + frames] for i in range(0, len(images) - frames + 1, frames))


def write_video(path: Path, clip: Clip) -> None:
    """Xvid in AVI, as UCF-101 is, or H.264 in MP4."""
    if path.suffix == ".avi":
        times = list(range(len(clip)))
        write_raw(path, "mpeg4", "yuv420p", times, clip, time_base=Fraction(1, 25), rate=25)
        return
    with VideoWriter(path, 25) as writer:
        for image in clip:
            writer.write(image)


def write_pictures(folder: Path, clip: Clip, pattern: str = "{}_frames_{:08}.jpg") -> None:
    folder.mkdir(parents=True)
    for t, image in enumerate(clip):
        Image.fromarray(image).save(folder / pattern.format(folder.name, t + 1), quality=95)


def write_ucf101(root: Path, clips: Iterator[Clip], lists: bool = True) -> Path:
    """Three classes of two groups of two; group 1 is the test split."""
    lines: dict[int, list[str]] = {1: [], 2: []}
    classes = ("ApplyLipstick", "Archery", "YoYo")
    for number, name in enumerate(classes, 1):
        for group in (1, 2):
            for c in (1, 2):
                file = f"{name}/v_{name}_g{group:02}_c{c:02}.avi"
                write_video(root / "UCF-101" / file, next(clips))
                lines[group].append(file + (f" {number}" if group == 2 else ""))
    if lists:
        folder = root / "ucfTrainTestlist"
        folder.mkdir()
        (folder / "testlist01.txt").write_text("\n".join(lines[1]) + "\n")
        (folder / "trainlist01.txt").write_text("\n".join(lines[2]) + "\n")
        (folder / "trainlist02.txt").write_text("\n".join(lines[1]) + "\n")
        index = "".join(f"{n} {name}\n" for n, name in enumerate(classes, 1))
        (folder / "classInd.txt").write_text(index)
    return root / "UCF-101"


def write_sky(root: Path, clips: Iterator[Clip]) -> Path:
    for split, films in (("train", ("07dHkGzyTxI", "0NNi9Ckxdhw")), ("test", ("zMaIvvpVbCc",))):
        for film in films:
            for n in (1, 2):
                write_pictures(root / f"sky_{split}" / film / f"{film}_{n}", next(clips))
    return root


def write_taichi(root: Path, clips: Iterator[Clip], pictures: bool = False) -> Path:
    for name in ("train/-kOx#2311#2528", "train/5BHqm#000#128", "test/_q-W#001#190"):
        if pictures:
            write_pictures(root / (name + ".mp4"), next(clips), "{1:07}.png")
        else:
            write_video(root / (name + ".mp4"), next(clips))
    return root


def write_kinetics(root: Path, clips: Iterator[Clip]) -> Path:
    for split in ("train", "val"):
        for n, name in enumerate(("making pizza", "peeling apples", "abseiling")):
            write_video(root / split / name / f"abcdefghij{n}_000003_000013.mp4", next(clips))
    return root


def splits_of(store: Store) -> dict[str, str]:
    return {
        name: store.splits[split] if split >= 0 else ""
        for name, split in zip(store.names, store.videos["split"], strict=True)
    }


def test_ucf101(tmp_path: Path) -> None:
    src = write_ucf101(tmp_path, synthetic(6))
    report = quick(src, tmp_path / "s", dataset="ucf101")
    store = Store(tmp_path / "s")
    assert store.dataset == "ucf101"
    assert store.info["version"] == 1
    assert store.info["stride"] == 1
    assert store.fps == 25
    assert store.classes == ("ApplyLipstick", "Archery", "YoYo")
    assert store.videos_of_splits() == {"test": 6, "train": 6}
    assert all(("_g01_" in name) == (split == "test") for name, split in splits_of(store).items())
    assert [store.classes[label] for label in store.videos["label"]] == [
        name.split("/")[0] for name in store.names
    ]
    expected = [
        "UCF-101: 13,320 videos expected, 12 found; 101 classes expected, 3 found",
        "splits: 9,537 train expected, 6 found; 3,783 test expected, 6 found",
    ]
    assert report.expected == check(tmp_path / "s", progress=False).expected == expected
    for text in (*expected, "splits test, train, stride 1, 25 fps"):
        assert text in report.format()
    for split, count in (("train", 6), ("test", 6), ("all", 12), (None, 12)):
        assert int(in_split(store, split).sum()) == count
        pairs = ClipPairs(store, 4, seed=1, split=split, use_labels=True)
        assert len(pairs.videos) == count
        assert pairs.num_classes == 3
    with pytest.raises(DiganError, match=r"split must be one of .*\(test, train\) or all, got va"):
        in_split(store, "val")


def test_ucf101_without_lists_has_no_splits(tmp_path: Path) -> None:
    src = write_ucf101(tmp_path, synthetic(4), lists=False)
    report = quick(src, tmp_path / "s", dataset="ucf101")
    store = Store(tmp_path / "s")
    assert store.splits == ()
    assert list(store.videos["split"]) == [-1] * 12
    assert len(report.expected) == 1
    assert int(in_split(store, "all").sum()) == 12
    with pytest.raises(DiganError, match=r"\(none\) or all, got train"):
        in_split(store, "train")


def test_sky(tmp_path: Path) -> None:
    src = write_sky(tmp_path / "sky", synthetic(5))
    report = quick(src, tmp_path / "s", dataset="sky")
    store = Store(tmp_path / "s")
    assert store.classes == ()
    assert store.videos_of_splits() == {"test": 2, "train": 4}
    assert list(store.videos["count"]) == [5] * 6
    assert store.fps == 0
    assert report.expected == [
        "Sky Time-lapse: 2,617 videos expected, 6 found",
        "splits: 2,392 train expected, 4 found; 225 test expected, 2 found",
    ]
    assert "fps unknown" in report.format()


@pytest.mark.parametrize("pictures", [True, False])
def test_taichi_keeps_every_frame_unless_told(
    tmp_path: Path, pictures: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    src = write_taichi(tmp_path / "taichi", synthetic(9), pictures)
    every = quick(src, tmp_path / "every", dataset="taichi", progress=True)
    assert "published results on Tai-Chi-HD are of stride 4" in capsys.readouterr().err
    fourth = quick(src, tmp_path / "fourth", dataset="taichi", stride=4, progress=True)
    assert "published results" not in capsys.readouterr().err
    assert "stride 4" in fourth.format()
    assert "stride 1" in every.format()
    stores = Store(tmp_path / "every"), Store(tmp_path / "fourth")
    assert [store.info["stride"] for store in stores] == [1, 4]
    assert stores[1].fps == (0 if pictures else 6.25)
    assert [list(store.videos["count"]) for store in stores] == [[9] * 3, [3] * 3]
    for video in range(3):
        np.testing.assert_array_equal(
            stores[1].video_frames(video, range(3)), stores[0].video_frames(video, [0, 4, 8])
        )
    assert "stride: 4" in check(tmp_path / "fourth", progress=False).format()
    assert stores[0].videos_of_splits() == {"test": 1, "train": 2}


def test_kinetics_food(tmp_path: Path) -> None:
    src = write_kinetics(tmp_path / "k", synthetic(4))
    report = quick(src, tmp_path / "s", dataset="kinetics-food")
    store = Store(tmp_path / "s")
    assert store.classes == ("making pizza", "peeling apples")
    assert store.videos_of_splits() == {"train": 2, "val": 2}
    assert len(store.info["keywords"]) == 17
    assert report.expected[0] == (
        "Kinetics-food: 4 videos (no published count); 29 classes expected, 2 found"
    )
    # Other keywords make another store of the same settings.
    more = quick(src, tmp_path / "s", dataset="kinetics-food", keywords=["abseiling", "pizza"])
    assert not more.up_to_date
    assert Store(tmp_path / "s").classes == ("abseiling", "making pizza")
    assert Store(tmp_path / "s").info["keywords"] == ["abseiling", "pizza"]
    again = quick(src, tmp_path / "s", dataset="kinetics-food", keywords=["abseiling", "pizza"])
    assert again.up_to_date
    with pytest.raises(DiganError, match=r"keywords choose classes of the dataset kinetics-food"):
        quick(src, tmp_path / "s", keywords=["pizza"])


def test_real_clips_in_every_layout(shared_data_dir: Path, tmp_path: Path) -> None:
    clips = real(shared_data_dir, 6)
    trees = {
        "ucf101": write_ucf101(tmp_path / "ucf", clips),
        "sky": write_sky(tmp_path / "sky", clips),
        "taichi": write_taichi(tmp_path / "taichi", clips),
        "kinetics-food": write_kinetics(tmp_path / "kinetics", clips),
    }
    for name, videos in (("ucf101", 12), ("sky", 6), ("taichi", 3), ("kinetics-food", 4)):
        report = quick(trees[name], tmp_path / "stores" / name, dataset=name)
        assert (report.videos, report.ok, report.frames) == (videos, videos, 6 * videos), name
        store = Store(tmp_path / "stores" / name)
        for video, label in enumerate(store.names):
            source = trees[name] / label
            if source.is_dir():
                first = np.asarray(Image.open(sorted(source.iterdir())[0]).convert("RGB"))
            else:
                first = next(iter(decode_frames(source))).image
            np.testing.assert_array_equal(store.video_frames(video, [0])[0], square(first, 32))
        assert check(store.path, progress=False).good


def test_a_store_without_the_name_of_a_set(clips: Path, tmp_path: Path) -> None:
    """Stores of before, and those of other videos, know no set and are read as ever."""
    quick(clips, tmp_path / "s")
    store = Store(tmp_path / "s")
    assert "dataset" not in store.info
    assert store.dataset == ""
    assert check(tmp_path / "s", progress=False).expected == []


def test_naming_the_set_later_only_writes_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = write_ucf101(tmp_path, synthetic(4))
    quick(src, tmp_path / "s")

    def forbidden(*args: object) -> None:
        raise AssertionError("nothing may be decoded")

    monkeypatch.setattr(reading, "decode_frames", forbidden)
    report = quick(src, tmp_path / "s", dataset="ucf101")
    assert not report.up_to_date
    assert Store(tmp_path / "s").dataset == "ucf101"
    assert quick(src, tmp_path / "s", dataset="ucf101").up_to_date
    # Lists that arrive or change do the same.
    (tmp_path / "ucfTrainTestlist" / "testlist01.txt").unlink()
    assert quick(src, tmp_path / "s", dataset="ucf101").splits == ("train",)
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    assert quick(src, tmp_path / "s", dataset="ucf101").splits == ()


def test_kill_9_and_resume(tmp_path: Path, root: Path) -> None:
    src = write_ucf101(tmp_path, synthetic(8))
    quick(src, tmp_path / "whole", dataset="ucf101")
    for _ in range(2):
        killed_preparation(src, tmp_path / "s", root, videos=3, dataset="ucf101")
        with pytest.raises(DiganError, match=r"is not finished: run the same"):
            Store(tmp_path / "s")
    finished = len(list((tmp_path / "s" / ".parts").glob("??/*.json")))
    assert 6 <= finished < 12
    read: list[str] = []
    original = reading.make_part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "digan.data.workers.make_part",
            lambda store, source, *rest: (read.append(source.name), original(store, source, *rest)),
        )
        quick(src, tmp_path / "s", dataset="ucf101")
    assert len(read) == 12 - finished
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    src = write_kinetics(tmp_path / "k", synthetic(4))
    quick(src, tmp_path / "one", dataset="kinetics-food")
    quick(src, tmp_path / "two", dataset="kinetics-food", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_half_written_stores_and_other_versions(tmp_path: Path) -> None:
    src = write_taichi(tmp_path / "taichi", synthetic(4))
    whole = tmp_path / "whole"
    quick(src, whole, dataset="taichi")
    for name, damage, sentence in (
        ("torn", lambda s: (s / "store.json").write_text('{"format": "digan-st'), "is damaged"),
        ("short", lambda s: (s / "frames-00000.bin").write_bytes(b"x"), "it has 1 bytes"),
        ("index", lambda s: (s / "index-videos.npy").unlink(), "index-videos.npy cannot be read"),
        (
            "later",
            lambda s: (s / "store.json").write_text(
                json.dumps({**json.loads((s / "store.json").read_text()), "version": 2})
            ),
            "has format version 2, this digan reads version 1",
        ),
    ):
        broken = tmp_path / name
        shutil.copytree(whole, broken)
        damage(broken)
        before = contents(broken)
        for attempt in (lambda s: quick(src, s, dataset="taichi"), Store, check):
            with pytest.raises(DiganError) as error:
                attempt(broken)
            assert sentence in str(error.value), name
            assert "\n" not in str(error.value)
        assert contents(broken) == before, "what is there may be the only copy"
    # Without its store.json a folder of other files is left alone as well.
    (whole / "store.json").unlink()
    with pytest.raises(DiganError, match=r"already holds other files"):
        quick(src, whole, dataset="taichi")


def test_a_bad_file_costs_one_video(tmp_path: Path) -> None:
    src = write_ucf101(tmp_path, synthetic(6))
    (src / "YoYo" / "v_YoYo_g01_c01.avi").write_bytes(b"RIFF")
    write_video(src / "YoYo" / "v_YoYo_g02_c01.avi", [picture(0)])
    report = quick(src, tmp_path / "s", dataset="ucf101")
    assert report.skipped == 2
    assert report.expected[0].startswith("UCF-101: 13,320 videos expected, 10 found")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, dst = write_kinetics(tmp_path / "k", synthetic(4)), tmp_path / "s"
    words = ["prepare", str(src), str(dst), "--dataset", "kinetics-food", "--resolution", "32",
             "--workers", "1", "--keywords", "peeling, abseiling"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "2 of 3 classes hold one of 2 keywords" in said.err
    assert "29 classes expected, 2 found" in said.out
    assert main(["data", "check", str(dst)]) == 0
    assert "29 classes expected, 2 found" in capsys.readouterr().out
    assert main([*words[:1], str(src / "train"), str(tmp_path / "t"), *words[3:]]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("digan: error: ")
    assert "is not laid out as Kinetics-food: there are no folders of splits" in lines[0]
    assert lines[1].split() == ["wanted", "found"]
    assert not (tmp_path / "t").exists()


def test_prepare_wants_a_known_name(tmp_path: Path) -> None:
    with pytest.raises(DiganError, match=r"dataset must be one of ucf101"):
        prepare(tmp_path, tmp_path / "s", dataset="cifar", progress=False)
