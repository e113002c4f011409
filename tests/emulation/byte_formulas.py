"""The bytes that every launch moves, calculated from the kernels' designs.

Three numbers a launch: what it writes; `distinct`, the bytes at different addresses that it reads,
which memory must give; and `reads`, every read of every thread as the emulator counts them. What
lies between the last two comes from caches: neighbouring threads read the same factor, axis or
bias, and neighbouring outputs the same sample.

A formula gets the arguments of a schema op, its results and its launches. Of a launch it uses how
many blocks and threads it has, which decide the number of partial sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]
Launches = list[dict[str, Any]]
THREADS = 256  # of a block of most kernels
ROWS = 4  # of a weight that a block of factorized_modulation takes
RANKS = 16  # that it takes at a time
STRIP = 4  # outputs along y of a thread of fir_resample
TILE = 32  # outputs of a side of its tiles
TABLE_TAPS = 1024  # that its blocks keep in shared memory
COLUMNS = 2  # of a thread of the features' backward kernel


@dataclass(frozen=True)
class Moved:
    """The bytes of one launch."""

    written: int
    distinct: int
    reads: int


def size_of(tensor: Tensor | None) -> int:
    """In bytes."""
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


def up(a: int, b: int) -> int:
    return -(-a // b)


def blocks_of(launch: dict[str, Any]) -> int:
    x, y, z = launch["grid"]
    return int(x * y * z)


def _vector(*tensors: Tensor) -> int:
    """Numbers of a 16-byte access; 1 where a tensor does not begin at a multiple of 16."""
    # What does not lie densely is copied by the binding, to memory of its own.
    dense = [t for t in tensors if t.stride() == torch.empty_like(t).stride()]
    return 16 // tensors[0].element_size() if all(t.data_ptr() % 16 == 0 for t in dense) else 1


# ---------------------------------------------------------------- bias_act


def _around(tensor: Tensor, dim: int) -> tuple[int, int]:
    """Channels, and how many numbers of one channel lie side by side in memory."""
    inside = 1
    for axis in sorted(range(tensor.dim()), key=lambda a: (tensor.stride(a), -a)):
        if axis == dim:
            break
        inside *= tensor.shape[axis]
    return tensor.shape[dim], inside


def _bias_act(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """x once, out once; a pack reads one bias, or one for each number if it leaves a plane."""
    (out,) = results
    x, bias = a["x"], a["bias"]
    reads = 0
    if bias is not None:
        n = _vector(x, out)
        channels, inner = _around(out, a["dim"])
        stride = blocks_of(launches[0]) * THREADS * n
        starts = torch.arange(0, out.numel(), n)
        if stride % (channels * inner) == 0:  # whole rows: a thread keeps its biases
            starts = starts[starts < stride]
        reads = int(torch.where(starts % inner + n > inner, n, 1).sum()) * bias.element_size()
    return [Moved(size_of(out), size_of(x) + size_of(bias), size_of(x) + reads)]


def _bias_act_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """grad and what was kept once, dx once; a thread reads its biases once; partial sums."""
    dx, dbias = results
    grad, bias = a["grad"], a["bias"]
    kept = a["x"] if a["out"] is None else a["out"]
    both = size_of(grad) + size_of(kept)
    if bias is None:
        return [Moved(size_of(dx), both, both)]
    channels, inner = _around(dx, a["dim"])
    parts = launches[0]["grid"][1]
    n = _vector(grad, kept, dx)
    if inner == 1:  # a thread has the channels of a pack
        n = n if channels % n == 0 else 1
        biases = parts * (THREADS // min(channels // n, THREADS)) * channels
    else:  # a group of threads has a channel
        n = n if inner % n == 0 or dx.numel() == inner else 1
        group = 1
        while group < up(inner, n) and group < THREADS:
            group *= 2
        biases = parts * group * channels
    sums = parts * channels * max(4, dx.element_size())
    reads = both + biases * bias.element_size()
    return [
        Moved(size_of(dx) + sums, both + size_of(bias), reads),
        Moved(size_of(dbias), sums, sums),
    ]


# ---------------------------------------------------------------- fir_resample


@dataclass(frozen=True)
class _Axis:
    size: int
    out: int
    up: int
    down: int
    pad: int
    taps: int

    def _samples(self, first: int, outputs: int) -> range:
        """The samples of the image from the first tap of some outputs to their last."""
        base = first * self.down - self.pad
        end = base + (outputs - 1) * self.down + self.taps - 1
        return range(max(0, up(base, self.up)), min(self.size - 1, end // self.up) + 1)

    def runs(self, length: int) -> list[range]:
        """The samples under each run of so many outputs."""
        return [self._samples(o, min(length, self.out - o)) for o in range(0, self.out, length)]

    def loads(self, length: int) -> int:
        return sum(map(len, self.runs(length)))

    def distinct(self, length: int) -> int:
        return len(set().union(*self.runs(length)))

    def pairs(self) -> int:
        """Samples under a strip with the outputs they meet, the strip's missing ones too."""
        return sum(
            0 <= sample * self.up - (output * self.down - self.pad) < self.taps
            for strip, samples in enumerate(self.runs(STRIP))
            for sample in samples
            for output in range(strip * STRIP, strip * STRIP + STRIP)
        )


def _fir_resample(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """out once; x once in tiles with their borders, or once for each tap of a row under a strip.

    Every block reads the taps once, or every product its own where they are too many.
    """
    (out,) = results
    x, taps = a["x"], a["filter"]
    sides = (1, 1) if taps is None else (taps.shape[0], taps.shape[-1])
    separable = taps is not None and taps.dim() == 1
    y_axis, x_axis = (
        _Axis(x.shape[2 + i], out.shape[2 + i], a["up"][1 - i], a["down"][1 - i],
              a["padding"][2 - 2 * i], sides[i])
        for i in (0, 1)
    )  # fmt: skip
    planes = x.shape[0] * x.shape[1]
    if "tile" in launches[0]["kernel"]:
        loads = planes * y_axis.loads(TILE) * x_axis.loads(TILE)
        distinct = planes * y_axis.distinct(TILE) * x_axis.distinct(TILE)
    elif separable:
        loads = planes * y_axis.loads(STRIP) * x_axis.loads(1)
        distinct = planes * y_axis.distinct(STRIP) * x_axis.distinct(1)
    else:
        loads = planes * y_axis.pairs() * x_axis.loads(1)
        distinct = planes * y_axis.distinct(1) * x_axis.distinct(1)
    size = x.element_size()
    moved = Moved(size_of(out), distinct * size, loads * size)
    if taps is None:
        return [moved]
    numbers = 2 * sides[1] if separable else sides[0] * sides[1]
    table = blocks_of(launches[0]) * numbers if numbers <= TABLE_TAPS else loads
    # Taps are read in float32, beside float64 images as they are.
    size = taps.element_size() if x.dtype == torch.float64 else 4
    return [Moved(moved.written, moved.distinct + taps.numel() * size, moved.reads + table * size)]


# ---------------------------------------------------------------- factorized_modulation


def _extents(a: Arguments) -> tuple[int, int, int, int, int]:
    """Videos, outputs, inputs, rank, and bytes of a number."""
    weight, left = a["weight"], a["left"]
    return left.shape[0], *weight.shape, left.shape[2], weight.element_size()


def row_vector(inputs: int, *tensors: Tensor) -> int:
    n = _vector(*tensors)
    return n if inputs % n == 0 else 1


def _modulation(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """out once; `right` once for every four rows, the factors of four rows for every piece."""
    videos, outputs, inputs, rank, size = _extents(a)
    (out,) = results
    v = row_vector(inputs, out, a["weight"], a["right"])
    pieces = inputs // v
    rounds = 2 if a["demodulate"] and pieces > launches[0]["block"][0] else 1
    numbers = rank * (v + ROWS) + ROWS * v
    reads = rounds * videos * up(outputs, ROWS) * pieces * numbers * size
    distinct = sum(size_of(a[name]) for name in ("weight", "left", "right"))
    return [Moved(size_of(out), distinct, reads)]


def _modulation_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """grad once, dU written once and read twice; without demodulation grad three times."""
    videos, outputs, inputs, rank, size = _extents(a)
    dweight, dleft, dright = results
    grad, weight = size_of(a["grad"]), size_of(a["weight"])
    left, right = size_of(a["left"]), size_of(a["right"])
    v = row_vector(inputs, a["grad"], a["weight"], a["right"])
    pieces, turns = inputs // v, up(rank, RANKS)
    threads = launches[0]["block"][0]
    demodulate, kept = a["demodulate"], pieces <= threads
    numbers = turns * ROWS * v + rank * v  # the weight, to multiply dU, and `right`
    if demodulate:
        numbers += (1 if kept else 2) * (2 * ROWS * v + rank * (v + ROWS))
    if not (demodulate and kept):
        numbers += turns * ROWS * v
    rows = videos * up(outputs, ROWS)
    du = grad if demodulate else 0
    again = 0 if kept else du  # a long row of dU is read back by the block that wrote it
    row_blocks = blocks_of(launches[1]) // (videos * up(pieces, threads) * turns)
    parts = videos * row_blocks * rank * inputs * size
    return [
        Moved(du + size_of(dleft), grad + again + weight + left + right,
              rows * pieces * numbers * size),
        Moved(parts, grad + weight + left,
              videos * outputs * pieces * (2 * v * turns + rank) * size),
        Moved(size_of(dweight), grad + left + right,
              rows * inputs * (ROWS + rank * (1 + ROWS)) * size),
        Moved(size_of(dright), parts, parts),
    ]  # fmt: skip


# ---------------------------------------------------------------- fourier_features


def _feature_vector(features: Tensor, freq: Tensor) -> int:
    n = _vector(features)
    low = freq.dtype == torch.float32 and features.element_size() == 2
    return n if (freq.dtype == features.dtype or low) and freq.shape[1] % n == 0 else 1


def _lanes(count: int, v: int) -> int:
    lanes = 1
    while lanes < 32 and lanes * v < count:
        lanes *= 2
    return lanes


def tables_of_axes(a: Arguments) -> tuple[Moved, int, int]:
    """Sines and cosines of rows and columns, from their axes; the tables' bytes."""
    (videos, frames, count), size = a["phase"].shape, a["freq"].element_size()
    rows = videos * frames * a["y"].numel() * count * size
    columns = videos * a["x"].numel() * count * size
    distinct = sum(size_of(a[name]) for name in ("freq", "phase", "y", "x"))
    return Moved(2 * (rows + columns), distinct, 3 * rows + 2 * columns), 2 * rows, 2 * columns


def _features(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """out once; of the rows' table, two numbers for each sine and cosine written."""
    (out,) = results
    axes, rows, columns = tables_of_axes(a)
    videos, _, count = a["phase"].shape
    width = a["x"].numel()
    across = up(width * (count // _feature_vector(out, a["freq"])), THREADS)
    row_blocks = blocks_of(launches[1]) // (videos * across)
    return [axes, Moved(size_of(out), rows + columns, rows * width + columns * row_blocks)]


def _features_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """grad once; the tables from caches; partial sums."""
    axes, rows, columns = tables_of_axes(a)
    (videos, frames, count), size = a["phase"].shape, a["freq"].element_size()
    height, width, grad = a["y"].numel(), a["x"].numel(), size_of(a["grad"])
    v = _feature_vector(a["grad"], a["freq"])
    lanes = _lanes(count, v)
    tiles, positions = up(count, lanes * v), THREADS // lanes
    across = up(width, COLUMNS * positions)
    row_blocks = blocks_of(launches[1]) // (videos * frames * across * tiles)
    warps = max(1, lanes * v // 32)
    # By phase and both frequencies, by x and by y.
    sums = row_blocks * (3 * across * count + tiles * width) + across * tiles * warps * height
    sums *= videos * frames * size
    # freq_y and y by the thread that has a frequency's sums; x and freq_x by that of a column.
    numbers = across * count * (row_blocks + height) + row_blocks * width * (count // v + count)
    reads = grad + rows * across * positions + columns * frames * row_blocks
    reads += videos * frames * numbers * size
    distinct = grad + rows + columns + sum(size_of(a[name]) for name in ("freq", "y", "x"))
    return [axes, Moved(sums, distinct, reads), Moved(sum(map(size_of, results)), sums, sums)]


def _at_points(a: Arguments, v: int, launch: dict[str, Any]) -> tuple[int, int, int]:
    """Tiles of frequencies, blocks of points, and the reads of both kernels at points."""
    videos, count, d = a["freq"].shape
    lanes = _lanes(count, v)
    tiles = up(count, lanes * v)
    point_blocks = blocks_of(launch) // (videos * tiles)
    numbers = videos * point_blocks * (THREADS // lanes) * count * (1 + d)
    numbers += videos * a["coords"].shape[1] * (count // v) * d
    return tiles, point_blocks, numbers * a["freq"].element_size()


def _features_at(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """out once; a thread reads its frequencies once, and a point for every pack it makes."""
    (out,) = results
    _, _, reads = _at_points(a, _feature_vector(out, a["freq"]), launches[0])
    distinct = sum(size_of(a[name]) for name in ("freq", "phase", "coords"))
    return [Moved(size_of(out), distinct, reads)]


def _features_at_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """grad once; partial sums."""
    videos, count, d = a["freq"].shape
    grad, v = size_of(a["grad"]), _feature_vector(a["grad"], a["freq"])
    tiles, point_blocks, reads = _at_points(a, v, launches[0])
    sums = tiles * size_of(a["coords"])
    sums += (d + 1) * videos * point_blocks * count * a["freq"].element_size()
    distinct = grad + sum(size_of(a[name]) for name in ("freq", "phase", "coords"))
    return [Moved(sums, distinct, grad + reads), Moved(sum(map(size_of, results)), sums, sums)]


def _frames(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    read = size_of(a["frames"])
    return [Moved(size_of(results[0]), read, read)]


FORMULAS: dict[str, Callable[[Arguments, list[Tensor], Launches], list[Moved]]] = {
    "bias_act": _bias_act,
    "bias_act_backward": _bias_act_backward,
    "factorized_modulation": _modulation,
    "factorized_modulation_backward": _modulation_backward,
    "fir_resample": _fir_resample,
    "fourier_features": _features,
    "fourier_features_backward": _features_backward,
    "fourier_features_at": _features_at,
    "fourier_features_at_backward": _features_at_backward,
    "frames_to_uint8": _frames,
}
