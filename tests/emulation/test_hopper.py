"""modulated_linear on the path for cards of 9.0: TMA, wgmma, persistent blocks, emulated."""

from __future__ import annotations

import math

import pytest
import torch

from tests.conftest import SOAK
from tests.emulation.extra_cases import HOPPER
from tests.emulation.linear_kinds import BF16, F16, F32, TF32, check_right, run
from tests.op_cases import LRELU, OPS, Case, relative_error

OP = OPS["modulated_linear"]
KERNELS = ("modulated_linear", "modulated_linear_dx", "modulated_linear_dweight")
CASES = {case.name: case for case in HOPPER["modulated_linear"]}
# Which of the three kernels a case is for, by the first word of its name.
WANTED = {"out": (0,), "dx": (1,), "dweight": (2,), "large": (0, 1, 2), "hopper": (0, 1, 2)}
THREADS = 384


def names(launches):
    return {record["kernel"].split("<")[0].removesuffix("_kernel") for record in launches}


# The others, as all of the large tiles, in a soak.
QUICK = ("large_lrelu", "large_gelu", "large_no_bias", "out_above", "dx_above", "hopper_rounds")


def cases_to_run():
    for case in CASES.values():
        for kind in (BF16, F16):
            if SOAK or (case.name in QUICK if kind is BF16 else case.name == "large_lrelu"):
                yield pytest.param(case, kind, id=f"{case}-{kind}")


@pytest.mark.parametrize(("case", "kind"), list(cases_to_run()))
def test_right(case, kind):
    calls = check_right(OP, case, kind, hopper=True)
    launches = [record for call in calls for record in call.launches]
    for form in WANTED[case.name.split("_")[0]]:
        own = [r for r in launches if r["kernel"].startswith(f"{KERNELS[form]}_hopper_kernel")]
        assert own, (KERNELS[form], names(launches))
        for record in own:
            assert record["block"] == (THREADS, 1, 1)
            assert record["grid"][0] <= 2  # multiprocessors of the emulator
            assert record["group_products"] > 0
            assert record["matrix_products"] == 0


def layer(layout="contiguous", **sizes):
    return Case("layer", {"B": 2, "I": 136, "O": 136, "rows": (66,), **sizes}, LRELU, layout=layout)


@pytest.mark.parametrize(
    ("case", "kind", "wanted"),
    [
        (layer(), BF16, (0, 1, 2)),
        (layer(), TF32, ()),
        (layer(), F32, ()),
        (layer("shifted"), BF16, ()),
        (layer(I=140), BF16, ()),
        (layer(O=140), BF16, (0,)),
        (layer(O=128), BF16, (1, 2)),
        (layer(rows=(64,)), BF16, (2,)),
        (layer(O=3), BF16, ()),
    ],
    ids=str,
)
def test_what_it_serves(case, kind, wanted):
    """The calls of large tiles in 16 bits; all else goes the other way."""
    found = names(run(OP, case, kind, hopper=True).launches)
    assert {f"{KERNELS[form]}_hopper" for form in wanted} == {n for n in found if "_hopper" in n}


def test_it_is_off_unless_asked_for():
    assert not any("_hopper" in name for name in names(run(OP, layer(), BF16).launches))


def test_both_paths_agree():
    """As well as roundings do of float32 sums in two orders."""
    case = CASES["large_lrelu"]
    ours, others = run(OP, case, F16, hopper=True).found, run(OP, case, F16).found
    assert all(relative_error(ours[name], others[name]) < 1e-3 for name in others)
    assert any(not torch.equal(ours[name], others[name]) for name in others)


@pytest.mark.parametrize("name", ["large_relu", "large_no_bias"])
def test_results_do_not_depend_on_the_order_of_threads(name, soak):
    """Of warps, and of the boxes that TMA copies."""
    first = run(OP, CASES[name], BF16, hopper=True)
    for seed in range(1, 50 if soak else 3):
        again = run(OP, CASES[name], BF16, seed, hopper=True).found
        assert [n for n in first.found if not torch.equal(again[n], first.found[n])] == [], seed


def test_rows_in_parts(soak):
    case = CASES["dweight_in_two_parts"]
    calls = check_right(OP, case, BF16, hopper=True)
    (record,) = [
        *(r for call in calls for r in call.launches if "_dweight_hopper" in r["kernel"]),
    ]
    assert record["global_write_bytes"] == 2 * 4 * 72 * (136 + 1)  # in float32, with dbias
    if soak:
        first, again = (run(OP, case, BF16, seed, hopper=True).found for seed in (0, 1))
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_bytes():
    """TMA reads x once for every 256 outputs, the weights once for every 128 rows, and no more."""
    case = CASES["large_lrelu"]
    b, i, o, (p,) = (case.sizes[name] for name in ("B", "I", "O", "rows"))
    found = run(OP, case, BF16, hopper=True)

    def tiles(extent, tile):
        return math.ceil(extent / tile)

    (out,) = found.of("modulated_linear_hopper")
    assert out["tma_load_bytes"] == 2 * b * (tiles(o, 256) * p * i + tiles(p, 128) * o * i)
    (dx,) = found.of("modulated_linear_dx_hopper")
    assert dx["tma_load_bytes"] == 2 * b * (tiles(i, 256) * 2 * p * o + tiles(p, 128) * o * i)
    (dweight,) = found.of("modulated_linear_dweight_hopper")
    expected = 2 * b * (tiles(i, 256) * 2 * p * o + tiles(o, 128) * p * i)
    assert dweight["tma_load_bytes"] == expected
    assert out["global_write_bytes"] == 2 * b * p * o
    assert dx["global_write_bytes"] == 2 * b * p * i
    # Whole steps of 64 numbers of whole tiles: eight warps, four products of a slice.
    assert out["group_products"] == 32 * b * tiles(p, 128) * tiles(o, 256) * tiles(i, 64)


def test_no_bank_conflict_in_the_main_loop():
    """Neither by ldmatrix nor in the epilogue's reads."""
    for n in (136, 264):
        case = Case("loop", {"B": 1, "I": 256, "O": n, "rows": (n,)}, LRELU)
        found = run(OP, case, BF16, hopper=True)
        for name in ("modulated_linear_dx_hopper", "modulated_linear_dweight_hopper"):
            (record,) = found.of(name)
            assert record["group_products"] == 32 * math.ceil(n / 128) * math.ceil(n / 64)
            assert record["matrix_read_conflicts"] == record["shared_read_conflicts"] == 0
