"""coord_chain: consecutive layers of a coordinate network as one op, for rendering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._activation import check_activation
from digan.ops._check import (
    check_floating,
    check_integer,
    check_same_dtype,
    check_shape,
    check_wide,
    described,
)
from digan.ops._rotation import cells
from digan.ops.coord_linear import coord_linear
from digan.ops.modulated_linear import modulated_linear

# What the kernel is made for, see csrc/coord_chain.cu.
MOST_CHANNELS = 512
MOST_FEATURES = 256
MOST_LAYERS = 8
MOST_PICTURES = 4  # layers to RGB
_NARROW = 256  # channels of a panel of activations in shared memory
_SHARED_BYTES = {1: 143_360, 3: 229_376}  # by panels


def coord_chain(
    freq: Tensor,  # [B, F, 2]
    phase: Tensor,  # [B, T, F]
    y: Tensor,  # [H]
    x: Tensor,  # [W]
    weight: Tensor,  # [B, C, 2F]
    hidden: Tensor,  # [B, L, C, C]
    bias: Tensor,  # [L + 1, C]
    rgb_weight: Tensor,  # [B, R, 3, C]
    rgb_bias: Tensor,  # [R, 3]
    skip: Tensor | None = None,  # [B, T, H/2, W/2, C]
    image: Tensor | None = None,  # [B, T, H/2, W/2, 3] with skip, else [B, T, H, W, 3]
    onward: Tensor | None = None,  # [B, O, C]
    *,
    rgb_layers: Sequence[int],
    alpha: float = 0.2,
    clamp: float | None = None,
    impl: _registry.Impl | None = None,
) -> tuple[Tensor, Tensor | None]:  # [B, T, H, W, 3], [B, T, H, W, O]
    """A coordinate layer, the layers behind it, their layers to RGB, and the sum of the pictures.

        h_0 = f(coord_linear(freq, phase, y, x, weight, bias_0, skip))
        h_l = f(hidden_l @ h_(l-1) + bias_l)                       l = 1 .. L
        picture = upsample(image) + sum_r clamp(rgb_r @ h_(rgb_layers[r]) + rgb_bias_r)
        next = onward @ h_L

    with f(z) = clamp(lrelu(z; alpha), -clamp, clamp) and upsample = nearest, factor 2 beside
    `skip` and none without. A gain of the activation is a factor of weights and biases. `next`
    is the next finer block's `skip`.

    The kernel keeps all activations of a tile of pixels in shared memory: it writes the picture
    and `next`, and nothing else. Where gradients are on and one is wanted, or the kernel does not
    serve the call (`coord_chain_refusal`), the same is computed layer by layer by
    `coord_linear` and `modulated_linear`; that is the op's formula and differentiable to any order.

    Args:
        freq, phase, y, x: as in `fourier_features`; float64 or float32, never autocast.
        weight, hidden, rgb_weight, skip, onward: one dtype, in which activations are kept; under
            autocast they take the autocast dtype.
        bias, rgb_bias: shared by all videos; may be float32 beside 16-bit weights.
        image: the picture so far, of freq's dtype; None for none.
        rgb_layers: R numbers of layers, rising, which a layer to RGB reads; at least one.
        alpha: slope of lrelu below zero. clamp: bound of all outputs, None for none.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        The picture, of freq's dtype, and `next`, of weight's dtype, or None without `onward`.

    Raises:
        ValueError: shapes that do not fit. TypeError: mixed dtypes, arguments of another type.
        OpUnavailableError: `impl="fused"` without kernels, or where they do not serve the call.
    """
    tensors = (freq, phase, y, x, weight, hidden, bias, rgb_weight, rgb_bias, skip, image, onward)
    if isinstance(rgb_layers, str) or not isinstance(rgb_layers, Iterable):
        raise TypeError(f"rgb_layers must be integers, got {described(rgb_layers)}")
    rgb_layers = [check_integer("rgb_layers", layer) for layer in rgb_layers]
    alpha, _, clamp = check_activation("lrelu", alpha, clamp=clamp)
    _check(*tensors, rgb_layers=rgb_layers)
    weight, hidden, rgb_weight, skip, onward = _registry.autocast(
        weight, hidden, rgb_weight, skip, onward
    )
    check_same_dtype(weight=weight, hidden=hidden, rgb_weight=rgb_weight, skip=skip, onward=onward)
    tensors = (freq, phase, y, x, weight, hidden, bias, rgb_weight, rgb_bias, skip, image, onward)
    if _registry.takes_formula("coord_chain", impl, freq):
        return coord_chain_reference(*tensors, rgb_layers, alpha, clamp)
    wants_gradient = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in tensors
    )
    reason = coord_chain_refusal(
        weight.device,
        weight.dtype,
        freq.dtype,
        channels=weight.shape[1],
        onward=0 if onward is None else onward.shape[1],
        frequencies=freq.shape[1],
        layers=hidden.shape[1] + 1,
        pictures=len(rgb_layers),
    )
    chosen = _registry.default_impl() if impl is None else impl
    if reason and chosen == "fused" and not wants_gradient:
        raise _registry.OpUnavailableError(f"coord_chain: impl='fused' cannot run: {reason}")
    if reason or wants_gradient:
        return coord_chain_reference(*tensors, rgb_layers, alpha, clamp, impl=impl)
    picture, following = torch.ops.digan.coord_chain(*tensors, rgb_layers, alpha, clamp)
    return picture, None if onward is None else following


def coord_chain_refusal(
    device: torch.device,
    dtype: torch.dtype,
    wide: torch.dtype = torch.float32,
    *,
    channels: int,
    onward: int = 0,
    frequencies: int,
    layers: int,
    pictures: int,
) -> str:
    """Why the kernel does not serve a chain, in one sentence; empty if it does.

    Args:
        device, dtype: of the weights. wide: dtype of the frequencies.
        channels: C. onward: O, 0 without. frequencies: F. layers: L + 1. pictures: layers to RGB.

    Raises:
        TypeError: arguments of another type.
    """
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device, got {described(device)}")
    for name, given in {"dtype": dtype, "wide": wide}.items():
        if not isinstance(given, torch.dtype):
            raise TypeError(f"{name} must be a torch.dtype, got {described(given)}")
    channels, onward = check_integer("channels", channels), check_integer("onward", onward)
    frequencies = check_integer("frequencies", frequencies)
    layers, pictures = check_integer("layers", layers), check_integer("pictures", pictures)
    if not _registry.has_kernel("coord_chain", device):
        return f"no kernel of coord_chain is loaded for {device.type} tensors"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"chained layers have 16-bit numbers, got {dtype}"
    if wide != torch.float32:
        return f"frequencies of chained layers must be float32, got {wide}"
    for count in (channels, onward or channels):
        if not 0 < count <= MOST_CHANNELS or count % 8:
            return (
                f"chained layers have at most {MOST_CHANNELS} channels in eights, "
                f"got {described(count)}"
            )
    if not 0 < 2 * frequencies <= MOST_FEATURES or frequencies % 8:
        return (
            f"chained layers have at most {MOST_FEATURES // 2} frequencies in eights, "
            f"got {described(frequencies)}"
        )
    if not (0 < layers <= MOST_LAYERS and 0 < pictures <= MOST_PICTURES):
        return (
            f"a chain has at most {MOST_LAYERS} layers and {MOST_PICTURES} to RGB, "
            f"got {described(layers)} and {described(pictures)}"
        )
    if device.type == "cuda":
        most = max(channels, onward)
        needed = _SHARED_BYTES[1 if most <= _NARROW else 3]
        card = torch.cuda.get_device_properties(device)
        has = int(getattr(card, "shared_memory_per_block_optin", 0))
        if has < needed:
            return (
                f"{most} chained channels take {needed // 1024} KB of shared memory, "
                f"{card.name} has {has // 1024}"
            )
    return ""


def _check(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    hidden: Tensor,
    bias: Tensor,
    rgb_weight: Tensor,
    rgb_bias: Tensor,
    skip: Tensor | None,
    image: Tensor | None,
    onward: Tensor | None,
    *,
    rgb_layers: list[int],
) -> None:
    dims: dict[str, int] = {}
    check_floating(
        freq=freq, phase=phase, y=y, x=x, weight=weight, hidden=hidden, bias=bias,
        rgb_weight=rgb_weight, rgb_bias=rgb_bias, skip=skip, image=image, onward=onward,
    )  # fmt: skip
    check_shape(dims, "freq", freq, ("B", "F", 2))
    check_shape(dims, "phase", phase, ("B", "T", "F"))
    check_shape(dims, "y", y, ("H",))
    check_shape(dims, "x", x, ("W",))
    check_shape(dims, "weight", weight, ("B", "C", 2 * dims["F"]))
    check_shape(dims, "hidden", hidden, ("B", "L", "C", "C"))
    check_shape(dims, "bias", bias, (dims["L"] + 1, "C"))
    check_shape(dims, "rgb_weight", rgb_weight, ("B", "R", 3, "C"))
    check_shape(dims, "rgb_bias", rgb_bias, ("R", 3))
    height, width, layers = dims["H"], dims["W"], dims["L"] + 1
    if skip is not None:
        if height % 2 or width % 2:
            raise ValueError(f"a grid with skip must have even sides, got {height} x {width}")
        height, width = height // 2, width // 2
        check_shape(dims, "skip", skip, ("B", "T", height, width, "C"))
    if image is not None:
        check_shape(dims, "image", image, ("B", "T", height, width, 3))
    if onward is not None:
        check_shape(dims, "onward", onward, ("B", "O", "C"))
    rising = all(a < b for a, b in zip([-1, *rgb_layers], [*rgb_layers, layers], strict=True))
    if len(rgb_layers) != dims["R"] or not rgb_layers or not rising:
        raise ValueError(
            f"rgb_layers must be R = {dims['R']} rising numbers of {layers} layers, "
            f"got {rgb_layers}"
        )
    check_wide(freq=freq)
    check_same_dtype(freq=freq, phase=phase, y=y, x=x, image=image)


@_registry.outside_autocast
def coord_chain_reference(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    hidden: Tensor,
    bias: Tensor,
    rgb_weight: Tensor,
    rgb_bias: Tensor,
    skip: Tensor | None,
    image: Tensor | None,
    onward: Tensor | None,
    rgb_layers: Sequence[int],
    alpha: float,
    clamp: float | None,
    *,
    impl: _registry.Impl | None = "reference",
) -> tuple[Tensor, Tensor | None]:
    """The formula, one op a layer as the generator's blocks have them; differentiable to any order.

    By default these ops are formulas too; `impl` is their path.
    """
    h = coord_linear(
        freq, phase, y, x, weight, bias[0], skip, "lrelu", alpha=alpha, clamp=clamp, impl=impl
    )
    picture: Tensor | None = None
    for layer in range(hidden.shape[1] + 1):
        if layer > 0:
            h = modulated_linear(
                h, hidden[:, layer - 1], bias[layer], "lrelu", alpha=alpha, clamp=clamp, impl=impl
            )
        if layer in rgb_layers:
            r = list(rgb_layers).index(layer)
            rgb = modulated_linear(h, rgb_weight[:, r], rgb_bias[r], clamp=clamp, impl=impl)
            rgb = rgb.to(freq.dtype)
            if picture is not None:
                picture = picture + rgb
            elif image is None:
                picture = rgb
            elif skip is None:
                picture = image + rgb
            else:
                picture = (cells(rgb) + image[:, :, :, None, :, None]).view(rgb.shape)
    assert picture is not None
    return picture, None if onward is None else modulated_linear(h, onward, impl=impl)


def _kernel(freq: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    picture, following = coord_chain_reference(freq, *arguments, impl="auto")
    return picture, picture.new_empty(0) if following is None else following


def _fake(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    onward = rest[6]
    size = [*phase.shape[:2], y.shape[0], x.shape[0]]
    following = freq.new_empty(0) if onward is None else weight.new_empty([*size, onward.shape[1]])
    return freq.new_empty([*size, 3]), following


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del ctx, inputs, output


def _backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    raise RuntimeError(
        "torch.ops.digan.coord_chain has no gradient; digan.ops.coord_chain computes layer by "
        "layer where one is wanted"
    )


def _flops(*shapes: Any) -> int:
    _, phase, y, x, weight, hidden, _, rgb_weight, *_ = shapes
    onward = shapes[11]
    numbers = math.prod(weight) + math.prod(hidden) + math.prod(rgb_weight)
    numbers += 0 if onward is None else math.prod(onward)
    return int(2 * phase[1] * y[0] * x[0] * numbers)


_registry.define(
    "coord_chain",
    "(Tensor freq, Tensor phase, Tensor y, Tensor x, Tensor weight, Tensor hidden, Tensor bias,"
    " Tensor rgb_weight, Tensor rgb_bias, Tensor? skip, Tensor? image, Tensor? onward,"
    " int[] rgb_layers, float alpha, float? clamp) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
