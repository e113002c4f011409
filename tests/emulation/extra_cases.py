"""The cases on which planted faults are tried: an op's own, and larger ones.

The larger ones take several blocks, and several rounds of a thread's loops, cut at odd places.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.op_cases import CLAMPED, LOW, LRELU, Case, Op

LARGER = {
    "bias_act": (
        Case("planes", {"shape": (3, 5, 37, 31)}, LRELU),
        Case("rows", {"shape": (700, 24)}, CLAMPED),
        Case("many_channels", {"shape": (30, 1096)}, LRELU),
        Case("odd_rows", {"shape": (301, 37)}, LRELU),
        Case("channels_last", {"shape": (2, 40, 13, 17)}, CLAMPED, layout="channels_last"),
        Case("one_channel", {"shape": (4, 1, 40, 40)}, LRELU),
        Case("more_than_a_full_grid", {"shape": (2, 5, 440, 300)}, LRELU, low=False),
    ),
    "fir_resample": (
        Case("up", {"shape": (2, 3, 37, 41), "filter": (4,)}, {"up": 2, "padding": [2, 1, 2, 1]}),
        Case("down", {"shape": (2, 3, 70, 67), "filter": (4,)}, {"down": 2, "padding": 1}),
        Case("many_taps", {"shape": (1, 2, 35, 36), "filter": (33, 32)}),
        Case(
            "channels_last",
            {"shape": (2, 24, 19, 23), "filter": (4,)},
            {"padding": [2, 1, 2, 1]},
            layout="channels_last",
        ),
    ),
    "factorized_modulation": (
        Case("wide", {"B": 2, "O": 5, "I": 1100, "R": 5}),
        Case("high", {"B": 3, "O": 130, "I": 72, "R": 10}),
        Case("many_ranks", {"B": 2, "O": 9, "I": 70, "R": 35}),
    ),
    "fourier_features": (
        Case("wide", {"B": 1, "T": 2, "H": 3, "W": 150, "F": 40}),
        Case("high", {"B": 2, "T": 2, "H": 45, "W": 9, "F": 24}),
        Case("many_frequencies", {"B": 1, "T": 1, "H": 6, "W": 20, "F": 296}),
    ),
    "fourier_features_at": (
        Case("many_points", {"B": 2, "N": 333, "F": 40, "d": 2}),
        Case("many_frequencies", {"B": 1, "N": 50, "F": 296, "d": 3}),
    ),
}


def cases_for_mutants(op: Op, dtype: torch.dtype) -> Iterator[Case]:
    """All cases that are tried in `dtype`, the small ones first."""
    for case in (*op.cases, *LARGER.get(op.name, ())):
        if dtype not in LOW or case.low:
            yield case
