"""What a run tells: a progress bar or tick lines, log.txt, stats.jsonl, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from digan.errors import DiganError
from digan.files import write_text
from digan.formats import from_json


class Log:
    """What a run tells, unheard: the log of the processes that leave talking to the first one."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """Says a line."""

    def advance(self, samples: int) -> None:
        """Moves the bar."""

    def tick(self, kimg: float, values: dict[str, Any], line: str) -> None:
        """Notes a row of statistics, said as a line."""

    def metric(self, name: str, row: dict[str, Any]) -> None:
        """Notes a row of a metric."""

    def strip(self, name: str, videos: NDArray[np.uint8], kimg: float, rows: int = 4) -> None:
        """Shows frames of the first videos [N, T, H, W, 3]."""

    def close(self) -> None:
        """Ends."""


class RunLog(Log):
    """Writes a run's lines and numbers; a bar on a terminal, tick lines elsewhere.

    Args:
        run: the run's folder. kimg, start: length and position of the run, in thousands.
        progress: False for no output on standard error.
    """

    def __init__(self, run: Path, kimg: float, start: float, progress: bool = True) -> None:
        super().__init__()
        self.run = run
        for rows in (run / "stats.jsonl", *run.glob("metric-*.jsonl")):
            _forget_after(rows, start)
        self._text, self._stats = _append_to(run / "log.txt"), _append_to(run / "stats.jsonl")
        self._hook, threading.excepthook = threading.excepthook, self._thread_failed
        self._board = _tensorboard(run, round(start * 1000))
        self._loud = progress
        self._bar: Any = None
        if progress and sys.stderr.isatty():
            self._bar = tqdm(
                total=round(kimg * 1000),
                initial=round(start * 1000),
                unit="img",
                unit_scale=True,
                smoothing=0.05,
                dynamic_ncols=True,
            )

    def say(self, line: str) -> None:
        """Writes a line to log.txt and to standard error."""
        _write(self._text, line)
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._loud:
            print(line, file=sys.stderr, flush=True)

    def advance(self, samples: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(samples)

    def tick(self, kimg: float, values: dict[str, Any], line: str) -> None:
        """Writes one row of statistics; the line goes to log.txt, and out if there is no bar."""
        _write(self._stats, json.dumps({"kimg": kimg, **values}))
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._show("add_scalar", name, value, round(kimg * 1000))
        if self._bar is None:
            self.say(line)
        else:
            _write(self._text, line)

    def metric(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to metric-NAME.jsonl."""
        with _append_to(self.run / f"metric-{name}.jsonl") as file:
            _write(file, json.dumps(row))

    def strip(self, name: str, videos: NDArray[np.uint8], kimg: float, rows: int = 4) -> None:
        """Shows evenly spaced frames of the first videos in TensorBoard, one row a video."""
        if self._board is None:
            return
        shown = np.linspace(0, videos.shape[1] - 1, min(8, videos.shape[1])).round().astype(int)
        n, t = min(rows, len(videos)), len(shown)
        height, width = videos.shape[2:4]
        sheet = videos[:n, shown].swapaxes(1, 2).reshape(n * height, t * width, 3)
        self._show("add_image", name, sheet, round(kimg * 1000), dataformats="HWC")

    def _show(self, method: str, *values: Any, **options: Any) -> None:
        """Calls a method of the TensorBoard writer, if there is one."""
        if self._board is None:
            return
        try:
            getattr(self._board, method)(*values, **options)
        except OSError as error:  # of its writing thread
            raise DiganError(
                f"TensorBoard events in {self.run} cannot be written: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Closes everything."""
        if self._bar is not None:
            self._bar.close()
        for file in (self._board, self._text, self._stats):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was reported when it was met
                    file.close()
        threading.excepthook = self._hook

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """Threads' errors as before, but for one that TensorBoard raises again to us."""
        writing = type(failure.thread).__name__ == "_AsyncWriterThread"
        if not (writing and isinstance(failure.exc_value, OSError)):
            self._hook(failure)


def _append_to(path: Path) -> IO[str]:
    """Opens a text file to write at its end. Raises DiganError if it cannot."""
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error


def _write(file: IO[str], line: str) -> None:
    """Adds a line. Raises DiganError if it cannot."""
    try:
        file.write(line + "\n")
        file.flush()
    except OSError as error:
        raise DiganError(f"{file.name} cannot be written: {error.strerror or error}") from error


def _tensorboard(run: Path, start: int) -> Any:
    """A TensorBoard writer that hides points behind `start`, or None without the package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(run), purge_step=start + 1 if start else None)
    except OSError as error:
        raise DiganError(f"the run {run} cannot be written: {error.strerror or error}") from error


def _forget_after(path: Path, kimg: float) -> None:
    """Drops the rows that a killed run wrote behind the state it is continued from."""
    if not path.is_file():
        return
    try:  # a damaged row has no position and is dropped
        rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    kept = [row for row in rows if _kimg(row) <= kimg]
    if len(kept) < len(rows):
        write_text(path, "".join(row + "\n" for row in kept))


def _kimg(row: str) -> float:
    """The position of a row; infinity for one that was cut off while being written."""
    try:
        return float(from_json(row)["kimg"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return float("inf")
