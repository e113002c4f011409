"""Which layouts are recognised, with which labels and splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from digan.data.sources import find_sources, natural_key
from digan.errors import DiganError
from tests.data.clips import tree


def test_natural_order() -> None:
    names = ["f10.png", "f2.png", "f1.png", "a.png", "f002.png", "10", "9"]
    assert sorted(names, key=natural_key) == [
        "9", "10", "a.png", "f1.png", "f002.png", "f2.png", "f10.png",
    ]  # fmt: skip


def test_flat_folder(tmp_path: Path) -> None:
    found = find_sources(tree(tmp_path, "b10.mp4", "b2.AVI", "notes.md", "._b2.avi"))
    assert [s.name for s in found.sources] == ["b2.AVI", "b10.mp4"]
    assert found.classes == ()
    assert found.splits == ()
    assert ".md 1" in found.format()


def test_class_folders_as_in_ucf101(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "UCF-101", "Archery/v_Archery_g01.avi", "Archery/v_Archery_g02.avi",
        "Biking/v_Biking_g01.avi", "Biking/v_Biking_g02.avi",
    )  # fmt: skip
    found = find_sources(root)
    assert found.classes == ("Archery", "Biking")
    assert found.splits == ()
    assert [s.label for s in found.sources] == ["Archery", "Archery", "Biking", "Biking"]
    # The lists unpack beside the videos; of the three alternatives the first is taken.
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("Archery/v_Archery_g01.avi 1\nBiking/v_Biking_g01.avi 2")
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g02.avi\r\n")
    (lists / "trainlist02.txt").write_text("Biking/v_Biking_g02.avi 2\n")
    (lists / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    found = find_sources(root)
    assert found.splits == ("test", "train")
    assert [s.split for s in found.sources] == ["train", "test", "train", None]
    assert "1 videos are in none of them" in found.format()
    # The same when everything lies inside the source.
    both = find_sources(tmp_path)
    assert both.classes == found.classes
    assert both.splits == found.splits


def test_split_lists_of_another_data_set(tmp_path: Path) -> None:
    tree(tmp_path, "mine/a.mp4", "splits/trainlist01.txt")
    found = find_sources(tmp_path / "mine")
    assert found.splits == ()
    assert found.notes == []


def test_split_folders(tmp_path: Path) -> None:
    found = find_sources(
        tree(tmp_path, "data/train/a/1.mp4", "data/val/a/2.mp4", "data/val/b/3.mp4")
    )
    assert [(s.split, s.label) for s in found.sources] == [
        ("train", "a"),
        ("val", "a"),
        ("val", "b"),
    ]


def test_frame_folders_as_in_sky(tmp_path: Path) -> None:
    root = tree(
        tmp_path, "sky_train/0NNi/0NNi_1/f1.jpg", "sky_train/0NNi/0NNi_1/f2.jpg",
        "sky_train/0NNi/0NNi_2/f1.jpg", "sky_test/zz/zz_1/f1.jpg",
    )  # fmt: skip
    found = find_sources(root)
    assert [s.name for s in found.sources] == [
        "sky_test/zz/zz_1", "sky_train/0NNi/0NNi_1", "sky_train/0NNi/0NNi_2",
    ]  # fmt: skip
    assert [s.pictures for s in found.sources] == [1, 2, 1]
    assert found.classes == ()
    assert found.splits == ("test", "train")


def test_frame_folders_with_classes(tmp_path: Path) -> None:
    found = find_sources(tree(tmp_path, "cat/c1/1.png", "cat/c2/1.png", "dog/c1/1.png"))
    assert found.classes == ("cat", "dog")


def test_one_folder_of_pictures_and_one_file(tmp_path: Path) -> None:
    root = tree(tmp_path / "clip", "1.png", "2.png")
    assert [(s.name, s.pictures) for s in find_sources(root).sources] == [("clip", 2)]
    tree(tmp_path, "film.mp4", "archive.zip")
    assert [s.name for s in find_sources(tmp_path / "film.mp4").sources] == ["film.mp4"]
    with pytest.raises(DiganError, match=r"is an archive: unpack it"):
        find_sources(tmp_path / "archive.zip")


def test_one_subfolder_is_no_class(tmp_path: Path) -> None:
    found = find_sources(tree(tmp_path, "videos/a.mp4", "videos/b.mp4"))
    assert found.classes == ()


def test_thumbnails_beside_videos_are_not_videos(tmp_path: Path) -> None:
    found = find_sources(tree(tmp_path, "a/1.mp4", "b/2.mp4", "thumbs/1.jpg", "thumbs/2.jpg"))
    assert [s.name for s in found.sources] == ["a/1.mp4", "b/2.mp4"]
    assert "2 pictures lie beside the videos" in found.format()


def test_circular_links_end(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "broken.mp4").symlink_to(tmp_path / "nowhere")
    assert len(find_sources(tmp_path).sources) == 1


def test_nothing_usable_shows_the_tree(tmp_path: Path) -> None:
    tree(tmp_path, "docs/readme.txt", "data.bin")
    with pytest.raises(DiganError) as error:
        find_sources(tmp_path)
    for text in ("readme.txt", "data.bin", "SRC/class/*.avi", "no videos"):
        assert text in str(error.value)
    with pytest.raises(DiganError, match=r"does not exist"):
        find_sources(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DiganError, match=r"\(empty\)"):
        find_sources(tmp_path / "bare")


def test_stamp_follows_contents(tmp_path: Path) -> None:
    tree(tmp_path, "c/1.png", "c/2.png")
    before = find_sources(tmp_path).sources[0].stamp
    (tmp_path / "c" / "2.png").write_text("longer than before")
    assert find_sources(tmp_path).sources[0].stamp != before
