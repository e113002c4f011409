"""coord_linear: a linear layer on Fourier features that are never written out per frame."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._activation import (
    ACTIVATIONS,
    activate,
    activate_,
    apply_slope,
    check_activation,
    slope_from_output,
)
from digan.ops._check import check_flag, check_floating, check_same_dtype, check_shape, check_wide
from digan.ops._coord_linear_tiles import coord_linear_gradients_tiled, coord_linear_tiled
from digan.ops._rotation import cells, rotate, unrotate
from digan.ops._tf32 import matmul, operand
from digan.ops._tiles import on_cpu
from digan.ops.fourier_features import features_gradients, fourier_features_reference


def coord_linear(
    freq: Tensor,  # [B, F, 2]
    phase: Tensor,  # [B, T, F]
    y: Tensor,  # [H]
    x: Tensor,  # [W]
    weight: Tensor,  # [B, O, 2F]
    bias: Tensor | None = None,  # [O]
    skip: Tensor | None = None,  # [B, T, H/2, W/2, O]
    activation: str = "linear",
    *,
    alpha: float | None = None,
    gain: float = 1.0,
    clamp: float | None = None,
    tf32: bool | None = None,
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, T, H, W, O]
    """A video's own matrix applied to the Fourier features of a space-time grid.

        e = fourier_features(freq, phase, y, x)
        y = clamp(gain * act(weight @ e + bias + upsample(skip); alpha), -clamp, clamp)

    with upsample = nearest, factor 2. `skip` is the pre-activation of the same layer's other
    half: a 1x1 layer commutes with nearest upsampling, so that half runs at low resolution.

    The phase enters as a rotation of the weight's column pairs,
    W [sin(a+p); cos(a+p)] = (W R(p)) [sin a; cos a], so all T frames of a video share one
    embedding and the per-frame work on it is O x 2F numbers.

    Args:
        freq, phase, y, x: as in `fourier_features`; float64 or float32, never autocast.
        weight, skip: one dtype, which is the output's (float64, float32, bfloat16, float16);
            under autocast both take the autocast dtype.
        bias, activation, alpha, gain, clamp, tf32: as in `modulated_linear`.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        Contiguous tensor of weight's dtype. Differentiable to any order, by the axes too.

    Raises:
        ValueError: shapes that do not fit, unknown activation. TypeError: mixed dtypes.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    dims: dict[str, int] = {}
    check_floating(freq=freq, phase=phase, y=y, x=x, weight=weight, bias=bias, skip=skip)
    alpha, gain, clamp = check_activation(activation, alpha, gain, clamp)
    if tf32 is not None:
        check_flag("tf32", tf32)
    check_shape(dims, "freq", freq, ("B", "F", 2))
    check_shape(dims, "phase", phase, ("B", "T", "F"))
    check_shape(dims, "y", y, ("H",))
    check_shape(dims, "x", x, ("W",))
    check_shape(dims, "weight", weight, ("B", "O", 2 * dims["F"]))
    if bias is not None:
        check_shape(dims, "bias", bias, ("O",))
    if skip is not None:
        height, width = dims["H"], dims["W"]
        if height % 2 or width % 2:
            raise ValueError(f"a grid with skip must have even sides, got {height} x {width}")
        check_shape(dims, "skip", skip, ("B", "T", height // 2, width // 2, "O"))
    check_wide(freq=freq)
    check_same_dtype(freq=freq, phase=phase, y=y, x=x)
    weight, skip = _registry.autocast(weight, skip)
    check_same_dtype(weight=weight, skip=skip)
    arguments = (activation, alpha, gain, clamp)
    if _registry.takes_formula("coord_linear", impl, freq):
        return coord_linear_reference(
            freq, phase, y, x, weight, bias, skip, *arguments, tf32 is True
        )
    keep = not slope_from_output(activation, alpha, gain) and torch.is_grad_enabled()
    out: Tensor
    out, _ = torch.ops.digan.coord_linear(
        freq, phase, y, x, weight, bias, skip, *arguments, keep,
        _registry.rounds_to_tf32("coord_linear", tf32, freq),
    )  # fmt: skip
    return out


def _shared_embedding(freq: Tensor, y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The embedding at phase 0, [B, H*W, 2F]."""
    still = freq.new_zeros(freq.shape[0], 1, freq.shape[1])
    features = fourier_features_reference(freq, still, y, x, dtype)
    return features.view(freq.shape[0], y.shape[0] * x.shape[0], 2 * freq.shape[1])


def _stacked(frames: list[Tensor], like: Tensor, shape: list[int], *parents: Tensor) -> Tensor:
    """[B, T, *shape] from T tensors [B, *shape]; T may be 0.

    Without a frame the result hangs on `like` and `parents` all the same, so that its gradient
    is zero and not missing.
    """
    if frames:
        return torch.stack(frames, dim=1)
    empty = like.new_zeros(like.shape[0], 0, *shape) + 0 * like.sum()
    for parent in parents:
        empty = empty + 0 * parent.sum()
    return empty


def _pre_activation(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    tf32: bool,
) -> Tensor:
    """weight @ e + bias + upsample(skip), differentiable."""
    rotated, _, _ = rotate(weight, phase)
    embedding = _shared_embedding(freq, y, x, weight.dtype)
    # Frame by frame: a broadcast product would copy the embedding for every frame.
    frames = [matmul(embedding, v.transpose(1, 2), tf32) for v in rotated.unbind(1)]
    z = _stacked(frames, embedding, [embedding.shape[1], weight.shape[1]], rotated)
    if bias is not None:
        z = z + bias.to(z.dtype)
    z = z.view(*phase.shape[:2], y.shape[0], x.shape[0], weight.shape[1])
    if skip is not None:
        z = (cells(z) + skip[:, :, :, None, :, None]).view(z.shape)
    return z


@_registry.outside_autocast
def coord_linear_reference(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool = False,
) -> Tensor:
    """The formula in PyTorch operations, differentiable to any order."""
    z = _pre_activation(freq, phase, y, x, weight, bias, skip, tf32)
    return activate(z, activation, alpha, gain, clamp)


def _kernel(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    keep_pre_activation: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    if on_cpu(freq):
        keep = keep_pre_activation and not slope_from_output(activation, alpha, gain)
        arguments = (activation, alpha, gain, clamp)
        return coord_linear_tiled(freq, phase, y, x, weight, bias, skip, *arguments, keep, tf32)
    # act(gain * z) = gain * act(z) for homogeneous activations: the gain rides on the weights.
    folded = slope_from_output(activation, alpha, gain)
    scale = gain if folded else 1.0
    rotated, _, _ = rotate(weight, phase, scale)
    rotated = operand(rotated, tf32)
    embedding = operand(_shared_embedding(freq, y, x, weight.dtype), tf32)
    b, t, o = rotated.shape[:3]
    z = weight.new_empty(b, t, embedding.shape[1], o)
    for video in range(b):  # one embedding serves all frames: batch stride 0, no copy
        frames = embedding[video].expand(t, -1, -1)
        torch.bmm(frames, rotated[video].transpose(1, 2), out=z[video])
    z = z.view(b, t, y.shape[0], x.shape[0], o)
    if skip is not None:
        low = skip if bias is None else skip + bias.to(skip.dtype)
        cells(z).add_(low[:, :, :, None, :, None], alpha=scale)
    elif bias is not None:
        z.add_(bias.to(z.dtype), alpha=scale)
    if folded:
        return activate_(z, activation, alpha, 1.0, clamp), z.new_empty(0)
    kept = z.new_empty(0)
    if keep_pre_activation:  # homogeneous activations are applied in place, the others are not
        kept = z.clone() if ACTIVATIONS[activation].homogeneous else z
    return activate_(z, activation, alpha, gain, clamp), kept


def _fake(
    freq: Tensor, phase: Tensor, y: Tensor, x: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    _, _, activation, alpha, gain, _, keep, _ = rest
    size = [*phase.shape[:2], y.shape[0], x.shape[0], weight.shape[1]]
    out = weight.new_empty(size)
    keep = keep and not slope_from_output(activation, alpha, gain)
    return out, torch.empty_like(out) if keep else weight.new_empty(0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, activation, alpha, gain, clamp, keep, tf32 = inputs
    out, kept = output
    from_output = slope_from_output(activation, alpha, gain)
    ctx.save_for_backward(
        *tensors, kept if keep and not from_output else None, out if from_output else None
    )
    ctx.arguments = (activation, alpha, gain, clamp, tf32)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 13
    *tensors, z, out = ctx.saved_tensors
    gradients = torch.ops.digan.coord_linear_backward(grad, *tensors, z, out, *ctx.arguments)
    bias, skip = tensors[5:]
    *others, dbias, dskip = gradients
    return (
        *others,
        None if bias is None else dbias,
        None if skip is None else dskip,
        *(None,) * 6,
    )


def _gradients(
    grad: Tensor,  # [B, T, H, W, O]
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    z: Tensor | None,  # pre-activation, if kept
    out: Tensor | None,  # output, if it tells the slope
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by freq, phase, y, x, weight, bias and skip, differentiable.

    Everything that depends on the phase passes through the rotated weights V = W R(p):
    dV[t] = dA[t]^T E, dW = sum_t dV R(p)^T, dphase = sum_o dVc*Vs - dVs*Vc, and the shared
    embedding's gradient dE = sum_t dA[t] V[t] gives dfreq, dy and dx.
    """
    if out is None and z is None:
        z = _pre_activation(freq, phase, y, x, weight, bias, skip, tf32)
    da = apply_slope(grad, z, out, activation, alpha, gain, clamp)
    b, t, h, w, o = da.shape
    dskip = da.new_zeros(0) if skip is None else cells(da).sum((3, 5))
    da = da.reshape(b, t, h * w, o)
    dbias = da.new_zeros(0) if bias is None else da.sum((0, 1, 2), dtype=bias.dtype)
    rotated, sin, cos = rotate(weight, phase)
    embedding = _shared_embedding(freq, y, x, weight.dtype)
    wide = sin.dtype
    frames = list(zip(da.unbind(1), rotated.unbind(1), strict=True))
    drotated = [matmul(a.transpose(1, 2), embedding, tf32) for a, _ in frames]
    dv = _stacked(drotated, embedding, list(weight.shape[1:])).to(wide)
    dweight, dphase = unrotate(dv, rotated, sin, cos)
    dembedding = torch.zeros_like(embedding, dtype=wide)
    for a, v in frames:
        dembedding = dembedding + matmul(a, v, tf32)
    dembedding = dembedding.view(b, 1, h, w, weight.shape[2])
    still = freq.new_zeros(b, 1, freq.shape[1])
    dfreq, _, dy, dx = features_gradients(dembedding, freq, still, y, x)
    return dfreq, dphase.to(phase.dtype), dy, dx, dweight.to(weight.dtype), dbias, dskip


def _gradients_kernel(
    grad: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    z, out = rest[7:9]
    if on_cpu(grad) and not (z is None and out is None):
        return coord_linear_gradients_tiled(grad, *rest)
    return _gradients(grad, *rest)


def _gradients_fake(grad: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(grad.new_empty(0) if t is None else t.new_empty(t.shape) for t in rest[:7])


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, _, out = inputs[:10]
    ctx.save_for_backward(*tensors, out)
    ctx.arguments = inputs[10:]
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    *inputs, out = ctx.saved_tensors
    # Homogeneous activations have no second derivative, so the saved output still serves;
    # for the others the pre-activation is computed again from the inputs.

    def formula(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        return _gradients(*tensors, None, out, *ctx.arguments)  # type: ignore[arg-type, call-arg]

    return *_registry.vjp(formula, inputs, cotangents), *(None,) * 7


def _flops(
    freq: list[int], phase: list[int], y: list[int], x: list[int], weight: list[int], *_: Any
) -> int:
    return 2 * phase[1] * y[0] * x[0] * math.prod(weight)


def _gradients_flops(grad: list[int], *shapes: Any) -> int:
    return 2 * _flops(*shapes)


_registry.define(
    "coord_linear",
    "(Tensor freq, Tensor phase, Tensor y, Tensor x, Tensor weight, Tensor? bias,"
    " Tensor? skip, str activation, float alpha, float gain, float? clamp,"
    " bool keep_pre_activation, bool tf32) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    _setup,
    _backward,
    _flops,
)
_registry.define(
    "coord_linear_backward",
    "(Tensor grad, Tensor freq, Tensor phase, Tensor y, Tensor x, Tensor weight,"
    " Tensor? bias, Tensor? skip, Tensor? z, Tensor? out, str activation, float alpha,"
    " float gain, float? clamp, bool tf32)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _gradients_kernel,
    _gradients_fake,
    _gradients_setup,
    _gradients_backward,
    _gradients_flops,
)
