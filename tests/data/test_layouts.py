"""The paper's data sets as they are published: what is found, and what is said of other trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digan.data import kinetics_food
from digan.data.catalog import KNOWN_SETS, compare
from digan.data.layouts import find_dataset
from digan.data.sources import Found
from digan.errors import DiganError
from tests.data.clips import tree


def ucf_tree(root: Path, classes: tuple[str, ...] = ("Archery", "Biking"), videos: int = 3) -> Path:
    return tree(
        root,
        *(f"{c}/v_{c}_g{g:02}_c01.avi" for c in classes for g in range(1, videos + 1)),
    )


def ucf_lists(folder: Path, train: str, test: str, classes: str = "1 Archery\n2 Biking\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainlist01.txt").write_text(train)
    (folder / "testlist01.txt").write_text(test)
    (folder / "classInd.txt").write_text(classes)


def notes_of(found: Found) -> str:
    return "\n".join(found.notes)


TRAIN = "".join(f"{c}/v_{c}_g{g:02}_c01.avi {n}\n" for n, c in ((1, "Archery"), (2, "Biking"))
                for g in (2, 3))  # fmt: skip
TEST = "Archery/v_Archery_g01_c01.avi\r\nBiking/v_Biking_g01_c01.avi\r\n"


@pytest.mark.parametrize(
    ("videos", "lists"),
    [
        ("UCF-101", "UCF-101"),
        ("UCF-101", "UCF-101/deep/er"),
        ("UCF-101", "ucfTrainTestlist"),
        ("UCF-101", "anything"),
        ("UCF-101", "."),
    ],
)
def test_ucf101_finds_its_lists_below_or_beside(tmp_path: Path, videos: str, lists: str) -> None:
    root = ucf_tree(tmp_path / "data" / videos)
    ucf_lists(tmp_path / "data" / lists, TRAIN, TEST)
    found = find_dataset("ucf101", root)
    assert found.dataset == "ucf101"
    assert found.classes == ("Archery", "Biking")
    assert [(s.label, s.split) for s in found.sources] == [
        (label, split) for label in found.classes for split in ("test", "train", "train")
    ]
    assert "splits from trainlist01.txt, testlist01.txt" in notes_of(found)
    # One level up is understood as well, where nothing else is there.
    above = find_dataset("ucf101", tmp_path / "data")
    assert [(s.label, s.split) for s in above.sources] == [
        (s.label, s.split) for s in found.sources
    ]


def test_ucf101_without_lists(tmp_path: Path) -> None:
    found = find_dataset("ucf101", ucf_tree(tmp_path / "UCF-101"))
    assert found.splits == ()
    assert found.classes == ("Archery", "Biking")
    assert "no split lists" in notes_of(found)


def test_ucf101_of_one_class(tmp_path: Path) -> None:
    found = find_dataset("ucf101", ucf_tree(tmp_path / "UCF-101", ("Archery",)))
    assert found.classes == ("Archery",)


def test_classes_follow_the_class_list(tmp_path: Path) -> None:
    root = ucf_tree(tmp_path / "UCF-101", ("Biking", "Archery", "Zebra"))
    ucf_lists(tmp_path / "UCF-101", TRAIN, TEST, "2 Archery\n1 Biking\n3 Yoga\n")
    found = find_dataset("ucf101", root)
    assert found.classes == ("Biking", "Archery", "Zebra")
    assert "1 classes are not in classInd.txt (Zebra)" in notes_of(found)
    assert "1 classes of classInd.txt have no videos here (Yoga)" in notes_of(found)
    assert "3 videos are in no split list (as Zebra/v_Zebra_g01_c01.avi)" in notes_of(found)


def test_videos_that_are_not_there_are_counted_and_named_once(tmp_path: Path) -> None:
    root = ucf_tree(tmp_path / "UCF-101")
    gone = "".join(f"Yoga/v_Yoga_g{g:02}_c01.avi 9\n" for g in range(1, 1201))
    ucf_lists(tmp_path / "UCF-101", TRAIN + gone, TEST + "Archery/v_Archery_g02_c01.avi\n")
    notes = notes_of(find_dataset("ucf101", root))
    assert "1,200 videos of the split lists are not there (as Yoga/v_Yoga_g01_c01.avi)" in notes
    assert notes.count("Yoga/v_Yoga") == 1
    assert "1 videos are in two split lists (as Archery/v_Archery_g02_c01.avi)" in notes


def test_class_folders_and_lists_may_differ_in_case(tmp_path: Path) -> None:
    """As UCF-101 itself: HandstandPushups/v_HandStandPushups_g01_c01.avi."""
    name = "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    root = tree(tmp_path / "UCF-101", name)
    ucf_lists(tmp_path, "", name.replace("HandS", "Hands"))
    (tmp_path / "trainlist01.txt").unlink()
    assert [s.split for s in find_dataset("ucf101", root).sources] == ["test"]


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("trainlist01.txt", b"Archery/v_Archery_g01_c01.avi 1\nwhat is this\n", "line 2 must be"),
        ("trainlist01.txt", b"\n\n", "it names no video"),
        ("testlist01.txt", b"\xff\xfe\x00\x80", "it is no UTF-8 text"),
        ("classInd.txt", b"1 Archery\nBiking\n", "line 2 must be NUMBER CLASS, got 'Biking'"),
        ("classInd.txt", b"\x80\x81", "it is no UTF-8 text"),
    ],
)
def test_unreadable_lists_are_named(
    tmp_path: Path, file: str, content: bytes, sentence: str
) -> None:
    root = ucf_tree(tmp_path / "UCF-101")
    ucf_lists(tmp_path / "lists", TRAIN, TEST)
    (tmp_path / "lists" / file).write_bytes(content)
    with pytest.raises(DiganError) as error:
        find_dataset("ucf101", root)
    assert file in str(error.value)
    assert sentence in str(error.value)


def test_a_list_that_is_a_folder(tmp_path: Path) -> None:
    root = ucf_tree(tmp_path / "UCF-101")
    (tmp_path / "lists" / "trainlist01.txt").mkdir(parents=True)
    with pytest.raises(DiganError, match=r"trainlist01.txt cannot be read"):
        find_dataset("ucf101", root)


SKY = ("sky_train/0NNi/0NNi_1/f1.jpg", "sky_train/0NNi/0NNi_1/f2.jpg",
       "sky_train/0NNi/0NNi_2/f1.jpg", "sky_test/zz/zz_1/f1.jpg")  # fmt: skip


@pytest.mark.parametrize("above", ["", "sky_timelapse/"])
def test_sky(tmp_path: Path, above: str) -> None:
    found = find_dataset("sky", tree(tmp_path, *(above + name for name in SKY)))
    assert [(s.name.removeprefix(above), s.split, s.label, s.pictures) for s in found.sources] == [
        ("sky_test/zz/zz_1", "test", None, 1),
        ("sky_train/0NNi/0NNi_1", "train", None, 2),
        ("sky_train/0NNi/0NNi_2", "train", None, 1),
    ]


def test_sky_is_its_pictures(tmp_path: Path) -> None:
    found = find_dataset("sky", tree(tmp_path, *SKY, "preview.mp4"))
    assert len(found.sources) == 3
    assert "1 video files lie beside the pictures and are not used" in notes_of(found)
    assert "pictures lie beside the videos" not in notes_of(found)


@pytest.mark.parametrize("leaf", [".mp4", "/0000000.png", ".mp4/0000000.png"])
def test_taichi_as_videos_or_pictures(tmp_path: Path, leaf: str) -> None:
    clips = ("train/aB-3#001#128", "train/q#5#900", "test/z_1#7#300")
    found = find_dataset("taichi", tree(tmp_path, *(clip + leaf for clip in clips)))
    assert [s.split for s in found.sources] == ["test", "train", "train"]
    assert found.classes == ()
    assert bool(found.sources[0].pictures) == leaf.endswith(".png")


def kinetics_classes(*classes: str) -> list[str]:
    return [
        f"{split}/{name}/abcdefghij{i}_000010_000020.mp4"
        for split in ("train", "val")
        for i, name in enumerate(classes)
    ]


@pytest.mark.parametrize("above", ["", "kinetics600/"])
def test_kinetics_food_by_class_folders(tmp_path: Path, above: str) -> None:
    classes = (*kinetics_food.CLASSES, "abseiling", "egg hunting", "steaming hat", "teaching")
    root = tree(tmp_path, *(above + name for name in kinetics_classes(*classes)))
    found = find_dataset("kinetics-food", root)
    assert set(found.classes) == set(kinetics_food.CLASSES)
    assert found.splits == ("train", "val")
    assert len(found.sources) == 58
    notes = notes_of(found)
    assert "29 of 33 classes hold one of 17 keywords; 8 videos of other classes" in notes
    assert "choose no class" not in notes
    assert found.keywords == kinetics_food.KEYWORDS


def test_kinetics_food_with_underscores_and_other_keywords(tmp_path: Path) -> None:
    root = tree(tmp_path, *kinetics_classes("making_pizza", "cutting_nails", "eating_burger"))
    assert find_dataset("kinetics-food", root).classes == ("cutting nails", "making pizza")
    found = find_dataset("kinetics-food", root, keywords=["Eating burger", " pizza", "tofu"])
    assert found.classes == ("eating burger", "making pizza")
    assert "1 keywords choose no class that is here (tofu)" in notes_of(found)
    with pytest.raises(DiganError, match=r"no class of .* has one of the 1 keywords"):
        find_dataset("kinetics-food", root, keywords=["tofu"])
    with pytest.raises(DiganError, match=r"keywords must be words"):
        find_dataset("kinetics-food", root, keywords=[" "])
    with pytest.raises(DiganError, match=r"keywords choose classes of kinetics-food"):
        find_dataset("sky", root, keywords=["tea"])


def test_keywords_are_whole_words() -> None:
    assert len(kinetics_food.KEYWORDS) == 17
    assert len(kinetics_food.CLASSES) == KNOWN_SETS["kinetics-food"].classes == 29
    assert all(kinetics_food.is_food(name) for name in kinetics_food.CLASSES)
    for word in kinetics_food.KEYWORDS:
        assert any(kinetics_food.is_food(name, [word]) for name in kinetics_food.CLASSES), word
    for name in ("egg hunting", "teaching", "steak", "fruitless", "cupcakes", "undercutting"):
        assert not kinetics_food.is_food(name)


HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def annotate(folder: Path) -> None:
    (folder / "train.csv").write_text(
        HEADER + "making pizza,aaaaaaaaaaa,1,11,train,0\n"
        '"cooking sausages (not on barbeque)",-_b_000001_,1,11,train,0\n'
        "abseiling,ccccccccccc,1,11,train,0\nmaking tea,ggggggggggg,1,11,train,0\n"
    )
    (folder / "validate.csv").write_text(HEADER + "making pizza,ddddddddddd,0,10,validate,0\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")


@pytest.mark.parametrize("where", ["videos", "annotations", "."])
@pytest.mark.parametrize("flat", [True, False])
def test_kinetics_food_by_annotations(tmp_path: Path, where: str, flat: bool) -> None:
    names = ["aaaaaaaaaaa_000001_000011.mp4", "-_b_000001__000001_000011.mp4",
             "ccccccccccc_000001_000011.mp4", "ddddddddddd.mp4", "eeeeeeeeeee.mp4"]  # fmt: skip
    folders = [""] * 5 if flat else ["train/", "train/", "train/", "val/", "val/"]
    root = tree(tmp_path / "videos", *(f + n for f, n in zip(folders, names, strict=True)))
    (tmp_path / where).mkdir(exist_ok=True)
    annotate(tmp_path / where)
    found = find_dataset("kinetics-food", root)
    got = {Path(s.name).name[:4]: (s.label, s.split) for s in found.sources}
    assert got == {
        "aaaa": ("making pizza", "train"),
        "-_b_": ("cooking sausages (not on barbeque)", "train"),
        "dddd": ("making pizza", "val"),
    }
    notes = notes_of(found)
    assert "annotations from train.csv, validate.csv" in notes
    assert f"1 videos have no label and are not used (as {folders[4]}eeeeeeeeeee.mp4)" in notes
    assert "1 annotated videos are not there (as ggggggggggg)" in notes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (HEADER.encode() + b"making pizza\n", "line 2 must have a label and a youtube_id"),
        (HEADER.encode() + b"\xff\xfe,aaaaaaaaaaa,1\n", "cannot be used as annotations"),
        (HEADER.encode() + b'"making pizza,aaaaaaaaaaa,1\n', "cannot be used as annotations"),
    ],
)
def test_unreadable_annotations(tmp_path: Path, content: bytes, sentence: str) -> None:
    root = tree(tmp_path, "aaaaaaaaaaa.mp4")
    (root / "train.csv").write_bytes(content)
    with pytest.raises(DiganError) as error:
        find_dataset("kinetics-food", root)
    assert "train.csv" in str(error.value)
    assert sentence in str(error.value)


def test_annotations_of_other_videos(tmp_path: Path) -> None:
    annotate(tree(tmp_path, "film.mp4"))
    with pytest.raises(DiganError, match=r"film.mp4 is not SPLIT/CLASS/VIDEO and no CSV file has"):
        find_dataset("kinetics-food", tmp_path)


def test_class_folders_and_flat_clips_together(tmp_path: Path) -> None:
    """As where train and val come by class and test in one folder, with or without labels."""
    root = tree(tmp_path / "k", *kinetics_classes("making tea"), "test/aaaaaaaaaaa.mp4")
    found = find_dataset("kinetics-food", root)
    assert [s.split for s in found.sources] == ["train", "val"]
    assert "1 videos have no label and are not used (as test/aaaaaaaaaaa.mp4)" in notes_of(found)
    (root / "foreign.csv").write_bytes(b"\xff\xfe\x00,label\n" * 2000)
    (root / "test.csv").write_text("label,youtube_id\nmaking_pizza,aaaaaaaaaaa\n")
    found = find_dataset("kinetics-food", root)
    assert [(s.label, s.split) for s in found.sources] == [
        ("making pizza", "test"), ("making tea", "train"), ("making tea", "val"),
    ]  # fmt: skip


WRONG = {
    "ucf101, a class": ("ucf101", ["v_Archery_g01_c01.avi"], "in no class folder"),
    "ucf101, with another set": (
        "ucf101", ["UCF/Archery/a.avi", "UCF/Biking/b.avi", "other/x.avi"],
        "UCF/Archery/a.avi is not CLASS/VIDEO",
    ),
    "ucf101, pictures": ("ucf101", ["Archery/v_1/1.jpg"], "folders of pictures and no videos"),
    "sky, a split": ("sky", ["A/A_1/1.jpg", "B/B_1/1.jpg"], "give the folder that holds train"),
    "sky, with another set": (
        "sky", [*("sky/" + name for name in SKY), "other/clip/1.jpg"],
        "give the folder that holds the splits only",
    ),
    "sky, too deep": ("sky", ["sky_train/a/b/c/1.jpg", "sky_test/a/b/1.jpg"], "lies too deep"),
    "sky, videos": ("sky", ["sky_train/a/a_1.mp4"], "holds videos and no folders of pictures"),
    "taichi, a split": ("taichi", ["a.mp4", "b.mp4"], "there are no folders of splits"),
    "taichi, by films": ("taichi", ["train/film/a.mp4", "test/b.mp4"], "lies too deep"),
    "kinetics, a split": ("kinetics-food", ["making tea/a.mp4"], "there are no folders of splits"),
    "kinetics, no labels": ("kinetics-food", ["train/a.mp4", "val/b.mp4"], "no CSV file has its"),
    "nothing": ("taichi", ["readme.md"], "it holds no videos"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_another_depth_shows_both_trees(tmp_path: Path, case: str) -> None:
    name, files, sentence = WRONG[case]
    with pytest.raises(DiganError) as error:
        find_dataset(name, tree(tmp_path / "SRC", *files))
    first, _, detail = str(error.value).partition("\n")
    assert f"is not laid out as {KNOWN_SETS[name].title}: " in first
    assert sentence in first
    assert detail == error.value.detail
    lines = detail.splitlines()
    assert lines[0].split() == ["wanted", "found"]
    assert len(lines) <= 16
    column = lines[0].index("found")
    wanted = "\n".join(line[2:column].rstrip() for line in lines[1:]).rstrip()
    shown = "\n".join(line[column:] for line in lines[1:])
    assert wanted == KNOWN_SETS[name].tree
    assert f"{tmp_path / 'SRC'}/" in shown
    top = Path(sorted(files)[0]).parts[0]
    assert top in shown


def test_a_split_folder_is_told_of_its_parent(tmp_path: Path) -> None:
    tree(tmp_path, *SKY)
    with pytest.raises(DiganError, match=rf"which may be {tmp_path}"):
        find_dataset("sky", tmp_path / "sky_train")


def test_names_and_places_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DiganError, match=r"dataset must be one of ucf101, sky, taichi, kin"):
        find_dataset("mnist", tmp_path)
    with pytest.raises(DiganError, match=r"does not exist"):
        find_dataset("sky", tmp_path / "gone")
    tree(tmp_path, "a.mp4")
    with pytest.raises(DiganError, match=r"is a file: Sky Time-lapse is a folder"):
        find_dataset("sky", tmp_path / "a.mp4")


def test_counts_beside_the_published_ones() -> None:
    assert compare("ucf101", 12, 3, {"test": 4, "train": 8}) == [
        "UCF-101: 13,320 videos expected, 12 found; 101 classes expected, 3 found",
        "splits: 9,537 train expected, 8 found; 3,783 test expected, 4 found",
    ]
    whole = compare("ucf101", 13320, 101, {"train": 9537, "test": 3783})
    assert whole[0] == "UCF-101: 13,320 videos, as expected; 101 classes, as expected"
    assert compare("kinetics-food", 7, 29, {"val": 7})[0] == (
        "Kinetics-food: 7 videos (no published count); 29 classes, as expected"
    )
    assert compare("", 1, 1, {}) == []
    assert compare("of a later version", 1, 1, {}) == []
    for known in KNOWN_SETS.values():
        assert not known.splits or sum(known.splits.values()) == known.videos


def test_classes_draw_the_same_line_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    names = kinetics_classes(*rng.permutation(kinetics_food.CLASSES)[:6])
    whole = find_dataset("kinetics-food", tree(tmp_path / "a", *names))
    again = find_dataset("kinetics-food", tree(tmp_path / "b", *rng.permutation(names)))
    assert [(s.name, s.label, s.split) for s in whole.sources] == [
        (s.name, s.label, s.split) for s in again.sources
    ]
