"""Cases of the ops without a gradient, whose results are compared bit by bit."""

from __future__ import annotations

from digan import ops
from digan.bench.op_shapes import INPUTS
from tests.op_cases import OPS, Case, Op
from tests.ops import oracles

FRAMES_TO_UINT8 = Op(
    ops.frames_to_uint8,
    INPUTS["frames_to_uint8"],
    oracles.frames_to_uint8,
    (
        Case("plain", {"shape": (2, 3, 5, 7, 3)}),
        # Packs of 16 numbers, and blocks of 256 packs.
        *(Case(f"packs_{n}", {"shape": (n,)}) for n in (1, 15, 16, 17, 32, 47)),
        Case("several_blocks", {"shape": (1, 2, 37, 61, 3)}),
        Case("whole_blocks", {"shape": (2, 4096)}),
        Case("unaligned", {"shape": (3, 257)}, layout="shifted"),
        Case("cut", {"shape": (2, 9, 11, 3)}, layout="cut"),
        Case("transposed", {"shape": (4, 5, 3)}, layout="transposed"),
        Case("part", {"shape": (2, 5, 6, 3)}, layout="part"),
        Case("no_frames", {"shape": (2, 0, 4, 4, 3)}),
    ),
    constant=frozenset({"frames"}),
    scale=lambda name, shape: 0.6,
)

EXACT_OPS: dict[str, Op] = {op.name: op for op in (FRAMES_TO_UINT8,)}
ALL_OPS = {**OPS, **EXACT_OPS}
