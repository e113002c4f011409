"""Random calls of the public ops, most of them a little wrong, and what a call may do.

A call starts as a case of `tests.op_cases` with fresh numbers. A few changes are drawn: of dtypes,
shapes, strides, values, aliases, devices, Python types, options. Then the op must do as its
formula does on plain copies, or refuse in one line that names an argument; and it must refuse what
the table of shapes here does not allow. All of a call follows from its seed.
"""

from __future__ import annotations

import inspect
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan import ops
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import LOW, Case, Op, generator_of, laid_out, make_inputs
from tests.ops import checks

# One letter an axis; a letter is one size in all inputs, `*` any axes, a digit itself.
PATTERNS = {
    "factorized_modulation": {"weight": "OI", "left": "BOR", "right": "BRI"},
    "fourier_features": {"freq": "BF2", "phase": "BTF", "y": "H", "x": "W"},
    "fourier_features_at": {"freq": "BFd", "phase": "BF", "coords": "BNd"},
    "modulated_linear": {"x": "B*I", "weight": "BOI", "bias": "O"},
    "coord_linear": {"freq": "BF2", "phase": "BTF", "y": "H", "x": "W", "weight": "BOE",
                     "bias": "O", "skip": "BThwO"},
    "frames_to_uint8": {"frames": "*"},
    "fir_resample": {"x": "NCHW"},
    "bias_act": {"x": "*"},
}  # fmt: skip
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
OTHER_DTYPES = (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn)
NO_TENSORS = (None, 1.5, "x", [[1.0]], np.ones((2, 3)), object())
VALUES = (math.nan, math.inf, -math.inf, 1e30, -1e38, 1e-42, 0.0)
NUMBERS = (0.0, 1, -1.5, 1e-300, 1e300, math.inf, -math.inf, math.nan, True, 10**400, "1", None,
           [1.0], 1j, 65504.0, 7e4, 3.4e38, 3.5e38, np.float32(0.5), torch.ones(2))  # fmt: skip
INTEGERS = (0, 1, -1, 2, 3, -4, 7, 2**31, 2**63, -(2**63), 10**30, 1.5, "1", None, [], [1], [1, 2],
            [1, 2, 3], [1, 0, 2, 1], [2**40, 0], (1.0, 2.0), True)  # fmt: skip
OPTIONS: dict[str, tuple[Any, ...]] = {
    "activation": (*checks.ACTIVATIONS, "", "Relu", "mish", None, 5, ["relu"], b"relu"),
    "alpha": NUMBERS,
    "gain": NUMBERS,
    "clamp": NUMBERS,
    "dim": INTEGERS,
    "up": INTEGERS,
    "down": INTEGERS,
    "padding": INTEGERS,
    "dtype": (*DTYPES, *OTHER_DTYPES, "float32", float, None),
    "demodulate": (True, False, None, 0, "no", 2),
    "flip_filter": (True, False, None, 1, "yes"),
    "tf32": (True, False, None, 1, "yes"),
    "impl": (None, "auto", "reference", "fused", "cuda", "", 1, ["auto"]),
}
ANGLES = ("fourier_features", "fourier_features_at", "coord_linear")
_ERRORS = (ValueError, TypeError, RuntimeError, ops.OpUnavailableError)


@dataclass
class Call:
    """A call as it is put together."""

    op: Op
    seed: int
    inputs: dict[str, Any]
    options: dict[str, Any]
    dtype: torch.dtype
    tame: bool = True  # numbers of the size that they have in life
    changes: list[str] = field(default_factory=list)
    wants: set[str] = field(default_factory=set)  # inputs that require a gradient

    def __str__(self) -> str:
        shapes = {n: list(t.shape) if isinstance(t, Tensor) else t for n, t in self.inputs.items()}
        return (f"{self.op.name}, seed {self.seed}: {self.changes}, {shapes}, {self.options}, "
                f"{self.dtype}, gradients of {sorted(self.wants)}")  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        return {n: t for n, t in self.inputs.items() if isinstance(t, Tensor)}


def _is_plain(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in DTYPES and tensor.layout == torch.strided


def _change_dtype(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    if tensor.layout == torch.strided and not tensor.is_complex():
        call.inputs[name] = tensor.to(rng.choice(DTYPES + OTHER_DTYPES))


def _change_device(call: Call, rng: random.Random) -> None:
    everything = rng.random() < 0.5
    name = rng.choice(list(call.tensors()))
    for other, tensor in call.tensors().items():
        if everything or other == name:
            call.inputs[other] = tensor.to("meta")


def _change_shape(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    shape = list(tensor.shape)
    axis = rng.randrange(len(shape) + 1)
    how = rng.randrange(5)
    if how == 0:
        shape.insert(axis, rng.choice([0, 1, 2]))
    elif shape:
        axis = min(axis, len(shape) - 1)
        if how == 1:
            del shape[axis]
        else:
            shape[axis] = rng.choice([0, 1, shape[axis] + 1, abs(shape[axis] - 1)])
    values = torch.randn(shape, generator=generator_of(f"shape {call.seed}"), dtype=torch.float64)
    call.inputs[name] = values.to(tensor.dtype)


def _change_layout(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    how = rng.choice(["cut", "part", "transposed", "shifted", "channels_last", "expanded", "same"])
    if not _is_plain(tensor):
        return
    if how == "expanded" and tensor.numel() and tensor.dim():
        axis = rng.randrange(tensor.dim())
        call.inputs[name] = tensor.narrow(axis, 0, 1).expand(tensor.shape)
    elif how == "same" and tensor.numel():  # one number for all
        call.inputs[name] = tensor.flatten()[0].expand(tensor.shape)
    else:
        call.inputs[name] = laid_out(tensor, how)


def _change_values(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    if tensor.numel() == 0 or not _is_plain(tensor):
        return
    tensor = tensor.contiguous().clone()
    for _ in range(rng.randrange(1, 4)):
        tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice(VALUES)
    call.inputs[name] = tensor
    call.tame = False


def _change_alias(call: Call, rng: random.Random) -> None:
    """One input is another, or a view of its memory."""
    tensors = call.tensors()
    first, second = rng.choice(list(tensors)), rng.choice(list(tensors))
    source, target = tensors[first], tensors[second]
    if not (_is_plain(source) and _is_plain(target)):
        return
    if source.shape == target.shape and rng.random() < 0.5:
        call.inputs[second] = source
    elif source.is_contiguous() and source.numel() >= target.numel() > 0:
        call.inputs[second] = source.view(-1)[: target.numel()].view(target.shape)


def _change_type(call: Call, rng: random.Random) -> None:
    name = rng.choice(list(call.inputs))
    tensor = call.inputs[name]
    if isinstance(tensor, Tensor) and tensor.dtype in DTYPES and rng.random() < 0.4:
        if _is_plain(tensor) and rng.random() < 0.5:
            call.inputs[name] = tensor.to_sparse()
        else:
            call.inputs[name] = torch.nn.Parameter(tensor)
    else:
        call.inputs[name] = rng.choice(NO_TENSORS)


def _change_option(call: Call, rng: random.Random) -> None:
    names = set(inspect.signature(call.op.function).parameters) & set(OPTIONS)
    name = rng.choice(sorted(names))
    call.options[name] = rng.choice(OPTIONS[name])
    call.tame = call.tame and name not in ("alpha", "gain", "clamp")


CHANGES: tuple[Callable[[Call, random.Random], None], ...] = (
    _change_dtype, _change_device, _change_shape, _change_layout, _change_layout, _change_values,
    _change_alias, _change_type, _change_option, _change_option, _change_option,
)  # fmt: skip


def draw(op: Op, seed: int) -> Call:
    """The call of a seed."""
    rng = random.Random(f"{op.name} {seed}")
    small = [c for c in op.cases if _numbers(op, c) <= 3000]
    case = rng.choice(small)
    dtype = rng.choice([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16])
    if not op.takes(case, dtype):
        dtype = torch.float64
    inputs = make_inputs(op, case, generator_of(f"fuzz {op.name} {seed}"), dtype)
    call = Call(op, seed, dict(inputs), dict(case.options), dtype)
    if op.has_dtype:
        call.options["dtype"] = dtype
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        if call.tensors():
            change = rng.choice(CHANGES)
            change(call, rng)
            call.changes.append(change.__name__.removeprefix("_change_"))
    call.wants = {n for n in call.inputs if n not in op.constant and rng.random() < 0.6}
    return call


def _numbers(op: Op, case: Case) -> int:
    return sum(math.prod(shape) for shape in op.shapes(case.sizes).values())


# ---------------------------------------------------------------- what it must do


def fits(call: Call) -> bool:
    """Whether the shapes are allowed by the table."""
    sizes: dict[str, int] = {}
    for name, pattern in PATTERNS[call.op.name].items():
        tensor = call.inputs.get(name)
        if not isinstance(tensor, Tensor):
            continue
        before, star, behind = pattern.partition("*")
        shape = tuple(tensor.shape)
        if len(shape) < len(before + behind) or (not star and len(shape) != len(pattern)):
            return False
        ends = shape[len(shape) - len(behind) :] if behind else ()
        for letter, size in zip(before + behind, (*shape[: len(before)], *ends), strict=True):
            wanted = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
            if size != wanted:
                return False
    if call.op.name == "bias_act" and isinstance(call.inputs["bias"], Tensor):
        x, bias = call.inputs["x"], call.inputs["bias"]
        return tuple(bias.shape) == (x.shape[call.options.get("dim", 1)],)
    if sizes.get("h", 0) * 2 != sizes.get("H", 0) and "h" in sizes:
        return False
    if sizes.get("w", 0) * 2 != sizes.get("W", 0) and "w" in sizes:
        return False
    return sizes.get("E", 0) == 2 * sizes.get("F", 0) if "E" in sizes else sizes.get("R", 1) > 0


@dataclass
class Outcome:
    """What came of a call: an error, or the output and the gradients."""

    error: Exception | None = None
    out: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)


def run(call: Call, plain: bool = False, exact: bool = False, impl: Any = "asked") -> Outcome:
    """The call, or the formula's on plain copies, or that in float64."""
    leaves: dict[int, Any] = {}
    given: dict[str, Any] = {}
    for name, value in call.inputs.items():
        if isinstance(value, Tensor) and id(value) not in leaves:
            leaf = value.detach()
            leaf = leaf.contiguous().clone() if plain and leaf.layout == torch.strided else leaf
            leaf = leaf.double() if exact else leaf
            wanted = any(n in call.wants for n, t in call.inputs.items() if t is value)
            if wanted and (leaf.is_floating_point() or leaf.is_complex()):
                leaf.requires_grad_()
            leaves[id(value)] = leaf
        given[name] = leaves.get(id(value), value)
    options = dict(call.options)
    if exact and "dtype" in options:
        options["dtype"] = torch.float64
    if impl != "asked":
        options["impl"] = impl
    try:
        out = call.op.function(**given, **options)
        outcome = Outcome(out=out)
        wanted = {n: given[n] for n in sorted(call.wants) if isinstance(given[n], Tensor)}
        wanted = {n: t for n, t in wanted.items() if t.requires_grad}
        if out.requires_grad and wanted:
            cotangent = _cotangent(call, out)
            found = torch.autograd.grad(out, list(wanted.values()), cotangent, allow_unused=True)
            outcome.gradients = {
                n: torch.zeros_like(t) if g is None else g
                for (n, t), g in zip(wanted.items(), found, strict=True)
            }
        return outcome
    except Exception as error:
        return Outcome(error=error)


def _cotangent(call: Call, out: Tensor) -> Tensor:
    """Random, zero close to kinks; on meta tensors without numbers."""
    if out.device.type != "cpu":
        return torch.empty_like(out)
    options = {k: v for k, v in call.options.items() if k not in ("impl", "tf32", "dtype")}
    options |= {"dim": int(options["dim"])} if "dim" in options else {}
    if call.tame:
        inputs = {n: call.inputs[n] for n in call.inputs}
        case = Case(f"fuzz {call.seed}", {}, options)
        return checks.draw_cotangent(call.op, case, inputs, call.dtype).to(out)
    values = torch.randn(out.shape, generator=generator_of(f"dy {call.seed}"), dtype=torch.float64)
    return values.to(call.dtype).to(out)


def complaint_of(error: Exception, op: Op) -> str:
    """What is wrong with an error; empty for a good one."""
    text = str(error)
    names = set(inspect.signature(op.function).parameters) | {"filter", "skip"}
    if type(error) not in _ERRORS:
        return f"a {type(error).__name__}: {text!r}"
    if "\n" in text or len(text) > 400:
        return f"not one line: {text!r}"
    if not names & set(re.findall(r"\w+", text)):
        return f"no argument is named: {text!r}"
    return ""


_LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def _distance(found: Tensor, truth: Tensor, limit: float, floor: float) -> str:
    """What differs; empty if the numbers agree."""
    a, b = found.detach().double(), truth.detach().double()
    if a.shape != b.shape:
        return f"the shape {list(a.shape)} in place of {list(b.shape)}"
    error, size = float((a - b).norm()), float(b.norm())
    return "" if error <= limit * (size + floor) else f"error {error:.2e} of {size:.2e}"


def _wild_distance(found: Tensor, same: Tensor, exact: Tensor, only_nan: bool) -> str:
    """What is finite in the formula is finite, unless a rounding decides.

    With `only_nan`, what is NaN there is not finite: an infinity on the way to it may be cut off
    or meet another one, as the order of the arithmetic has it.
    """
    if found.shape != same.shape:
        return f"the shape {list(found.shape)} in place of {list(same.shape)}"
    largest = torch.finfo(found.dtype).max if found.is_floating_point() else math.inf
    decided = exact.isfinite() & (exact.abs() < largest * 1e-6) & same.isfinite()
    if not bool(found[decided].isfinite().all()):
        return "not finite where the formula is"
    if not only_nan:
        return ""
    lost = same.isnan() & exact.isnan() & found.isfinite()
    return "a NaN is lost" if bool(lost.any()) else ""


def check(call: Call) -> str:
    """What is wrong with what the op does; empty if nothing is."""
    before = {n: t.detach().clone() for n, t in call.tensors().items() if t.device.type == "cpu"}
    ours = run(call)
    for name, value in before.items():
        same = value.to_dense() if value.layout != torch.strided else value
        now = call.inputs[name].detach()
        now = now.to_dense() if now.layout != torch.strided else now
        if same.dtype in DTYPES and not torch.equal(same.nan_to_num(3), now.nan_to_num(3)):
            return f"{name} was written to"
    if ours.error is not None:
        wrong = complaint_of(ours.error, call.op)
        if wrong or call.changes:
            return wrong
        return f"a good call is refused: {ours.error}"
    if not fits(call):
        return "shapes that do not fit are taken"
    formula = run(call, plain=True, impl="reference")
    if formula.error is not None:
        return f"the formula refuses what the op takes: {formula.error}"
    assert ours.out is not None
    assert formula.out is not None
    if (ours.out.dtype, ours.out.device) != (formula.out.dtype, formula.out.device):
        return f"{ours.out.dtype} on {ours.out.device}"
    if ours.out.device.type != "cpu":
        return _shapes_differ(ours, formula)
    if call.op.constant == {"frames"}:
        return "" if torch.equal(ours.out, formula.out) else "other bytes than the formula's"
    exact = run(call, plain=True, exact=True, impl="reference")
    if exact.error is not None:
        return f"the formula refuses float64: {exact.error}"
    return _numbers_differ(call, ours, formula, exact)


def _shapes_differ(ours: Outcome, formula: Outcome) -> str:
    a = {"out": ours.out, **ours.gradients}
    b = {"out": formula.out, **formula.gradients}
    wrong = [n for n in a if a[n].shape != b[n].shape or a[n].dtype != b[n].dtype]  # type: ignore
    return f"other shapes or dtypes: {wrong}" if wrong else ""


def _numbers_differ(call: Call, ours: Outcome, formula: Outcome, exact: Outcome) -> str:
    wrong = _shapes_differ(ours, formula)
    if wrong:
        return wrong
    truth_out = exact.out
    assert truth_out is not None
    kinds = {t.dtype for t in [*call.tensors().values(), ours.out] if t is not None}
    kinds |= {torch.float32} if call.options.get("tf32") else set()
    widest = max(kinds, key=lambda dtype: _LIMITS.get(dtype, 0))
    seen = [t.to(call.dtype).double() for t in call.tensors().values()]
    large = any(bool((t.abs() > 1e6).any()) for t in seen)
    steep = any(abs(call.options.get(n) or 0) > 1e4 for n in ("alpha", "gain"))
    # Sums of a gradient may cancel; what is summed is as large as the cotangent.
    floor = math.sqrt(truth_out.numel())
    limit = 2e-2 if call.options.get("tf32") else _LIMITS[widest]
    for name in ("out", *ours.gradients):
        found = ours.out if name == "out" else ours.gradients[name]
        same = formula.out if name == "out" else formula.gradients[name]
        truth = exact.out if name == "out" else exact.gradients[name]
        assert found is not None
        assert same is not None
        assert truth is not None
        if not call.tame:
            if large and call.op.name in ANGLES:
                continue  # an angle that float64 does not tell from others
            if steep and widest in LOW and (name != "out" or call.op.name == "fir_resample"):
                continue  # beyond float16 in one order of the factors, and not in another
            if large and call.op.name == "fir_resample":
                continue  # one pass multiplies the taps of both axes first, two passes do not
            wrong = _wild_distance(found, same, truth, not large and name == "out")
        elif widest in LOW and (name != "out" or call.options.get("activation") == "sine"):
            wrong = "" if bool(found.isfinite().all()) else "not finite"
        else:
            wrong = (
                _distance(found, truth, limit, 1e-2 * floor if widest in LOW else 0.0)
                if name == "out"
                else _distance(found, truth, 10 * limit, floor)
            )
        if wrong:
            return f"{name}: {wrong}"
    return ""


def complaints(op: Op, seeds: range) -> list[str]:
    """The calls of the seeds that did wrong, with what they did."""
    found = []
    for seed in seeds:
        call = draw(op, seed)
        wrong = check(call)
        if wrong:
            found.append(f"{call}: {wrong}")
    return found


FUZZED = tuple(ALL_OPS.values())
