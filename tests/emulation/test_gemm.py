"""The matrix products of modulated_linear and coord_linear: every tile in every arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.conftest import SOAK
from tests.emulation.extra_cases import LARGE, LARGER
from tests.emulation.linear_bytes import LARGE as LARGE_TILE
from tests.emulation.linear_bytes import SMALL as SMALL_TILE
from tests.emulation.linear_kinds import (
    BF16,
    F16,
    F32,
    F64,
    KINDS,
    TENSOR_CORES,
    TF32,
    check_right,
    run,
)
from tests.op_cases import CLAMPED, LRELU, OPS, Case, relative_error
from tests.ops.checks import case_of

# By the first word of a case's name, the kernels that it has large tiles for.
KERNELS = {
    "modulated_linear": {
        "out": "modulated_linear",
        "dx": "modulated_linear_dx",
        "dweight": "modulated_linear_dweight",
    },
    "coord_linear": {
        "out": "coord_linear",
        "dphase": "coord_linear_dphase",
        "dweight": "coord_linear_dweight",
    },
}


def large_runs():
    """In float16 only the first of them, but in a soak: its kernels are bfloat16's."""
    for name, cases in LARGE.items():
        for case in cases:
            for kind in TENSOR_CORES:
                if SOAK or kind is not F16 or case.name.startswith("large"):
                    yield pytest.param(OPS[name], case, kind, id=f"{name}-{case}-{kind}")


def kernel_of(record):
    return record["kernel"].split("<")[0].removesuffix("_kernel")


def threads_of(launches):
    """Kernel -> threads of its blocks, of the products among some launches."""
    products = {kernel for kernels in KERNELS.values() for kernel in kernels.values()}
    narrow = {"modulated_linear_narrow", "modulated_linear_narrow_backward"}
    found = {kernel_of(r): r["block"][0] for r in launches}
    return {kernel: n for kernel, n in found.items() if kernel in products | narrow}


# ---------------------------------------------------------------- large tiles


@pytest.mark.soak
@pytest.mark.parametrize(("op", "case", "kind"), list(large_runs()))
def test_large_tiles(op, case, kind):
    """Right, in the tiles that the case is for, with the bytes and instructions calculated."""
    calls = check_right(op, case, kind)
    assert [d for call in calls for d in call.differences()] == []
    kernels = KERNELS[op.name]
    first = case.name.split("_")[0]
    wanted = list(kernels.values()) if first == "large" else [kernels[first]]
    threads = threads_of([r for call in calls for r in call.launches])
    assert set(threads) == set(kernels.values())
    assert [threads[kernel] for kernel in wanted] == [LARGE_TILE.threads] * len(wanted)


# ---------------------------------------------------------------- which tile

_ROWS = {"B": 2, "I": 136, "O": 136, "rows": (66,)}
_GRID = {"B": 1, "T": 1, "H": 6, "W": 18, "F": 72, "O": 136}


def layer(layout="contiguous", **sizes):
    return Case("layer", {**_ROWS, **sizes}, LRELU, layout=layout)


def grid(layout="contiguous", **sizes):
    return Case("grid", {**_GRID, **sizes}, LRELU, layout=layout)


@pytest.mark.parametrize(
    ("case", "kind", "large"),
    [
        (layer(), BF16, "out dx dweight"),
        (layer(), F16, "out dx dweight"),
        (layer(), TF32, "out dx dweight"),
        (layer(), F32, ""),
        (layer(), F64, ""),
        # Not in whole chunks of 16 bytes.
        (layer("shifted"), BF16, ""),
        (layer(I=140), BF16, ""),
        (layer(I=140), TF32, "out dx dweight"),
        (layer(O=140), BF16, "out"),
        # Half a tile or less.
        (layer(rows=(64,)), BF16, "dweight"),
        (layer(O=128), BF16, "dx dweight"),
        (layer(I=128), BF16, "out"),
        (layer(O=64), BF16, "dx"),
        # Too few blocks for two multiprocessors; rows are split instead where they are reduced.
        (layer(B=1), BF16, "dweight"),
        (layer(B=1, rows=(129,)), BF16, "out dx dweight"),
        (grid(), BF16, "out dphase dweight"),
        (grid(), TF32, "out dphase dweight"),
        (grid(), F32, ""),
        (grid(), F64, ""),
        (grid("shifted"), BF16, ""),
        (grid(F=76), BF16, ""),
        (grid(O=140), BF16, "out"),
        (grid(H=8, W=8), BF16, "dweight"),
        (grid(O=128), BF16, "dphase dweight"),
        (grid(F=64), BF16, "out dweight"),
        (grid(F=32), BF16, "out"),
        (grid(O=64), BF16, "dphase"),
        (grid(H=6, W=14), BF16, "dweight"),
        (grid(H=6, W=14, B=2), BF16, "out dphase dweight"),
    ],
    ids=str,
)
def test_the_tile_of_a_shape(case, kind, large):
    op = OPS["coord_linear" if "F" in case.sizes else "modulated_linear"]
    kernels = KERNELS[op.name]
    wanted = {
        kernel: (LARGE_TILE if form in large.split() else SMALL_TILE).threads
        for form, kernel in kernels.items()
    }
    launches = run(op, case, kind).launches
    assert threads_of(launches) == wanted
    for record in launches:
        multiplies = kernel_of(record) in wanted and kind.has_tensor_cores
        assert (record["matrix_products"] > 0) == multiplies, record["kernel"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("outputs", [1, 4, 5])
def test_few_outputs_have_kernels_of_their_own(outputs, kind):
    case = Case("few", {"B": 2, "I": 24, "O": outputs, "rows": (9,)}, LRELU)
    found = set(threads_of(run(OPS["modulated_linear"], case, kind).launches))
    narrow = {"modulated_linear_narrow", "modulated_linear_narrow_backward"}
    assert found == (narrow if outputs <= 4 else set(KERNELS["modulated_linear"].values()))


@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_few_outputs_of_more_rows_than_a_full_grid(kind):
    """A block goes on with further tiles of its video."""
    case = next(c for c in LARGER["modulated_linear"] if c.name.startswith("few_outputs"))
    calls = check_right(OPS["modulated_linear"], case, kind)
    assert [d for call in calls for d in call.differences()] == []
    blocks = {kernel_of(r): r["grid"][0] for call in calls for r in call.launches}
    rows = case.sizes["rows"][0]
    assert blocks["modulated_linear_narrow"] * 128 < rows
    assert blocks["modulated_linear_narrow_backward"] * 64 < rows


# ---------------------------------------------------------------- tf32


def small_cases():
    for name, cases in {
        "modulated_linear": ("tiles_of_63", "tiles_of_72", "gelu", "parts_of_rows", "plain"),
        "coord_linear": ("above_small_tiles", "in_chunks", "gelu", "parts_of_rows", "plain"),
    }.items():
        for case in cases:
            yield pytest.param(OPS[name], case_of(OPS[name], case), id=f"{name}-{case}")


@pytest.mark.parametrize(("op", "case"), list(small_cases()))
def test_tf32_in_small_tiles(op, case):
    calls = check_right(op, case, TF32)
    assert [d for call in calls for d in call.differences()] == []
    products = [r["matrix_products"] for call in calls for r in call.launches]
    assert sum(n > 0 for n in products) == len(KERNELS[op.name])


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_precision_flag(name):
    """Without it float32 is as precise as ever, and uses no tensor core; with it, it is not."""
    op = OPS[name]
    case = next(c for c in LARGE[name] if c.name == "large_gelu")
    precise = check_right(op, case, F32)
    assert all(r["matrix_products"] == 0 for call in precise for r in call.launches)
    found, exact = run(op, case, TF32).found, run(op, case, F32).found
    errors = {n: relative_error(found[n], exact[n]) for n in exact}
    # A bias adds gradients up, in float32 also here.
    assert all(1e-5 < e < 1e-3 for n, e in errors.items() if n != "bias"), errors


def test_few_outputs_are_never_in_tf32():
    case = case_of(OPS["modulated_linear"], "three_outputs_long_rows")
    found, exact = (run(OPS["modulated_linear"], case, kind).found for kind in (TF32, F32))
    assert all(torch.equal(found[n], exact[n]) for n in exact)


# ---------------------------------------------------------------- schedules

SCHEDULED = {
    "modulated_linear": {
        "small": Case("small", {"B": 1, "I": 72, "O": 72, "rows": (72,)}, CLAMPED),
        "unaligned": Case("unaligned", {"B": 2, "I": 37, "O": 21, "rows": (45,)}, LRELU),
        "parts": Case("parts", {"B": 1, "I": 16, "O": 8, "rows": (1030,)}, LRELU),
        "few": Case("few", {"B": 1, "I": 528, "O": 3, "rows": (140,)}, CLAMPED),
        "few_unaligned": Case("few_unaligned", {"B": 2, "I": 67, "O": 3, "rows": (140,)}, LRELU),
        "large": Case("large", {"B": 2, "I": 136, "O": 136, "rows": (66,)}, CLAMPED),
    },
    "coord_linear": {
        "small": Case("small", {"B": 1, "T": 2, "H": 6, "W": 10, "F": 40, "O": 40}, CLAMPED),
        "unaligned": Case("unaligned", {"B": 2, "T": 1, "H": 6, "W": 10, "F": 13, "O": 21}, LRELU),
        "parts": Case("parts", {"B": 1, "T": 3, "H": 20, "W": 18, "F": 8, "O": 8}, LRELU),
        "large": Case("large", {"B": 1, "T": 1, "H": 6, "W": 18, "F": 72, "O": 136}, CLAMPED),
    },
}


def scheduled():
    for name, cases in SCHEDULED.items():
        for case in cases.values():
            for kind in TENSOR_CORES if case.name == "large" else KINDS:
                yield pytest.param(OPS[name], case, kind, id=f"{name}-{case}-{kind}")


@pytest.mark.soak
@pytest.mark.parametrize(("op", "case", "kind"), list(scheduled()))
def test_results_do_not_depend_on_the_order_of_threads(op, case, kind, soak):
    """Five orders here, a hundred in a soak: bitwise the same, and right."""
    first = run(op, case, kind, seed=0)
    for seed in range(1, 100 if soak else 5):
        again = run(op, case, kind, seed).found
        assert [n for n in first.found if not torch.equal(again[n], first.found[n])] == [], seed
    check_right(op, case, kind, seed=5)
    if case.name == "large":
        assert set(threads_of(first.launches).values()) == {LARGE_TILE.threads}


# ---------------------------------------------------------------- bank conflicts

# Whole tiles and slices, so that all lanes of a warp do the same; what a kernel reduces.
BASES = {
    ("modulated_linear", "large"): {"B": 2, "I": 160, "O": 160, "rows": (128,)},
    ("modulated_linear", "small"): {"B": 1, "I": 64, "O": 64, "rows": (64,)},
    ("coord_linear", "large"): {"B": 1, "T": 1, "H": 8, "W": 32, "F": 80, "O": 160},
    ("coord_linear", "small"): {"B": 1, "T": 1, "H": 8, "W": 8, "F": 32, "O": 64},
}
REDUCED = {
    "modulated_linear": {"out": "I", "dx": "O", "dweight": "rows"},
    "coord_linear": {"out": "F", "dphase": "O", "dweight": "T"},
}


def longer(sizes, axis, depth):
    """With several slices more along an axis."""
    more = {
        "rows": lambda n: (n[0] + 4 * depth,),
        "F": lambda n: n + 2 * depth,
        "T": lambda n: 2 * n,
    }
    return {**sizes, axis: more.get(axis, lambda n: n + 4 * depth)(sizes[axis])}


@pytest.mark.parametrize("kind", TENSOR_CORES, ids=str)
@pytest.mark.parametrize(("name", "tile"), list(BASES), ids=str)
def test_no_bank_conflict_in_the_main_loop(name, tile, kind):
    """What is counted for a short and a long reduced axis differs by the slices between them."""
    op, sizes, depth = OPS[name], BASES[name, tile], 64 // kind.dtype.itemsize
    base = run(op, Case("base", sizes, CLAMPED), kind)
    threads = {"large": LARGE_TILE.threads, "small": SMALL_TILE.threads}[tile]
    for form, axis in REDUCED[name].items():
        kernel = KERNELS[name][form]
        case = replace(Case("longer", {}, CLAMPED), sizes=longer(sizes, axis, depth))
        (short,), (long,) = base.of(kernel), run(op, case, kind).of(kernel)
        assert short["block"][0] == long["block"][0] == threads, kernel
        assert short["grid"] == long["grid"], kernel
        assert long["matrix_products"] > short["matrix_products"], kernel
        counts = ["matrix_read_conflicts", "shared_read_conflicts", "shared_write_conflicts"]
        # There the embedding's store needs a second pass, as its chunks lie for reads of words.
        for count in (
            counts[:2] if (name, form, kind) == ("coord_linear", "dweight", TF32) else counts
        ):
            assert long[count] == short[count], (kernel, count)
        assert long["matrix_read_conflicts"] == 0, kernel
