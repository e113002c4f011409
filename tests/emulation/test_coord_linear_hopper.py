"""coord_linear's kernels for cards of 9.0: right, with the bytes and instructions calculated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.conftest import SOAK
from tests.emulation.build import load_emulated
from tests.emulation.byte_table import Call
from tests.emulation.extra_cases import HOPPER
from tests.emulation.linear_kinds import BF16, F16, TF32, Kind, check_right, run
from tests.op_cases import CLAMPED, LRELU, OPS, Case, make_inputs, relative_error
from tests.ops import checks

OP = OPS["coord_linear"]
FORWARD, DPHASE = "coord_linear_hopper", "coord_linear_dphase_hopper"
# Of a tile, and of slices of frequencies and outputs.
ROWS, COLUMNS, OUTPUTS = 8, 16, 256
FREQUENCIES, REDUCED = 32, 64
THREADS = 384


def grid(name: str, b: int, t: int, h: int, w: int, f: int, o: int, **more: Any) -> Case:
    return Case(name, {"B": b, "T": t, "H": h, "W": w, "F": f, "O": o}, LRELU, **more)


def kernels(launches: list[dict[str, Any]]) -> list[str]:
    return [r["kernel"].split("<")[0].removesuffix("_kernel") for r in launches]


def up(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Tile:
    """Where a tile begins, and the bytes of the axes' tables that a slice of features has."""

    frame: int
    top: int
    left: int
    first: int
    table_numbers: int  # of each feature


class Sizes:
    """A case's extents, and its tiles of `columns` columns of a product, `step` of them each."""

    def __init__(self, case: Case) -> None:
        names = ["B", "T", "H", "W", "F", "O"]
        self.b, self.t, self.h, self.w, self.f, self.o = (case.sizes[n] for n in names)

    def tiles(self, columns: int, step: int) -> list[Tile]:
        """Boxes read what of them lies in a tensor: the tables' lines run on from frame to frame,
        and from video to video."""
        found = []
        for frame in range(self.b * self.t):
            for top in range(0, self.h, ROWS):
                for left in range(0, self.w, COLUMNS):
                    lines = min(ROWS, (self.b * self.t - frame) * self.h - top)
                    lines += min(COLUMNS, (self.b - frame // self.t) * self.w - left)
                    for first in range(0, columns, step):
                        found.append(Tile(frame, top, left, first, 2 * lines))
        return found


def expected_forward(case: Case, call: Call) -> dict[str, int]:
    """What the launch counts."""
    n = Sizes(case)
    tiles, slices = n.tiles(n.o, OUTPUTS), up(n.f, FREQUENCIES)
    loaded = 0
    for tile in tiles:
        rows = min(OUTPUTS, (n.b - tile.frame // n.t) * n.o - tile.first)
        loaded += (2 * rows * 2 + tile.table_numbers * 4) * n.f
    # Outputs once, pre-activations where the output does not tell the slope.
    out, z = call.results[:2]
    of_each = (0 if "bias" in case.absent else 4) + (0 if "skip" in case.absent else 2)
    return {
        "tma_loads": 4 * slices * len(tiles),
        "tma_load_bytes": loaded,
        "global_read_bytes": loaded + out.numel() * of_each,
        "global_write_bytes": 2 * (out.numel() + z.numel()),
        # Two warpgroups of four warps, four instructions of 16 of the reduced axis.
        "group_products": 8 * 4 * slices * len(tiles),
        "mbarrier_arrivals": (1 + 8) * slices * len(tiles),
        "named_barriers": 0,
        "barriers": min(len(tiles), 2),
        # Tables and staged pieces in whole passes of the banks.
        "most_read_conflicts": 0,
    }


def expected_dphase(case: Case, call: Call) -> dict[str, int]:
    n = Sizes(case)
    tiles, slices = n.tiles(n.f, OUTPUTS // 2), up(n.o, REDUCED)
    a = call.arguments
    slopes = a["out"] is not None and not (a["activation"] == "linear" and a["clamp"] is None)
    loaded = 0
    for tile in tiles:
        pixels = min(ROWS, n.h - tile.top) * min(COLUMNS, n.w - tile.left)
        features = 2 * min(OUTPUTS // 2, n.f - tile.first)
        loaded += (pixels * (1 + slopes) + features) * n.o * 2
        loaded += features // 2 * tile.table_numbers * 4
    rows, columns, across = up(n.h, ROWS), up(n.w, COLUMNS), up(n.f, OUTPUTS // 2)
    parts = 3 * rows * columns * n.f + across * (columns * n.h + rows * n.w)
    dskip = 0 if "skip" in case.absent else n.h * n.w // 4 * n.o * 2
    return {
        "tma_loads": (slices * (5 + slopes) + 8) * len(tiles),
        "tma_load_bytes": loaded,
        # A thread reads one x, two y and the frequencies of its 32 columns.
        "global_read_bytes": loaded + len(tiles) * 256 * (3 + 2 * 32) * 4,
        "global_write_bytes": n.b * n.t * (4 * parts + dskip),
        "group_products": 8 * 4 * slices * len(tiles),
        "mbarrier_arrivals": (1 + 8) * (slices + 1) * len(tiles),
        "named_barriers": 2 * len(tiles),
        "barriers": min(len(tiles), 2),
        "matrix_read_conflicts": 0,
        # Of the few threads that add up rows and columns, which the emulator takes together.
        "most_read_conflicts": len(tiles),
    }


EXPECTED = {FORWARD: expected_forward, DPHASE: expected_dphase}


def runs() -> Iterator[Any]:
    """float16 is bfloat16's code but for a conversion: one case of it, but in a soak. And of the
    activations, which both paths have alike, one that the output tells and one that it does not."""
    few = ("large_lrelu", "large_gelu", "large_plain")
    for case in HOPPER["coord_linear"]:
        for kind in (BF16, F16):
            usual = case.name in few or not case.name.startswith("large_")
            if SOAK or (usual and (kind is BF16 or case.name == "large_lrelu")):
                yield pytest.param(case, kind, id=f"{case}-{kind}")


@pytest.mark.parametrize(("case", "kind"), list(runs()))
def test_right_with_the_bytes_calculated(case: Case, kind: Kind) -> None:
    """Against float64; and in a soak in several orders of warps and copies."""
    n = Sizes(case)
    wanted = {name for name, large in ((FORWARD, n.o > 128), (DPHASE, n.f > 64)) if large}
    for seed in range(3 if SOAK else 1):
        found = set()
        for call in check_right(OP, case, kind, seed, hopper=True):
            for name, record in zip(kernels(call.launches), call.launches, strict=True):
                if name in EXPECTED:
                    found.add(name)
                    assert record["block"][0] == THREADS
                    expected = EXPECTED[name](case, call)
                    assert record["shared_read_conflicts"] <= expected.pop("most_read_conflicts")
                    assert {key: record[key] for key in expected} == expected
                    assert record["grid"][0] == expected["barriers"]
        assert found == wanted


def test_both_paths_agree() -> None:
    """But for the order in which products are summed."""
    case = grid("agree", 2, 1, 10, 18, 72, 264)
    inputs = make_inputs(OP, case, checks.generator_of("agree"), torch.bfloat16)
    other = run(OP, case, BF16, inputs=inputs)
    own = run(OP, case, BF16, inputs=inputs, hopper=True)
    assert {FORWARD, DPHASE} <= set(kernels(own.launches))
    assert not {FORWARD, DPHASE} & set(kernels(other.launches))
    for name, value in other.found.items():
        assert relative_error(own.found[name], value.double()) < 3e-3, name


@pytest.mark.parametrize(
    ("case", "kind", "serves"),
    [
        (grid("large", 1, 2, 6, 14, 72, 136), BF16, [FORWARD, DPHASE]),
        (grid("tf32", 1, 2, 6, 14, 72, 136), TF32, []),
        (grid("few_outputs", 1, 2, 6, 14, 72, 128), BF16, [DPHASE]),
        (grid("few_features", 1, 2, 6, 14, 64, 136), BF16, [FORWARD]),
        (grid("few_pixels", 1, 2, 8, 8, 72, 136), BF16, []),
        (grid("no_chunks", 1, 2, 6, 14, 76, 136), BF16, []),
        (grid("shifted", 1, 2, 6, 14, 72, 136, layout="shifted"), BF16, []),
        (grid("outputs_in_no_chunks", 1, 2, 6, 14, 72, 140), BF16, [FORWARD]),
        (grid("no_frequencies", 1, 2, 6, 14, 0, 136), BF16, []),
    ],
    ids=str,
)
def test_what_it_serves(case: Case, kind: Kind, serves: list[str]) -> None:
    launched = set(kernels(run(OP, case, kind, hopper=True).launches))
    assert {FORWARD, DPHASE} & launched == set(serves)


def test_it_is_off_unless_asked_for() -> None:
    case = grid("large", 1, 2, 6, 14, 72, 136)
    assert not any("hopper" in name for name in kernels(run(OP, case, BF16).launches))


def test_without_the_driver_s_tensor_maps_the_other_path_serves() -> None:
    case = Case("large", grid("", 1, 2, 6, 14, 72, 136).sizes, CLAMPED)
    controls = load_emulated(None)
    controls.set_driver_has_tensor_maps(False)
    try:
        calls = check_right(OP, case, BF16, hopper=True)
    finally:
        controls.set_driver_has_tensor_maps(True)
    names = [name for call in calls for name in kernels(call.launches)]
    assert {"coord_linear", "coord_linear_dphase"} <= set(names)
    assert not {FORWARD, DPHASE} & set(names)
