"""What a run has written so far, read beside it: nothing here waits, locks or writes."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from digan.errors import DiganError
from digan.formats import from_json, from_yaml

RECENT = 5  # ticks whose median is "now"
_MOST = 1e100  # larger numbers are not believed, and their squares and differences would overflow


@dataclass(frozen=True)
class History:
    """A run up to now.

    Attributes:
        run: its folder.
        config: its settings, as config.yaml has them.
        status: of status.json; None before it is there.
        ticks: rows of stats.jsonl, by kimg.
        metrics: rows of metric-NAME.jsonl by name, by kimg.
        warnings: what its log warned of, the newest last.
        silence: seconds since it last wrote a number or its status.
    """

    run: Path
    config: dict[str, Any]
    status: dict[str, Any] | None
    ticks: list[dict[str, Any]]
    metrics: dict[str, list[dict[str, Any]]]
    warnings: list[str]
    silence: float

    @property
    def kimg(self) -> float:
        """Thousands of samples seen, as far as is known."""
        known = [0.0, *self.series("kimg")[-1:]]
        if self.status is not None:
            known.append(number(self.status.get("kimg")) or 0.0)
        return max(known)

    @property
    def total(self) -> float:
        """Thousands of samples that it is to see."""
        return max(number(self.config.get("kimg")) or 0.0, 0.0)

    @property
    def state(self) -> str:
        """finished, running, silent (it says that it runs, but for long nothing came), or why
        it stopped.
        """
        if self.status is None:
            return "starting"
        if self.status.get("finished"):
            return "finished"
        reason = str(self.status.get("reason") or "unknown")
        if reason != "running":
            return reason
        return "silent" if self.silence > self.patience else "running"

    @property
    def patience(self) -> float:
        """Seconds without news after which a run is no longer believed to be alive."""
        kimg = self.series("kimg")
        seconds = self.series("seconds_per_kimg")
        if len(kimg) < 2 or not seconds:
            return 600.0
        step = statistics.median(b - a for a, b in pairwise(kimg))
        return max(600.0, 10 * step * seconds[-1])

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the recent rate; None while there is no rate."""
        rate = self.recent("seconds_per_kimg")
        return None if rate is None else number(max(self.total - self.kimg, 0.0) * rate)

    def series(self, name: str) -> list[float]:
        """A statistic at every tick that has it; numbers that are not finite too."""
        return [float(row[name]) for row in self.ticks if _is_real(row.get(name))]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(kimg, value) of a statistic, finite values only."""
        found = [(float(row["kimg"]), number(row.get(name))) for row in self.ticks]
        return [(kimg, value) for kimg, value in found if value is not None]

    def recent(self, name: str, count: int = RECENT) -> float | None:
        """Median of a statistic over the last ticks; None without one."""
        values = self.series(name)[-count:]
        return statistics.median(values) if values else None

    def metric_points(self, metric: str, name: str | None = None) -> list[tuple[float, float]]:
        """(kimg, value) of a metric, or of one of the numbers beside it."""
        found = []
        for row in self.metrics.get(metric, ()):
            results = row.get("results")
            value = number(results.get(name or metric)) if isinstance(results, dict) else None
            if value is not None:
                found.append((float(row["kimg"]), value))
        return found

    def sample_files(self) -> list[tuple[float, Path]]:
        """(kimg in whole thousands, path) of the sample videos, the oldest first."""
        found = []
        for path in self.run.glob("fakes*.mp4"):
            if match := re.fullmatch(r"fakes(\d+)\.mp4", path.name):
                found.append((float(match[1]), path))
        return sorted(found)


def find_run(path: Path) -> Path:
    """The run that a path means: itself, or the newest run in it.

    Raises:
        DiganError: no folder, or no run in it.
    """
    if (path / "config.yaml").is_file():
        return path
    if not path.is_dir():
        raise DiganError(f"the run {path} is no folder")
    try:
        runs = [p for p in path.iterdir() if re.match(r"\d{5,}-", p.name)]
    except OSError as error:
        raise DiganError(f"the run {path} cannot be read: {error.strerror or error}") from error
    runs = [p for p in runs if (p / "config.yaml").is_file()]
    if not runs:
        raise DiganError(f"{path} is no run of digan train and has none in it")
    return max(runs, key=lambda p: int(p.name.split("-")[0]))


def read_history(run: Path) -> History:
    """Reads a run's folder, whatever state it is in.

    A row that is being written, or was cut off, is left out.

    Raises:
        DiganError: the folder is no run, or cannot be read.
    """
    run = find_run(run)
    try:
        config = from_yaml((run / "config.yaml").read_text(encoding="utf-8"))
        status = _status(run / "status.json")
        metrics = {
            path.name.removeprefix("metric-").removesuffix(".jsonl"): _rows(path)
            for path in sorted(run.glob("metric-*.jsonl"))
        }
        log = run / "log.txt"
        lines = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        written = [p.stat().st_mtime for p in (run / "stats.jsonl", run / "status.json", log)
                   if p.is_file()]  # fmt: skip
        ticks = _rows(run / "stats.jsonl")
    except (OSError, ValueError) as error:
        raise DiganError(f"the run {run} cannot be read: {_one_line(error)}") from error
    if not isinstance(config, dict):
        raise DiganError(f"{run / 'config.yaml'} is damaged: it holds no settings")
    return History(
        run=run,
        config=config,
        status=status,
        ticks=ticks,
        metrics=metrics,
        warnings=[s for s in lines.splitlines() if s.startswith(("WARNING: ", "stopped: "))],
        silence=time.time() - max(written, default=time.time()),
    )


def _status(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = from_json(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # it is replaced whole, so this is damage; the numbers say how far it came
    return value if isinstance(value, dict) else None


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = from_json(line)
        except ValueError:
            continue
        kimg = number(row.get("kimg")) if isinstance(row, dict) else None
        if kimg is not None and kimg >= 0:
            found.append(row)
    return sorted(found, key=lambda row: float(row["kimg"]))


def number(value: Any) -> float | None:
    """A value as a finite number that curves and courses can hold, else None."""
    if not _is_real(value) or not abs(value) < _MOST:
        return None
    return float(value)


def _is_real(value: Any) -> bool:
    """Whether a value is a number, infinite and NaN included, that a float can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < _MOST
    return isinstance(value, float)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def neighbours(count: int, groups: int) -> list[slice]:
    """Places 0 to count - 1 in so many groups of neighbours, at most one each."""
    edges = [round(i * count / groups) for i in range(groups + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]
