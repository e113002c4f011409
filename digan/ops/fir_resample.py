"""fir_resample: zero-insert, pad, filter and decimate (the semantics of upfirdn2d)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from digan.ops import _registry
from digan.ops._check import (
    check_flag,
    check_floating,
    check_integer,
    check_number,
    check_tensor,
    described,
)
from digan.ops._tiles import on_cpu

_MOST_FACTOR = 1 << 20  # as in csrc/fir_resample.h
_MOST_PADDING = 1 << 30


def _integers(name: str, rule: str, value: Any) -> list[int]:
    """One integer or a sequence of them as a list."""
    if isinstance(value, int):
        return [check_integer(name, value)]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {rule}, got {described(value)}")
    try:
        return [check_integer(name, v) for v in value]
    except TypeError:
        raise TypeError(f"{name} must be {rule}, got {described(value)}") from None


def _pair(name: str, value: int | Sequence[int]) -> list[int]:
    rule = "a positive integer or two [x, y]"
    pair = _integers(name, rule, value)
    pair = pair * 2 if isinstance(value, int) else pair
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name} must be {rule}, got {described(value)}")
    if max(pair) > _MOST_FACTOR:
        raise ValueError(f"{name} must be at most {_MOST_FACTOR}, got {described(value)}")
    return pair


def _check_taps(filter: Tensor, dtype: torch.dtype) -> None:
    """One or two axes, at least one tap, and finite where the numbers can be seen at no cost.

    Finite in `dtype` too, in which images may be multiplied by them.
    """
    if filter.dim() not in (1, 2):
        raise ValueError(f"filter must be [K] or [Ky, Kx], got {list(filter.shape)}")
    if filter.numel() == 0:
        raise ValueError(f"filter must have at least one tap, got {list(filter.shape)}")
    if filter.device.type != "cpu" or torch.compiler.is_compiling():
        return
    try:
        taps = filter.detach().to(dtype)
        finite = bool(torch.isfinite(taps).all())
    except RuntimeError:  # a tracer's stand-in, which has no numbers
        return
    if not finite:
        bad = filter.detach()[~torch.isfinite(taps)][0].item()
        where = f" in {dtype}" if math.isfinite(bad) else ""
        raise ValueError(f"filter must have finite taps{where}, got {bad}")


def fir_resample(
    x: Tensor,  # [N, C, H, W]
    filter: Tensor | None,  # [K] separable, or [Ky, Kx]
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    *,
    gain: float = 1.0,
    flip_filter: bool = False,
    impl: _registry.Impl | None = None,
) -> Tensor:
    """Resamples images with a FIR filter. Per axis, in this order:

    1. insert up-1 zeros behind every sample; 2. pad with zeros (negative: crop);
    3. convolve with `filter * gain` (keeping only outputs whose window is inside);
    4. keep every down-th sample.

    The output has (size*up + pad0 + pad1 - K) // down + 1 samples an axis. The gradient is
    the same op with up and down exchanged and the filter flipped, so all orders exist.

    Args:
        x: float64, float32, bfloat16 or float16, any strides; channels-last stays so.
        filter: taps, applied as a true convolution; 1-D filters act on both axes. They must be
            finite, in x's dtype too. That is checked where it costs nothing, on filters in CPU
            memory; a filter on a GPU is taken as it is, since looking at it would wait for it.
        up, down: factors, one or two [x, y].
        padding: zeros on every side, one, two [x, y] or four [x0, x1, y0, y1] numbers.
        gain: factor of the filter as a whole.
        flip_filter: correlation in place of convolution.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Raises:
        ValueError: wrong shape, an output with no sample, a tap that is not finite, up or down
            above 2^20, padding beyond 2^30, a gain beyond float32's numbers.
        TypeError: an argument of another type.
        OpUnavailableError: `impl="fused"` without kernels.

    No gradient flows to the filter.
    """
    check_tensor("x", x)
    check_floating(x=x, filter=filter)
    if x.dim() != 4:
        raise ValueError(f"x must be [N, C, H, W], got {list(x.shape)}")
    if filter is not None:
        _check_taps(filter, x.dtype)
    up, down = _pair("up", up), _pair("down", down)
    rule = "one, two or four integers"
    pad = _integers("padding", rule, padding)
    pad = pad * 4 if isinstance(padding, int) else pad
    if len(pad) == 2:
        pad = [pad[0], pad[0], pad[1], pad[1]]
    if len(pad) != 4:
        raise ValueError(f"padding must be {rule}, got {described(padding)}")
    if max(map(abs, pad)) > _MOST_PADDING:
        raise ValueError(
            f"padding must be {-_MOST_PADDING} to {_MOST_PADDING}, got {described(padding)}"
        )
    check_flag("flip_filter", flip_filter)
    gain = check_number("gain", gain)
    height, width = _output_size(x, filter, up, down, pad)
    if height < 1 or width < 1:
        raise ValueError(
            f"the filter must fit in the padded image, got an output of {height} x {width} "
            f"from {list(x.shape)}"
        )
    (x,) = _registry.autocast(x)
    arguments = (up, down, pad, flip_filter, gain)
    if _registry.takes_formula("fir_resample", impl, x):
        return fir_resample_reference(x, filter, *arguments)
    out: Tensor = torch.ops.digan.fir_resample(x, filter, *arguments)
    return out


def _taps(filter: Tensor | None) -> tuple[int, int]:
    """Filter width and height."""
    if filter is None:
        return 1, 1
    return filter.shape[-1], filter.shape[0]


def _output_size(
    x: Tensor, filter: Tensor | None, up: list[int], down: list[int], pad: list[int]
) -> tuple[int, int]:
    kx, ky = _taps(filter)
    height = (x.shape[2] * up[1] + pad[2] + pad[3] - ky) // down[1] + 1
    width = (x.shape[3] * up[0] + pad[0] + pad[1] - kx) // down[0] + 1
    return height, width


def _convolve(x: Tensor, taps: Tensor, stride: list[int]) -> Tensor:
    """Correlates every channel with the same [Ky, Kx] taps."""
    channels = x.shape[1]
    weight = taps.to(x.dtype).expand(channels, 1, *taps.shape)
    return functional.conv2d(x, weight, stride=stride, groups=channels)


@_registry.outside_autocast
def fir_resample_reference(
    x: Tensor,
    filter: Tensor | None,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    n, c, h, w = x.shape
    if up != [1, 1]:
        x = x.reshape(n, c, h, 1, w, 1)
        x = functional.pad(x, [0, up[0] - 1, 0, 0, 0, up[1] - 1])
        x = x.reshape(n, c, h * up[1], w * up[0])
    if any(padding):  # zeros first: a crop may take more than the image on its side has
        x = functional.pad(x, [max(p, 0) for p in padding])
        left, right, top, bottom = (max(-p, 0) for p in padding)
        x = x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
    if filter is None:
        return x[:, :, :: down[1], :: down[0]] * gain
    if x.numel() == 0:
        out_h = (x.shape[2] - _taps(filter)[1]) // down[1] + 1
        out_w = (x.shape[3] - _taps(filter)[0]) // down[0] + 1
        return x.new_zeros(n, c, out_h, out_w) + 0 * x.sum()
    # conv2d correlates; a convolution is the correlation with flipped taps.
    if filter.dim() == 2:
        taps = filter * gain
        return _convolve(x, taps if flip_filter else taps.flip([0, 1]), [down[1], down[0]])
    taps = filter if flip_filter else filter.flip([0])
    x = _convolve(x, taps[None, :] * gain, [1, down[0]])
    return _convolve(x, taps[:, None], [down[1], 1])


def _layout(x: Tensor) -> torch.memory_format:
    return (
        torch.channels_last
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        else torch.contiguous_format
    )


_MOST_TAPS = 64  # a separable filter up to 8x8 is one pass over memory as one convolution


def _one_convolution(
    x: Tensor,
    filter: Tensor | None,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> Tensor | None:
    """The op as a single (transposed) convolution without padded copies, where that exists."""
    if filter is None or x.numel() == 0:
        return None
    taps = filter if filter.dim() == 2 else torch.outer(filter, filter)
    if taps.numel() > _MOST_TAPS:
        return None
    channels = x.shape[1]
    left, right, top, bottom = padding
    if up == [1, 1] and left == right >= 0 and top == bottom >= 0:
        taps = taps if flip_filter else taps.flip([0, 1])
        weight = (taps * gain).to(x.dtype).expand(channels, 1, *taps.shape)
        return functional.conv2d(
            x, weight, stride=[down[1], down[0]], padding=[top, left], groups=channels
        )
    # Zero insertion and convolution is a transposed convolution, which cuts `crop` samples
    # at the start and gives `extra` more at the end.
    kx, ky = _taps(taps)
    crop = [ky - 1 - top, kx - 1 - left]
    extra = [up[1] - 1 + bottom - top, up[0] - 1 + right - left]
    if down == [1, 1] and min(crop) >= 0 and 0 <= extra[0] < up[1] and 0 <= extra[1] < up[0]:
        taps = taps.flip([0, 1]) if flip_filter else taps
        weight = (taps * gain).to(x.dtype).expand(channels, 1, *taps.shape)
        size = _output_size(x, taps, up, down, padding)
        return _transposed(x, weight, [up[1], up[0]], crop, extra, size)
    return None


def _transposed(
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    crop: list[int],
    extra: list[int],
    size: tuple[int, int],  # of the output
) -> Tensor:
    """A transposed convolution, channel by channel.

    oneDNN has only slow loops for it in 16 bits (ten times slower than in float32), so these
    go through float32, one image at a time so that the wide copy stays small.
    """

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv_transpose2d(
            x, weight, stride=stride, padding=crop, output_padding=extra, groups=x.shape[1]
        )

    if not on_cpu(x) or x.dtype not in (torch.bfloat16, torch.float16):
        return convolve(x, weight)
    out = torch.empty([*x.shape[:2], *size], dtype=x.dtype, memory_format=_layout(x))
    wide = weight.float()
    for made, image in zip(out.split(1), x.split(1), strict=True):
        made.copy_(convolve(image.float(), wide))
    return out


def _kernel(x: Tensor, filter: Tensor | None, *arguments: Any) -> Tensor:
    out = _one_convolution(x, filter, *arguments)
    if out is None:
        out = fir_resample_reference(x, filter, *arguments)
    out = out.contiguous(memory_format=_layout(x))
    return out.clone() if out.data_ptr() == x.data_ptr() else out


def _fake(
    x: Tensor,
    filter: Tensor | None,
    up: list[int],
    down: list[int],
    padding: list[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    height, width = _output_size(x, filter, up, down, padding)
    size = [x.shape[0], x.shape[1], height, width]
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_layout(x))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, filter, *arguments = inputs
    ctx.save_for_backward(filter)
    ctx.size = x.shape
    ctx.arguments = arguments


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (filter,) = ctx.saved_tensors
    if 0 in ctx.size:  # an image without pixels: no filter fits in what its gradient would be
        return grad.new_zeros(ctx.size), None, None, None, None, None, None
    up, down, pad, flip, gain = ctx.arguments
    kx, ky = _taps(filter)
    (h, w), (out_h, out_w) = ctx.size[2:], grad.shape[2:]
    padding = [
        kx - pad[0] - 1,
        w * up[0] - out_w * down[0] + pad[0] - up[0] + 1,
        ky - pad[2] - 1,
        h * up[1] - out_h * down[1] + pad[2] - up[1] + 1,
    ]
    dx = torch.ops.digan.fir_resample(grad, filter, down, up, padding, not flip, gain)
    return dx, None, None, None, None, None, None


def _flops(
    x: list[int],
    filter: list[int] | None,
    up: list[int],
    down: list[int],
    padding: list[int],
    *_: Any,
) -> int:
    """As one two-dimensional filter that skips the inserted zeros."""
    if filter is None:
        return 0
    kx, ky = filter[-1], filter[0]
    height = (x[2] * up[1] + padding[2] + padding[3] - ky) // down[1] + 1
    width = (x[3] * up[0] + padding[0] + padding[1] - kx) // down[0] + 1
    return 2 * x[0] * x[1] * height * width * kx * ky // (up[0] * up[1])


_registry.define(
    "fir_resample",
    "(Tensor x, Tensor? filter, int[] up, int[] down, int[] padding, bool flip_filter,"
    " float gain) -> Tensor",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
