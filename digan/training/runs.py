"""Run folders: their names, their status, and finding the one to resume."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from digan.config import TrainConfig
from digan.errors import DiganError
from digan.files import write_json
from digan.formats import from_json

STATUS_FILE = "status.json"


def run_suffix(config: TrainConfig, data_name: str) -> str:
    """What a run's name says: NAME-res128-frames128-batch64."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", data_name).strip("_.") or "data"
    resolution = config.generator.resolution
    cond = "-cond" if config.cond else ""
    split = "" if config.split == "all" else f"-{config.split}"
    return f"{name}-res{resolution}-frames{config.clip_frames}-batch{config.batch}{cond}{split}"


def _numbered(outdir: Path) -> list[tuple[int, Path]]:
    if not outdir.is_dir():
        return []
    found = ((re.match(r"(\d{5,})-", p.name), p) for p in outdir.iterdir() if p.is_dir())
    return sorted((int(match[1]), path) for match, path in found if match)


def new_run(outdir: Path, suffix: str) -> Path:
    """Makes outdir/00000-SUFFIX with the next free number."""
    runs = _numbered(outdir)
    number = runs[-1][0] + 1 if runs else 0
    path = outdir / f"{number:05d}-{suffix}"
    path.mkdir(parents=True)
    return path


def unfinished_run(outdir: Path, suffix: str) -> Path | None:
    """The newest run of this name that has a status and is not finished."""
    for _, path in reversed(_numbered(outdir)):
        if path.name.partition("-")[2] == suffix:
            status = read_status(path)
            if status is not None and not status.get("finished", False):
                return path
    return None


def write_status(run: Path, *, finished: bool, kimg: float, reason: str) -> None:
    """Writes status.json: whether the run is finished, how far it came, and why it stopped."""
    write_json(
        run / STATUS_FILE,
        {"finished": finished, "kimg": kimg, "reason": reason, "time": time.time()},
    )


def read_status(run: Path) -> dict[str, Any] | None:
    """The run's status; None if there is none.

    Raises:
        DiganError: the file is there and holds no status.
    """
    path = run / STATUS_FILE
    if not path.is_file():
        return None
    try:
        status = from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DiganError(f"{path} is damaged: {error}") from error
    if not isinstance(status, dict):
        raise DiganError(f"{path} is damaged: it holds no status")
    return status
