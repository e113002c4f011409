"""Random calls of every public op, see `fuzzing.py`; and what they found, each as a plain test."""

from __future__ import annotations

import dataclasses
import functools
import math
import random

import numpy as np
import pytest
import torch

from digan import ops
from tests import chain_cases
from tests.emulation import extra_cases
from tests.emulation.build import emulated
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import Case, generator_of, make_inputs
from tests.ops import fuzz_calls, fuzzing
from tests.ops.fuzz_ops import FUZZED
from tests.ops.test_bad_input import ODD, SIZES

# Of each op in a soak.
CALLS, KERNEL_CALLS, LARGE_CALLS = 10_000, 2000, 300

each_op = pytest.mark.parametrize("op", ALL_OPS.values(), ids=lambda op: op.name)
each_fuzzed = pytest.mark.parametrize("op", FUZZED.values(), ids=lambda op: op.name)


def start(soak: bool, salt: str) -> int:
    """The first seed: one that is always the same, or another in every soak."""
    return random.SystemRandom().randrange(10**9) if soak else sum(map(ord, salt)) * 1000


@each_fuzzed
@pytest.mark.soak
def test_random_calls(op, soak):
    first = start(soak, op.name)
    found = fuzzing.complaints(op, range(first, first + (CALLS if soak else 100)))
    assert found == []


@each_fuzzed
@pytest.mark.soak
def test_random_calls_of_the_kernels(op, soak):
    """The same of the kernels of csrc/, emulated, in another order of threads each soak."""
    first = start(soak, op.name)
    with emulated(seed=first) as controls:
        found = fuzzing.complaints(op, range(first, first + (KERNEL_CALLS if soak else 25)))
        launched = {launch["kernel"].split("<")[0] for launch in controls.launches()}
    assert found == []
    assert any(name.startswith(op.name) for name in launched) or op.name.startswith("coord_mlp")


@pytest.mark.parametrize("name", ["coord_linear", "modulated_linear"])
@pytest.mark.soak
def test_random_calls_of_the_kernels_for_cards_of_9_0(name, soak):
    """They serve large layers alone."""
    large = tuple(c for c in extra_cases.LARGE[name] if c.name.startswith(("large", "out", "dx")))
    op = dataclasses.replace(FUZZED[name], cases=large)
    first = start(soak, name)
    with emulated(seed=first, hopper=True) as controls:
        found = fuzzing.complaints(op, range(first, first + (LARGE_CALLS if soak else 7)))
        assert any("hopper" in launch["kernel"] for launch in controls.launches())
    assert found == []


@pytest.mark.soak
def test_random_questions_about_chains(soak):
    """coord_chain_refusal: an answer of one line, or an argument of another type is named."""
    numbers = (8, 24, 256, 512, 520, 12, 1, 2, 3, 0, -8, True, np.int64(16), 10**30)
    given = {
        "device": (torch.device("cpu"), torch.device("meta"), "cpu", None, 0),
        "dtype": (torch.bfloat16, torch.float16, *fuzzing.DTYPES, torch.int64, "float16", None),
        "wide": (torch.float32, torch.float32, torch.float64, float, None),
        **dict.fromkeys(("channels", "onward", "frequencies"), (*numbers, *fuzz_calls.NO_TENSORS)),
        **dict.fromkeys(("layers", "pictures"), (1, 2, 3, 4, *numbers, 1.0, "1", None)),
    }
    rng = random.Random(start(soak, "questions"))
    answers = []
    with emulated():
        for _ in range(CALLS if soak else 2000):
            asked = {name: values[0] for name, values in given.items()}
            for name in rng.sample(sorted(given), rng.randrange(3)):
                asked[name] = rng.choice(given[name])
            if not _has_types(asked):
                with pytest.raises(TypeError) as raised:
                    ops.coord_chain_refusal(**asked)
                assert fuzzing.complaint_of(raised.value, ops.coord_chain_refusal) == ""
                continue
            answers.append(ops.coord_chain_refusal(**asked))
            assert "\n" not in answers[-1]
            assert (answers[-1] == "") == _is_served(asked), asked
    assert 0.1 < answers.count("") / len(answers) < 0.9


def _has_types(asked):
    counts = ("channels", "onward", "frequencies", "layers", "pictures")
    return (isinstance(asked["device"], torch.device)
            and all(isinstance(asked[name], torch.dtype) for name in ("dtype", "wide"))
            and all(isinstance(asked[name], int | np.integer) for name in counts))  # fmt: skip


def _is_served(asked):
    """As the page of the op has it."""
    eights = range(8, 513, 8)
    return (asked["device"].type == "cpu"
            and asked["dtype"] in (torch.bfloat16, torch.float16)
            and asked["wide"] == torch.float32
            and asked["channels"] in eights and (asked["onward"] in eights or asked["onward"] == 0)
            and asked["frequencies"] in range(8, 129, 8)
            and asked["layers"] in range(1, 9) and asked["pictures"] in range(1, 5))  # fmt: skip


def test_everything_public_is_called():
    """A new op belongs into fuzz_ops.py."""
    called = {op.name for op in FUZZED.values()}
    called |= {f"{name}_reference" for name in called}  # by impl="reference", and as the truth
    called |= {"CoordMLP", "CoordNetworks", "coord_chain_refusal"}  # the networks, and above
    about_the_process = {"Impl", "OpUnavailableError", "default_impl", "status", "unavailable"}
    assert set(ops.__all__) <= called | about_the_process


# ---------------------------------------------------------------- what the calls would find


def broken(op, change):
    """The op with a fault that its formula has not."""

    @functools.wraps(op.function)
    def function(*args, **kwargs):
        if kwargs.get("impl") == "reference":
            return op.function(*args, **kwargs)
        return change(op.function, *args, **kwargs)

    return dataclasses.replace(op, function=function)


def _wrong_numbers(function, **kwargs):
    return function(**kwargs) * (1 + 1e-4)


def _wrong_shape(function, **kwargs):
    return function(**kwargs)[None]


def _assertion(function, **kwargs):
    assert kwargs.get("clamp") != 1.1
    return function(**kwargs)


def _many_lines(function, **kwargs):
    try:
        return function(**kwargs)
    except TypeError as error:
        raise TypeError(f"{error}\nsee there") from None


def _writes(function, **kwargs):
    out = function(**kwargs)
    kwargs["x"].detach().mul_(2)
    return out


def _refuses_strides(function, **kwargs):
    out = function(**kwargs)
    if not kwargs["x"].is_contiguous():
        raise ValueError("x must be contiguous, got strides")
    return out


def _loses_what_is_no_number(function, **kwargs):
    return function(**kwargs).nan_to_num()


def _shares(function, **kwargs):
    out = function(**kwargs)
    return kwargs["x"] if torch.equal(out, kwargs["x"]) else out


def _wrong_slope_in_16_bits(function, **kwargs):
    out = function(**kwargs)
    return out + 0.1 * (out - out.detach()) if out.dtype == torch.bfloat16 else out


def _wrong_beside_large_numbers(function, **kwargs):
    out = function(**kwargs)
    large = (kwargs["x"].abs() > 1e20).any()
    return torch.where((out.abs() < 10) & large, 1.1 * out, out)


def _wrong_gains(function, **kwargs):
    out = function(**kwargs)
    return 1.1 * out if kwargs.get("gain") in (-1.5, 0.3, 2.5) else out


def _wrong_picture(function, **kwargs):
    picture, following = function(**kwargs)
    return 1.1 * picture, following


def _nothing_onward(function, **kwargs):
    picture, following = function(**kwargs)
    return picture, None if following is None else following * (following.abs() < 2)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("bias_act", change) for change in (
            _wrong_numbers, _wrong_shape, _assertion, _many_lines, _writes, _refuses_strides,
            _loses_what_is_no_number, _wrong_beside_large_numbers)),
        *(("modulated_linear", change) for change in (
            _wrong_numbers, _wrong_slope_in_16_bits, _wrong_beside_large_numbers, _wrong_gains)),
        ("fir_resample", _shares),
        ("coord_chain", _wrong_picture),
        ("coord_chain", _nothing_onward),
    ],
)  # fmt: skip
def test_faults_are_found(name, change):
    op = broken(FUZZED[name], change)
    assert any(fuzzing.check(fuzz_calls.draw(op, seed)) for seed in range(400))


# ---------------------------------------------------------------- what was found


def plain(op):
    """A call with every input, in float32."""
    sizes = {"frames_to_uint8": {"shape": (2, 3)}, **ODD}.get(op.name, SIZES)
    return make_inputs(op, Case("plain", sizes), generator_of("fuzz plain"), torch.float32)


@each_op
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_what_is_no_dense_tensor_is_refused(op, impl):
    inputs = plain(op)
    for name, tensor in inputs.items():
        refused = {
            "a tensor, got 'x'": "x",
            "a tensor, got 1.5": 1.5,
            "a tensor, got a ndarray": np.ones(3),
            "a dense tensor, got torch.sparse_coo": tensor.to_sparse(),
            "float64, float32, bfloat16 or float16, got torch.float8_e4m3fn":
                tensor.to(torch.float8_e4m3fn),
        }  # fmt: skip
        if name not in ("bias", "filter", "skip"):
            refused["a tensor, got None"] = None
        for rule, value in refused.items():
            with pytest.raises(TypeError) as raised:
                op.function(**{**inputs, name: value}, impl=impl)
            assert str(raised.value) == f"{name} must be {rule}"


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_chains_refuse_by_name(impl):
    case = next(c for c in chain_cases.CASES if c.name == "skip_clamp")
    inputs = chain_cases.make_chain(case, torch.bfloat16)
    refused = {
        "rgb_layers": [None, "1", [1.5], 1, [[0]]],
        "alpha": ["1", math.nan, 1j, 10**400],
        "clamp": ["1", math.nan, -1, torch.ones(2)],
    }
    for name, tensor in inputs.items():
        refused[name] = ["x", 1.5, np.ones(2), tensor.to_sparse(), tensor.long(), tensor[None],
                         tensor.to("meta"), tensor.to(torch.float8_e4m3fn)]  # fmt: skip
        if name not in ("skip", "image", "onward"):
            refused[name].append(None)
    for name, values in refused.items():
        for value in values:
            with pytest.raises((TypeError, ValueError)) as raised:
                ops.coord_chain(**{**inputs, **case.options, name: value}, impl=impl)
            said = str(raised.value)
            assert name in said or (name == "freq" and "on the device of freq" in said), said
            assert "\n" not in said
    assert ops.coord_chain(**inputs, **case.options, impl=impl)[0].isfinite().all()


LINEAR = ("bias_act", "modulated_linear", "coord_linear")
REFUSED = [
    *((name, TypeError, {"gain": None}, "gain must be a number, got None") for name in LINEAR),
    *((name, TypeError, {"alpha": "1"}, "alpha must be a number, got '1'") for name in LINEAR),
    *((name, TypeError, {"clamp": torch.ones(2)}, "clamp must be a number, got a Tensor")
      for name in LINEAR),
    *((name, ValueError, {"gain": math.nan},
       "gain must be finite and in float32's range, got nan") for name in LINEAR),
    *((name, ValueError, {"alpha": 1e300},
       "alpha must be finite and in float32's range, got 1e+300") for name in LINEAR),
    *((name, ValueError, {"clamp": 10**400},
       "clamp must be finite and in float32's range, got an integer beyond 64 bits")
      for name in LINEAR),
    *((name, ValueError, {"clamp": math.nan}, "clamp must be positive or None, got nan")
      for name in LINEAR),
    ("bias_act", TypeError, {"dim": 1.5}, "dim must be an integer, got 1.5"),
    ("bias_act", ValueError, {"activation": ["relu"]}, "activation must be one of linear, relu"),
    ("coord_linear", TypeError, {"tf32": "yes"}, "tf32 must be True or False, got 'yes'"),
    ("modulated_linear", TypeError, {"tf32": 1}, "tf32 must be True or False, got 1"),
    ("factorized_modulation", TypeError, {"demodulate": None},
     "demodulate must be True or False, got None"),
    *((name, TypeError, {"dtype": "float32"},
       "dtype must be a torch.dtype or None, got 'float32'")
      for name in ("fourier_features", "fourier_features_at")),
    ("fourier_features", TypeError, {"dtype": torch.float8_e5m2},
     "dtype must be float64, float32, bfloat16 or float16, got torch.float8_e5m2"),
    ("fir_resample", TypeError, {"flip_filter": 1}, "flip_filter must be True or False, got 1"),
    ("fir_resample", ValueError, {"gain": math.inf}, "gain must be finite and in float32's range"),
    ("fir_resample", TypeError, {"up": None},
     "up must be a positive integer or two [x, y], got None"),
    ("fir_resample", TypeError, {"down": [1.5, 1]},
     "down must be a positive integer or two [x, y], got [1.5, 1]"),
    ("fir_resample", ValueError, {"up": 2**63}, "up must be at most 1048576, got 9223372036854775"),
    ("fir_resample", ValueError, {"padding": [10**30, 0]},
     "padding must be -1073741824 to 1073741824, got [an integer beyond 64 bits, 0]"),
    ("fir_resample", TypeError, {"padding": "1"},
     "padding must be one, two or four integers, got '1'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "error", "options", "said"), REFUSED)
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_options_are_refused_by_name(name, error, options, said, impl):
    op = ALL_OPS[name]
    with pytest.raises(error) as raised:
        op.function(**plain(op), **options, impl=impl)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_taps_must_be_finite_in_the_type_of_the_images():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float16)
    taps = torch.tensor([1.0, 1e5])
    with pytest.raises(ValueError, match=r"^filter must have finite taps in torch.float16, got 1"):
        ops.fir_resample(x, taps)
    assert ops.fir_resample(x.float(), taps).isfinite().all()


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_a_clamp_beyond_the_dtype_cuts_nothing(impl):
    """PyTorch's clamp refuses 70,000 for float16."""
    x = torch.randn(4, 8, dtype=torch.float16, requires_grad=True)
    expected = ops.bias_act(x, activation="gelu", impl=impl)
    for clamp in (7e4, 3e38, math.inf, np.float32(7e4)):
        found = ops.bias_act(x, activation="gelu", clamp=clamp, impl=impl)
        assert torch.equal(found, expected)
        dx, expected_dx = (torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
                           for y in (found, expected))  # fmt: skip
        assert torch.allclose(dx, expected_dx, rtol=2e-3)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_no_gradient_where_the_clamp_cuts_however_steep(impl):
    """Gain times slope is infinite in float16, and zero times that was NaN."""
    x = torch.full((4, 8), 2.0, dtype=torch.float16, requires_grad=True)
    y = ops.bias_act(x, activation="selu", gain=65504.0, clamp=1.1, impl=impl)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.zeros_like(dx))


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_a_slope_that_the_dtype_cannot_hold(impl):
    x = torch.randn(4, 8).abs().half().requires_grad_()
    y = ops.bias_act(x, activation="lrelu", alpha=7e4, gain=-1.5, impl=impl)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.full_like(dx, -1.5))


@pytest.mark.parametrize("bias_dtype", fuzzing.DTYPES)
@pytest.mark.parametrize("dtype", fuzzing.DTYPES)
def test_a_bias_of_any_dtype(dtype, bias_dtype):
    """oneDNN knows no float16 bias of a bfloat16 product."""
    generator = generator_of(f"bias {dtype} {bias_dtype}")
    x, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64)
                       for s in ((2, 9, 16), (2, 8, 16), (8,)))  # fmt: skip
    given = x.to(dtype), weight.to(dtype), bias.to(bias_dtype)
    found = ops.modulated_linear(*given)
    truth = ops.modulated_linear(*(t.double() for t in given), impl="reference")
    assert found.dtype == dtype
    error = (found.double() - truth).norm() / truth.norm()
    assert error < {torch.bfloat16: 1e-2, torch.float16: 2e-3}.get(dtype, 1e-2), error


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("name", ["phase", "weight"])
def test_a_grid_without_frames_has_gradients(name, impl):
    """Zeros, and not the error that nothing requires one."""
    op = ALL_OPS["coord_linear"]
    inputs = make_inputs(op, Case("empty", {**SIZES, "T": 0}), generator_of("no frames"))
    inputs[name].requires_grad_()
    (found,) = torch.autograd.grad(op.function(**inputs, impl=impl).sum(), inputs[name])
    assert torch.equal(found, torch.zeros_like(inputs[name]))


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_layers_without_rows_have_gradients(impl):
    """Of x alone, which no product touches, and of a chain's first inputs."""
    x = torch.randn(2, 0, 3, 4, requires_grad=True)
    out = ops.modulated_linear(x, torch.randn(2, 5, 4), impl=impl)
    (found,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(found, torch.zeros_like(x))
    case = next(c for c in chain_cases.CASES if c.name == "no_rows")
    inputs = chain_cases.make_chain(case, torch.bfloat16)
    inputs["phase"].requires_grad_()
    picture, _ = ops.coord_chain(**inputs, **case.options, impl=impl)
    (found,) = torch.autograd.grad(picture.sum(), inputs["phase"])
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_gradients_of_large_rows(impl):
    """The third power of a row's norm is beyond float32."""
    op = ALL_OPS["factorized_modulation"]
    inputs = plain(op)
    inputs["weight"][2] *= 1e15
    leaves = {n: t.requires_grad_() for n, t in inputs.items()}
    out = op.function(**leaves, impl=impl)
    dy = torch.randn(out.shape, generator=generator_of("large rows"))
    found = torch.autograd.grad(out, list(leaves.values()), dy)
    exact = {n: t.detach().double().requires_grad_() for n, t in leaves.items()}
    truth = torch.autograd.grad(op.function(**exact), list(exact.values()), dy.double())
    for ours, right in zip(found, truth, strict=True):
        assert (ours.double() - right).norm() / right.norm() < 1e-4
