"""The bytes that the kernels of modulated_linear and coord_linear move: see byte_formulas.py.

A product's tiles read whole extents: rows beyond the last read it again, and so do chunks of a
kept axis that memory has innermost, which read the tile's first one. The reduced axis is read as
far as it goes. None of the embedding, an upsampled skip, or pre-activations that the output tells
is written: formulas name results, tables of the axes, and partial sums, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.emulation.byte_formulas import (
    Arguments,
    Launches,
    Moved,
    blocks_of,
    row_vector,
    size_of,
    tables_of_axes,
    up,
)

NARROW_OUTPUTS = 4
NARROW_ROWS = 16  # of a warp
STAGED_BYTES = 16384  # of weights in shared memory, for four outputs
MOST_PIECES = 64  # of a row, in a block of the narrow backward kernel
PERIOD = 16  # features of a group of 8 sines and their cosines
WALK_WIDTH = 8  # pixels of a slice of dweight along x


@dataclass(frozen=True)
class Multiplied(Moved):
    """A launch of a matrix product, with what its operands copy and its tensor cores do."""

    copied: int  # bytes by cp.async
    products: int  # mma, once per warp


@dataclass(frozen=True)
class Tile:
    """A block's part of a product: rows, columns, and their share of each of its warps."""

    m: int
    n: int
    warp_m: int
    warp_n: int

    @property
    def threads(self) -> int:
        return 32 * (self.m // self.warp_m) * (self.n // self.warp_n)

    @property
    def rectangle(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return (8, 16) if self.m == 128 else (8, 8)

    def products(self) -> int:
        """Of tensor cores for one slice: two steps of 16 x 8 by every warp."""
        return 2 * self.m * self.n // (16 * 8)


LARGE = Tile(128, 256, 64, 64)
MEDIUM = Tile(128, 128, 64, 32)
SMALL = Tile(64, 64, 32, 32)


def tile_of(launch: dict[str, Any], large: Tile = LARGE) -> Tile:
    """By the threads of its blocks."""
    return large if launch["block"][0] == large.threads else SMALL


def wide_size(tensor: Tensor) -> int:
    """Bytes of the numbers that are summed."""
    return max(4, tensor.element_size())


def chunk_of(tensor: Tensor) -> int:
    """Numbers of 16 bytes."""
    return 16 // tensor.element_size()


def slices(extent: int, tensor: Tensor) -> int:
    """Of a reduced axis, 64 bytes of it each."""
    return up(extent, 4 * chunk_of(tensor))


def lies_in_chunks(*tensors: Tensor | None) -> bool:
    """Whether all rows begin at a multiple of 16 bytes; what is not dense is copied."""
    return all(
        t is None
        or (t.shape[-1] % chunk_of(t) == 0 and (not t.is_contiguous() or t.data_ptr() % 16 == 0))
        for t in tensors
    )


def kept_columns(extent: int, width: int, whole: bool, chunk: int, period: int = 0) -> int:
    """Numbers that all tiles of one row of blocks read of a row of memory.

    With a period, `extent` counts frequencies, of which half a period is followed by cosines.
    """

    def left(place: int) -> int:
        index = place // period * (period // 2) + place % (period // 2) if period else place
        return min(extent - index, chunk)

    total = 0
    for first in range(0, max(1, extent * (2 if period else 1)), width):
        for place in range(first, first + width, chunk):
            found = left(place) if left(place) > 0 else left(first)
            total += chunk if whole and found > 0 else max(found, 0)
    return total


def _multiplied(
    a: Arguments, number: Tensor, tile: Tile, moved: Moved, copied: int, work: int, whole: bool
) -> Multiplied:
    """`copied` bytes of operands, `work` slices of all blocks."""
    plain = number.dtype == torch.float64 or (number.dtype == torch.float32 and not a["tf32"])
    return Multiplied(
        moved.written,
        moved.distinct,
        moved.reads,
        copied if whole else 0,
        0 if plain else work * tile.products(),
    )


# ---------------------------------------------------------------- dA


@dataclass(frozen=True)
class _Gradient:
    """What the products of a backward pass read as dA."""

    before: list[Moved]  # launches
    matrices: int  # the gradient, and the output where it tells the slope
    in_chunks: bool
    size: int

    @staticmethod
    def of(a: Arguments, out: Tensor | None, z: Tensor | None) -> _Gradient:
        grad = a["grad"]
        size = size_of(grad)
        if a["activation"] == "linear" and a["clamp"] is None:
            return _Gradient([], 1, lies_in_chunks(grad), size)
        if out is not None:
            return _Gradient([], 2, lies_in_chunks(grad, out), size + size_of(out))
        # Made beforehand, in memory of its own.
        assert z is not None
        made = Moved(size, 2 * size, 2 * size)
        return _Gradient([made], 1, grad.shape[-1] % chunk_of(grad) == 0, size)


def _sums_of_rows(
    videos: int, parts: int, dweight: Tensor, dbias: Tensor | None
) -> tuple[int, int, list[Moved]]:
    """Bytes of partial weights and biases, and the launches that add them."""
    wide = wide_size(dweight)
    weight_parts = dweight.numel() * parts * wide if parts > 1 else 0
    bias_parts = 0 if dbias is None else videos * parts * dweight.shape[1] * wide
    launches = []
    if weight_parts:
        launches.append(Moved(size_of(dweight), weight_parts, weight_parts))
    if bias_parts:
        launches.append(Moved(dweight.shape[1] * wide, bias_parts, bias_parts))
    return weight_parts, bias_parts, launches


# ---------------------------------------------------------------- modulated_linear


def _layer(a: Arguments) -> tuple[int, int, int, int, int, int]:
    """Videos, rows, inputs, outputs, bytes of a number and of a sum."""
    x, weight = a["x"], a["weight"]
    return *x.shape, weight.shape[1], x.element_size(), wide_size(x)


def _modulated(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """x once for a column of tiles, the weights for a row of them; out, and z if it is kept."""
    videos, rows, inputs, outputs, size, wide = _layer(a)
    if outputs <= NARROW_OUTPUTS:
        return _narrow(a, results, launches)
    (launch,) = launches
    tile = tile_of(launch)
    blocks = videos * up(rows, tile.m) * up(outputs, tile.n)
    copied = blocks * (tile.m + tile.n) * inputs * size
    bias = 0 if a["bias"] is None else wide
    moved = Moved(
        sum(map(size_of, results)),
        size_of(a["x"]) + size_of(a["weight"]) + outputs * bias,
        copied + videos * rows * outputs * bias,
    )
    work = blocks * slices(inputs, a["x"])
    whole = lies_in_chunks(a["x"], a["weight"])
    return [_multiplied(a, a["x"], tile, moved, copied, work, whole)]


def _modulated_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """dA for every column of tiles of dx and dweight; weights and x for every row of tiles."""
    videos, rows, inputs, outputs, size, _ = _layer(a)
    if outputs <= NARROW_OUTPUTS:
        return _narrow_backward(a, results, launches)
    dx, dweight, _ = results
    x, weight, chunk = a["x"], a["weight"], chunk_of(a["x"])
    da = _Gradient.of(a, a["y"], a["z"])
    launch_dx, launch_dweight = launches[len(da.before) :][:2]

    tile = tile_of(launch_dx)
    whole = da.in_chunks and lies_in_chunks(weight)
    tiles_m, tiles_n = up(rows, tile.m), up(inputs, tile.n)
    columns = kept_columns(inputs, tile.n, whole, chunk)
    copied = tile.m * tiles_n * da.matrices + columns
    copied *= videos * tiles_m * outputs * size
    moved = Moved(size_of(dx), da.size + size_of(weight), copied)
    work = videos * tiles_m * tiles_n * slices(outputs, x)
    of_dx = _multiplied(a, x, tile, moved, copied, work, whole)

    tile = tile_of(launch_dweight)
    whole = da.in_chunks and lies_in_chunks(x)
    tiles_m, tiles_n = up(outputs, tile.m), up(inputs, tile.n)
    parts = blocks_of(launch_dweight) // (videos * tiles_m * tiles_n)
    copied = kept_columns(outputs, tile.m, whole, chunk) * tiles_n * da.matrices
    copied += kept_columns(inputs, tile.n, whole, chunk) * tiles_m
    copied *= videos * rows * size
    dbias = None if a["bias"] is None else results[2]
    weight_parts, bias_parts, sums = _sums_of_rows(videos, parts, dweight, dbias)
    moved = Moved((weight_parts or size_of(dweight)) + bias_parts, da.size + size_of(x), copied)
    work = videos * tiles_m * tiles_n * slices(rows, x)
    of_dweight = _multiplied(a, x, tile, moved, copied, work, whole)
    return [*da.before, of_dx, of_dweight, *sums]


def _narrow(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """x once, 16 rows of a warp at a time; the weights once a block, or once a tile of 128 rows."""
    videos, rows, inputs, outputs, size, wide = _layer(a)
    tiles = up(rows, 128)
    in_one_chunk = inputs <= STAGED_BYTES // (NARROW_OUTPUTS * wide)
    readers = blocks_of(launches[0]) if in_one_chunk else videos * tiles
    bias = 0 if a["bias"] is None else wide
    reads = videos * up(rows, NARROW_ROWS) * NARROW_ROWS * inputs * size
    reads += readers * outputs * inputs * size + videos * rows * outputs * bias
    distinct = size_of(a["x"]) + size_of(a["weight"]) + outputs * bias
    return [Moved(sum(map(size_of, results)), distinct, reads)]


def _narrow_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """x once, grad and output for every 64 pieces of a row; partial sums."""
    videos, _, inputs, outputs, _, wide = _layer(a)
    dx, dweight, _ = results
    da = _Gradient.of(a, a["y"], a["z"])
    launch = launches[len(da.before)]
    pieces = inputs // row_vector(inputs, a["x"], a["weight"])
    column_blocks = up(pieces, MOST_PIECES)
    groups = min(256 // up(pieces, column_blocks), MOST_PIECES)
    row_blocks = blocks_of(launch) // (videos * column_blocks)
    sums = videos * row_blocks * outputs * inputs * wide
    bias_sums = 0 if a["bias"] is None else videos * row_blocks * outputs * wide
    x, weight = size_of(a["x"]), size_of(a["weight"])
    reads = x + row_blocks * groups * weight + column_blocks * da.size
    first = Moved(size_of(dx) + sums + bias_sums, x + weight + da.size, reads)
    bias = outputs * wide if bias_sums else 0
    added = [Moved(size_of(dweight), sums, sums), Moved(bias, bias_sums, bias_sums)]
    if wide == dx.element_size():  # one launch for both
        both = sums + bias_sums
        added = [Moved(size_of(dweight) + bias, both, both)]
    return [*da.before, first, *(moved for moved in added if moved.reads)]


# ---------------------------------------------------------------- coord_linear


def _rectangles(a: Arguments, tile: Tile) -> tuple[int, int, int]:
    """Frames of all videos, and rows and columns of rectangles of one."""
    videos, frames, _ = a["phase"].shape
    height, width = tile.rectangle
    return videos * frames, up(a["y"].numel(), height), up(a["x"].numel(), width)


def _coord(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """out once, and z if it is kept; skip for each of its four pixels, from caches.

    A block reads rows and columns of the tables and the weights of its outputs.
    """
    out, weight = results[0], a["weight"]
    size, wide, outputs = weight.element_size(), wide_size(weight), weight.shape[1]
    count = a["freq"].shape[1]
    axes, rows, columns = tables_of_axes(a)
    tile = tile_of(launches[1])
    frames, tiles_h, tiles_w = _rectangles(a, tile)
    blocks = frames * tiles_h * tiles_w * up(outputs, tile.n)
    copied = blocks * (2 * sum(tile.rectangle) * count * wide + tile.n * 2 * count * size)
    bias = 0 if a["bias"] is None else wide
    reads = copied + out.numel() * (bias + (0 if a["skip"] is None else size))
    distinct = rows + columns + size_of(weight) + outputs * bias + size_of(a["skip"])
    moved = Moved(sum(map(size_of, results)), distinct, reads)
    work = blocks * slices(2 * count, weight)
    whole = count % 8 == 0 and lies_in_chunks(weight)
    return [axes, _multiplied(a, weight, tile, moved, copied, work, whole)]


def _coord_backward(a: Arguments, results: list[Tensor], launches: Launches) -> list[Moved]:
    """dA for every column of tiles of features, twice; partial sums for the axes and angles."""
    dfreq, dphase, dy, dx, dweight, _, dskip = results
    weight, chunk = a["weight"], chunk_of(a["weight"])
    size, wide, outputs = weight.element_size(), wide_size(weight), weight.shape[1]
    videos, frames, count = a["phase"].shape
    height, width = a["y"].numel(), a["x"].numel()
    axes, rows, columns = tables_of_axes(a)
    da = _Gradient.of(a, a["out"], a["z"])
    launch_dphase, _, launch_dweight = launches[len(da.before) + 1 :][:3]
    whole = da.in_chunks and outputs % 8 == 0 and count % 8 == 0 and lies_in_chunks(weight)

    tile = tile_of(launch_dphase)
    all_frames, tiles_h, tiles_w = _rectangles(a, tile)
    tiles_n = up(2 * count, tile.n)
    rectangles = all_frames * tiles_h * tiles_w
    features = kept_columns(count, tile.n, whole, chunk, PERIOD)
    copied = rectangles * outputs * size * (tile.m * tiles_n * da.matrices + features)
    # A thread has the frequency of its lane, and reads a row of the tables and of y for each group
    # of 16 pixels of its warp, and x; a block the columns of its rectangle.
    wide_rectangle = tile.rectangle[1]
    of_block = tile.threads * (2 + tile.warp_m // 16 * 3 + wide_rectangle)
    of_block += wide_rectangle * tile.n
    reads = copied + rectangles * tiles_n * of_block * wide
    angle_parts = 3 * rectangles * count
    angle_parts += all_frames * tiles_n * (tiles_w * height + tiles_h * width)
    angle_parts *= wide
    axis_inputs = sum(size_of(a[name]) for name in ("freq", "y", "x"))
    distinct = da.size + size_of(weight) + rows + columns + axis_inputs
    moved = Moved(angle_parts + size_of(dskip), distinct, reads)
    work = rectangles * tiles_n * slices(outputs, weight)
    of_dphase = _multiplied(a, weight, tile, moved, copied, work, whole)
    angles = Moved(sum(map(size_of, (dfreq, dphase, dy, dx))), angle_parts, angle_parts)

    tile = tile_of(launch_dweight, MEDIUM)
    tiles_m, tiles_n = up(outputs, tile.m), up(2 * count, tile.n)
    parts = blocks_of(launch_dweight) // (videos * tiles_m * tiles_n)
    walk_height = 4 * chunk // WALK_WIDTH
    steps = frames * up(height, walk_height) * up(width, WALK_WIDTH)
    copied = kept_columns(outputs, tile.m, whole, chunk) * tiles_n * da.matrices * size
    copied *= videos * frames * height * width
    copied += videos * steps * tiles_m * 2 * (walk_height + WALK_WIDTH) * count * wide
    dbias = None if a["bias"] is None else results[5]
    weight_parts, bias_parts, sums = _sums_of_rows(videos, parts, dweight, dbias)
    written = (weight_parts or size_of(dweight)) + bias_parts
    moved = Moved(written, da.size + rows + columns, copied)
    work = videos * tiles_m * tiles_n * steps
    of_dweight = _multiplied(a, weight, tile, moved, copied, work, whole)
    return [*da.before, axes, of_dphase, angles, of_dweight, *sums]


FORMULAS: dict[str, Callable[[Arguments, list[Tensor], Launches], list[Moved]]] = {
    "coord_linear": _coord,
    "coord_linear_backward": _coord_backward,
    "modulated_linear": _modulated,
    "modulated_linear_backward": _modulated_backward,
}
