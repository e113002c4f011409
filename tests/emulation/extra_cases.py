"""The cases on which planted faults are tried: an op's own, and a few for the faults alone.

Those take several blocks, and several rounds of a thread's loops, with packs of 16 bytes and in
low precision too, where the op's own cases have larger sizes one number at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.op_cases import CLAMPED, LRELU, Case, Op

LARGER = {
    "bias_act": (
        Case("planes", {"shape": (3, 5, 37, 31)}, LRELU),
        Case("rows", {"shape": (700, 24)}, CLAMPED),
        Case("many_channels", {"shape": (30, 1096)}, LRELU),
        Case("odd_rows", {"shape": (301, 37)}, LRELU),
        Case("channels_last", {"shape": (2, 40, 13, 17)}, CLAMPED, layout="channels_last"),
        Case("one_channel", {"shape": (4, 1, 40, 40)}, LRELU),
        Case("more_than_a_full_grid", {"shape": (2, 5, 440, 300)}, LRELU, low=False),
        # A stride of the grid that is whole planes but no whole rows, and one within a plane.
        Case("rows_wider_than_the_grid", {"shape": (2, 1_100_003)}, LRELU, low=False),
        Case("planes_larger_than_the_grid", {"shape": (1, 2, 1100, 1000)}, LRELU, low=False),
    ),
    "fir_resample": (
        Case("the_largest_tile", {"shape": (1, 1, 80, 80), "filter": (8,)}, {"down": 2}),
    ),
    "factorized_modulation": (Case("many_rows", {"B": 3, "O": 130, "I": 72, "R": 10}),),
    "fourier_features": (
        Case("wide", {"B": 1, "T": 2, "H": 3, "W": 150, "F": 40}),
        Case("high", {"B": 2, "T": 2, "H": 45, "W": 9, "F": 24}),
    ),
    "fourier_features_at": (Case("many_points", {"B": 2, "N": 333, "F": 40, "d": 2}),),
}


def cases_for_mutants(op: Op, dtype: torch.dtype) -> Iterator[Case]:
    """All cases that are tried in `dtype`, the op's own first."""
    for case in (*op.cases, *LARGER.get(op.name, ())):
        if op.takes(case, dtype):
            yield case
