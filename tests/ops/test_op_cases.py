"""The tools of the op tests: errors, layouts, inputs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from tests.op_cases import LOW, OPS, generator_of, laid_out, make_inputs, relative_error

ROOT = Path(__file__).resolve().parents[2]


def test_relative_error():
    one = torch.tensor([3.0, 4.0])
    assert relative_error(one, one) == 0
    assert relative_error(one * 1.1, one) == pytest.approx(0.1, rel=1e-5)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.zeros(0, 3), torch.zeros(0, 3)) == 0
    assert relative_error(one, torch.zeros(2)) == math.inf
    for bad in (math.nan, math.inf):
        poisoned = torch.tensor([3.0, bad])
        assert relative_error(poisoned, one) == math.inf
        assert relative_error(one, poisoned) == math.inf
        assert relative_error(poisoned, poisoned) == math.inf
    with pytest.raises(AssertionError, match="shape"):
        relative_error(torch.zeros(2, 1), torch.zeros(2))


@pytest.mark.parametrize("layout", ["cut", "part", "transposed", "channels_last"])
def test_layouts_change_strides_and_not_values(layout):
    x = torch.randn(2, 3, 4, 5, generator=generator_of("layout"))
    assert torch.equal(laid_out(x, layout), x)
    assert laid_out(x, layout).stride() != x.stride()
    if layout in ("cut", "part"):
        assert laid_out(x, layout).untyped_storage().size() > 4 * x.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *LOW], ids=str)
def test_shifted_memory_fits_no_access_of_16_bytes(dtype):
    x = torch.randn(2, 3, 4, generator=generator_of("shifted"), dtype=torch.float64).to(dtype)
    shifted = laid_out(x, "shifted")
    assert shifted.is_contiguous()
    assert torch.equal(shifted, x)
    assert shifted.data_ptr() % 16 == shifted.element_size()


def test_the_gpu_suite_finds_every_file_with_gpu_tests():
    """It greps for them; a file that is not found would never run on a GPU."""
    script = (ROOT / "benchmarks" / "gpu_suite.sh").read_text()
    pattern = re.search(r"grep -rlE '([^']+)' tests", script)[1]
    texts = {p: p.read_text() for p in (ROOT / "tests").rglob("test_*.py")}
    having = [p for p, text in texts.items() if re.search(r"backends_of\(|pytest\.mark\.gpu", text)]
    assert len(having) >= 2
    assert [p.name for p in having if not re.search(pattern, texts[p])] == []


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_inputs_are_random_and_of_the_right_dtype(op):
    case = next(c for c in op.cases if not c.absent)
    inputs = make_inputs(op, case, generator_of("one"), torch.float64)
    again = make_inputs(op, case, generator_of("another"), torch.float64)
    for name, value in inputs.items():
        assert value.dtype == torch.float64
        assert value.unique().numel() == value.numel() > 1, name
        assert not torch.equal(value, again[name]), name
    for dtype in LOW:
        low = make_inputs(op, case, generator_of("low"), dtype)
        for name, value in low.items():
            assert value.dtype == (torch.float32 if name in op.wide else dtype), name
