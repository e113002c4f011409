"""A `digan.ops.CoordMLP` as one writes it in plain PyTorch: what the op is measured against.

Only sine networks. The weights are copies, so that both begin alike and train on their own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from digan.ops import CoordMLP


class Sine(nn.Module):
    """sin(w0 * x)."""

    def __init__(self, w0: float) -> None:
        super().__init__()
        self.w0 = w0

    def forward(self, x: Tensor) -> Tensor:
        """Applies it."""
        return torch.sin(self.w0 * x)


class FourierFeatures(nn.Module):
    """[sin(freq x); cos(freq x)], in float32 under autocast too."""

    def __init__(self, freq: Tensor) -> None:
        super().__init__()
        self.freq = nn.Buffer(freq.clone())

    def forward(self, x: Tensor) -> Tensor:  # [..., d] -> [..., 2F]
        """Makes the features."""
        with torch.autocast(x.device.type, enabled=False):
            angle = x @ self.freq.t()
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


class CoordinateLinear(nn.Linear):
    """A linear layer on coordinates, which bfloat16 would round: float32 under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """Applies it."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


def plain_layers(mlp: CoordMLP, signal: int = 0) -> nn.Sequential:
    """The network of one signal of `mlp`, codes left out: coordinates [..., d] to values [..., C].

        h_1 = sin(w0 (W_1 e + b_1)),  h_k = sin(alpha (W_k h_(k-1) + b_k)),  out = W_L h + b_L

    with e the coordinates and w0 = `first_alpha`, or e the Fourier features, a layer of their
    own, and w0 = `alpha`.

    Args:
        mlp: of sine layers. signal: which of its signals.

    Raises:
        ValueError: another activation.
    """
    _check_sine(mlp)
    layers: list[nn.Module] = []
    at_coords = mlp.freq is None
    if mlp.freq is not None:
        layers.append(FourierFeatures(mlp.freq.detach()[signal]))
    for index, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        kind = CoordinateLinear if index == 0 and at_coords else nn.Linear
        linear = kind(weight.shape[2], weight.shape[1])
        linear.weight.data = weight.detach()[signal].clone()
        linear.bias.data = bias.detach()[signal].clone()
        layers += [linear, Sine(mlp.first_alpha if index == 0 and at_coords else mlp.alpha)]
    return nn.Sequential(*layers[:-1])


class _Film(nn.Module):
    """The first layer of a modulated SIREN: sin(w0 (W (1 + gamma) x + b) + beta)."""

    def __init__(self, mlp: CoordMLP) -> None:
        super().__init__()
        self.weight, self.bias = _copies(mlp.weights[0][0], mlp.biases[0][0])
        self.film_weight, self.film_bias = _copies(mlp.film.weight, mlp.film.bias)
        self.w0 = mlp.first_alpha

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Points [B, N, d] and codes [B, D] to activations and codes."""
        x, codes = inputs
        with torch.autocast(x.device.type, enabled=False):
            affine = nn.functional.linear(codes, self.film_weight, self.film_bias)
            gamma, beta = affine.chunk(2, dim=1)
            weight = self.w0 * self.weight * (1 + gamma[..., None])
            bias = self.w0 * self.bias + beta
            z = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        return torch.sin(z), codes


class _Modulated(nn.Module):
    """A layer with a matrix for every code: W (1 + left right / sqrt(R)), by its formula."""

    def __init__(self, mlp: CoordMLP, index: int) -> None:
        super().__init__()
        factors = mlp.factors[index - 1]
        self.weight, self.bias = _copies(mlp.weights[index][0], mlp.biases[index][0])
        self.factor_weight, self.factor_bias = _copies(
            factors.get_parameter("weight"), factors.get_parameter("bias")
        )
        self.rank = mlp.rank
        self.w0 = mlp.alpha if index < len(mlp.weights) - 1 else None

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows [B, N, I] and codes [B, D] to activations [B, N, O] and codes."""
        x, codes = inputs
        outputs, rows = self.weight.shape
        with torch.autocast(x.device.type, enabled=False):
            factors = nn.functional.linear(codes, self.factor_weight, self.factor_bias)
            left, right = factors.split([outputs * self.rank, rows * self.rank], dim=1)
            product = left.view(-1, outputs, self.rank) @ right.view(-1, self.rank, rows)
            weight = self.weight * (1 + product / math.sqrt(self.rank))
        z = torch.baddbmm(self.bias, x, weight.transpose(1, 2))
        return (z if self.w0 is None else torch.sin(self.w0 * z)), codes


def _copies(*tensors: Tensor) -> list[nn.Parameter]:
    return [nn.Parameter(tensor.detach().clone()) for tensor in tensors]


def plain_modulated(mlp: CoordMLP) -> nn.Sequential:
    """The networks that codes write: (points [B, N, d], codes [B, D]) to (values [B, N, C], codes).

    Args:
        mlp: of sine layers at plain coordinates, with `code_features`.

    Raises:
        ValueError: another activation, Fourier features, no codes.
    """
    _check_sine(mlp)
    if mlp.freq is not None or not mlp.code_features:
        raise ValueError("mlp must have codes, and plain coordinates in place of frequencies")
    return nn.Sequential(_Film(mlp), *(_Modulated(mlp, i) for i in range(1, len(mlp.weights))))


def _check_sine(mlp: CoordMLP) -> None:
    if mlp.activation != "sine":
        raise ValueError(f"mlp must have sine layers, got {mlp.activation!r}")
