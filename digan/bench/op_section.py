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
from digan.grid import BASE_SIZE
from digan.ops._rotation import rotate_weights

LRELU = {"activation": "lrelu", "gain": math.sqrt(2)}
# What stays in float32 beside low-precision inputs.
_WIDE = {"freq", "phase", "coords", "y", "x_axis", "bias", "filter", "left", "right"}
_WIDE_OPS = {"fourier_features", "fourier_features_at", "factorized_modulation"}
_NO_GRADIENT = {"filter", "y", "frames"}
LINEAR = ("modulated_linear", "coord_linear")
# Operations for a number of the output, of ops that the counter of products sees nothing of:
# bias, slope, gain and two clamps; a rotation, six for a sine and a cosine; scale, shift, clamps.
POINTWISE = {"bias_act": 5.0, "fourier_features": 3.0, "frames_to_uint8": 4.0}
EXACT = ("frames_to_uint8",)  # whole numbers, without a gradient
# What is called: the forward pass, it and all gradients, the gradients alone.
FORMS = FORWARD, BOTH, GRADIENTS = "", " +backward", " gradients"


def sizes(context: Context) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(op, sizes, options) of every case; T = 2, the frames of a training pair."""
    config = context.options.config()
    g, d = config.generator, config.discriminator
    b, t, side, f = config.batch, 2, g.resolution, g.frequencies
    wide, top = g.channels(32), g.channels(side)
    first = d.channels(side)
    base = {"B": b, "T": t, "H": BASE_SIZE, "W": BASE_SIZE, "F": f}
    grid = {"B": b, "T": t, "H": side, "W": side, "F": f}
    return [
        ("fourier_features", grid, {}),
        ("fourier_features_at", {"B": b, "N": side * side, "F": f, "d": 3}, {}),
        ("factorized_modulation", {"B": b, "O": wide, "I": wide, "R": g.rank}, {}),
        ("modulated_linear", {"B": b, "rows": (t, 32, 32), "I": wide, "O": wide}, LRELU),
        ("modulated_linear", {"B": b, "rows": (t, side, side), "I": top, "O": top}, LRELU),
        ("modulated_linear", {"B": b, "rows": (t, side, side), "I": top, "O": 3}, {}),
        ("coord_linear", {**base, "O": wide, "skip": False}, LRELU),
        ("coord_linear", {**grid, "O": top}, LRELU),
        ("bias_act", {"shape": (2 * b, first, side, side)}, {**LRELU, "clamp": 256.0}),
        (
            "fir_resample",
            {"shape": (2 * b, first, side, side), "filter": (4,)},
            {"down": 2, "padding": 1},
        ),
        ("frames_to_uint8", {"shape": (b, t, side, side, 3)}, {}),
    ]


def tile_sizes(context: Context) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Sizes of the linear ops that no training step has, by what the kernels make of them."""
    config = context.options.config()
    b, t, side, f = config.batch, 2, config.generator.resolution, config.generator.frequencies
    top, rows = config.generator.channels(side), (t, side, side)
    grid = {"B": b, "T": t, "H": side, "W": side, "F": f}
    return [
        # Too few outputs for the large tile.
        ("modulated_linear", {"B": b, "rows": rows, "I": top, "O": 64}, LRELU),
        # Rows that are no whole 16 bytes go number by number.
        ("modulated_linear", {"B": b, "rows": rows, "I": top - 3, "O": top - 3}, LRELU),
        # A slope that the output does not tell: the pre-activation is kept.
        ("modulated_linear", {"B": b, "rows": rows, "I": top, "O": top}, {"activation": "sine"}),
        ("coord_linear", {**grid, "O": 64, "skip": False}, LRELU),
        ("coord_linear", {**grid, "O": 3, "skip": False}, {}),
    ]


def cases(context: Context) -> Iterator[Case]:
    """Every op, then the workloads of other INR projects (`digan.bench.inr_rows`)."""
    for name, size, options in sizes(context):
        for form in FORMS[: 3 if name in LINEAR else 1 if name in EXACT else 2]:
            yield _case(context, name, size, options, form)
    for name, size, options in tile_sizes(context):
        for form in FORMS:
            yield _case(context, name, size, options, form, compiled=False)
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
    context: Context,
    name: str,
    size: dict[str, Any],
    options: dict[str, Any],
    form: str,
    compiled: bool = True,
) -> Case:
    function = getattr(ops, name)
    activation = options.get("activation", "linear")
    named = f" {activation}" if name in LINEAR and activation != "lrelu" else ""
    case = Case(f"{name} {describe(size)}{named}{form}", {})
    for precision in context.options.precisions:
        inputs = make_inputs(name, size, DTYPES[precision], context.device)
        grads = [v for v in inputs.values() if v.requires_grad]
        dtype = {"dtype": DTYPES[precision]} if name.startswith("fourier") else {}
        with torch.no_grad():
            out = function(**inputs, **options, **dtype)
        cotangent = torch.randn_like(out, dtype=out.dtype if grads else torch.float32)

        def call(
            run: Callable[..., Tensor],
            inputs: dict[str, Tensor] = inputs,
            grads: list[Tensor] = grads,
            cotangent: Tensor = cotangent,
        ) -> Any:
            if form == FORWARD:
                with torch.no_grad():
                    return run(**inputs)
            return torch.autograd.grad(run(**inputs), grads, cotangent)

        for provider, run in _providers(context, function, {**options, **dtype}).items():
            if form == GRADIENTS:
                if provider != "compiled":  # its graph serves one backward pass alone
                    case.providers[provider, precision] = _gradients(run, inputs, grads, cotangent)
            elif compiled or provider != "compiled":
                case.providers[provider, precision] = functools.partial(call, run)
        if name == "coord_linear" and form == FORWARD and "skip" not in inputs:
            rotated = _rotated(context, inputs, options)
            case.providers["rotated", precision] = rotated
            case.notes["rotated", precision] = (
                "the embedding of a video made before; its weights rotated for every frame"
            )
        plain = functools.partial(function, **options, **dtype)
        flops = count_flops(functools.partial(call, plain))
        if form == GRADIENTS:
            with torch.no_grad():
                flops -= count_flops(functools.partial(plain, **inputs))
        if not flops and name in POINTWISE:
            passes = {FORWARD: 1, BOTH: 2, GRADIENTS: 1}[form]
            flops = int(POINTWISE[name] * out.numel() * passes)
        case.work[precision] = [(float(flops), _bytes(list(inputs.values()), grads, out, form))]
    return case


def _gradients(
    run: Callable[..., Tensor], inputs: dict[str, Tensor], grads: list[Tensor], cotangent: Tensor
) -> Callable[[], Any]:
    """The backward pass alone, again and again from one forward pass, made at the first call."""
    made: list[Tensor] = []

    def gradients() -> Any:
        if not made:
            made.append(run(**inputs))
        return torch.autograd.grad(made[0], grads, cotangent, retain_graph=True)

    return gradients


def _rotated(
    context: Context, inputs: dict[str, Tensor], options: dict[str, Any]
) -> Callable[[], Any]:
    """coord_linear the other way round: one embedding per video, weights rotated per frame."""
    impl: Any = "fused" if context.options.wants("fused") else None
    freq, phase, weight = (inputs[name].detach() for name in ("freq", "phase", "weight"))
    still = torch.zeros_like(phase[:, :1])
    made: list[Tensor] = []

    @torch.no_grad()
    def rotated() -> list[Tensor]:
        if not made:
            made.append(
                ops.fourier_features(freq, still, inputs["y"], inputs["x"], dtype=weight.dtype)
            )
        matrices = rotate_weights(weight, phase)
        return [
            ops.modulated_linear(made[0], matrix.contiguous(), inputs["bias"], **options, impl=impl)
            for matrix in matrices.unbind(1)
        ]

    return rotated


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


def _bytes(inputs: list[Tensor], grads: list[Tensor], out: Tensor, form: str) -> float:
    """Every input read and every output written once; backward, also all gradients."""

    def total(tensors: list[Tensor]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    forward = total(inputs) + total([out])
    gradients = total(inputs) + 2 * total([out]) + total(grads)  # the output tells the slope
    return float({FORWARD: forward, BOTH: forward + gradients, GRADIENTS: gradients}[form])


def _inr_cases(context: Context) -> Iterator[Case]:
    from digan.bench import inr_rows

    # A CPU would take minutes for as many points.
    points = 1 << (18 if context.device.type == "cuda" else 13)
    scattered = functools.partial(inr_rows.scattered_points, points=points)
    for build in (
        inr_rows.clip_fitting,
        functools.partial(inr_rows.clip_fitting, frequencies=128),
        scattered,
        inr_rows.modulated_points,
    ):
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
