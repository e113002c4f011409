"""Every kernel of csrc/ under many orders of its warps and lanes: the same bits, and no fault.

The emulator draws the order from a seed, and reports races, deadlocks and reads of what nobody
wrote under each of them. The matrix products have more cases of this kind in test_gemm.py.
"""

from __future__ import annotations

import re

import pytest
import torch

from digan import ops
from tests import chain_cases
from tests.emulation import extra_cases
from tests.emulation.build import emulated
from tests.emulation.linear_kinds import BF16, F16, F32, F64, TF32, Kind, Run, run
from tests.exact_op_cases import ALL_OPS, EXACT_OPS
from tests.op_cases import CLAMPED, Case, make_inputs
from tests.ops import checks

ORDERS = 100  # in a soak

# The cases in which each kernel runs, the smallest of several blocks where there are some.
CASES = {
    "bias_act": (("lrelu", F32), ("siren", F32), ("unaligned", BF16),
                 ("lrelu_clamp_channels_last", BF16), ("channels_last_axis_cut", F64)),
    "coord_linear": (("bias_skip", F32), ("lrelu_clamp", BF16), ("siren", TF32)),
    "factorized_modulation": (("below_a_warp", F32), ("seventeen_ranks", F64),
                              ("rows_longer_than_a_block", F32)),
    "fir_resample": (("tiles_up2", F32), ("tiles_unaligned", BF16), ("up3_down2_odd_sizes", F32),
                     ("down2_channels_last", BF16)),
    "fourier_features": (("above_a_warp_transposed", F32), ("several_blocks_of_rows", F64)),
    "fourier_features_at": (("in_space_cut", F32), ("in_the_plane", F64)),
    "frames_to_uint8": (("plain", F32), ("several_blocks", BF16)),
    "modulated_linear": (("lrelu_clamp", F32), ("below_a_warp", BF16), ("siren", TF32),
                         ("to_rgb_linear_clamp", BF16), ("three_outputs_long_rows", F32),
                         ("parts_of_rows", F32)),
}  # fmt: skip
HOPPER = {
    "coord_linear": (("large_tiles_gelu", BF16),),
    "modulated_linear": (("large_tiles_gelu", BF16),),
}
CHAINS = ("above_a_slice", "skip_clamp")
SIX_SLICES = Case("six_slices", {"B": 1, "I": 328, "O": 136, "rows": (66,)}, CLAMPED)
# Rings that go round several times, blocks with several tiles, panels of activations: for soaks.
LONG = (
    ("coord_chain", "three_panels", BF16, ""),
    ("coord_chain", "above_a_panel", F16, ""),
    ("coord_linear", "slices_beyond_the_ring", BF16, "hopper"),
    ("coord_linear", "out_above", F16, "hopper"),
    ("coord_linear", "dphase_above", F16, "hopper"),
    ("modulated_linear", "six_slices", F16, "hopper"),
    ("modulated_linear", "dweight_in_parts", BF16, "hopper"),
    ("modulated_linear", "large_gelu", TF32, ""),
)
TABLE = [
    *((name, case, kind, "") for name, cases in CASES.items() for case, kind in cases),
    *((name, case, kind, "hopper") for name, cases in HOPPER.items() for case, kind in cases),
    *(("coord_chain", case, BF16, "") for case in CHAINS),
]
each_case = pytest.mark.parametrize(
    ("name", "case", "kind", "path"),
    [pytest.param(*row, id="-".join(map(str, row)).rstrip("-")) for row in TABLE],
)


def outcome(name: str, case_name: str, kind: Kind, path: str, seed: int) -> Run:
    """Output, gradients and launches."""
    if name == "coord_chain":
        chain = next(c for c in chain_cases.CASES if c.name == case_name)
        inputs = chain_cases.make_chain(chain, kind.dtype)
        with emulated(seed) as controls:
            results = ops.coord_chain(**inputs, **chain.options, impl="auto")
            found = {f"out {i}": out for i, out in enumerate(results) if out is not None}
            return Run(found, controls.launches())
    op = ALL_OPS[name]
    case = next(
        c for c in (*op.cases, *extra_cases.HOPPER.get(name, ()), SIX_SLICES) if c.name == case_name
    )
    if name not in EXACT_OPS:
        return run(op, case, kind, seed, hopper=path == "hopper")
    inputs = make_inputs(op, case, checks.generator_of(f"seeds {case_name}"), kind.dtype)
    with emulated(seed) as controls:
        return Run({"out": checks.call(op, case, inputs)}, controls.launches())


def check_orders(name: str, case: str, kind: Kind, path: str, orders: int) -> None:
    """The same bits under so many orders."""
    first = outcome(name, case, kind, path, seed=0)
    assert all(tensor.numel() for tensor in first.found.values())
    assert path == "" or any(path in launch["kernel"] for launch in first.launches)
    for seed in range(1, orders):
        again = outcome(name, case, kind, path, seed).found
        assert [n for n in first.found if not torch.equal(again[n], first.found[n])] == [], seed


@pytest.mark.soak
@each_case
def test_results_do_not_depend_on_the_order_of_threads(name, case, kind, path, soak):
    """Two orders here, a hundred in a soak."""
    check_orders(name, case, kind, path, ORDERS if soak else 2)


@pytest.mark.soak
def test_nor_do_those_of_long_loops(soak):
    for row in LONG if soak else LONG[:1]:
        check_orders(*row, ORDERS if soak else 2)


def test_every_kernel_has_a_case():
    """By the names of the sources; a new kernel belongs into the table above."""
    there = set()
    for path in (*checks.CSRC.rglob("*.cu"), *checks.CSRC.rglob("*.cuh")):
        there |= set(re.findall(r"__global__[^;{]*?\b(\w+_kernel)\(", path.read_text()))
    launched = {
        record["kernel"].split("<")[0] for row in TABLE for record in outcome(*row, seed=0).launches
    }
    assert len(there) >= 30
    assert there - launched == set()
