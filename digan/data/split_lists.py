"""Split lists and class lists as UCF-101 has them.

trainlist01.txt     Archery/v_Archery_g08_c01.avi 3     one video a line, its class's number
testlist01.txt      Archery/v_Archery_g01_c01.avi       01, 02, 03 are three alternatives
classInd.txt        3 Archery                           number and name of every class
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from digan.errors import DiganError

SPLIT_LIST = re.compile(r"^(train|val|test)(?:_?list|_?split)?_?0*(\d*)\.txt$", re.I)
CLASS_LIST = re.compile(r"^classind\.txt$", re.I)
_FOLDER_OF_LISTS = re.compile(r"train_?test|splits?$", re.I)
_LINE = re.compile(r"^(\S.*\.\w{2,5})(?:\s+\d+)?$")


@dataclass(frozen=True)
class SplitLists:
    """The lists of one number: `files`, and the split of every video they name."""

    files: tuple[Path, ...]
    split_of: dict[str, str]  # list_key(video) -> split
    written: dict[str, str]  # list_key(video) -> how the list has it
    twice: tuple[str, ...]  # videos that stand in two splits; the first list counts

    @property
    def names(self) -> str:
        """The files' names, for messages."""
        return ", ".join(file.name for file in self.files)

    def key_of(self, name: str) -> str | None:
        """The entry for a video: by its class folder and name, else by its name alone."""
        parts = PurePosixPath(name).parts
        for found in (list_key(name), list_key(parts[-1])):
            if found in self.split_of:
                return found
        return None


def list_key(name: str) -> str:
    """What identifies a video in a list: its class folder and name, in any case.

    UCF-101 itself writes HandstandPushups and HandStandPushups for one class.
    """
    return "/".join(PurePosixPath(name).parts[-2:]).casefold()


def lists_beside(root: Path, pattern: re.Pattern[str], everywhere: bool = False) -> list[Path]:
    """Files of a name next to the source folder: in a neighbour that is named after splits.

    With `everywhere` also beside the folder itself and in any neighbour.
    """
    found: list[Path] = []
    here = root.resolve()
    try:
        for entry in sorted(os.scandir(here.parent), key=lambda entry: entry.name):
            path = Path(entry.path)
            if everywhere and pattern.match(entry.name) and entry.is_file():
                found.append(path)
            elif (everywhere or _FOLDER_OF_LISTS.search(entry.name)) and entry.is_dir():
                found += _matching(path, pattern) if path != here else []
    except OSError:  # a neighbourhood that may not be read holds no lists
        pass
    return found


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if pattern.match(file.name))
    except OSError:
        return []


def read_split_lists(lists: Iterable[Path], strict: bool = False) -> SplitLists:
    """The lists with the lowest number (UCF-101 has three alternatives).

    With `strict` every line must name a video; otherwise other text names nothing. Raises
    DiganError, naming file and line, if a list cannot be read.
    """
    numbered: dict[int, dict[str, Path]] = {}
    for file in sorted(lists):
        match = SPLIT_LIST.match(file.name)
        assert match is not None
        numbered.setdefault(int(match[2] or 0), {}).setdefault(match[1].lower(), file)
    chosen = numbered[min(numbered)]
    split_of: dict[str, str] = {}
    written: dict[str, str] = {}
    twice: list[str] = []
    # In this order: where the lists overlap, a video belongs to what is trained on.
    order = [split for split in ("train", "val", "test") if split in chosen]
    for split in order:
        for name in _names(chosen[split], strict):
            written.setdefault(list_key(name), name)
            if split_of.setdefault(list_key(name), split) != split:
                twice.append(name)
    return SplitLists(tuple(chosen[split] for split in order), split_of, written, tuple(twice))


def _names(file: Path, strict: bool) -> list[str]:
    if not strict:
        lines = _lines(file, errors="replace")
        return [re.sub(r"\s+\d+$", "", line) for line in lines if line]
    names = []
    for number, line in enumerate(_lines(file), 1):
        match = _LINE.match(line)
        if match is not None:
            names.append(match[1])
        elif line:
            raise DiganError(
                f"{file} cannot be used as a split list: line {number} must be CLASS/VIDEO.avi "
                f"[NUMBER], got {line[:40]!r}"
            )
    if not names:
        raise DiganError(f"{file} cannot be used as a split list: it names no video")
    return names


def read_class_list(file: Path) -> tuple[str, ...]:
    """The classes of classInd.txt in the order of their numbers.

    Raises DiganError, naming file and line, if it cannot be read.
    """
    classes: dict[int, str] = {}
    for number, line in enumerate(_lines(file), 1):
        match = re.match(r"^(\d{1,9})\s+(\S.*)$", line)
        if match is not None:
            classes[int(match[1])] = match[2]
        elif line:
            raise DiganError(
                f"{file} cannot be used as a class list: line {number} must be NUMBER CLASS, "
                f"got {line[:40]!r}"
            )
    return tuple(classes[number] for number in sorted(classes))


def _lines(file: Path, errors: str = "strict") -> list[str]:
    try:
        text = file.read_text("utf-8-sig", errors=errors)
    except OSError as error:
        raise DiganError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DiganError(f"{file} cannot be read: it is no UTF-8 text") from error
    return [line.strip() for line in text.splitlines()]
