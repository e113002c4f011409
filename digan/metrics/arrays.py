"""Videos in .npz files, frame after frame: a small file may hold more than a memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from digan.data.images import MOST_PIXELS
from digan.errors import DiganError

_MOST_BY_COLUMNS = 1 << 30  # bytes


def array_frames(path: str) -> Iterator[NDArray[np.uint8]]:
    """The frames uint8 [H, W, 3] of the first array of an .npz file, uint8 [T, H, W, 3].

    Nothing is unpickled. One frame is held at a time, but of an array in Fortran's order.

    Raises:
        DiganError: no such file, cut off, or an array of something else.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as entry:
            shape, by_columns, dtype = _header(entry)
            _check(path, shape, dtype)
            length, height, width, _ = shape
            if by_columns:
                yield from _by_columns(entry, shape)
                return
            for _ in range(length):
                data = entry.read(height * width * 3)
                if len(data) < height * width * 3:
                    raise ValueError("it is cut off")
                yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
            if entry.read(1):  # at the end its checksum is compared
                raise ValueError("it holds more than it says")
    except (OSError, ValueError, IndexError, EOFError, zipfile.BadZipFile, zlib.error,
            RuntimeError, OverflowError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DiganError(f"{path} cannot be read: {reason}") from error


def _header(entry: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type. Raises ValueError if there is no header."""
    try:
        major, _ = npy.read_magic(entry)
        read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        return read(entry)
    except Exception as error:  # numpy runs a damaged header through a tokenizer, and more
        raise ValueError("its header is no array's") from error


def _check(path: str, shape: tuple[int, ...], dtype: np.dtype[np.uint8]) -> None:
    """Raises DiganError unless an array can be a video."""
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or min(shape) < 1:
        raise DiganError(f"{path} must hold uint8 [T, H, W, 3], got {dtype} {list(shape)}"[:300])
    if shape[1] * shape[2] > MOST_PIXELS:
        raise DiganError(f"{path} is no video: its frames are {shape[2]}x{shape[1]} pixels")


def _by_columns(entry: IO[bytes], shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """Frames of an array in Fortran's order, whose bytes all lie apart."""
    size = math.prod(shape)
    if size > _MOST_BY_COLUMNS:
        raise ValueError(f"more than {_MOST_BY_COLUMNS >> 30} GB in Fortran's order")
    data = np.frombuffer(entry.read(size + 1), dtype=np.uint8)
    yield from data.reshape(shape, order="F")
