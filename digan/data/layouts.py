"""The four data sets of the paper, as their publishers ship them.

    ucf101          CLASS/v_CLASS_g01_c01.avi, split lists and classInd.txt somewhere near
    sky             sky_train/FILM/FILM_1/*.jpg, sky_test/...
    taichi          train/CLIP.mp4, test/CLIP.mp4, or folders of pictures in their place
    kinetics-food   train/CLASS/CLIP.mp4, val/..., or clips in any folder and annotations in CSV

One folder around such a tree is looked through. Where the tree is another one, the error
shows what was found beside what is wanted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from digan.data.catalog import KnownSet, known_set
from digan.data.kinetics_food import (
    KEYWORDS,
    Annotation,
    check_keywords,
    class_name,
    clip_id,
    is_food,
    read_annotations,
)
from digan.data.sources import (
    Found,
    Scan,
    Source,
    found_of,
    natural_key,
    scan_folder,
    split_name,
    tree_of,
    unused,
)
from digan.data.split_lists import (
    CLASS_LIST,
    SPLIT_LIST,
    lists_beside,
    read_class_list,
    read_split_lists,
)
from digan.errors import DiganError

_UCF_LIST = re.compile(r"^(train|test)list0*\d+\.txt$", re.I)
_CSV = re.compile(r".*\.csv$", re.I)


def find_dataset(
    name: str,
    src: str | os.PathLike[str],
    exclude: Path | None = None,
    keywords: Sequence[str] | None = None,
) -> Found:
    """What a folder holds of a known set (catalog.py), with its labels and splits.

    No video is opened. `exclude` is a folder to pass over. `keywords` choose the classes of
    kinetics-food; by default the published ones do. Raises DiganError if the folder is laid
    out in another way, with its tree beside the one wanted in `detail`, and if a split list,
    class list or annotation file cannot be read.
    """
    known = known_set(name)
    if keywords is not None and name != "kinetics-food":
        raise DiganError(f"keywords choose classes of kinetics-food, the dataset is {name}")
    root = Path(src)
    if not root.exists():
        raise DiganError(f"{root} does not exist")
    if not root.is_dir():
        raise DiganError(f"{root} is a file: {known.title} is a folder")
    scan = scan_folder(root, exclude)
    if not scan.videos and not scan.folders:
        raise _wrong(known, root, "it holds no videos and no folders of pictures")
    for sources in (scan.videos, scan.folders):
        sources.sort(key=lambda source: natural_key(source.name))
    if name == "ucf101":
        found = _ucf101(known, root, scan)
    elif name == "kinetics-food":
        found = _kinetics_food(
            known, root, scan, check_keywords(KEYWORDS if keywords is None else keywords)
        )
    else:
        found = _by_split_folders(known, root, scan)
    found.dataset = name
    return found


def _wrong(known: KnownSet, root: Path, why: str, cure: str = "") -> DiganError:
    """The error for another layout: both trees, side by side."""
    found = [line[2:] for line in tree_of(root, most=12).splitlines()]
    wanted = known.tree.splitlines()
    width = max(map(len, wanted)) + 4
    rows = [("wanted", "found"), *zip_longest(wanted, found, fillvalue="")]
    detail = "\n".join(f"  {left:{width}}{right}".rstrip() for left, right in rows)
    sentence = f"{root} is not laid out as {known.title}: {why}"
    return DiganError(f"{sentence}; {cure}" if cure else sentence, detail)


def _folders(sources: Sequence[Source], stop_at_split: bool) -> list[tuple[str, ...]]:
    """The folders around each source, without those around all of them together.

    One folder is left around every source that has any; a split's folder always is.
    """
    folders = [PurePosixPath(source.name).parts[:-1] for source in sources]
    while min(map(len, folders)) >= (1 if stop_at_split else 2):
        first = folders[0][0]
        if any(names[0] != first for names in folders) or (stop_at_split and split_name(first)):
            break
        folders = [names[1:] for names in folders]
    return folders


def _ucf101(known: KnownSet, root: Path, scan: Scan) -> Found:
    if not scan.videos:
        raise _wrong(known, root, "it holds folders of pictures and no videos")
    folders = _folders(scan.videos, stop_at_split=False)
    depths = {len(names) for names in folders}
    if depths == {0}:
        cure = "give the folder that holds the classes, which may be the one above"
        raise _wrong(known, root, "its videos lie in no class folder", cure)
    if depths != {1}:
        odd = next(s.name for s, names in zip(scan.videos, folders, strict=True) if len(names) != 1)
        cure = "give the folder that holds the classes and nothing else"
        raise _wrong(known, root, f"{odd} is not CLASS/VIDEO", cure)
    sources = [
        replace(source, label=names[0]) for source, names in zip(scan.videos, folders, strict=True)
    ]
    notes = unused(scan)
    sources, split_notes = _listed_splits(root, scan, sources)
    order, class_notes = _listed_classes(root, scan, sources)
    return found_of(sources, notes + split_notes + class_notes, order)


def _near(root: Path, scan: Scan, pattern: re.Pattern[str]) -> list[Path]:
    """Texts of a name below the source, else beside it."""
    below = [file for file in scan.texts if pattern.match(file.name)]
    return below or lists_beside(root, pattern, everywhere=True)


def _listed_splits(root: Path, scan: Scan, sources: list[Source]) -> tuple[list[Source], list[str]]:
    lists = [file for file in _near(root, scan, _UCF_LIST) if SPLIT_LIST.match(file.name)]
    if not lists:
        return sources, ["no split lists (trainlist01.txt, testlist01.txt): no splits"]
    listed = read_split_lists(lists, strict=True)
    keys = [listed.key_of(source.name) for source in sources]
    if not any(keys):
        return sources, [f"{listed.names} name none of the videos: no splits"]
    notes = [f"splits from {listed.names}"]
    gone = sorted(set(listed.split_of) - set(keys) - {None}, key=natural_key)
    if gone:
        notes.append(
            f"{len(gone):,} videos of the split lists are not there (as {listed.written[gone[0]]})"
        )
    unlisted = [s.name for s, key in zip(sources, keys, strict=True) if key is None]
    if unlisted:
        notes.append(f"{len(unlisted):,} videos are in no split list (as {unlisted[0]})")
    if listed.twice:
        notes.append(
            f"{len(listed.twice):,} videos are in two split lists (as {listed.twice[0]}): "
            "they count for training"
        )
    return [
        replace(source, split=listed.split_of[key] if key is not None else None)
        for source, key in zip(sources, keys, strict=True)
    ], notes


def _listed_classes(
    root: Path, scan: Scan, sources: Sequence[Source]
) -> tuple[tuple[str, ...], list[str]]:
    """The order of the classes by classInd.txt, where there is one, and what does not fit."""
    files = _near(root, scan, CLASS_LIST)
    if not files:
        return (), []
    order = read_class_list(files[0])
    here = {source.label for source in sources if source.label is not None}
    notes = []
    if extra := sorted(here - set(order), key=natural_key):
        notes.append(
            f"{len(extra)} classes are not in {files[0].name} ({_some(extra)}): they are kept, "
            "after the others"
        )
    if absent := [name for name in order if name not in here]:
        notes.append(
            f"{len(absent)} classes of {files[0].name} have no videos here ({_some(absent)})"
        )
    return order, notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _by_split_folders(known: KnownSet, root: Path, scan: Scan) -> Found:
    """Sky Time-lapse and Tai-Chi-HD: splits, no classes."""
    films = known.name == "sky"  # films around the clips, and pictures only
    sources = scan.folders if films else scan.videos or scan.folders
    if not sources:
        raise _wrong(known, root, "it holds videos and no folders of pictures")
    folders = _folders(sources, stop_at_split=True)
    _need_splits(known, root, sources, folders)
    deepest = 2 if films else 1
    for source, names in zip(sources, folders, strict=True):
        if len(names) > deepest:
            raise _wrong(known, root, f"{source.name} lies too deep")
    labelled = [
        replace(source, split=split_name(names[0]))
        for source, names in zip(sources, folders, strict=True)
    ]
    notes = unused(scan)
    if films and scan.videos:  # here it is the videos that are left out
        notes[0] = f"{len(scan.videos)} video files lie beside the pictures and are not used"
    return found_of(labelled, notes)


def _need_splits(
    known: KnownSet,
    root: Path,
    sources: Sequence[Source],
    folders: Sequence[tuple[str, ...]],
) -> None:
    """Raise unless every source lies in a split's folder, just below the source folder."""
    if all(names and split_name(names[0]) for names in folders):
        return
    odd = next(
        s.name
        for s, names in zip(sources, folders, strict=True)
        if not (names and split_name(names[0]))
    )
    if any(split_name(part) for source in sources for part in PurePosixPath(source.name).parts):
        raise _wrong(
            known, root, f"{odd} lies in no split", "give the folder that holds the splits only"
        )
    cure = "give the folder that holds train and test"
    if split_name(root.resolve().name):
        cure += f", which may be {root.resolve().parent}"
    raise _wrong(known, root, "there are no folders of splits", cure)


def _kinetics_food(known: KnownSet, root: Path, scan: Scan, keywords: tuple[str, ...]) -> Found:
    sources = scan.videos or scan.folders
    folders = _folders(sources, stop_at_split=True)
    notes = unused(scan)
    rows = read_annotations(_near(root, scan, _CSV))
    labelled, unknown, seen = [], [], set()
    for source, names in zip(sources, folders, strict=True):
        split = split_name(names[0]) if names else None
        clip = clip_id(PurePosixPath(source.name).stem)
        if len(names) == 2 and split:
            labelled.append(replace(source, label=class_name(names[1]), split=split))
        elif clip in rows:
            row = rows[clip]
            labelled.append(replace(source, label=row.label, split=split or row.split))
        else:
            unknown.append(source.name)
        seen.add(clip)
    if not labelled:
        if not rows:
            _need_splits(known, root, sources, folders)
        raise _wrong(
            known, root, f"{unknown[0]} is not SPLIT/CLASS/VIDEO and no CSV file has its label"
        )
    if unknown:
        notes.append(f"{len(unknown):,} videos have no label and are not used (as {unknown[0]})")
    if rows:
        notes += _about_annotations(rows, seen, keywords)
    classes = {source.label for source in labelled if source.label is not None}
    chosen = {label for label in classes if is_food(label, keywords)}
    kept = [source for source in labelled if source.label in chosen]
    if not kept:
        raise DiganError(
            f"no class of {root} has one of the {len(keywords)} keywords in its name: it has "
            f"{_some(sorted(classes))}"
        )
    notes.append(
        f"{len(chosen)} of {len(classes)} classes hold one of {len(keywords)} keywords; "
        f"{len(labelled) - len(kept):,} videos of other classes are not used"
    )
    idle = [word for word in keywords if not any(is_food(label, [word]) for label in chosen)]
    if idle:
        notes.append(f"{len(idle)} keywords choose no class that is here ({_some(idle)})")
    found = found_of(kept, notes)
    found.keywords = keywords
    return found


def _about_annotations(
    rows: dict[str, Annotation], seen: set[str], keywords: tuple[str, ...]
) -> list[str]:
    files = sorted({row.file for row in rows.values()})
    notes = [f"annotations from {', '.join(files)}"]
    food = {label for label in {row.label for row in rows.values()} if is_food(label, keywords)}
    if gone := [clip for clip, row in rows.items() if row.label in food and clip not in seen]:
        notes.append(f"{len(gone):,} annotated videos are not there (as {gone[0]})")
    return notes
