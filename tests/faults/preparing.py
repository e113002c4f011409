"""What can happen while a store is prepared, and what must then come of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from digan.data import workers
from digan.data.parts import Part
from tests.data.clips import contents, write_clip
from tests.faults import accidents
from tests.faults.accidents import Fault, Trial, Work, later

VIDEOS = 10


def a_video(trial: Trial) -> Path:
    return sorted(trial.data.glob("*.mp4"))[int(trial.random.integers(VIDEOS))]


def harmed(trial: Trial, harm: Callable[[Path], object]) -> None:
    """Something happens to one of the videos, of which a copy is kept, with its date."""
    video = a_video(trial)
    shutil.copy2(video, trial.out.with_name(video.name))
    later(trial.moment(), lambda: harm(video))


def removed_video(trial: Trial) -> None:
    harmed(trial, os.remove)


def cut_video(trial: Trial) -> None:
    share = trial.random.random()
    harmed(trial, lambda video: os.truncate(video, int(share * video.stat().st_size)))


def mended(trial: Trial) -> None:
    """The video is as before, to its date."""
    for copy in trial.out.parent.glob("*.mp4"):
        copy.replace(trial.data / copy.name)


FAULTS = (
    Fault("killed (-9)", accidents.killed, lost=0),
    Fault("SIGTERM", accidents.stopped, lost=0),
    Fault("disk full: no file may grow", accidents.disk_full_by_size, error="cannot be written"),
    Fault("disk full: ENOSPC", accidents.disk_full_by_error, error="is full|No space left"),
    Fault(
        "folder read-only",
        accidents.read_only_folder,
        accidents.writable_again,
        error="cannot be written",
    ),
    Fault("worker killed", accidents.dead_worker, error="no worker", flags=("--workers", "2")),
    Fault("video removed", removed_video, mended),
    Fault("video cut short", cut_video, mended),
)


class Preparing(Work):
    """`digan prepare` of a few clips; it goes on when it is called again."""

    name, unit, faults = "preparing", "videos", FAULTS
    heeds_sigterm = False

    def data(self, folder: Path) -> Path:
        """A folder of clips."""
        for number in range(VIDEOS):
            write_clip(folder / "clips" / f"{number}.mp4", 30 + number, shade=number)
        return folder / "clips"

    def command(self, trial: Trial, again: bool) -> list[str]:
        """The words after `digan`, the same each time."""
        words = ["prepare", str(trial.data), str(trial.out), "--resolution", "64"]
        return [*words, *(trial.flags or ("--workers", "1"))]

    @contextmanager
    def counted(self, counter: Any) -> Iterator[None]:
        """Keeps a shared number at the videos that were read, if it is this process that reads."""
        make = workers.make_part

        def counting(*words: Any) -> Part:
            part = make(*words)
            counter.value += not part.uncertain
            return part

        with mock.patch.object(workers, "make_part", counting):
            yield

    def is_done(self, trial: Trial) -> bool:
        """Nobody knows but another call."""
        return False

    def lost(self, trial: Trial, reached: int, again: int | None) -> int:
        """Videos that were read twice."""
        return 0 if again is None else max(reached + again - VIDEOS, 0)

    def allowed(self, fault: Fault) -> int:
        """Videos that may be read twice."""
        return fault.lost

    def complaint(self, fault: Fault, trial: Trial, unbroken: Trial) -> str:
        """What is wrong with the end; empty if nothing is."""
        ours, expected = contents(trial.out), contents(unbroken.out)
        if ours.keys() != expected.keys():
            return f"other files: {sorted(ours.keys() ^ expected.keys())[:3]}"
        differences = [name for name in ours if ours[name] != expected[name]]
        return f"other bytes than unbroken work leaves: {differences}" if differences else ""
