"""Rows of a result file: who did what, how often, how fast. Complete enough to keep for years."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digan.config import from_dict
from digan.errors import DiganError
from digan.formats import from_json

SCHEMA = 1


@dataclass
class Row:
    """One provider's measurements of one case.

    Attributes:
        section, case: what was done; the case names its sizes.
        provider: whose code. precision: of its arithmetic. allocator: default or tuned.
        unit: what `items` of one call are: frames, samples, pairs, calls.
        samples: seconds of a call, one list per fresh process.
        floor: seconds of a call at the machine's ceilings, per process.
        flops, bytes: counted for one call; None where not counted.
        peak: most bytes held by a process that does only this; None where not measured.
        note: why there is no number, or what to know about it.
    """

    section: str
    case: str
    provider: str
    precision: str
    allocator: str = "default"
    unit: str = "calls"
    items: float = 1.0
    samples: list[list[float]] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    flops: float | None = None
    bytes: float | None = None
    peak: int | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes two rows the same measurement."""
        return self.section, self.case, self.provider, self.precision, self.allocator

    @property
    def seconds(self) -> np.ndarray:
        """All samples."""
        return np.array([s for process in self.samples for s in process], dtype=float)

    @property
    def median(self) -> float:
        """Median of the processes' medians: no process weighs more for having more samples."""
        medians = [float(np.median(process)) for process in self.samples if process]
        return float(np.median(medians)) if medians else math.nan

    def percentile(self, q: float) -> float:
        """Of all samples."""
        return float(np.percentile(self.seconds, q)) if self.seconds.size else math.nan

    @property
    def process_spread(self) -> float:
        """(largest - smallest) / median of the processes' medians; NaN for one process."""
        medians = [float(np.median(process)) for process in self.samples if process]
        if len(medians) < 2:
            return math.nan
        return (max(medians) - min(medians)) / float(np.median(medians))

    @property
    def floor_share(self) -> float:
        """Floor / median: 1 would be the hardware's limit."""
        floor = [value for value in self.floor if math.isfinite(value)]
        return float(np.median(floor)) / self.median if floor and self.samples else math.nan


def merge(rows: list[Row]) -> list[Row]:
    """Rows of one key become one, with the samples of all their processes, in first order."""
    merged: dict[tuple[str, ...], Row] = {}
    for row in rows:
        known = merged.setdefault(row.key, Row(**{**asdict(row), "samples": [], "floor": []}))
        known.samples += row.samples
        known.floor += row.floor
        known.peak = row.peak if known.peak is None else known.peak
        known.flops = row.flops if known.flops is None else known.flops
        known.bytes = row.bytes if known.bytes is None else known.bytes
        known.note = known.note or row.note
    return list(merged.values())


@dataclass
class Results:
    """A result file: how it was made, on what, and its rows.

    Attributes:
        tables: what is no row of samples, by name: `profile` (where an iteration's time goes),
            `data wait` (of a training run on a loader), `scaling` (of several processes),
            `targets`, `left out` (for want of time).
    """

    started: str  # ISO 8601, UTC
    options: dict[str, Any]
    machine: dict[str, Any]
    ceilings: list[dict[str, Any]]  # one per process
    original: dict[str, Any]  # the original's commit, agreement and op paths; empty without
    rows: list[Row]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the file. Raises DiganError if that fails."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error


def read_results(path: Path) -> Results:
    """Reads a result file.

    Raises:
        DiganError: not there, or no result file of this schema.
    """
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}")
        return from_dict(Results, content)
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, DiganError) as error:
        raise DiganError(f"{path} is no result file of bench_inr.py: {error}") from error
