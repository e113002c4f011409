"""Planted faults that no test can catch, and why: they change no result that can be had.

Found by the source line and the fault, so that lines may move. A line that changes loses its
entry, and `test_mutants.py` then asks for the fault to be caught, or explained, again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.emulation.planting import Fault


@dataclass(frozen=True)
class Survivor:
    """One fault, or the same one on several alike lines, and why it may live."""

    file: str
    line: str  # of the source, stripped
    what: str  # as `Fault` has it
    reason: str
    alike: int = 0  # which of several alike lines of the file, from 1; 0 for all of them


_SLOW_PATH = "a whole pack then goes number by number, to the same result"
_NOTHING_LEFT = "a pack behind the end loads zeros and stores nothing"
_UNUSED = "read only with a bias, and set before that"
_GUARDED = "the condition inside lets no number past the end through"
_SAME_LANES = "shuffles over this set of distances still visit every lane once"
_TWO_TILES = "a block has a second piece only beyond 2^31 blocks"
_EMPTY_TURN = "one turn more that has nothing to do"
_MASKED = "the number behind the last is masked by the condition inside"
_ZEROS = "one slice more, of zeros: nothing of the reduced axis is left"
_LAST_BIT = "one unit in the last place of a 16-bit number, below what a test can ask"
_SAME_CHUNK = "only its chunk is used, and its neighbour lies in the same one"
_END_OF_POINTERS = "one past an array of pointers: GCC leaves the address of an element out"
_SIXTEENTHS = "a descriptor counts 16 bytes, and drops what is less"

SURVIVORS = (
    Survivor("activation.cuh", "z[i] = !clamps ? y : y > bound ? bound : y < -bound ? -bound : y;",
             "y >= bound", "a number at the bound is the bound"),
    Survivor("bias_act.cu", "if (position + N <= walk.inner) {", "position + N < walk.inner",
             "a pack that ends with its plane then looks up its one bias N times"),
    Survivor("bias_act.cu", "if (at >= walk.count) {", "at > walk.count", _NOTHING_LEFT),
    Survivor("bias_act.cu", "int64_t channel = 0;", "0 + 1", _UNUSED),
    Survivor("bias_act.cu", "int64_t position = 0;", "0 + 1", _UNUSED),
    Survivor("bias_act.cu", "if (next < walk.count) {", "next <= walk.count", _NOTHING_LEFT),
    Survivor("bias_act.cu", "if (next >= walk.count) {", "next > walk.count", _NOTHING_LEFT),
    Survivor("bias_act_backward.cu", "if (left > 0) {", "left >= 0", _NOTHING_LEFT),
    Survivor("bias_act_packs.cuh", "if (left >= N) {", "left > N", _SLOW_PATH),
    Survivor("bias_act_packs.cuh", "for (int i = 0; i < N; ++i) {", "i <= N", _GUARDED),
    Survivor("factorized_modulation_backward.cu",
             "for (int offset = 4; offset > 0; offset /= 2) {", "4 + 1", _SAME_LANES),
    Survivor("factorized_modulation_backward.cu",
             "for (int64_t r0 = 0; r0 < extents.rank; r0 += kRanks) {", "r0 <= extents.rank",
             _EMPTY_TURN),
    Survivor("factorized_modulation_backward.cu",
             "for (int64_t base = 0; base < extents.inputs; base += block.chunk) {",
             "base <= extents.inputs", _EMPTY_TURN),
    Survivor("factorized_modulation_tiles.cuh",
             "for (int offset = 16; offset > 0; offset /= 2) {", "16 + 1", _SAME_LANES),
    Survivor("fir_resample.cu", "const int narrow = static_cast<int>(shifted);",
             "static_cast<int>(shifted) + 1", "the division is then made in 64 bits"),
    Survivor("fir_resample.cu", "if (s.channels_fastest) {", "not (s.channels_fastest)",
             "the threads take the same strips in another order"),
    Survivor("fir_resample.cu", "const bool in_shared = table.size() <= kSharedTaps;",
             "table.size() < kSharedTaps", "1,024 taps are then read from global memory"),
    Survivor("fir_resample.cu",
             "const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;",
             "static_cast<int64_t>(gridDim.x) * kThreads + 1", _TWO_TILES),
    Survivor("fir_resample.cu", "for (int r = 0; r < kStrip; ++r) {", "r <= kStrip", _GUARDED),
    Survivor("fir_resample.cu", "__syncthreads();  // the tile before this one has been read",
             "no __syncthreads();", _TWO_TILES),
    Survivor("fir_resample.cu", "for (int j = lane; j < whole_x.count; j += kTileX) {",
             "j <= whole_x.count", "rows of a tile have room for one number more, never read"),
    Survivor("fir_resample.cu", "if (lane >= outputs_x || outputs <= 0) {",
             "lane >= outputs_x || outputs < 0", "sums what lies in the tile and stores nothing"),
    Survivor("frames_to_uint8.cu", "if (at + kPack > count) {", "at + kPack >= count", _SLOW_PATH),
    Survivor("fourier_features_at.cu", "for (int k = 0; k < kDimensions; ++k) {",
             "k <= kDimensions", _GUARDED),
    Survivor("fourier_features_at.cu", "if (k < dimensions) {", "k <= dimensions",
             "a dimension beyond the last has zeros"),
    Survivor("fourier_features_at.cu", "r = r > kEighth ? kEighth : r < -kEighth ? -kEighth : r;",
             "r >= kEighth", "a number at the bound is the bound"),
    Survivor("fourier_features_backward.cu",
             "for (int offset = 16; offset > 0; offset /= 2) {", "16 + 1", _SAME_LANES),
    Survivor("coord_chain_tile.cuh", "const uint32_t bits = load_pair(cell + column);",
             "load_pair(cell + column) + 1", _LAST_BIT),
    Survivor("coord_chain_tile.cuh", "y = y > bound ? bound : y < -bound ? -bound : y;",
             "y >= bound", "a number at the bound is the bound"),
    Survivor("coord_chain_tile.cuh",
             "colours[n] += !chain.clamps ? y : y > bound ? bound : y < -bound ? -bound : y;",
             "y >= bound", "a number at the bound is the bound"),
    Survivor("coord_chain_tile.cuh",
             "for (int slice = 0; slice < slices_of<T>(channels); ++slice) {",
             "slice <= slices_of<T>(channels)", _ZEROS),
    Survivor("coord_chain.cu", "cp_async_wait<0>();", "no cp_async_wait<0>();",
             "a block may end while its last copies, zeros that nobody reads, are under way"),
    Survivor("coord_chain.cu", "if (chain.weights.outputs > 0) {", "chain.weights.outputs >= 0",
             "no outputs are none to store"),
    Survivor("gemm/weight_stream.cuh", "left_ -= kStages * step_;", "kStages * step_ + 1",
             "fewer than the 8 numbers of a chunk, which is there or not as a whole"),
    Survivor("coord_linear_backward.cu", "const int odd = cell / 4 % 2;", "cell / 4 % 2 + 1",
             "the four pixels of a cell are added in another order"),
    Survivor("gemm/embedding.cuh", "const int f = chunk * kChunk<T>;", "chunk * kChunk<T> + 1",
             _SAME_CHUNK),
    Survivor("gemm/embedding.cuh", "const int place = f / 8 * kFeaturePeriod + f % 8;",
             "f / 8 * kFeaturePeriod + f % 8 + 1", _SAME_CHUNK),
    Survivor("gemm/epilogue.cuh", "for (int k = 0; k < Shape::kGroupsM; ++k) {",
             "k <= Shape::kGroupsM", _GUARDED),
    Survivor("gemm/epilogue.cuh", "for (int n = 0; n < kPiece; ++n) {", "n <= kPiece", _MASKED,
             alike=2),
    Survivor("gemm/fragments.cuh", "for (int step = 0; step < kSteps; ++step) {",
             "step <= kSteps", _END_OF_POINTERS),
    Survivor("gemm/fragments.cuh", "for (int j = 0; j < 4; ++j) {", "0 + 1",
             "a number of four is truncated to TF32 and not rounded: both are within its error",
             alike=2),
    Survivor("gemm/main_loop.cuh", "for (int stage = 0; stage < kStages - 1; ++stage) {",
             "stage <= kStages - 1", _GUARDED),
    Survivor("gemm/main_loop.cuh", "if (k + stage < slices) {", "k + stage <= slices", _ZEROS),
    Survivor("gemm/operands.cuh", "for (int m = 0; m < kMatrices; ++m) {", "m <= kMatrices",
             _GUARDED, alike=2),
    Survivor("gemm/operands.cuh", "for (int m = 0; m < kMatrices; ++m) {", "m <= kMatrices",
             _GUARDED, alike=4),
    Survivor("gemm/phase_sums.cuh", "for (int offset = kLanes / 2; offset > 0; offset /= 2) {",
             "kLanes / 2 + 1", _SAME_LANES),
    Survivor("gemm/pixels.cuh", "for (int m = 0; m < kMatrices; ++m) {", "m <= kMatrices",
             _END_OF_POINTERS),
    Survivor("gemm/slope.cuh", "const uint32_t magnitude = y & kMagnitude;",
             "y & kMagnitude + 1", _LAST_BIT),
    Survivor("gemm/slope.cuh",
             "const uint32_t held = sign_mask_x2(magnitude + (0x8000 * kOnes - bound_));",
             "magnitude + (0x8000 * kOnes - bound_) + 1", _LAST_BIT),
    Survivor("gemm/slope.cuh",
             "const uint32_t nan = sign_mask_x2(magnitude + (0x7fff - kInfinity) * kOnes);",
             "magnitude + (0x7fff - kInfinity) * kOnes + 1",
             "infinity then counts as no number, and no clamped output is infinite"),
    Survivor("gemm/slope.cuh",
             "const uint32_t nan = sign_mask_x2(magnitude + (0x7fff - kInfinity) * kOnes);",
             "sign_mask_x2(magnitude + (0x7fff - kInfinity) * kOnes) + 1",
             "a gradient that is held to zero keeps its last bit, the smallest number there is"),
    Survivor("modulated_linear.cu", "const int slices = slices_of<T>(layer.inputs);",
             "slices_of<T>(layer.inputs) + 1", _ZEROS),
    Survivor("modulated_linear_narrow.cu",
             "const bool whole = extents.inputs <= Weights::kColumns;",
             "extents.inputs < Weights::kColumns", "the weights are then staged for each tile"),
    Survivor("modulated_linear_narrow.cu",
             "for (int tile = static_cast<int>(blockIdx.x) - b * extents.blocks; "
             "tile < extents.tiles;",
             "tile <= extents.tiles", _EMPTY_TURN),
    Survivor("modulated_linear_narrow.cu", "for (int r = 0; r < kRows; ++r) {", "r <= kRows",
             _END_OF_POINTERS, alike=3),
    Survivor("modulated_linear_narrow.cu",
             "for (int base = 0; base < extents.inputs; base += Weights::kColumns) {",
             "base <= extents.inputs", _EMPTY_TURN),
    Survivor("modulated_linear_narrow.cu", "if (first >= extents.rows) {",
             "first > extents.rows", "its rows stand on the last one and are not stored"),
    Survivor("gemm/hopper/pieces.cuh", "for (int k = 0; k < kGroups; ++k) {", "k <= kGroups",
             _GUARDED),
    Survivor("gemm/hopper/products.cuh", "return (extent + kSlice - 1) / kSlice;",
             "(extent + kSlice - 1) / kSlice + 1", _ZEROS),
    Survivor("gemm/hopper/products.cuh",
             "const uint64_t rows = reduced_rows(shared_address(stage + a));", "stage + a + 1",
             _SIXTEENTHS),
    Survivor("gemm/hopper/products.cuh",
             "const uint64_t columns = reduced_rows(shared_address(stage + b));", "stage + b + 1",
             _SIXTEENTHS),
    Survivor("gemm/hopper/products.cuh",
             "wgmma<T, Major::kReduced, Major::kReduced>(sums, rows + further(kBytes * step),",
             "kBytes * step + 1", _SIXTEENTHS),
    Survivor("gemm/hopper/products.cuh", "columns + further(kBytes * step),", "kBytes * step + 1",
             _SIXTEENTHS),
    Survivor("gemm/hopper/products.cuh",
             "const uint64_t columns = kept_rows(shared_address(stage + b), kBox);",
             "stage + b + 1", _SIXTEENTHS),
    Survivor("gemm/hopper/products.cuh", "wgmma<T, Major::kKept>(sums, rows[step], "
             "columns + further(kStepBytes<Major::kKept> * step),",
             "kStepBytes<Major::kKept> * step + 1", _SIXTEENTHS),
    Survivor("modulated_linear_hopper.cu", "const int slices = slices_of_lines(inputs);",
             "slices_of_lines(inputs) + 1", _ZEROS),
    Survivor("modulated_linear_hopper_backward.cu",
             "const int slices = slices_of_lines(layer.outputs);",
             "slices_of_lines(layer.outputs) + 1", _ZEROS),
    Survivor("modulated_linear_hopper_backward.cu",
             "const int all = slices_of_lines(layer.rows);", "slices_of_lines(layer.rows) + 1",
             _ZEROS),
    Survivor("modulated_linear_hopper_backward.cu",
             "load_columns<T>(a, stage + box, 16 * warp, step);", "16 * warp + 1", _SAME_CHUNK),
    Survivor("modulated_linear_hopper_backward.cu",
             "load_columns<T>(y, stage + (kOfGradient + box), 16 * warp, step);", "16 * warp + 1",
             _SAME_CHUNK),
    Survivor("modulated_linear_narrow_backward.cu", "for (int o = 0; o < kMostOutputs; ++o) {",
             "o <= kMostOutputs", _GUARDED),
    Survivor("modulated_linear_narrow_backward.cu",
             "for (int tile = 0; tile < rows; tile += kTileRows) {", "tile <= rows", _EMPTY_TURN),
    Survivor("gemm/embedding.cuh",
             "const typename Table::Place place(at_most(thread / Table::kChunks, "
             "Table::kRows - 1));",
             "Table::kRows - 1 + 1", "threads beyond the last row copy nothing"),
    Survivor("gemm/embedding.cuh",
             "const typename Table::Place place(at_most(row(i), Table::kRows - 1));",
             "Table::kRows - 1 + 1", "threads beyond the last row copy nothing"),
    Survivor("gemm/embedding.cuh", "for (int i = 0; i < kCopies; ++i) {", "i <= kCopies", _GUARDED,
             alike=2),
    Survivor("fir_resample.cu",
             "return shifted == narrow ? narrow / static_cast<int>(b) : shifted / b;",
             "not (shifted == narrow)",
             "small numbers divide alike in 64 bits; others belong to images of 2^31 pixels"),
    Survivor("fir_resample.cu", "for (int i = thread; i < table.size(); i += kThreads) {",
             "kThreads + 1", "a tile's table has no more taps than a block has threads"),
    Survivor("coord_linear_hopper.cu", "const uint64_t cosines = "
             "reduced_rows<kWeightLine>(shared_address(stage + kWeightBytes));",
             "stage + kWeightBytes + 1", _SIXTEENTHS),
    Survivor("coord_linear_hopper.cu",
             "wgmma<T, Major::kReduced>(sums, a.sines[step], sines + further(kBytes * step),",
             "kBytes * step + 1", _SIXTEENTHS),
    Survivor("coord_linear_hopper.cu", "wgmma<T, Major::kReduced>(sums, a.cosines[step], "
             "cosines + further(kBytes * step));", "kBytes * step + 1", _SIXTEENTHS),
    Survivor("coord_linear_hopper_backward.cu", "for (int i = 0; i < 2; ++i) {", "i <= 2",
             "one past an array of rows: GCC leaves a reference to it out of its checks", alike=2),
    Survivor("gemm/hopper/pipeline.cuh", "parity ^= wraps ? 1u : 0u;", "not (parity ^= wraps)",
             "the assignment, taken for a condition, is made all the same"),
    Survivor("coord_linear_hopper_backward.cu", "const bool second = lane >= 16;",
             "not (lane >= 16)", "both threads have both halves, and write the other one each"),
)  # fmt: skip


def reason_for(fault: Fault, folder: Path) -> str | None:
    """Why a fault in the sources of `folder` may survive; None where nothing is known."""
    return next((s.reason for s in SURVIVORS if _is(s, fault, folder)), None)


def stale(faults: Iterable[Fault], folder: Path) -> list[Survivor]:
    """The entries that belong to none of these faults: their source has changed."""
    known = list(faults)
    return [s for s in SURVIVORS if not any(_is(s, fault, folder) for fault in known)]


def _is(survivor: Survivor, fault: Fault, folder: Path) -> bool:
    if (survivor.file, survivor.what) != (fault.file, fault.what):
        return False
    lines = [line.strip() for line in (folder / fault.file).read_text().splitlines()]
    alike = lines[: fault.line].count(survivor.line)
    return lines[fault.line - 1] == survivor.line and survivor.alike in (0, alike)
