"""The activations that ops share: y = clamp(gain * act(z; alpha), -clamp, clamp).

Slope conventions at the two kinks: lrelu's slope at exactly 0 is alpha. At |y| = clamp the
plain formula passes the gradient, the ops (which look at the saved output) give 0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from digan.ops._check import check_number, described

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@dataclass(frozen=True)
class Activation:
    """One activation: its function, its derivative, and what `alpha` means for it."""

    function: Callable[[Tensor, float], Tensor]
    derivative: Callable[[Tensor, float], Tensor]
    alpha: float = 0.0  # default of the op argument
    homogeneous: bool = False  # act(c z) = c act(z) for c > 0: slope readable from the output


def _step(z: Tensor, below: float) -> Tensor:
    # Filled tensors, for `where` of two numbers would round them to float32.
    # `below` as a factor, for one that the dtype cannot hold would be refused.
    return torch.where(z > 0, torch.ones_like(z), torch.ones_like(z).mul_(below))


def _gelu_derivative(z: Tensor, _: float) -> Tensor:
    cdf = 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))
    return cdf + z * torch.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))


def _exp_below(z: Tensor) -> Tensor:
    # exp(z) below zero, 1 from there on; exp of a large z would be infinite, its slope times
    # the zero of `where` NaN. The second derivative at 0 is 0, as PyTorch has it for elu.
    return torch.where(z < 0, torch.exp(z.clamp(max=0)), 1.0)


def _swish_derivative(z: Tensor, _: float) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda z, a: z, lambda z, a: torch.ones_like(z), homogeneous=True),
    "relu": Activation(lambda z, a: torch.relu(z), lambda z, a: _step(z, 0.0), homogeneous=True),
    "lrelu": Activation(functional.leaky_relu, _step, alpha=0.2, homogeneous=True),
    # alpha is SIREN's w0.
    "sine": Activation(
        lambda z, a: torch.sin(a * z), lambda z, a: a * torch.cos(a * z), alpha=30.0
    ),
    "gelu": Activation(lambda z, a: functional.gelu(z), _gelu_derivative),
    "tanh": Activation(lambda z, a: torch.tanh(z), lambda z, a: 1 - torch.tanh(z) ** 2),
    "sigmoid": Activation(
        lambda z, a: torch.sigmoid(z), lambda z, a: torch.sigmoid(z) * torch.sigmoid(-z)
    ),
    "softplus": Activation(lambda z, a: functional.softplus(z), lambda z, a: torch.sigmoid(z)),
    "swish": Activation(lambda z, a: z * torch.sigmoid(z), _swish_derivative),
    "elu": Activation(lambda z, a: functional.elu(z), lambda z, a: _exp_below(z)),
    "selu": Activation(
        lambda z, a: functional.selu(z),
        lambda z, a: _SELU_SCALE * torch.where(z > 0, 1.0, _SELU_ALPHA * _exp_below(z)),
    ),
}


def check_activation(
    name: str, alpha: float | None, gain: float = 1.0, clamp: float | None = None
) -> tuple[float, float, float | None]:
    """Checks the arguments and returns alpha, with its default filled in, gain and clamp.

    Raises:
        ValueError: unknown activation, clamp not positive, a number that is not finite (clamp may
            be infinite) or beyond float32's.
        TypeError: what is no number.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation must be one of {names}, got {described(name)}")
    alpha = ACTIVATIONS[name].alpha if alpha is None else check_number("alpha", alpha)
    gain = check_number("gain", gain)
    if clamp is None or (isinstance(clamp, float) and clamp == math.inf):
        return alpha, gain, clamp
    if isinstance(clamp, float) and math.isnan(clamp):
        raise ValueError("clamp must be positive or None, got nan")
    clamp = check_number("clamp", clamp)
    if not clamp > 0:
        raise ValueError(f"clamp must be positive or None, got {clamp}")
    return alpha, gain, clamp


def slope_from_output(name: str, alpha: float, gain: float) -> bool:
    """True if sign(y) tells act'(z), so that the pre-activation need not be kept."""
    return ACTIVATIONS[name].homogeneous and gain > 0 and alpha >= 0


def round_to(value: float, dtype: torch.dtype) -> float:
    """A number as a tensor of that dtype holds it: 181.02 is 181.0 in bfloat16."""
    if dtype == torch.float64:
        return value
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if dtype == torch.bfloat16:  # the upper half of a float32, rounded to nearest even
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    elif dtype == torch.float16:
        return float(struct.unpack("<e", struct.pack("<e", min(value, 65504.0)))[0])
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def _bound(clamp: float, dtype: torch.dtype) -> float:
    """The clamp, or infinity where the dtype has no number so large: PyTorch would refuse it."""
    return clamp if clamp <= torch.finfo(dtype).max else math.inf


def activate(z: Tensor, name: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """The pipeline on a pre-activation, differentiable to any order."""
    y = ACTIVATIONS[name].function(z, alpha)
    if gain != 1:
        y = y * gain
    if clamp is None:
        return y
    bound = _bound(clamp, y.dtype)
    return y.clamp(-bound, bound)


def activate_(z: Tensor, name: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """The pipeline in place where the activation allows it. Not differentiable."""
    if name == "lrelu":
        functional.leaky_relu_(z, alpha)
    elif name == "relu":
        z.relu_()
    elif name != "linear":
        z = ACTIVATIONS[name].function(z, alpha)
    if gain != 1:
        z.mul_(gain)
    if clamp is None:
        return z
    bound = _bound(clamp, z.dtype)
    return z.clamp_(-bound, bound)


def apply_slope(
    grad: Tensor,
    z: Tensor | None,
    y: Tensor | None,
    name: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """grad * dy/dz, from the pre-activation z or, for homogeneous activations, the output y.

    Differentiable by grad and, where z is given, by z.
    """
    if y is None:
        assert z is not None
        slope = ACTIVATIONS[name].derivative(z, alpha) * gain
        if clamp is not None:
            # Chosen, as an infinite slope times zero would be NaN; what is NaN stays so.
            cut = (ACTIVATIONS[name].function(z, alpha) * gain).abs() >= clamp
            slope = torch.where(cut, 0.0, slope)
        return grad * slope
    # PyTorch's own backward kernels: one pass each, and differentiable by grad.
    if clamp is not None:
        bound = round_to(clamp, y.dtype)
        grad = torch.ops.aten.hardtanh_backward(grad, y, -bound, bound)
    if name != "linear":
        below = alpha if name == "lrelu" else 0.0
        grad = torch.ops.aten.leaky_relu_backward(grad, y, below, True)
    return grad if gain == 1 else grad * gain
