"""What is published about the four data sets of the paper, and how much of one is there.

The sources of these numbers are in docs/notes/datasets.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from digan.errors import DiganError


@dataclass(frozen=True)
class KnownSet:
    """Published facts. Counts that were never published are 0 or not there."""

    name: str  # as `--dataset` has it
    title: str
    tree: str  # the layout wanted, one line a level
    videos: int = 0
    classes: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)  # videos of each
    stride: int = 1  # at which the paper takes its clips


KNOWN_SETS = {
    known.name: known
    for known in (
        KnownSet(
            "ucf101",
            "UCF-101",
            "SRC/\n  Archery/\n    v_Archery_g01_c01.avi\n  Biking/\n    v_Biking_g01_c01.avi\n"
            "(below or beside it, if there:)\n  trainlist01.txt\n  testlist01.txt\n  classInd.txt",
            videos=13320,
            classes=101,
            splits={"train": 9537, "test": 3783},
        ),
        KnownSet(
            "sky",
            "Sky Time-lapse",
            "SRC/\n  sky_train/\n    FILM/\n      FILM_1/\n        1.jpg\n        2.jpg\n"
            "  sky_test/\n    FILM/\n      FILM_1/\n        1.jpg",
            videos=2617,
            splits={"train": 2392, "test": 225},
        ),
        KnownSet(
            "taichi",
            "Tai-Chi-HD",
            "SRC/\n  train/\n    CLIP.mp4\n  test/\n    CLIP.mp4\n(or)\n  train/\n    CLIP/\n"
            "      0000000.png",
            videos=3334,
            splits={"train": 3049, "test": 285},
            stride=4,
        ),
        KnownSet(
            "kinetics-food",
            "Kinetics-food",
            "SRC/\n  train/\n    making pizza/\n      ID_000010_000020.mp4\n  val/\n"
            "    making pizza/\n      ID_000010_000020.mp4\n(or)\n  ID_000010_000020.mp4\n"
            "  train.csv, val.csv",
            classes=29,
        ),
    )
}


def known_set(name: str) -> KnownSet:
    """The set of a name. Raises DiganError if there is none."""
    if name not in KNOWN_SETS:
        raise DiganError(f"dataset must be one of {', '.join(KNOWN_SETS)}, got {name}")
    return KNOWN_SETS[name]


def compare(name: str, videos: int, classes: int, splits: Mapping[str, int]) -> list[str]:
    """What was published of a set beside what a store holds: one line, and one a split.

    `splits` are the videos of each split, empty if the store knows none. A name that this
    version does not know gives no lines.
    """
    known = KNOWN_SETS.get(name)
    if known is None:
        return []
    counts = [_count("videos", known.videos, videos)]
    if known.classes or classes:
        counts.append(_count("classes", known.classes, classes))
    lines = [f"{known.title}: {'; '.join(counts)}"]
    if splits:
        names = [*known.splits, *sorted(set(splits) - set(known.splits))]
        each = [_count(split, known.splits.get(split, 0), splits.get(split, 0)) for split in names]
        lines.append(f"splits: {'; '.join(each)}")
    return lines


def _count(what: str, expected: int, found: int) -> str:
    if not expected:
        return f"{found:,} {what} (no published count)"
    if expected == found:
        return f"{found:,} {what}, as expected"
    return f"{expected:,} {what} expected, {found:,} found"
