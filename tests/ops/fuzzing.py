"""What a random call may do, and what it must not.

The op must do as its formula does on plain copies, or refuse in one line that names an argument
first, with the same words whichever way it would have been computed; it must refuse what the table
of shapes does not allow, and take what breaks no rule. Numbers are held to the formula in float64:
as a whole where they are of the size that they have in life, one by one elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan import ops
from tests.op_cases import LOW, Op, generator_of
from tests.ops import checks, oracles
from tests.ops.fuzz_calls import DTYPES, Call, draw
from tests.ops.fuzz_ops import fits

_ERRORS = (ValueError, TypeError, RuntimeError, ops.OpUnavailableError)
_KINKED = {"relu", "lrelu", "elu", "selu"}


@dataclass
class Outcome:
    """What came of a call: an error, or the outputs and the gradients."""

    error: Exception | None = None
    outputs: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, Tensor]:
        """Both, by name; a gradient has the name of its input."""
        return {**self.outputs, **self.gradients}


def run(
    call: Call,
    plain: bool = False,
    exact: bool = False,
    impl: Any = "asked",
    shaken: tuple[int, float] | None = None,
) -> Outcome:
    """The call, or the formula's on plain copies, or that in float64.

    With `shaken`, a seed and a size, every number is changed by that much of itself, up or down.
    """
    with contextlib.ExitStack() as modes:
        if call.autocast:
            modes.enter_context(torch.autocast("cpu", torch.bfloat16))
        if call.inference:
            modes.enter_context(torch.inference_mode())
        given = _leaves(call, plain, exact, shaken)
        options = dict(call.options)
        if exact and "dtype" in options:
            options["dtype"] = torch.float64
        if impl != "asked":
            options["impl"] = impl
        try:
            outputs = _named(call.op.function(**given, **options))
            return Outcome(outputs=outputs, gradients=_gradients(call, given, outputs))
        except Exception as error:
            return Outcome(error=error)


def _leaves(
    call: Call, plain: bool, exact: bool, shaken: tuple[int, float] | None
) -> dict[str, Any]:
    """The inputs of a run; a tensor that is given twice is one leaf."""
    leaves: dict[int, Any] = {}
    for name, value in call.inputs.items():
        if not isinstance(value, Tensor) or id(value) in leaves:
            continue
        leaf = value.detach()
        leaf = leaf.contiguous().clone() if plain and leaf.layout == torch.strided else leaf
        leaf = leaf.double() if exact else leaf
        if shaken is not None:
            generator = generator_of(f"shaken {name} {shaken[0]}")
            noise = torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
            leaf *= 1 + shaken[1] * (2 * noise - 1)
        wanted = any(n in call.wants for n, t in call.inputs.items() if t is value)
        if wanted and (leaf.is_floating_point() or leaf.is_complex()):
            leaf.requires_grad_()
        leaves[id(value)] = leaf
    return {n: leaves.get(id(v), v) for n, v in call.inputs.items()}


def _gradients(call: Call, given: dict[str, Any], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """By every wanted input, of all outputs together."""
    wanted = {n: given[n] for n in sorted(call.wants) if isinstance(given[n], Tensor)}
    wanted = {n: t for n, t in wanted.items() if t.requires_grad}
    sums = {n: out for n, out in outputs.items() if out.requires_grad}
    if not sums or not wanted:
        return {}
    cotangents = [_cotangent(call, name, out) for name, out in sums.items()]
    found = torch.autograd.grad(
        list(sums.values()), list(wanted.values()), cotangents, allow_unused=True
    )
    return {
        f"gradient of {n}": torch.zeros_like(t) if g is None else g
        for (n, t), g in zip(wanted.items(), found, strict=True)
    }


def _named(found: Any) -> dict[str, Tensor]:
    results = found if isinstance(found, tuple) else (found,)
    names = ("out", "second out")[: len(results)]
    return {n: t for n, t in zip(names, results, strict=True) if t is not None}


def _cotangent(call: Call, name: str, out: Tensor) -> Tensor:
    """Random, zero close to kinks and where there is no number; without any on meta tensors."""
    if out.device.type != "cpu":
        return torch.empty_like(out)
    generator = generator_of(f"dy {call.seed} {name}")
    values = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    if call.op.pre_activation is not None and out.numel():
        exact = {n: t.detach().double() if isinstance(t, Tensor) else t
                 for n, t in call.inputs.items()}  # fmt: skip
        options = {k: v for k, v in call.options.items() if k not in ("impl", "tf32", "dtype")}
        options |= {"dim": int(options["dim"])} if "dim" in options else {}
        z = call.op.pre_activation(*exact.values(), **options)
        width = checks._KINK_WIDTH[torch.bfloat16 if call.autocast else call.dtype]
        if options.get("activation") in _KINKED:
            usual = z[z.isfinite()].abs().median() if bool(z.isfinite().any()) else 0.0
            values = torch.where(z.abs() > width * usual, values, 0.0)
        if options.get("clamp") is not None:
            clamp = float(options["clamp"])
            free = {k: float(v) if k != "activation" else v for k, v in options.items()
                    if k in ("activation", "alpha", "gain") and v is not None}  # fmt: skip
            distance = (oracles.activated(z, **free).abs() - clamp).abs()
            values = torch.where(distance > width * clamp, values, 0.0)
    return torch.where(out.detach().isfinite(), values.to(call.dtype).to(out), 0.0)


# ---------------------------------------------------------------- refusals


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def complaint_of(error: Exception, function: Callable[..., Any]) -> str:
    """What is wrong with an error; empty for a good one."""
    text = str(error)
    if type(error) not in _ERRORS:
        return f"a {type(error).__name__}: {text!r}"
    if "\n" in text or len(text) > 400:
        return f"not one line: {text!r}"
    named = re.match(r"(?:\w+: |the |a grid (?:with|of) )?(\w+)", text)
    if named is None or named[1] not in _arguments(function):
        return f"no argument is named: {text!r}"
    return ""


def _refusal(call: Call, ours: Outcome) -> str:
    """What is wrong with a call that was refused."""
    assert ours.error is not None
    wrong = complaint_of(ours.error, call.op.function)
    if wrong:
        return wrong
    harmless = {"layout"} if call.op.name == "fir_resample" else {"layout", "values"}
    if set(call.changes) <= harmless:  # taps must be finite
        return f"a good call is refused: {ours.error}"
    if call.options.get("impl") in (None, "auto"):
        formula = run(call, impl="reference").error
        if repr(formula) != repr(ours.error):
            return f"refused with {ours.error!r}, and the formula's answer is {formula!r}"
    return ""


# ---------------------------------------------------------------- numbers


_LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def _distance(
    found: Tensor, same: Tensor, exact: Tensor, moved: Sequence[Tensor], limit: float, floor: float
) -> str:
    """How far all numbers together are from the formula in float64; empty if near enough.

    Allowed is `limit` of their size, and four times what roundings of the inputs do to them.
    """
    truth = exact.detach().double()
    size = limit * (float(truth.norm()) + floor)
    shift = max(float((m - truth).norm()) for m in moved)
    usual = float((same.detach().double() - truth).norm())
    if not usual <= size + 4 * shift:
        return f"the formula's own error {usual:.2e} of {truth.norm():.2e}"
    error = float((found.detach().double() - truth).norm())
    if not error <= size + 4 * max(shift, usual):
        return f"error {error:.2e} of {truth.norm():.2e}"
    return ""


def _wild_distance(
    found: Tensor,
    same: Tensor,
    exact: Tensor,
    shaken: Sequence[Tensor],
    limit: float,
    out: bool,
    keeps: bool,
) -> str:
    """The same for numbers of any size, one by one, where no rounding decides.

    `shaken` are still and moved numbers before a clamp, behind which it is not seen what moves.
    With `keeps`, what is NaN in the formula must not become finite: of infinite inputs it may, as
    an infinity is cut off or meets another one in the order that the arithmetic has.
    """
    largest = torch.finfo(found.dtype).max
    found, same, exact = (t.detach().double() for t in (found, same, exact))
    still, *moved = shaken
    spread = torch.stack([(m - still).abs() for m in moved]).amax(0)
    size = torch.stack([n.abs() for n in (same, exact, *shaken)]).amax(0)
    bounded = size < 0.05 * largest  # in every run, and False where one is NaN
    steady = bounded & (spread <= 1e-2 * still.abs())
    if not bool(found[bounded if out else steady].isfinite().all()):
        return "not finite where the formula is"
    if out and bool(bounded.any()):
        most = 1e3 * (1 + float(size[bounded].amax()))
        if bool((found[bounded].abs() > most).any()):
            return "far larger than in any run of the formula"
    if keeps and bool((same.isnan() & exact.isnan() & found.isfinite()).any()):
        return "a NaN is lost"
    usual = exact[steady].abs().median() if bool(steady.any()) else 0.0
    # A gradient's terms may cancel, and are as large as the cotangent.
    usual += 0.0 if out else 1.0
    if limit == math.inf:
        return ""
    allowed = limit * (exact.abs() + usual) + 50 * spread + 4 * (same - exact).abs()
    wrong = steady & ~((found - exact).abs() <= allowed)
    if bool(wrong.any()):
        where = int(wrong.flatten().nonzero()[0])
        a, b = float(found.flatten()[where]), float(exact.flatten()[where])
        return f"{int(wrong.sum())} of {int(steady.sum())} wrong, as {a} in place of {b}"
    return ""


def _shapes_differ(ours: Outcome, formula: Outcome) -> str:
    a, b = ours.numbers, formula.numbers
    if a.keys() != b.keys():
        return f"{sorted(a)} in place of {sorted(b)}"
    wrong = [
        n
        for n in a
        if (a[n].shape, a[n].dtype, a[n].device) != (b[n].shape, b[n].dtype, b[n].device)
    ]
    return f"other shapes, dtypes or devices: {wrong}" if wrong else ""


# Inputs that are angles or factors of angles, where they are no weights.
_ANGLES = frozenset({"freq", "phase", "y", "x", "t", "coords", "codes"})


def _any_angle(call: Call) -> bool:
    """Whether a sine is taken of what no float tells from other angles.

    Behind it a clamp or relu may hide from the shaken runs that anything may come out.
    """
    network = call.op.name.startswith("coord_")
    sine = network or call.options.get("activation") == "sine"
    inputs = {n: t.detach().double() for n, t in call.tensors().items()
              if n in _ANGLES or call.options.get("activation") == "sine"}  # fmt: skip
    factors = [call.options.get(n) for n in ("alpha", "first_alpha", "frequency_scale")]
    sizes = [float(t[t.isfinite()].abs().max()) for t in inputs.values() if t.isfinite().any()]
    sizes += [abs(float(f)) for f in factors if isinstance(f, int | float | np.number)]
    return sine and max(sizes, default=0.0) > 1e5


def _out_of_range(call: Call, dtype: torch.dtype) -> bool:
    """Whether factors are beyond a dtype in one order of the arithmetic, and not in another."""
    taps = call.inputs.get("filter")
    steep = [max(1.0, abs(float(call.options.get(n) or 0))) for n in ("alpha", "gain")]
    product = math.prod(steep)
    if isinstance(taps, Tensor):  # one pass multiplies the taps of both axes first
        product *= max(1.0, float(taps.detach().double().abs().max())) ** (3 - taps.dim())
    return product > 0.1 * torch.finfo(dtype).max


def _shaken(call: Call, seed: int, size: float) -> Outcome:
    """The formula in float64; with a seed above 0, of inputs that are moved by their roundings."""
    shaken = (seed, size) if seed else None
    return run(call, plain=True, exact=True, impl="reference", shaken=shaken)


def _numbers_differ(call: Call, ours: Outcome, formula: Outcome) -> str:
    """What is wrong with the numbers; a rounding that turns a slope is seen in one run of many."""
    wrong = ""
    for runs in (4, 40):
        wrong = _differ(call, ours, formula, runs)
        if not wrong:
            return ""
    return wrong


def _differ(call: Call, ours: Outcome, formula: Outcome, count: int) -> str:
    """The same, told from `count` runs of the formula in float64, the first of them unmoved."""
    kinds = {t.dtype for t in [*call.tensors().values(), *ours.outputs.values()]}
    kinds |= {torch.float32} if call.options.get("tf32") else set()
    kinds |= {torch.bfloat16} if call.autocast else set()
    widest = max(kinds, key=lambda dtype: _LIMITS.get(dtype, 0))
    limit, size = _LIMITS[widest], 4 * torch.finfo(widest).eps
    if call.options.get("tf32"):
        limit, size = max(limit, 2e-2), max(size, 2**-10)
    runs = [_shaken(call, seed, size) for seed in range(count)]
    for outcome in runs:
        if outcome.error is not None:
            return f"the formula refuses float64: {outcome.error}"
    exact, *shaken = free = [{n: t.detach() for n, t in r.numbers.items()} for r in runs]
    if not call.tame and call.options.get("clamp") is not None:
        unbound = replace(call, options={**call.options, "clamp": None}, wants=set())
        free = [{**n, **_shaken(unbound, seed, size).outputs} for seed, n in enumerate(free)]
    # Sums of a gradient may cancel; what is summed is as large as the cotangent.
    floor = math.sqrt(sum(t.numel() for t in ours.outputs.values()))
    angle, narrow = _any_angle(call), min(kinds, key=lambda dtype: torch.finfo(dtype).max)
    unbounded = _out_of_range(call, narrow)
    infinite = any(bool(t.isinf().any()) for t in call.tensors().values())
    broken = infinite and any(
        not bool(o.isfinite().all()) for r in (ours, formula, runs[0]) for o in r.outputs.values()
    )
    for name, found in ours.numbers.items():
        same, truth, moved = formula.numbers[name], exact[name], [s[name] for s in shaken]
        out = name in ours.outputs
        if found.numel() == 0 or (unbounded and (not out or "filter" in call.inputs)):
            continue
        if not out and (angle or broken):
            continue  # of something else, or of a sum that is infinite here and no number there
        if not call.tame:
            rounded = math.inf if angle else limit
            loose = [f[name] for f in free]
            wrong = _wild_distance(found, same, truth, loose, rounded, out, out and not infinite)
        elif out:
            low = 1e-2 * floor if widest in LOW else 0.0
            wrong = _distance(found, same, truth, moved, limit, low)
        else:
            factor = 1 if widest in LOW else 10
            wrong = _distance(found, same, truth, moved, factor * limit, floor)
        if wrong:
            return f"{name}: {wrong}"
    return ""


# ---------------------------------------------------------------- a call


def _shared(ours: Outcome, call: Call) -> str:
    """Whether a result is, or lies in, the memory of an input; empty if none does."""
    for name, out in ours.outputs.items():
        for other, tensor in call.tensors().items():
            if (
                tensor.layout == torch.strided
                and out.numel()
                and out.device.type == "cpu"
                and (out.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr())
            ):
                return f"{name} shares memory with {other}"
    return ""


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
        return _refusal(call, ours)
    if not fits(call.op.name, call.inputs, call.options):
        return "shapes that do not fit are taken"
    formula = run(call, plain=True, impl="reference")
    if formula.error is not None:
        return f"the formula refuses what the op takes: {formula.error}"
    wrong = _shapes_differ(ours, formula) or _shared(ours, call)
    if wrong or next(iter(ours.outputs.values())).device.type != "cpu":
        return wrong
    if call.op.constant == {"frames"}:
        same = torch.equal(ours.outputs["out"], formula.outputs["out"])
        return "" if same else "other bytes than the formula's"
    return _numbers_differ(call, ours, formula)


def complaints(op: Op, seeds: range) -> list[str]:
    """The calls of the seeds that did wrong, with what they did."""
    found = []
    for seed in seeds:
        call = draw(op, seed)
        wrong = check(call)
        if wrong:
            found.append(f"{call}: {wrong}")
    return found
