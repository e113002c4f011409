"""coord_linear's kernels for cards of 9.0: right, with the bytes and instructions calculated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from tests.conftest import SOAK
from tests.emulation.build import load_emulated
from tests.emulation.extra_cases import LARGE
from tests.emulation.linear_kinds import BF16, F16, TF32, Kind, check_right, run
from tests.op_cases import CLAMPED, LRELU, OPS, Case, make_inputs, relative_error
from tests.ops import checks

OP = OPS["coord_linear"]
FORWARD = "coord_linear_hopper"
# Of a tile, and of a slice.
ROWS, COLUMNS, OUTPUTS, FREQUENCIES = 8, 16, 256, 32
THREADS = 384


@contextlib.contextmanager
def hopper() -> Iterator[Any]:
    """The path is asked for. Yields the emulator's controls."""
    controls = load_emulated(None)
    controls.set_hopper(True)
    try:
        yield controls
    finally:
        controls.set_hopper(False)


def grid(name: str, b: int, t: int, h: int, w: int, f: int, o: int, **more: Any) -> Case:
    return Case(name, {"B": b, "T": t, "H": h, "W": w, "F": f, "O": o}, LRELU, **more)


CASES = [
    # More slices than the ring has stages, an odd number and an even one of them.
    grid("slices_beyond_the_ring", 1, 2, 6, 14, 200, 136),
    grid("slices_twice_round_the_ring", 1, 2, 8, 16, 360, 136),
    # Tiles for which a block stays, across every axis.
    grid("tiles_of_a_block", 2, 3, 12, 20, 8, 264),
    # Boxes of the tables that reach into the next frame, and the next video.
    grid("edges_of_frames", 3, 2, 10, 18, 40, 136),
    *(c for c in LARGE["coord_linear"] if c.name.startswith(("out_", "large_"))),
]


def kernels(launches: list[dict[str, Any]]) -> list[str]:
    return [r["kernel"].split("<")[0].removesuffix("_kernel") for r in launches]


def up(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Expected:
    """What one launch of the forward kernel does."""

    blocks: int
    tma_loads: int
    tma_load_bytes: int
    group_products: int
    mbarrier_arrivals: int


def expected_of(case: Case) -> Expected:
    """Boxes read what of them lies in a tensor: the tables' rows run on from frame to frame."""
    b, t, h, w, f, o = (case.sizes[n] for n in ["B", "T", "H", "W", "F", "O"])
    slices, tiles, loaded = up(f, FREQUENCIES), 0, 0
    for frame in range(b * t):
        for top in range(0, h, ROWS):
            for left in range(0, w, COLUMNS):
                for first in range(0, o, OUTPUTS):
                    tiles += 1
                    video = frame // t
                    loaded += min(OUTPUTS, b * o - video * o - first) * 2 * f * 2
                    loaded += min(ROWS, b * t * h - frame * h - top) * 2 * f * 4
                    loaded += min(COLUMNS, b * w - video * w - left) * 2 * f * 4
    return Expected(
        blocks=min(tiles, 2),
        tma_loads=4 * slices * tiles,
        tma_load_bytes=loaded,
        # Two warpgroups of four warps, four instructions of 16 of the reduced axis.
        group_products=8 * 4 * slices * tiles,
        mbarrier_arrivals=(1 + 8) * slices * tiles,
    )


def runs() -> Iterator[Any]:
    """float16 is bfloat16's code but for a conversion: one case of it, but in a soak."""
    for case in CASES:
        for kind in (BF16, F16):
            if SOAK or kind is BF16 or case.name == "large_lrelu":
                yield pytest.param(case, kind, id=f"{case}-{kind}")


@pytest.mark.parametrize(("case", "kind"), list(runs()))
def test_forward(case: Case, kind: Kind) -> None:
    """Against float64, in an order of warps and copies drawn anew."""
    with hopper():
        for seed in range(3 if SOAK else 1):
            call = check_right(OP, case, kind, seed)[0]
            record = call.launches[1]
            assert kernels(call.launches)[1] == FORWARD
            assert record["block"][0] == THREADS
            expected = expected_of(case)
            assert record["grid"][0] == expected.blocks
            for name in ("tma_loads", "tma_load_bytes", "group_products", "mbarrier_arrivals"):
                assert record[name] == getattr(expected, name), name
            # Outputs once, pre-activations where the output does not tell the slope; nothing else.
            out, z = call.results[:2]
            assert record["global_write_bytes"] == sum(
                x.numel() * x.element_size() for x in (out, z)
            )
            bias = 0 if "bias" in case.absent else 4
            skip = 0 if "skip" in case.absent else 2
            read = record["global_read_bytes"] - record["tma_load_bytes"]
            assert read == out.numel() * (bias + skip)
            # Tables and staged pieces, in whole passes of the banks.
            assert record["shared_read_conflicts"] == 0


def test_both_paths_agree() -> None:
    """But for the order in which products are summed."""
    case = grid("agree", 2, 1, 10, 18, 72, 264)
    inputs = make_inputs(OP, case, checks.generator_of("agree"), torch.bfloat16)
    other = run(OP, case, BF16, inputs=inputs)
    with hopper():
        own = run(OP, case, BF16, inputs=inputs)
    assert FORWARD in kernels(own.launches)
    assert FORWARD not in kernels(other.launches)
    assert relative_error(own.found["out"], other.found["out"].double()) < 2e-3


@pytest.mark.parametrize(
    ("case", "kind", "serves"),
    [
        (grid("large", 1, 2, 6, 14, 40, 136), BF16, True),
        (grid("tf32", 1, 2, 6, 14, 40, 136), TF32, False),
        (grid("few_outputs", 1, 2, 6, 14, 40, 128), BF16, False),
        (grid("few_pixels", 1, 2, 8, 8, 40, 136), BF16, False),
        (grid("no_chunks", 1, 2, 6, 14, 36, 136), BF16, False),
        (grid("shifted", 1, 2, 6, 14, 40, 136, layout="shifted"), BF16, False),
        (grid("outputs_in_no_chunks", 1, 2, 6, 14, 40, 140), BF16, True),
        (grid("no_frequencies", 1, 2, 6, 14, 0, 136), BF16, False),
    ],
    ids=str,
)
def test_what_it_serves(case: Case, kind: Kind, serves: bool) -> None:
    with hopper():
        assert (FORWARD in kernels(run(OP, case, kind).launches)) == serves


def test_it_is_off_unless_asked_for() -> None:
    case = grid("large", 1, 2, 6, 14, 40, 136)
    assert not any("hopper" in name for name in kernels(run(OP, case, BF16).launches))


def test_without_the_driver_s_tensor_maps_the_other_path_serves() -> None:
    case = replace(CASES[2], options=CLAMPED)
    with hopper() as controls:
        controls.set_driver_has_tensor_maps(False)
        try:
            calls = check_right(OP, case, BF16)
        finally:
            controls.set_driver_has_tensor_maps(True)
    names = [name for call in calls for name in kernels(call.launches)]
    assert "coord_linear" in names
    assert FORWARD not in names
