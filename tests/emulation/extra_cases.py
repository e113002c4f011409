"""The cases on which planted faults are tried: an op's own, and a few for the faults alone.

Those take several blocks, and several rounds of a thread's loops, with packs of 16 bytes and in
low precision too, where the op's own cases have larger sizes one number at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.op_cases import CLAMPED, LRELU, Case, Op

_CUT = {"gain": 1.2, "clamp": 0.9}
# A sine of 30 times a rounded number is mostly rounding.
_ACTIVATIONS = {
    "linear": {"activation": "linear", **_CUT},
    "lrelu": {"activation": "lrelu", **_CUT},
    "relu": {"activation": "relu", **_CUT},
    "sine": {"activation": "sine", "alpha": 1.5, **_CUT},
    "gelu": {"activation": "gelu", **_CUT},
}
_ROWS = {"B": 2, "I": 136, "O": 136, "rows": (66,)}
_PIXELS = {"B": 1, "T": 1, "H": 6, "W": 18, "F": 72, "O": 136}


def _layer(name: str, b: int, i: int, o: int, rows: int) -> Case:
    return Case(name, {"B": b, "I": i, "O": o, "rows": (rows,)}, LRELU)


def _grid(name: str, b: int, t: int, h: int, w: int, f: int, o: int) -> Case:
    return Case(name, {"B": b, "T": t, "H": h, "W": w, "F": f, "O": o}, LRELU)


# Of large tiles, which 16 bits and tf32 have: 128 x 256, and 128 x 128 for coord_linear's
# dweight. A product's rows, columns and reduced axis are below, at and above a tile and a slice.
LARGE = {
    "modulated_linear": (
        *(Case(f"large_{n}", _ROWS, options) for n, options in _ACTIVATIONS.items()),
        Case("large_no_bias", _ROWS, CLAMPED, absent=("bias",)),
        _layer("out_below", 2, 24, 248, 127),
        _layer("out_at", 2, 32, 256, 128),
        _layer("out_above", 1, 40, 264, 129),
        _layer("dx_below", 2, 248, 24, 127),
        _layer("dx_at", 2, 256, 32, 128),
        _layer("dx_above", 1, 264, 40, 129),
        _layer("dweight_below", 1, 248, 120, 31),
        _layer("dweight_at", 1, 256, 128, 32),
        _layer("dweight_above", 1, 264, 136, 33),
        _layer("dweight_in_parts", 1, 136, 72, 1100),
    ),
    "coord_linear": (
        *(Case(f"large_{n}", _PIXELS, options) for n, options in _ACTIVATIONS.items()),
        Case("large_no_bias", _PIXELS, CLAMPED, absent=("bias",)),
        Case("large_no_skip", _PIXELS, CLAMPED, absent=("skip",)),
        Case("large_plain", _PIXELS, CLAMPED, absent=("bias", "skip")),
        _grid("out_below", 2, 1, 6, 14, 8, 248),
        _grid("out_at", 2, 1, 8, 16, 16, 256),
        _grid("out_above", 1, 1, 10, 18, 24, 264),
        _grid("dphase_below", 2, 1, 6, 14, 120, 24),
        _grid("dphase_at", 2, 1, 8, 16, 128, 32),
        _grid("dphase_above", 1, 1, 10, 18, 136, 40),
        _grid("dweight_below", 1, 1, 4, 8, 56, 120),
        _grid("dweight_at", 1, 2, 8, 8, 64, 128),
        _grid("dweight_above", 1, 2, 6, 10, 72, 136),
        _grid("dweight_in_parts", 1, 3, 20, 18, 40, 72),
    ),
}

# Of the path for cards of 9.0: rings that go round several times, blocks with several tiles, ragged
# at every end, and parts of rows. Those above are of a slice or few.
HOPPER = {
    "modulated_linear": (
        *LARGE["modulated_linear"],
        Case("hopper_rounds", {"B": 1, "I": 328, "O": 328, "rows": (270,)}, CLAMPED),
        _layer("dweight_in_two_parts", 1, 136, 72, 2050),
    ),
    "coord_linear": (
        *(c for c in LARGE["coord_linear"] if not c.name.startswith("dweight")),
        # More slices than the ring has stages, an odd number and an even one of them.
        _grid("slices_beyond_the_ring", 1, 2, 6, 14, 200, 136),
        _grid("slices_twice_round_the_ring", 1, 2, 8, 16, 360, 136),
        # Tiles for which a block stays, across every axis.
        _grid("tiles_of_a_block", 2, 3, 12, 20, 8, 264),
        _grid("tiles_of_angles", 2, 2, 12, 20, 136, 72),
        # Boxes of the tables that reach into the next frame, and the next video.
        _grid("edges_of_frames", 3, 2, 10, 18, 40, 136),
    ),
}

LARGER = {
    **LARGE,
    "modulated_linear": (
        *LARGE["modulated_linear"],
        # So many rows that a block takes several tiles of them.
        Case(
            "few_outputs_beyond_a_full_grid",
            {"B": 1, "I": 8, "O": 1, "rows": (131_300,)},
            LRELU,
            low=False,
        ),
    ),
    "bias_act": (
        Case("planes", {"shape": (3, 5, 37, 31)}, LRELU),
        Case("rows", {"shape": (700, 24)}, CLAMPED),
        # Its output does not tell the slope.
        Case("relu_negative_gain", {"shape": (3, 8)}, {"activation": "relu", "gain": -0.8}),
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
        # More taps than a block has threads, and no more than its table.
        Case("many_taps", {"shape": (1, 1, 34, 34), "filter": (17, 18)}, low=False),
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
