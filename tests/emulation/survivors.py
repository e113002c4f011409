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


_SLOW_PATH = "a whole pack then goes number by number, to the same result"
_NOTHING_LEFT = "a pack behind the end loads zeros and stores nothing"
_UNUSED = "read only with a bias, and set before that"
_GUARDED = "the condition inside lets no number past the end through"
_SAME_LANES = "shuffles over this set of distances still visit every lane once"
_TWO_TILES = "a block has a second piece only beyond 2^31 blocks"
_EMPTY_TURN = "one turn more that has nothing to do"

SURVIVORS = (
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
    Survivor("fourier_features_at.cu", "for (int k = 0; k < kDimensions; ++k) {",
             "k <= kDimensions", _GUARDED),
    Survivor("fourier_features_at.cu", "if (k < dimensions) {", "k <= dimensions",
             "a dimension beyond the last has zeros"),
    Survivor("fourier_features_backward.cu",
             "for (int offset = 16; offset > 0; offset /= 2) {", "16 + 1", _SAME_LANES),
)  # fmt: skip


def reason_for(fault: Fault, folder: Path) -> str | None:
    """Why a fault in the sources of `folder` may survive; None where nothing is known."""
    line = _line(fault, folder)
    for survivor in SURVIVORS:
        if (survivor.file, survivor.line, survivor.what) == (fault.file, line, fault.what):
            return survivor.reason
    return None


def stale(faults: Iterable[Fault], folder: Path) -> list[Survivor]:
    """The entries that belong to none of these faults: their source has changed."""
    known = {(f.file, _line(f, folder), f.what) for f in faults}
    return [s for s in SURVIVORS if (s.file, s.line, s.what) not in known]


def _line(fault: Fault, folder: Path) -> str:
    return (folder / fault.file).read_text().splitlines()[fault.line - 1].strip()
