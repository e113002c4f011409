"""`digan data check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from digan.cli import parse


@dataclass(frozen=True)
class CheckArgs:
    """Report on a store: counts, lengths, labels, unreadable and short files.

    Verifies the checksum of every record. Exits with 1 if records are damaged.

    Examples:
        digan data check store/
        digan data check store/ --clip-frames 128 --sheet sheet.png
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A store made by digan prepare."""
    clip_frames: int | None = None
    """Also count the clips of this length."""
    sheet: Path | None = None
    """Write a contact sheet to this PNG file."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: CheckArgs = parse(CheckArgs, arguments, "data check")
    from digan.data.check import check

    report = check(asked.data, clip_frames=asked.clip_frames, sheet=asked.sheet)
    print(report.format())
    return 0 if report.good else 1
