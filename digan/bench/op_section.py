"""The ops, one by one, at the sizes that training has, forward and with all gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from digan import ops
from digan.bench.cases import Case, Context, Subject
from digan.bench.counting import count_flops
from digan.bench.machine import DTYPES
from digan.bench.op_shapes import INPUTS

LRELU = {"activation": "lrelu", "gain": math.sqrt(2)}
# What stays in float32 beside low-precision inputs.
_WIDE = {"freq", "phase", "coords", "y", "x_axis", "bias", "filter", "left", "right"}
_WIDE_OPS = {"fourier_features", "fourier_features_at", "factorized_modulation"}
_NO_GRADIENT = {"filter", "y"}


def sizes(context: Context) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(op, sizes, options) of every case; T = 2, the frames of a training pair."""
    config = context.options.config()
    g, d = config.generator, config.discriminator
    b, t, side, f = config.batch, 2, g.resolution, g.frequencies
    wide, top = g.channels(32), g.channels(side)
    first = d.channels(side)
    grid = {"B": b, "T": t, "H": side, "W": side, "F": f}
    return [
        ("fourier_features", grid, {}),
        ("fourier_features_at", {"B": b, "N": side * side, "F": f, "d": 3}, {}),
        ("factorized_modulation", {"B": b, "O": wide, "I": wide, "R": g.rank}, {}),
        ("modulated_linear", {"B": b, "rows": (t, 32, 32), "I": wide, "O": wide}, LRELU),
        ("modulated_linear", {"B": b, "rows": (t, side, side), "I": top, "O": top}, LRELU),
        ("modulated_linear", {"B": b, "rows": (t, side, side), "I": top, "O": 3}, {}),
        ("coord_linear", {**grid, "O": top}, LRELU),
        ("bias_act", {"shape": (2 * b, first, side, side)}, {**LRELU, "clamp": 256.0}),
        (
            "fir_resample",
            {"shape": (2 * b, first, side, side), "filter": (4,)},
            {"down": 2, "padding": 1},
        ),
    ]


def cases(context: Context) -> Iterator[Case]:
    """Every op, then the workloads of other INR projects (`digan.bench.inr_rows`)."""
    for name, size, options in sizes(context):
        for backward in (False, True):
            yield _case(context, name, size, options, backward)
    yield from _inr_cases(context)


def make_inputs(
    name: str, size: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Fresh random inputs; images in channels-last memory, as the discriminators have them."""
    found = {}
    for key, shape in INPUTS[name](size).items():
        wide = key in _WIDE or name in _WIDE_OPS or (name == "coord_linear" and key == "x")
        value = torch.randn(shape, device=device).to(torch.float32 if wide else dtype)
        if key == "weight":
            value /= math.sqrt(shape[-1])
        if value.dim() == 4 and name in ("bias_act", "fir_resample"):
            value = value.contiguous(memory_format=torch.channels_last)
        axis = key == "y" or (key == "x" and value.dim() == 1)
        found[key] = value.requires_grad_(not axis and key not in _NO_GRADIENT)
    return found


def _case(
    context: Context, name: str, size: dict[str, Any], options: dict[str, Any], backward: bool
) -> Case:
    function = getattr(ops, name)
    case = Case(f"{name} {describe(size)}{' +backward' if backward else ''}", {})
    for precision in context.options.precisions:
        inputs = make_inputs(name, size, DTYPES[precision], context.device)
        grads = [v for v in inputs.values() if v.requires_grad]
        dtype = {"dtype": DTYPES[precision]} if name.startswith("fourier") else {}
        with torch.no_grad():
            out = function(**inputs, **options, **dtype)
        cotangent = torch.randn_like(out)

        def call(
            run: Callable[..., Tensor],
            inputs: dict[str, Tensor] = inputs,
            grads: list[Tensor] = grads,
            cotangent: Tensor = cotangent,
        ) -> Any:
            if not backward:
                with torch.no_grad():
                    return run(**inputs)
            return torch.autograd.grad(run(**inputs), grads, cotangent)

        for provider, run in _providers(context, function, {**options, **dtype}).items():
            case.providers[provider, precision] = functools.partial(call, run)
        flops = count_flops(
            functools.partial(call, functools.partial(function, **options, **dtype))
        )
        case.work[precision] = [(float(flops), _bytes(list(inputs.values()), grads, out, backward))]
    return case


def describe(size: dict[str, Any]) -> str:
    """`B=2 T=2 H=128`, or the shape alone."""
    return " ".join(
        "x".join(map(str, v)) if isinstance(v, tuple) else f"{k}={v}" for k, v in size.items()
    )


def _providers(
    context: Context, function: Callable[..., Tensor], options: dict[str, Any]
) -> dict[str, Callable[..., Tensor]]:
    """reference: the op without native kernels; formula: its definition; and so on."""
    wants = context.options.wants
    found: dict[str, Callable[..., Tensor]] = {}
    formula = functools.partial(function, **options, impl="reference")
    if wants("reference"):
        if context.device.type == "cpu" or not wants("fused"):
            found["reference"] = functools.partial(function, **options)
        found["formula"] = formula
    if wants("compiled"):
        found["compiled"] = torch.compile(formula, dynamic=False)
    if wants("fused"):
        found["fused"] = functools.partial(function, **options, impl="fused")
    if context.original is not None and wants("original"):
        found.update(_original(context, function.__name__, options))
    return found


def _original(
    context: Context, name: str, options: dict[str, Any]
) -> dict[str, Callable[..., Tensor]]:
    """Its op of the same name where it has one."""
    theirs = context.original
    if name == "bias_act":

        def bias_act(x: Tensor, bias: Tensor) -> Any:
            return theirs.op("bias_act").bias_act(
                x, bias.to(x.dtype), dim=1, act=options["activation"], gain=options["gain"],
                clamp=options["clamp"],
            )  # fmt: skip

        return {"original": bias_act}
    if name == "fir_resample":

        def upfirdn2d(x: Tensor, filter: Tensor) -> Any:
            taps = torch.outer(filter, filter)
            return theirs.op("upfirdn2d").upfirdn2d(
                x, taps, down=options["down"], padding=options["padding"]
            )

        return {"original": upfirdn2d}
    return {}


def _bytes(inputs: list[Tensor], grads: list[Tensor], out: Tensor, backward: bool) -> float:
    """Every input read and every output written once; backward, also all gradients."""

    def total(tensors: list[Tensor]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    size = total(inputs) + total([out])
    if backward:
        size += total(inputs) + 2 * total([out]) + total(grads)
    return float(size)


def _inr_cases(context: Context) -> Iterator[Case]:
    from digan.bench import inr_rows

    for build in (inr_rows.clip_fitting, inr_rows.modulated_points):
        for backward in (False, True):
            case = Case("", {})
            for precision in context.options.precisions:
                found = build(context.device, DTYPES[precision])
                steps = found.training if backward else found.forward
                sizes = " ".join(f"{k}={v}" for k, v in found.sizes.items())
                case.name = f"{found.name} {sizes}{' +backward' if backward else ''}"
                subjects: dict[Subject, Any] = {(p, precision): w for p, w in steps.items()}
                case.providers.update(subjects)
                case.work[precision] = [(found.flops * (3.0 if backward else 1.0), 0.0)]
            yield case
