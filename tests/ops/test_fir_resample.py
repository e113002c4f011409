"""fir_resample against a loop over its taps, and against numbers of the original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from digan import ops
from tests.op_cases import FIR_RESAMPLE as OP
from tests.op_cases import LOW, Case, relative_error
from tests.ops import checks
from tests.ops.checks import each_backend, each_case

BAD_TAPS = torch.tensor([1.0, 3.0, float("nan"), 1.0])
WIDE = (torch.float64, torch.float32)
# The paddings are those of the original's upsample2d, downsample2d and filter2d for 4 taps.
GOLDEN_ARGUMENTS = {
    "upsample2d_up2": ("1331", {"up": 2, "padding": [2, 1, 2, 1], "gain": 4}),
    "downsample2d_down2": ("1331", {"down": 2, "padding": 1}),
    "filter2d": ("1331", {"padding": [2, 1, 2, 1]}),
    "upfirdn_pad2": ("1331", {"padding": 2}),
    "upfirdn_down2_pad1": ("1331", {"down": 2, "padding": 1}),
    "upfirdn_asym_up2_down3": (
        "asym",
        {"up": 2, "down": 3, "padding": [3, 1, -1, 2], "gain": 1.7},
    ),
    "upfirdn_asym_flip": (
        "asym",
        {"up": [2, 1], "down": [1, 2], "padding": [0, 1, 2, 0], "flip_filter": True},
    ),
    "upfirdn_none_filter_down2": (None, {"down": 2}),
}


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_values_and_gradients(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", LOW, ids=str)
@each_case(OP, low=True)
def test_low_precision(case, dtype, backend):
    checks.check_gradients(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize("dtype", WIDE, ids=str)
@each_case(OP)
def test_second_order(case, dtype, backend):
    checks.check_second_order(OP, case, dtype, backend)


@each_backend(OP)
@pytest.mark.parametrize(
    "options",
    [{"up": 2, "padding": 2}, {"down": [1, 2], "padding": [2, 0, -1, 3], "gain": -1.5}],
    ids=str,
)
def test_gradcheck(options, backend):
    case = Case("check", {"shape": (1, 2, 3, 3), "filter": (3,)}, options)
    checks.check_gradcheck(OP, case, backend)


@each_case(OP)
def test_opcheck(case, soak):
    traced = case.name in ("down2_channels_last",)
    expected = {"fir_resample"}
    checks.check_schema_ops(OP, case, expected, traced, soak)


@each_case(OP, ["up2_gain4", "all_different_cut"])
def test_compiles_into_one_graph(case):
    checks.check_compiled(OP, case)


PAIR = st.one_of(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=2, max_size=2))


@given(
    shape=st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 8), st.integers(1, 8)),
    filter=st.one_of(
        st.none(), st.tuples(st.integers(1, 5)), st.tuples(st.integers(1, 4), st.integers(1, 4))
    ),
    up=PAIR,
    down=PAIR,
    padding=st.one_of(
        st.integers(-1, 3),
        st.lists(st.integers(-1, 3), min_size=2, max_size=2),
        st.lists(st.integers(-2, 4), min_size=4, max_size=4),
    ),
    gain=st.sampled_from([1.0, 4.0, -0.7]),
    flip=st.booleans(),
    layout=st.sampled_from(["contiguous", "cut", "transposed", "channels_last"]),
    backend=checks.CPU_BACKENDS,
)
def test_drawn(shape, filter, up, down, padding, gain, flip, layout, backend):
    taps = filter or (1,)
    factor = [up, up] if isinstance(up, int) else up
    pad = [padding] * 4 if isinstance(padding, int) else padding
    pad = pad if len(pad) == 4 else [pad[0], pad[0], pad[1], pad[1]]
    assume(shape[2] * factor[1] + pad[2] + pad[3] >= taps[0])
    assume(shape[3] * factor[0] + pad[0] + pad[1] >= taps[-1])
    options = {"up": up, "down": down, "padding": padding, "gain": gain, "flip_filter": flip}
    case = Case(
        f"drawn {shape} {taps} {options}",
        {"shape": shape, "filter": taps},
        options,
        () if filter else ("filter",),
        layout,
    )
    checks.check_gradients(OP, case, torch.float64, backend, tolerance=1e-9)
    checks.check_second_order(OP, case, torch.float64, backend, tolerance=1e-9)


@pytest.mark.parametrize("name", GOLDEN_ARGUMENTS)
@each_backend(OP)
def test_original(name, backend, golden_file):
    """Value, gradient and second order in float64, odd image sizes, asymmetric taps."""
    taps, arguments = GOLDEN_ARGUMENTS[name]
    with np.load(golden_file("e_ops_f64")) as file:
        numbers = {
            k.split("/")[-1]: torch.from_numpy(file[k]).to(backend.device)
            for k in file
            if k.startswith(("x", "filter_", f"upfirdn/{name}/"))
        }
    # The taps stay float32, as the original kept them: the gain is rounded with them.
    numbers = {k: v if k.startswith("filter_") else v.double() for k, v in numbers.items()}
    x, dy = numbers["x"].requires_grad_(), numbers["dy"].requires_grad_()
    filter = None if taps is None else numbers[f"filter_{taps}"]
    y = ops.fir_resample(x, filter, **arguments, impl=backend.impl)
    (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
    (ddy,) = torch.autograd.grad((dx * numbers["v"]).sum(), dy)
    errors = {k: relative_error(v, numbers[k]) for k, v in {"y": y, "dx": dx, "ddy": ddy}.items()}
    assert all(e <= 1e-9 for e in errors.values()), errors


def test_every_original_case_is_tried(golden_file):
    with np.load(golden_file("e_ops_f64")) as file:
        assert {k.split("/")[1] for k in file if k.startswith("upfirdn/")} == set(GOLDEN_ARGUMENTS)


# ---------------------------------------------------------------- conventions


@each_backend(OP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_taps_that_are_not_finite(dtype, backend):
    """Refused in CPU memory before any kernel runs, where finite taps of every size pass."""
    x = torch.randn(1, 2, 8, 8, device=backend.device)
    if backend.device == "cpu":
        with pytest.raises(ValueError, match="filter must have finite taps, got nan"):
            ops.fir_resample(x, BAD_TAPS.to(dtype), impl=backend.impl)
    largest = torch.full((1,), torch.finfo(dtype).max, dtype=dtype, device=backend.device)
    out = ops.fir_resample(x.double(), largest.double(), impl=backend.impl)
    assert out.isfinite().all()


def test_taps_are_not_looked_at_by_a_tracer():
    """Fake tensors and mapped ones have no numbers; compiled graphs would break."""
    x, taps = torch.randn(3, 2, 8, 8), torch.randn(3, 4)
    with FakeTensorMode():
        assert ops.fir_resample(torch.empty(1, 2, 8, 8), torch.empty(4)).shape == (1, 2, 5, 5)
    mapped = torch.vmap(lambda image, row: ops.fir_resample(image[None], row, impl="reference")[0])
    one = ops.fir_resample(x[1:2], taps[1], impl="reference")[0]
    assert relative_error(mapped(x, taps)[1], one) < 1e-5
    torch._dynamo.reset()
    compiled = torch.compile(ops.fir_resample, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(x, taps[0]), ops.fir_resample(x, taps[0])) < 1e-6


@each_backend(OP)
def test_more_separable_taps_than_the_table(backend):
    """513 for rows and as many for columns; the table of a block holds 1,024 numbers."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=generator).to(backend.device)
    taps = torch.randn(513, dtype=torch.float64, generator=generator).to(backend.device)
    x.requires_grad_()
    out = ops.fir_resample(x, taps, padding=256, impl=backend.impl)
    # Output and image are alike in size: sample i meets output o through tap 256 + o - i.
    rows, columns = (
        torch.stack([taps[256 + o - torch.arange(n)] for o in range(n)]) for n in (3, 4)
    )
    truth = rows @ x @ columns.T
    grad = torch.randn(out.shape, dtype=torch.float64, generator=generator).to(backend.device)
    assert out.shape == truth.shape
    assert relative_error(out, truth) < 1e-12
    (found,), (expected,) = (torch.autograd.grad(y, x, grad) for y in (out, truth))
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_separable_taps_are_the_outer_product(impl):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, generator=generator)
    taps = torch.randn(4, dtype=torch.float64, generator=generator)
    arguments = {"up": 2, "down": [3, 1], "padding": [1, 2, 3, 0], "gain": 2.5, "impl": impl}
    separable = ops.fir_resample(x, taps, **arguments)
    whole = ops.fir_resample(x, taps[:, None] * taps[None, :], **arguments)
    assert relative_error(separable, whole) < 1e-14


@pytest.mark.parametrize("taps", [(4,), (3, 4), None], ids=str)
def test_layout_is_kept(taps):
    filter = None if taps is None else torch.randn(taps)
    x = torch.randn(2, 8, 6, 6)
    out = ops.fir_resample(x, filter, 2, 1, 2)
    assert out.is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = ops.fir_resample(x, filter, 2, 1, 2)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (dx,) = torch.autograd.grad(out, x, out.detach())
    assert dx.is_contiguous(memory_format=torch.channels_last)


def test_no_gradient_flows_to_the_filter():
    filter = torch.randn(4, requires_grad=True)
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    grads = torch.autograd.grad(ops.fir_resample(x, filter).sum(), (x, filter), allow_unused=True)
    assert grads[0] is not None
    assert grads[1] is None


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "x must be [N, C, H, W], got [3, 8, 8]", {"x": torch.ones(3, 8, 8)}),
        (
            ValueError,
            "filter must be [K] or [Ky, Kx], got [1, 1, 4]",
            {"filter": torch.ones(1, 1, 4)},
        ),
        (ValueError, "filter must be [K] or [Ky, Kx], got []", {"filter": torch.ones(())}),
        (ValueError, "filter must have at least one tap, got [0]", {"filter": torch.ones(0)}),
        (ValueError, "filter must have finite taps, got nan", {"filter": BAD_TAPS}),
        (ValueError, "filter must have finite taps, got -inf", {"filter": -1 / torch.eye(3)}),
        (ValueError, "up must be a positive integer or two [x, y], got 0", {"up": 0}),
        (
            ValueError,
            "up must be a positive integer or two [x, y], got [1, 2, 3]",
            {"up": [1, 2, 3]},
        ),
        (
            ValueError,
            "down must be a positive integer or two [x, y], got [2, -1]",
            {"down": [2, -1]},
        ),
        (
            ValueError,
            "padding must be one, two or four integers, got [1, 2, 3]",
            {"padding": [1, 2, 3]},
        ),
        (
            ValueError,
            "the filter must fit in the padded image, got an output of 5 x 0 from [2, 3, 8, 3]",
            {"x": torch.ones(2, 3, 8, 3)},
        ),
        (
            TypeError,
            "x must be a floating-point tensor, got torch.uint8",
            {"x": torch.ones(1).byte()},
        ),
        (
            TypeError,
            "filter must be a floating-point tensor, got torch.int64",
            {"filter": torch.ones(4).long()},
        ),
        (
            ValueError,
            "filter must be on the device of x (cpu), got meta",
            {"filter": torch.ones(4, device="meta")},
        ),
    ],
)
def test_errors(error, message, arguments, impl):
    given = {"x": torch.randn(2, 3, 8, 8), "filter": torch.randn(4), **arguments}
    checks.check_error(ops.fir_resample, error, message, given, impl)
