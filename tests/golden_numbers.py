"""The golden numbers of the original implementation, whole or as the committed subset.

`load` opens a file of the full set (DIGAN_GOLDEN, else ../shared/golden) or its cut-down copy
in tests/golden, which tests/golden/make_subset.py made. Both answer alike: `numbers[name]` is
an array, and `numbers.error(name, ours)` compares a tensor with an array of which the subset
may keep a sample only.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tests.requirements import require

ROOT = Path(__file__).resolve().parent.parent
SUBSET = Path(__file__).resolve().parent / "golden"
Source = Literal["full", "subset", "best"]


def full_folder() -> Path:
    """Where the full set is looked for."""
    return Path(os.environ.get("DIGAN_GOLDEN") or ROOT / ".." / "shared" / "golden").resolve()


def as_array(value: Any) -> np.ndarray:
    """A tensor, an array or a number as a float64 array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def relative(ours: Any, golden: Any) -> float:
    """norm(ours - golden) / norm(golden); infinite where a number is not finite.

    Zeros must be met by zeros. Shapes must agree: a broadcast comparison proves little.
    """
    a, b = as_array(ours), as_array(golden)
    if a.shape != b.shape:
        raise ValueError(f"the shape must be {b.shape}, got {a.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size == 0:
        return 0.0 if distance == 0 else math.inf
    return distance / size


def moments(value: Any) -> np.ndarray:
    """[sum, sum of squares]."""
    array = as_array(value)
    return np.array([array.sum(), np.square(array).sum()])


def moments_error(ours: Any, golden: np.ndarray) -> float:
    """The relative error that a difference of moments gives away.

    |sum(a - b)| <= sqrt(n) |a - b|, and |a|^2 - |b|^2 is about 2 |b| |a - b|: a small value is
    necessary for a small relative error, so the bounds of `relative` apply.
    """
    array = as_array(ours)
    total, squares = moments(array)
    if not (math.isfinite(total) and math.isfinite(squares)):
        return math.inf
    if golden[1] == 0:
        return 0.0 if squares == 0 else math.inf
    of_sum = abs(total - golden[0]) / math.sqrt(array.size * golden[1])
    of_squares = abs(squares - golden[1]) / (2 * golden[1])
    return float(max(of_sum, of_squares))


class Numbers(Mapping[str, np.ndarray]):
    """The arrays of one file, and samples of the arrays that were too large to keep."""

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        samples: Mapping[str, tuple[tuple[int, ...], int, np.ndarray, np.ndarray]],
    ) -> None:
        self._arrays = arrays
        self._samples = samples  # name: shape, stride, flat[::stride], moments

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def names(self, prefix: str) -> list[str]:
        """What follows the prefix, of all arrays and samples that carry it."""
        found = [*self._arrays, *self._samples]
        return [name[len(prefix) :] for name in found if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, whether or not all of it is here."""
        return self._samples[name][0] if name in self._samples else self._arrays[name].shape

    def error(self, name: str, ours: Any) -> float:
        """Relative error against an array, or the largest that its sample and moments show."""
        if name in self._arrays:
            return relative(ours, self._arrays[name])
        shape, stride, values, sums = self._samples[name]
        array = as_array(ours)
        if array.shape != shape:
            raise ValueError(f"{name} must be {shape}, got {array.shape}")
        return max(relative(array.ravel()[::stride], values), moments_error(array, sums))


def unpack(file: Mapping[str, np.ndarray]) -> Numbers:
    """A packed file of the subset, see make_subset.py."""
    low, high = file["low"].astype(np.int32), file["high"].astype(np.int32)
    integers = high * 256 + low
    flat = {"integer": integers, "float64": file["float64"], "float32": file["float32"]}
    taken = dict.fromkeys(flat, 0)
    arrays: dict[str, np.ndarray] = {}
    samples = {}
    for name, kind, dtype, shape, extra in json.loads(str(file["index"])):
        if kind == "text":
            arrays[name] = np.array(extra)
            continue
        count = -(-math.prod(shape) // extra) if kind == "sample" else math.prod(shape)
        store = "float64" if kind == "sample" else kind
        count += 2 * (kind == "sample")
        values = flat[store][taken[store] : taken[store] + count]
        taken[store] += count
        if kind == "sample":
            samples[name] = (tuple(shape), extra, values[:-2], values[-2:])
        elif kind == "integer":
            arrays[name] = (values / extra).astype(dtype).reshape(shape)
        else:
            arrays[name] = values.reshape(shape)
    assert all(taken[store] == len(flat[store]) for store in flat)
    return Numbers(arrays, samples)


@functools.lru_cache(maxsize=16)
def _open(path: Path) -> Numbers:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return unpack(arrays) if "index" in arrays else Numbers(arrays, {})


def load(name: str, source: Source = "best") -> Numbers:
    """The numbers of one file, such as `c_modules_f64`.

    Args:
        name: the file's name without `.npz`.
        source: `full`, which ends the test with `require` where the set is missing; `subset`,
            the committed copy; `best`, the full file if it is there.
    """
    path = full_folder() / f"{name}.npz"
    if source == "subset" or (source == "best" and not path.is_file()):
        return _open(SUBSET / f"{name}.npz")
    if not path.is_file():
        require("golden", f"{path} is no file and DIGAN_GOLDEN names no folder that has it")
    return _open(path)
