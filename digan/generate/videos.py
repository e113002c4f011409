"""Which videos were asked for: seeds, motion seeds and classes, and what a file shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from digan.errors import DiganError
from digan.nn.snapshot import NetworkInfo
from digan.ranges import parse_seeds
from digan.synthesis import Codes

Walked = Literal["content", "motion", "both"]


@dataclass(frozen=True)
class Video:
    """One video to make.

    Attributes:
        seed, motion_seed: of its content and its motion.
        label: class, conditional networks only.
        name: of its file, without ending.
        row: which of the classes that were asked for it is made of.
        codes: of one video, in the place of the seeds.
    """

    seed: int
    motion_seed: int
    label: int | None
    name: str
    row: int = 0
    codes: Codes | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cell:
    """What one place of a grid, or one file, shows: one video, or several put together."""

    videos: tuple[Video, ...]
    name: str


def choose_videos(
    info: NetworkInfo,
    seeds: Sequence[int],
    motion_seeds: Sequence[int] | None,
    classes: Sequence[int] | None,
) -> list[Video]:
    """Every combination that was asked for, each with its file name.

    Seeds and motion seeds of equal number go together; one of either goes with all of the
    other. Every class is made of every seed; a conditional network that is given no class
    takes them in turn by the seed.

    Raises:
        DiganError: numbers that do not fit, a class out of range, classes for an
            unconditional network.
    """
    known = info.generator.num_classes
    if classes is not None and not known:
        raise DiganError("the network is not class-conditional: leave out --class")
    for wanted in classes or ():
        if not 0 <= wanted < known:
            raise DiganError(f"class must be in 0 to {known - 1}, got {wanted}")
    motions = list(seeds if motion_seeds is None else motion_seeds)
    contents = list(seeds)
    if len(contents) == 1:
        contents *= len(motions)
    if len(motions) == 1:
        motions *= len(contents)
    if len(contents) != len(motions):
        raise DiganError(
            f"seeds and motion seeds must be equally many, or one of either, "
            f"got {len(contents)} and {len(motions)}"
        )
    videos = []
    chosen: list[int | None] = list(classes) if classes else [None]
    for row, label in enumerate(chosen):
        for seed, motion in zip(contents, motions, strict=True):
            name = f"seed{seed:04d}"
            name += "" if motion_seeds is None else f"-motion{motion:04d}"
            name += "" if label is None else f"-class{label}"
            own = seed % known if known and label is None else label
            videos.append(Video(seed, motion, own, name, row))
    return videos


def coded_videos(name: str, codes: Codes) -> list[Video]:
    """The videos of given codes, each with its file name; several are numbered."""
    count = len(codes)
    return [
        Video(
            i, i, None, name if count == 1 else f"{name}{i:04d}", codes=codes.take(slice(i, i + 1))
        )
        for i in range(count)
    ]


def parse_classes(text: str, info: NetworkInfo) -> list[int]:
    """Class numbers from numbers, ranges or names; `all` is every class.

    Raises:
        DiganError: a name that the network does not have, with the names it has; all classes of
            a network without.
    """
    found: list[int] = []
    for part in text.split(","):
        if part.strip() in info.classes:
            found.append(info.classes.index(part.strip()))
        elif part.strip() == "all":
            if not info.generator.num_classes:
                raise DiganError("the network is not class-conditional: leave out --class")
            found += range(info.generator.num_classes)
        elif part.strip()[:1].isdigit():
            found += parse_seeds(part, "class")
        else:
            have = ", ".join(info.classes) or "none with a name"
            raise DiganError(f"class must be a number or one of {have}, got {part.strip()!r}")
    return found


def choose_cells(
    videos: Sequence[Video], *, walk: Walked | None = None, difference: bool = False
) -> list[Cell]:
    """What every file, or every place of a grid, shows.

    Args:
        videos: of `choose_videos`.
        walk: all videos of a class are the stops of one.
        difference: the two videos of a class, and where they differ.

    Raises:
        DiganError: both at once, a walk of fewer than two stops, a difference of not two videos.
    """
    if walk is not None and difference:
        raise DiganError("--walk and --difference cannot go together: a walk is one video")
    if walk is None and not difference:
        return [Cell((video,), video.name) for video in videos]
    cells = []
    for _, same in groupby(videos, key=lambda video: video.row):
        own = tuple(same)
        if difference and len(own) != 2:
            raise DiganError(
                f"--difference needs two videos, as of --seeds 0 --motion-seeds 0,1, got {len(own)}"
            )
        if walk is not None and len(own) < 2:
            raise DiganError("--walk needs at least two --seeds or --motion-seeds to walk between")
        ending = "difference" if walk is None else "walk" if walk == "both" else f"{walk}-walk"
        cells.append(Cell(own, f"{own[0].name}-to-{own[-1].name}-{ending}"))
    return cells
