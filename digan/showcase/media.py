"""What a page is made of: films that are still to be shot, clips that were, and their cache.

A section is planned first, as films: descriptions with their cost, nothing computed. Shooting
a film writes one .mp4 and one picture of its first frame; what is then known of it is a Clip.
A section's clips lie in a folder of their own, with the settings that made them, so that the
next run makes only what has changed.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digan.data.video import VideoWriter
from digan.errors import DiganError
from digan.formats import from_json
from digan.generate.encoding import EncoderThread

Frames = NDArray[np.uint8]  # [n, H, W, 3]
Advance = Callable[[int], object]  # told of the pixels that were computed

POSTER = ".webp"
RECORD = "section.json"


@dataclass(frozen=True)
class Film:
    """A video that is still to be made.

    Attributes:
        caption: what it shows. fps: playback frames per second. count: its frames.
        draw: they in order, in pieces uint8 [n, H, W, 3].
        work: pixels that the network computes for it, for the progress bar.
        pixelated: whether a browser shall show single pixels when it enlarges it.
    """

    caption: str
    fps: float
    count: int
    draw: Callable[[], Iterator[Frames]]
    work: int
    pixelated: bool = False


@dataclass(frozen=True)
class Scene:
    """Films that are seen side by side and play in step.

    Attributes:
        title, text: what is shown, and how. films: those films.
        command: lines that make the same, or "".
        times: t of every frame of the longest film, in clip units; None without a clock.
        columns: films beside one another, on a large screen and on a phone.
        to_scale: whether a video with more pixels is larger on the screen.
        measured: more text, known only once the films are made.
    """

    title: str
    text: str
    films: tuple[Film, ...]
    command: str = ""
    times: tuple[float, ...] | None = None
    columns: tuple[int, int] = (2, 1)
    to_scale: bool = False
    measured: Callable[[], str] | None = None


@dataclass(frozen=True)
class Plan:
    """A section before it is made. Without scenes, `text` says why there are none."""

    text: str
    scenes: tuple[Scene, ...] = ()

    @property
    def work(self) -> int:
        """Pixels to compute."""
        return sum(film.work for scene in self.scenes for film in scene.films)


@dataclass(frozen=True)
class Clip:
    """A video file of a page: its name in the section's folder, and what it holds."""

    file: str
    caption: str
    width: int
    height: int
    frames: int
    fps: float
    pixelated: bool = False


@dataclass(frozen=True)
class Group:
    """Clips that are seen side by side and play in step; the fields are those of `Scene`."""

    title: str
    text: str
    clips: tuple[Clip, ...]
    command: str = ""
    times: tuple[float, ...] | None = None
    columns: tuple[int, int] = (2, 1)
    to_scale: bool = False
    measured: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a page, made; its clips lie in `folder`."""

    name: str
    title: str
    text: str
    groups: tuple[Group, ...]
    folder: Path


def shoot(film: Film, path: Path, advance: Advance) -> Clip:
    """Makes a film: writes `path` (.mp4) and its first frame beside it.

    Raises:
        DiganError: it cannot be written.
        RuntimeError: it has another number of frames than it says.
    """
    count = done = 0
    first: Frames | None = None
    with VideoWriter(path, film.fps) as video, EncoderThread(video.write) as encoder:
        for frames in film.draw():
            encoder.put(frames)
            first = frames[0] if first is None else first
            count += len(frames)
            share = min(film.work * count // film.count, film.work)
            advance(share - done)
            done = share
    if first is None or count != film.count:
        raise RuntimeError(f"{path.stem} must have {film.count} frames, got {count}")
    poster = path.with_suffix(POSTER)
    try:
        Image.fromarray(first).save(poster, quality=80, method=4)
    except OSError as error:
        raise DiganError(f"{poster} cannot be written: {error.strerror or error}") from error
    height, width = first.shape[:2]
    # H.264 has even sides: the writer repeats the last row or column of odd ones.
    return Clip(
        file=path.name,
        caption=film.caption,
        width=width + width % 2,
        height=height + height % 2,
        frames=count,
        fps=film.fps,
        pixelated=film.pixelated,
    )


def make_section(
    name: str, title: str, plan: Plan, folder: Path, key: dict[str, Any], advance: Advance
) -> Section:
    """Shoots all films of a plan; `folder` is replaced when all of them are there.

    Args:
        name, title: of the section. plan: what to make. key: the settings that it depends on.
        advance: called with the pixels that were computed.
    """
    beside = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    except OSError as error:
        raise DiganError(f"{beside} cannot be written: {error.strerror or error}") from error
    groups = []
    try:
        for number, scene in enumerate(plan.scenes, 1):
            clips = [
                shoot(film, beside / f"{name}-{number}-{index}.mp4", advance)
                for index, film in enumerate(scene.films, 1)
            ]
            # A group has the scene's fields, but clips in place of films.
            about = {f.name: getattr(scene, f.name) for f in dataclasses.fields(scene)}
            del about["films"]
            about["measured"] = scene.measured() if scene.measured else ""
            groups.append(Group(clips=tuple(clips), **about))
        section = Section(name, title, plan.text, tuple(groups), folder)
        _write_record(beside / RECORD, section, key)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    except OSError as error:
        raise DiganError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return section


def _write_record(path: Path, section: Section, key: dict[str, Any]) -> None:
    values = dataclasses.asdict(section)
    del values["folder"]
    path.write_text(json.dumps({"key": key, "section": values}, indent=1) + "\n", encoding="utf-8")


def read_section(folder: Path) -> tuple[Section, dict[str, Any]] | None:
    """A section that an earlier run made, and its key; None if it is not whole."""
    try:
        record = from_json((folder / RECORD).read_text(encoding="utf-8"))
        values, key = record["section"], record["key"]
        groups = tuple(_read_group(group) for group in values["groups"])
        section = Section(
            str(values["name"]), str(values["title"]), str(values["text"]), groups, folder
        )
        files = [clip.file for group in groups for clip in group.clips]
        whole = isinstance(key, dict) and all(_is_here(folder, file) for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return (section, key) if whole else None


def _is_here(folder: Path, file: str) -> bool:
    """Whether a video and its picture are files of a folder: a name must not lead out of it."""
    path = folder / file
    return (
        Path(file).name == file
        and path.suffix == ".mp4"
        and all(p.is_file() and not p.is_symlink() for p in (path, path.with_suffix(POSTER)))
    )


def _read_group(values: dict[str, Any]) -> Group:
    clips = tuple(_read_clip(clip) for clip in values["clips"])
    if not clips:
        raise ValueError("a group without clips")
    times: Sequence[float] | None = values["times"]
    wide, narrow = values["columns"]
    return Group(
        title=str(values["title"]),
        text=str(values["text"]),
        clips=clips,
        command=str(values["command"]),
        times=None if times is None else tuple(float(t) for t in times),
        columns=(int(wide), int(narrow)),
        to_scale=bool(values["to_scale"]),
        measured=str(values["measured"]),
    )


def _read_clip(values: dict[str, Any]) -> Clip:
    """A clip whose numbers are numbers, since they go into the page as they are."""
    clip = Clip(
        file=str(values["file"]),
        caption=str(values["caption"]),
        width=int(values["width"]),
        height=int(values["height"]),
        frames=int(values["frames"]),
        fps=float(values["fps"]),
        pixelated=bool(values["pixelated"]),
    )
    if min(clip.width, clip.height, clip.frames) < 1 or not 0 < clip.fps < float("inf"):
        raise ValueError("a clip without frames")
    return clip
