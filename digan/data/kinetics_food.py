"""Kinetics-food: the classes of Kinetics-600 whose names hold a food keyword.

The 17 keywords are those of Weissenborn et al. (Scaling Autoregressive Video Models, 2020),
which DIGAN's authors repeat in the notes on their data. Taken as whole words they choose 29
of the 600 classes, and these are the 29 archives that the authors list.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from digan.errors import DiganError

# fmt: off
KEYWORDS = (
    "baking", "barbequing", "breading", "cooking", "cutting", "pancake", "vegetables", "meat",
    "cake", "sandwich", "pizza", "sushi", "tea", "peeling", "fruit", "eggs", "salad",
)
CLASSES = (
    "baking cookies", "barbequing", "breading or breadcrumbing", "chopping meat",
    "chopping vegetables", "cooking egg", "cooking on campfire",
    "cooking sausages (not on barbeque)", "cooking scallops", "cutting apple", "cutting nails",
    "cutting orange", "cutting pineapple", "cutting watermelon", "eating cake",
    "flipping pancake", "frying vegetables", "grinding meat", "making a cake",
    "making a sandwich", "making pizza", "making sushi", "making tea", "peeling apples",
    "peeling potatoes", "picking fruit", "preparing salad", "scrambling eggs",
    "separating eggs",
)
# fmt: on
_SPLITS = {"validate": "val", "validation": "val", "training": "train", "testing": "test"}


class Annotation(NamedTuple):
    """What an annotation file says of one clip."""

    label: str
    split: str | None
    file: str


def class_name(folder: str) -> str:
    """A class folder's name as the annotations write it: downloaders put _ for spaces."""
    return " ".join(folder.replace("_", " ").split())


def is_food(label: str, keywords: Sequence[str] = KEYWORDS) -> bool:
    """Whether a class name holds one of the keywords as whole words, in any case."""
    name = class_name(label)
    return any(
        re.search(rf"(?<!\w){re.escape(class_name(keyword))}(?!\w)", name, re.I)
        for keyword in keywords
    )


def check_keywords(keywords: Iterable[str]) -> tuple[str, ...]:
    """Keywords without surrounding blanks. Raises DiganError if there are none."""
    found = tuple(dict.fromkeys(word.strip() for word in keywords if word.strip()))
    if not found:
        raise DiganError("keywords must be words with commas between them, got none")
    return found


def clip_id(stem: str) -> str:
    """The YouTube id in a clip's file name, ID or ID_000010_000020."""
    return re.sub(r"_\d{6}_\d{6}$", "", stem)


def read_annotations(files: Iterable[Path]) -> dict[str, Annotation]:
    """Clip ids with label and split, from CSV files with columns label, youtube_id, split.

    Files without the columns label and youtube_id are of something else and passed over;
    the split is the file's name where there is no such column. Raises DiganError, naming
    file and line, if a file cannot be read.
    """
    found: dict[str, Annotation] = {}
    for file in files:
        try:
            with open(file, "rb") as raw:
                if b"youtube_id" not in raw.readline(1000):  # whatever it is, it is not ours
                    continue
            with open(file, encoding="utf-8-sig", newline="") as text:
                rows = csv.DictReader(text, strict=True)
                if not {"label", "youtube_id"} <= set(rows.fieldnames or ()):
                    continue
                for row in rows:
                    label, clip = row["label"], row["youtube_id"]
                    if not label or not clip:
                        raise DiganError(
                            f"{file} cannot be used as annotations: line {rows.line_num} must "
                            "have a label and a youtube_id"
                        )
                    split = (row.get("split") or _split_of_name(file) or "").lower()
                    about = Annotation(
                        class_name(label), _SPLITS.get(split, split) or None, file.name
                    )
                    found.setdefault(clip, about)
        except OSError as error:
            raise DiganError(f"{file} cannot be read: {error.strerror or error}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DiganError(f"{file} cannot be used as annotations: {error}") from error
    return found


def _split_of_name(file: Path) -> str | None:
    match = re.search(r"(train|validate|val|test)", file.stem, re.I)
    return match[1] if match else None
