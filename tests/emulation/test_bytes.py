"""The bytes that the kernels move: what the emulator counts is what their designs say."""

from __future__ import annotations

import pytest
import torch

from tests.emulation import build, byte_table
from tests.emulation.byte_formulas import size_of
from tests.emulation.byte_table import FORMULAS
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import OPS, Case, Op, differentiable, make_inputs
from tests.ops.checks import is_empty

LAYERS = {"coord_linear", "modulated_linear"}
# Bytes from memory over those of inputs and results once, at the table's sizes: more where there
# are tables or partial sums, which small sizes have more of. factorized_modulation writes dU, as
# large as grad, and reads it twice; its partial sums are as many as R/4 such tensors.
MOST = {
    "bias_act": 1.0,
    "bias_act_backward": 1.05,
    "coord_linear": 1.4,
    "coord_linear_backward": 1.9,
    "factorized_modulation": 1.0,
    "factorized_modulation_backward": 6.0,
    "fir_resample": 1.0,
    "fourier_features": 1.3,
    "fourier_features_backward": 1.5,
    "fourier_features_at": 1.0,
    "fourier_features_at_backward": 1.9,
    "frames_to_uint8": 1.0,
    "modulated_linear": 1.0,
    "modulated_linear_backward": 1.6,
}


def runs():
    """Every case that launches a kernel, in each width that the kernels have."""
    for name in byte_table.TABLE:
        op = ALL_OPS[name]
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            for case in op.cases:
                if op.takes(case, dtype) and not is_empty(op, case):
                    yield pytest.param(op, case, dtype, id=f"{name}-{case}-{str(dtype)[6:]}")


def check(op: Op, case: Case, dtype: torch.dtype) -> None:
    calls = byte_table.count(op, case, dtype)
    backward = op.name if op.name == "fir_resample" else f"{op.name}_backward"
    gradients = [backward] if differentiable(op, make_inputs(op, case, torch.Generator())) else []
    assert [call.name for call in calls] == [op.name, *gradients]
    for call in calls:
        calculated = call.calculated()
        assert call.differences() == [], call.name
        assert all(0 < moved.distinct <= moved.reads for moved in calculated), call.name
        # All results and nothing but them and workspaces, which are read again.
        written = sum(moved.written for moved in calculated)
        assert written >= sum(t.numel() * t.element_size() for t in call.results)


@pytest.mark.parametrize(("op", "case", "dtype"), list(runs()))
def test_counted_is_calculated(op, case, dtype):
    check(op, case, dtype)


def test_every_formula_is_tried_in_the_table():
    """And there the traffic is that of one pass over memory, with what the designs name beside."""
    seen = set()
    for op, case, dtype, call in byte_table.table_calls():
        seen.add(call.name)
        calculated = call.calculated()
        counted = [(moved.written, moved.reads) for moved in calculated]
        assert call.counted == counted, (op.name, case.name, dtype)
        ratio = byte_table.from_memory(call) / call.needed
        assert 0.99 < ratio <= MOST[call.name], (op.name, case.name, dtype)
    assert seen == set(FORMULAS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in sorted(LAYERS) for case in byte_table.TABLE[name]],
    ids=lambda value: str(value),
)
def test_a_layer_writes_its_results_and_partial_sums_alone(name, case, dtype):
    """By what was counted: no embedding, no upsampled skip and, with a slope that the output
    tells, no pre-activation; what sums read is what was written for them."""
    for call in byte_table.count(OPS[name], case, dtype):
        written = {"results": sum(map(size_of, call.results)), "sums": 0, "tables": 0}
        for record in call.launches:
            if "sum_parts" in record["kernel"]:
                written["sums"] += record["global_read_bytes"]
            elif "fourier_features_axes" in record["kernel"]:
                written["tables"] += record["global_write_bytes"]
        assert sum(w for w, _ in call.counted) == sum(written.values()), call.name
        if name == "coord_linear":
            s, wide = case.sizes, 4
            lines = s["B"] * (s["T"] * s["H"] + s["W"])
            assert written["tables"] == 2 * lines * s["F"] * wide
            embedding = s["B"] * s["T"] * s["H"] * s["W"] * 2 * s["F"] * dtype.itemsize
            assert written["tables"] + written["sums"] < embedding
        assert (written["sums"] > 0) == call.name.endswith("_backward")


def test_the_page_shows_the_table():
    page = (build.ROOT / "docs" / "performance.md").read_text().splitlines()
    missing = [line for line in byte_table.table() if line not in page]
    assert missing == [], "python -m tests.emulation.byte_table prints what is true now"


def test_a_wasted_pass_is_seen():
    """An input read once more than the formula says does not pass."""
    op = OPS["bias_act"]
    calls = byte_table.count(op, op.cases[0], torch.float32)
    record = dict(calls[0].launches[0])
    record["global_read_bytes"] += make_inputs(
        op, op.cases[0], torch.Generator(), torch.float32
    )["x"].numel() * 4  # fmt: skip
    again = byte_table.Call(calls[0].name, calls[0].arguments, calls[0].results, [record])
    assert again.counted != [(moved.written, moved.reads) for moved in again.calculated()]
