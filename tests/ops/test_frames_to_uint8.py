"""frames_to_uint8: the same bytes on every path, close to every half and at the odd values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from digan import ops
from tests.exact_op_cases import FRAMES_TO_UINT8 as OP
from tests.op_cases import LOW, generator_of, make_inputs
from tests.ops import checks
from tests.ops.checks import each_backend, each_case

ALL = (torch.float64, torch.float32, *LOW)
NAN, INF = float("nan"), float("inf")
ODD = [(NAN, 0), (-NAN, 0), (INF, 255), (-INF, 0), (-0.0, 128), (0.0, 128), (-1.0, 0), (1.0, 255),
       (1e38, 255), (-1e38, 0), (1e-45, 128), (1.001, 255), (-1.001, 0)]  # fmt: skip


def bytes_of(frames: Tensor, backend: checks.Backend) -> Tensor:
    return ops.frames_to_uint8(frames.to(backend.device), impl=backend.impl).cpu()


@each_backend(OP)
@pytest.mark.parametrize("dtype", ALL, ids=str)
@each_case(OP)
def test_bytes(case, dtype, backend):
    checks.check_exact(OP, case, dtype, backend)


@each_backend(OP)
def test_every_number_close_to_a_half(backend):
    """The 200 floats on both sides of every bound between two bytes, one by one.

    An fma in the place of sum and product would take some of them elsewhere: seen below.
    """
    halves = (torch.arange(-1, 257, dtype=torch.float64) + 0.5) / 127.5 - 1
    start = halves.float().view(torch.int32)[:, None]
    near = (start + torch.arange(-200, 201, dtype=torch.int32)).view(torch.float32)
    found = bytes_of(near, backend)
    assert torch.equal(found, OP.oracle(near))
    once = ((near.double() + 1) * 127.5).float().round().clamp(0, 255).to(torch.uint8)
    assert (found != once).any()
    assert found.unique().numel() == 256


@each_backend(OP)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_odd_values(dtype, backend):
    """In a pack and behind the last one."""
    values, expected = zip(*(2 * ODD), strict=True)
    found = bytes_of(torch.tensor(values).to(dtype), backend)
    assert found.tolist() == list(expected)


@each_backend(OP)
def test_every_byte_survives(backend):
    every = torch.arange(256, dtype=torch.uint8)
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(bytes_of(every.to(dtype) / 127.5 - 1, backend), every)


@given(
    st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=40),
    checks.CPU_BACKENDS,
)
def test_any_floats(values, backend):
    frames = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(bytes_of(frames, backend), OP.oracle(frames))


def test_schema_op():
    for name in ("plain", "cut", "no_frames"):
        case = checks.case_of(OP, name)
        frames = make_inputs(OP, case, generator_of("opcheck"), torch.float32)["frames"]
        torch.library.opcheck(torch.ops.digan.frames_to_uint8, (frames,))


def test_fake_has_the_shape_and_strides():
    with FakeTensorMode():
        fake = ops.frames_to_uint8(torch.empty(2, 3, 5, 4).transpose(0, 3))
    assert (fake.dtype, list(fake.shape)) == (torch.uint8, [4, 3, 5, 2])
    assert fake.is_contiguous()


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_manners(impl):
    """No gradient, nothing written into the frames, and autocast changes nothing."""
    frames = torch.randn(2, 7, 3, generator=generator_of("manners")).requires_grad_()
    before = frames.detach().clone()
    found = ops.frames_to_uint8(frames, impl=impl)
    assert not found.requires_grad
    assert torch.equal(frames, before)
    assert frames._version == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.frames_to_uint8(frames, impl=impl), found)


def test_compiles_in_one_graph():
    torch._dynamo.reset()
    frames = torch.randn(3, 17, generator=generator_of("compiled"))
    compiled = torch.compile(ops.frames_to_uint8, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(frames), OP.oracle(frames))


def test_errors():
    checks.check_error(
        ops.frames_to_uint8, TypeError,
        "frames must be a floating-point tensor, got torch.uint8",
        {"frames": torch.zeros(2, dtype=torch.uint8)}, "auto",
    )  # fmt: skip
    with pytest.raises(ops.OpUnavailableError, match="frames_to_uint8: impl='fused'"):
        ops.frames_to_uint8(torch.zeros(2), impl="fused")
