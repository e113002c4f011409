"""Where frames go: one interface over mp4, gif, a folder of png, npz and frame sheets."""

from __future__ import annotations

import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digan.data.images import write_frame_sheet
from digan.data.video import VideoWriter
from digan.errors import DiganError

FORMATS = ("mp4", "gif", "png", "npz", "sheet")
SHEET_COLUMNS = 8
SHEET_HEIGHT = 96  # pixels of a frame on a sheet, at least


class FrameSink(Protocol):
    """Takes frames one by one; what was written stays usable if it is closed early."""

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Takes one frame, uint8 [H, W, 3]."""


class PngFolder(AbstractContextManager["PngFolder"]):
    """A folder with one PNG a frame, 000000.png and so on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Writes one frame."""
        path = self.path / f"{self.frames:06d}.png"
        try:
            Image.fromarray(frame).save(path)
        except OSError as error:
            raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error
        self.frames += 1


class NpzFile(AbstractContextManager["NpzFile"]):
    """An .npz file with one array, `frames` uint8 [T, H, W, 3], written as the frames come."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.frames = path, count, 0
        self._entry: Any = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        except OSError as error:
            raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Writes one frame."""
        if self._entry is None:
            self._entry = self._zip.open("frames.npy", "w", force_zip64=True)
            header = {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (self.count, *frame.shape),
            }
            np.lib.format.write_array_header_1_0(self._entry, header)
        try:
            self._entry.write(np.ascontiguousarray(frame).tobytes())
        except OSError as error:
            raise DiganError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                if self._entry is not None:
                    self._entry.close()
            finally:
                self._zip.close()
        except OSError as failure:
            self.path.unlink(missing_ok=True)
            if kind is None:  # otherwise the error in flight matters more
                reason = failure.strerror or failure
                raise DiganError(f"{self.path} cannot be written: {reason}") from failure
        if kind is not None or self.frames != self.count:
            self.path.unlink(missing_ok=True)  # the header promises frames that did not come
        if kind is None and self.frames != self.count:
            raise DiganError(f"{self.path} must get {self.count} frames, got {self.frames}")


class SheetFile(AbstractContextManager["SheetFile"]):
    """A PNG with a few evenly spaced frames of a video, in a row."""

    ENDING = "-sheet.png"

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.frames = 0
        shown = np.linspace(0, count - 1, min(SHEET_COLUMNS, count))
        self._shown = set(shown.round().astype(int).tolist())
        self._kept: list[NDArray[np.uint8]] = []

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Keeps the frame if it is one of those shown."""
        if self.frames in self._shown:
            self._kept.append(frame.copy())
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept:
            # Small frames are enlarged, so that a person sees what is in them.
            upscale = max(1, SHEET_HEIGHT // self._kept[0].shape[0])
            write_frame_sheet(
                self.path, np.stack(self._kept), columns=SHEET_COLUMNS, upscale=upscale
            )


def open_sink(path: Path, fps: float, count: int) -> AbstractContextManager[FrameSink]:
    """A context manager that takes frames; the ending of the path chooses the kind.

    Args:
        path: .mp4, .gif, .npz or -sheet.png; without an ending, a folder of PNG files.
        fps: playback speed of mp4 and gif. count: frames to come (npz needs it first).

    Raises:
        DiganError: the place cannot be written.
    """
    if path.suffix == ".npz":
        return NpzFile(path, count)
    if path.name.endswith(SheetFile.ENDING):
        return SheetFile(path, count)
    return PngFolder(path) if not path.suffix else VideoWriter(path, fps)


def tile_frames(frames: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Puts N pictures side by side: [N, H, W, 3] to [rows*H, columns*W, 3], black at the end."""
    count, height, width, channels = frames.shape
    rows = -(-count // columns)
    canvas = np.zeros((rows * columns, height, width, channels), np.uint8)
    canvas[:count] = frames
    canvas = canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return canvas.reshape(rows * height, columns * width, channels)
