"""What no op computes, and what every op does: one line for the one, right numbers for the other.

The files of the ops try each argument's own rules; here are the rules that all ops share, and
the native kernels' own complaints, which a caller of the schema ops sees.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.emulation.build import emulated
from tests.op_cases import OPS, Case, Inputs, Op, generator_of, make_inputs
from tests.ops import checks

NATIVE = [op for op in OPS.values() if (checks.CSRC / f"{op.name}.cu").is_file()]
each_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
each_impl = pytest.mark.parametrize("impl", ["auto", "reference"])
SIZES = {"B": 2, "T": 3, "H": 4, "W": 6, "N": 5, "F": 8, "d": 2, "I": 6, "O": 7, "R": 3}
ODD = {"bias_act": {"shape": (2, 6, 4, 5)}, "modulated_linear": {**SIZES, "rows": (4, 5)},
       "fir_resample": {"shape": (2, 3, 9, 8), "filter": (4,)}}  # fmt: skip


def plain(op: Op, device: str = "cpu") -> tuple[Case, Inputs]:
    """A call with every input."""
    case = Case("plain", ODD.get(op.name, SIZES))
    return case, make_inputs(op, case, generator_of(f"bad {op.name}"), torch.float32, device)


def refused(op: Op, case: Case, inputs: Inputs, impl: str, error: type[Exception]) -> str:
    """The message of a refusal, which is one line."""
    with pytest.raises(error) as raised:
        checks.call(op, case, inputs, impl)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- rules that all ops share


@each_op
@each_impl
def test_every_input_must_be_on_one_device(op, impl):
    case, inputs = plain(op)
    first, *others = inputs
    for name in others:
        said = refused(op, case, {**inputs, name: inputs[name].to("meta")}, impl, ValueError)
        assert said == f"{name} must be on the device of {first} (cpu), got meta"


@each_op
@each_impl
def test_every_input_must_be_floating_point(op, impl):
    case, inputs = plain(op)
    for name, value in inputs.items():
        for dtype in (torch.int32, torch.bool, torch.complex64):
            said = refused(op, case, {**inputs, name: value.to(dtype)}, impl, TypeError)
            assert said == f"{name} must be a floating-point tensor, got {dtype}"


@each_op
@each_impl
def test_every_input_has_a_rank(op, impl):
    """One axis more than it may have."""
    case, inputs = plain(op)
    for name, value in inputs.items():
        if (op.name, name) in {("bias_act", "x"), ("modulated_linear", "x"),
                               ("fir_resample", "filter")}:  # fmt: skip
            continue  # any rank, or two
        said = refused(op, case, {**inputs, name: value[None]}, impl, ValueError)
        assert said.startswith(f"{name} must be [")
        assert said.endswith(f"got {[1, *value.shape]}")


@each_op
@each_impl
def test_every_batch_is_the_same(op, impl):
    """One video more in any input but the first that has videos, or one less in that."""
    case, inputs = plain(op)
    videos = [n for n, t in inputs.items() if t.dim() > 1 and op.shapes(case.sizes)[n][0] == 2]
    videos = videos if op.name not in ("bias_act", "fir_resample") else []
    for name in videos:
        longer = torch.cat([inputs[name], inputs[name][:1]])
        said = refused(op, case, {**inputs, name: longer}, impl, ValueError)
        if name != videos[0]:
            assert said.startswith(f"{name} must be [B, ")
            assert "B = 2" in said
            assert said.endswith(f"got {list(longer.shape)}")


# ---------------------------------------------------------------- memory that overlaps


def overlapping(tensor: Tensor) -> list[Tensor]:
    """Views whose elements share memory: one repeated along an axis, and sliding windows."""
    first = tensor.narrow(0, 0, 1).expand(tensor.shape)
    memory = tensor.flatten()
    windows = memory.as_strided(tensor.shape, [1] * tensor.dim())
    return [first, windows]


@checks.each_backend(*OPS.values())
def test_overlapping_inputs(op, backend):
    """An op reads them as any other and writes into none; so do its gradients."""
    case, inputs = plain(op, backend.device)
    for name in inputs:
        for view in overlapping(inputs[name]):
            given = {**inputs, name: view}
            copies = {n: t.contiguous().clone() for n, t in given.items()}
            out = checks.call(op, case, given, backend.impl)
            assert out.untyped_storage().data_ptr() not in {
                t.untyped_storage().data_ptr() for t in given.values()
            }
            dy = torch.randn(out.shape, generator=generator_of("dy"))
            found = checks.gradients(
                lambda i: checks.call(op, case, i, backend.impl), op, given, dy
            )
            truth = checks.gradients(
                lambda i: checks.call(op, case, i, "reference"), op, copies, dy
            )
            assert checks.complaints(found, truth, torch.float32) == [], name
            assert all(torch.equal(given[n], copies[n]) for n in given), name


@checks.each_backend(*OPS.values())
def test_overlapping_cotangents(op, backend):
    """As a sum over the output has them: one number, repeated."""
    case, inputs = plain(op, backend.device)

    def function(leaves: Inputs) -> Tensor:
        return checks.call(op, case, leaves, backend.impl)

    shape = checks.call(op, case, inputs, "reference").shape
    one = torch.full((), 0.7, device=backend.device)
    row = torch.randn(shape[-1], generator=generator_of("row")).to(backend.device)
    for overlapped in (one.expand(shape), row.expand(shape)):
        found = checks.gradients(function, op, inputs, overlapped)
        truth = checks.gradients(function, op, inputs, overlapped.contiguous())
        assert checks.complaints(found, truth, torch.float32) == []


# ---------------------------------------------------------------- the kernels' own words


def kernel_calls(op: Op) -> dict[str, object]:
    """A schema call that the kernels serve, by argument."""
    _, inputs = plain(op)
    if op.name == "modulated_linear":
        inputs["x"] = inputs["x"].flatten(1, -2)
    layer = {"activation": "lrelu", "alpha": 0.2, "gain": 1.0, "clamp": None,
             "keep_pre_activation": False, "tf32": False}  # fmt: skip
    more = {
        "bias_act": {"activation": "lrelu", "alpha": 0.2, "gain": 1.0, "clamp": None, "dim": 1},
        "factorized_modulation": {"demodulate": True},
        "fir_resample": {"up": [1, 1], "down": [1, 1], "padding": [2, 1, 2, 1],
                         "flip_filter": False, "gain": 1.0},
        "coord_linear": layer,
        "modulated_linear": layer,
    }.get(op.name, {"dtype": torch.float32})  # fmt: skip
    return {**inputs, **more}


REFUSED = [
    ("bias_act", {"activation": "mish"}, "activation must be a name of digan.ops, got 'mish'"),
    ("bias_act", {"clamp": -1.0}, "clamp must be positive or None, got -1"),
    ("bias_act", {"dim": 4}, "dim must be an axis of x, which has 4, got 4"),
    ("bias_act", {"bias": torch.ones(5)}, "bias must be [6], got [5]"),
    ("bias_act", {"x": torch.ones(2, 6).int()}, "x must be float64, float32, bfloat16 or"),
    ("fir_resample", {"x": torch.ones(3, 8, 8)}, "x must have 4 axes, got [3, 8, 8]"),
    ("fir_resample", {"filter": torch.ones(1, 1, 4)},
     "filter must be [K] or [Ky, Kx], got [1, 1, 4]"),
    ("fir_resample", {"filter": torch.ones(0)}, "filter must have 1 to"),
    ("fir_resample", {"filter": torch.ones(4).long()}, "filter must be float64, float32,"),
    ("fir_resample", {"up": [0, 1]}, "up must be 1 to 1048576, got [0, 1]"),
    ("fir_resample", {"down": [1]}, "down must be [x, y], got [1]"),
    ("fir_resample", {"padding": [1, 1]}, "padding must be [x0, x1, y0, y1], got [1, 1]"),
    ("fir_resample", {"padding": [-9, 0, 0, 0]}, "the filter must fit in the padded image"),
    ("factorized_modulation", {"left": torch.ones(3, 7, 3)},
     "right must be [3, 3, 6], got [2, 3, 6]"),
    ("factorized_modulation", {"right": torch.ones(3, 3, 6)},
     "right must be [2, 3, 6], got [3, 3, 6]"),
    ("factorized_modulation", {"weight": torch.ones(7, 6).double()}, "left must be Double"),
    ("factorized_modulation", {"weight": torch.ones(7)}, "weight must have 2 axes, got [7]"),
    ("fourier_features", {"phase": torch.ones(3, 3, 8)},
     "phase must be [2, 3, 8], got [3, 3, 8]"),
    ("fourier_features", {"freq": torch.ones(2, 8, 3)}, "freq must be [2, 8, 2], got"),
    ("fourier_features", {"y": torch.ones(4, 1)}, "y must have 1 axes, got [4, 1]"),
    ("fourier_features", {"x": torch.ones(6).double()}, "x must be Float, got Double"),
    ("fourier_features_at", {"coords": torch.ones(3, 5, 2)},
     "coords must be [2, 5, 2], got [3, 5, 2]"),
    ("fourier_features_at", {"freq": torch.ones(2, 8, 5)}, "freq must be [B, F, d] with d of"),
    ("modulated_linear", {"activation": "mish"}, "activation must be a name of digan.ops, got"),
    ("modulated_linear", {"clamp": 0.0}, "clamp must be positive or None, got 0"),
    ("modulated_linear", {"x": torch.ones(2, 6)}, "x must have 3 axes, got [2, 6]"),
    ("modulated_linear", {"weight": torch.ones(2, 7, 5)},
     "weight must be [2, 7, 6], got [2, 7, 5]"),
    ("modulated_linear", {"weight": torch.ones(2, 7, 6).double()}, "weight must be Float, got"),
    ("modulated_linear", {"bias": torch.ones(6)}, "bias must be [7], got [6]"),
    ("coord_linear", {"activation": "mish"}, "activation must be a name of digan.ops, got"),
    ("coord_linear", {"phase": torch.ones(3, 3, 8)}, "phase must be [2, 3, 8], got [3, 3, 8]"),
    ("coord_linear", {"weight": torch.ones(2, 7, 15)},
     "weight must be [2, 7, 16], got [2, 7, 15]"),
    ("coord_linear", {"weight": torch.ones(2, 7, 16).int()}, "weight must be float64, float32,"),
    ("coord_linear", {"freq": torch.ones(2, 8, 2).half()},
     "coord_linear: freq must be float64 or float32, got Half"),
    ("coord_linear", {"bias": torch.ones(6)}, "bias must be [7], got [6]"),
    ("coord_linear", {"skip": torch.ones(2, 3, 2, 3, 6)},
     "skip must be [2, 3, 2, 3, 7], got [2, 3, 2, 3, 6]"),
    ("coord_linear", {"y": torch.ones(3)}, "a grid with skip must have even sides, got 3 x 6"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changed", "said"), REFUSED)
def test_kernels_refuse_in_one_line(name, changed, said):
    """Name, rule, and what came; before anything is launched."""
    arguments = kernel_calls(OPS[name])
    assert changed.keys() <= arguments.keys()
    op = getattr(torch.ops.digan, name)
    with emulated() as controls:
        op(*arguments.values())
        controls.clear_launches()
        with pytest.raises(RuntimeError) as raised:
            op(*{**arguments, **changed}.values())
        assert controls.launches() == []
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(said), raised.value
    assert ", got " in str(raised.value)


def test_every_native_op_refuses():
    """None was forgotten above."""
    assert {name for name, _, _ in REFUSED} == {op.name for op in NATIVE}
