"""What a folder holds: video files or folders of frames, with class labels and splits.

Layouts that are recognised, in any mixture of depths:

    one video file
    a folder of videos, flat or nested
    class/video.avi                    all videos one level down, in two or more folders
    clip/0001.jpg                      folders of pictures: each folder is one video
    train/... test/... (also val)      folders of that name around any of these are splits
    trainlist01.txt, testlist01.txt    split lists as UCF-101 has them, in or beside the folder
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from digan.data.split_lists import SPLIT_LIST, lists_beside, read_split_lists
from digan.errors import DiganError

# fmt: off
VIDEO_ENDINGS = frozenset([
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".gif",
    ".apng", ".mts", ".m2ts", ".3gp", ".ogv", ".mjpeg", ".mjpg", ".y4m", ".asf", ".vob", ".f4v",
    ".divx",
])
PICTURE_ENDINGS = frozenset([
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm",
])
# fmt: on
_SPLIT = re.compile(r"^(?:.*[_-])?(train|training|val|valid|validation|test|testing)$", re.I)
_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_LAYOUTS = """Layouts that are understood:
  SRC/*.mp4               a folder of videos (also nested)
  SRC/class/*.avi         one folder a class, as in UCF-101
  SRC/clip/*.jpg          one folder of pictures a video, at any depth, as in Sky Time-lapse
  SRC/train/... test/...  splits around any of these
  SRC = one video file"""


@dataclass(frozen=True)
class Source:
    """One video to be: a video file, or a folder of pictures.

    `name` is its path inside the source folder, `bytes` its size on disk, `stamp` changes
    when its contents do, `pictures` is the number of picture files (0 for a video file).
    """

    name: str
    path: str
    bytes: int
    stamp: str
    pictures: int = 0
    label: str | None = None
    split: str | None = None

    def is_as_found(self) -> bool:
        """Whether its file, or every picture of its folder, may be read and has not changed."""
        try:
            if not self.pictures:
                files = [self.path]
                stamp = _stamp(os.stat(self.path))
            else:
                files = [os.path.join(self.path, name) for name in pictures_in(self.path)]
                stamp = _stamp_of((os.path.basename(file), os.stat(file)) for file in files)
        except OSError:
            return False
        return stamp == self.stamp and all(os.access(file, os.R_OK) for file in files)


@dataclass
class Found:
    """Everything usable in a source folder, in natural order of the names."""

    sources: list[Source]
    layout: str  # one line in words
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    dataset: str | None = None  # the known set it is laid out as, a key of KNOWN_SETS
    keywords: tuple[str, ...] = ()  # that chose its classes

    def format(self) -> str:
        """Readable text."""
        return "\n".join([self.layout, *self.notes])


@dataclass
class Scan:
    """All that lies in a folder: video files, folders of pictures, texts, the rest by ending."""

    videos: list[Source] = field(default_factory=list)
    folders: list[Source] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)  # .txt and .csv
    others: Counter[str] = field(default_factory=Counter)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts frame2 before frame10; equal numbers fall back to the text."""
    key = []
    for i, piece in enumerate(re.split(r"(\d+)", text)):
        if i % 2:  # compared as digits, since int() takes a few thousand of them only
            digits = piece.lstrip("0")
            key.append((0, len(digits), f"{digits}\0{piece}"))
        elif piece:
            key.append((1, 0, piece))
    return tuple(key)


def pictures_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the picture files in a folder, in natural order."""
    names = [
        entry.name
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in PICTURE_ENDINGS and not entry.name.startswith(".")
    ]
    return sorted(names, key=natural_key)


def find_sources(src: str | os.PathLike[str], exclude: Path | None = None) -> Found:
    """Look through `src` (a folder or one video file) without opening any video.

    `exclude` is a folder to pass over (the store, when it lies inside the source). Raises
    DiganError if nothing usable is there, with the tree found and the layouts understood.
    """
    root = Path(src)
    if not root.exists():
        raise DiganError(f"{root} does not exist")
    if root.is_file():
        if root.suffix.lower() in {".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"}:
            raise DiganError(f"{root} is an archive: unpack it and give the folder")
        about = root.stat()
        source = Source(root.name, str(root), about.st_size, _stamp(about))
        return Found([source], "one video file")
    scan = scan_folder(root, exclude)
    found = scan.videos or scan.folders
    if not found:
        raise DiganError(
            f"{root} holds no videos and no folders of pictures. Found:\n{tree_of(root)}\n"
            f"{_LAYOUTS}"
        )
    found.sort(key=lambda source: natural_key(source.name))
    notes = unused(scan)
    labelled, has_folders = _label(found, bool(scan.videos))
    lists = [file for file in scan.texts if SPLIT_LIST.match(file.name)]
    lists += lists_beside(root, SPLIT_LIST)
    if lists and not has_folders:
        listed, note = _apply_lists(labelled, lists)
        if any(source.split for source in listed):  # else the lists are of another data set
            labelled = listed
            notes.append(note)
    return found_of(labelled, notes)


def scan_folder(root: Path, exclude: Path | None = None) -> Scan:
    """Everything below a folder, but for hidden files and the folder `exclude`.

    Raises DiganError if a folder cannot be read.
    """
    scan = Scan()
    skip = {os.path.realpath(exclude)} if exclude is not None else set()
    try:
        _walk(root, "", scan, skip)
    except OSError as error:
        raise DiganError(f"{error.filename} cannot be read: {error.strerror}") from error
    return scan


def unused(scan: Scan) -> list[str]:
    """Notes on what lies there and is no video."""
    notes = []
    if scan.videos and scan.folders:
        count = sum(folder.pictures for folder in scan.folders)
        notes.append(f"{count} pictures lie beside the videos and are not used")
    if scan.others:
        kinds = ", ".join(f"{ending} {n}" for ending, n in scan.others.most_common(5))
        notes.append(f"{scan.others.total()} other files are not used ({kinds})")
    return notes


def found_of(sources: list[Source], notes: list[str], class_order: Sequence[str] = ()) -> Found:
    """Sources with labels and splits, summed up in a line.

    Classes stand in the order of `class_order`; those it lacks follow in natural order.
    """
    place = {name: i for i, name in enumerate(class_order)}
    classes = tuple(
        sorted(
            {s.label for s in sources if s.label is not None},
            key=lambda name: (place.get(name, len(place)), natural_key(name)),
        )
    )
    splits = tuple(sorted({s.split for s in sources if s.split is not None}))
    what = "folders of pictures" if sources[0].pictures else "video files"
    layout = f"{len(sources)} {what}, {sum(s.bytes for s in sources) / 1e6:,.1f} MB"
    if classes:
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        layout += f", {len(classes)} classes ({shown})"
    else:
        layout += ", no classes"
    if splits:
        layout += ", splits " + ", ".join(splits)
    return Found(sources, layout, classes, splits, notes)


def _walk(folder: Path, prefix: str, scan: Scan, seen: set[str]) -> None:
    real = os.path.realpath(folder)
    if real in seen:  # the store itself, or links that run in a circle
        return
    seen.add(real)
    has_videos = False
    pictures: list[tuple[str, os.stat_result]] = []
    subfolders = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        try:
            about = entry.stat()
        except OSError:  # to nowhere, or to itself
            scan.others["broken link"] += 1
            continue
        if stat.S_ISDIR(about.st_mode):
            subfolders.append(entry.name)
            continue
        ending = os.path.splitext(entry.name)[1].lower()
        if not stat.S_ISREG(about.st_mode):
            continue
        if ending in VIDEO_ENDINGS:
            has_videos = True
            name = prefix + entry.name
            scan.videos.append(Source(name, entry.path, about.st_size, _stamp(about)))
        elif ending in PICTURE_ENDINGS:
            pictures.append((entry.name, about))
        else:
            if ending in {".txt", ".csv"}:
                scan.texts.append(Path(entry.path))
            scan.others[ending or "no ending"] += 1
    if pictures and not has_videos:
        name = prefix.rstrip("/") or folder.resolve().name
        size = sum(about.st_size for _, about in pictures)
        stamp = _stamp_of(pictures)
        scan.folders.append(Source(name, str(folder), size, stamp, len(pictures)))
    elif pictures:
        scan.others["pictures"] += len(pictures)
    for name in subfolders:
        _walk(folder / name, f"{prefix}{name}/", scan, seen)


def _stamp(about: os.stat_result) -> str:
    return f"{about.st_size}:{about.st_mtime_ns}"


def _stamp_of(pictures: Iterable[tuple[str, os.stat_result]]) -> str:
    """The stamp of a folder of pictures, in whatever order."""
    digest = blake2b(digest_size=16)
    for name, about in sorted(pictures, key=lambda picture: picture[0]):
        digest.update(os.fsencode(name) + _stamp(about).encode() + b"\0")
    return digest.hexdigest()


def split_name(folder: str) -> str | None:
    """The split that a folder's name stands for, as sky_train for train; None if for none."""
    match = _SPLIT.match(folder)
    return None if match is None else _SPLIT_NAMES.get(match[1].lower(), match[1].lower())


def _label(sources: list[Source], videos: bool) -> tuple[list[Source], bool]:
    """Class and split from the folders' names; also whether there were split folders."""
    folders = [list(PurePosixPath(source.name).parts[:-1]) for source in sources]

    def shared_top() -> bool:
        return min(len(f) for f in folders) >= 2 and len({f[0] for f in folders}) == 1

    def split_tops() -> bool:
        return min(len(f) for f in folders) >= 1 and all(split_name(f[0]) for f in folders)

    while shared_top() and not split_tops():
        folders = [f[1:] for f in folders]
    splits: list[str | None] = [None] * len(sources)
    has_split_folders = split_tops()
    if has_split_folders:
        for i, names in enumerate(folders):
            splits[i] = split_name(names[0])
        folders = [f[1:] for f in folders]
    labels: list[str | None] = [None] * len(sources)
    if all(len(f) == 1 for f in folders) and len({f[0] for f in folders}) > 1:
        # Sky Time-lapse has ID/ID_1, ID/ID_2: folders that name a film, not a class.
        film = not videos and all(
            PurePosixPath(source.name).name.startswith(f[0])
            for source, f in zip(sources, folders, strict=True)
        )
        if not film:
            labels = [f[0] for f in folders]
    labelled = [
        replace(source, label=label, split=split)
        for source, label, split in zip(sources, labels, splits, strict=True)
    ]
    return labelled, has_split_folders


def _apply_lists(sources: list[Source], lists: list[Path]) -> tuple[list[Source], str]:
    """Splits from lists, where they know the video."""
    listed = read_split_lists(lists)
    keys = [listed.key_of(source.name) for source in sources]
    out = [
        replace(source, split=listed.split_of[key] if key is not None else None)
        for source, key in zip(sources, keys, strict=True)
    ]
    note = f"splits from {listed.names}"
    missing = keys.count(None)
    return out, note + (f"; {missing} videos are in none of them" if missing else "")


def tree_of(root: Path, most: int = 20) -> str:
    """The upper levels of a folder as text, at most about `most` lines."""
    lines = [f"  {root}/"]

    def entries(folder: Path, depth: int) -> Iterator[str]:
        try:
            names = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in names[:8]:
            yield "  " + "  " * depth + entry.name + ("/" if entry.is_dir() else "")
            if entry.is_dir(follow_symlinks=False) and depth < 3:
                yield from entries(Path(entry.path), depth + 1)
        if len(names) > 8:
            yield "  " + "  " * depth + f"... and {len(names) - 8} more"

    for line in entries(root, 1):
        if len(lines) > most:
            lines.append("  ...")
            break
        lines.append(line)
    if len(lines) == 1:
        lines.append("    (empty)")
    return "\n".join(lines)
