"""Coordinate networks of every kind, and the same written out in plain PyTorch.

`plain` reads a CoordMLP's parameters by name and shares no line with it: one signal at a time,
layer by layer, in the dtype of the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from digan.ops import CoordMLP
from tests.op_cases import generator_of
from tests.ops import oracles

B, N, D = 3, 7, 4  # signals, points, size of a code


@dataclass(frozen=True)
class Network:
    """One kind of network; `smooth` if it has second derivatives by the coordinates."""

    name: str
    coordinates: int
    options: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float64, **more: Any) -> CoordMLP:
        """The module; phases of a few radians, so that the oracle loses no digits in them."""
        sizes = {"width": 9, "layers": 2, "rank": 2, "frequency_scale": 3.0}
        options = {**sizes, **self.options, **more}
        generator = generator_of(f"network {self.name}")
        return CoordMLP(self.coordinates, 2, generator=generator, **options).to(dtype)

    def codes(self, dtype: torch.dtype = torch.float64, count: int = B) -> Tensor | None:
        if "code_features" not in self.options:
            return None
        values = torch.randn(count, D, generator=generator_of("codes"), dtype=torch.float64)
        return values.to(dtype)

    def coords(self, dtype: torch.dtype = torch.float64) -> Tensor:
        shape = (B, N, self.coordinates)
        values = torch.rand(shape, generator=generator_of("coords"), dtype=torch.float64)
        return (2 * values - 1).to(dtype)


FEATURES = {"frequencies": 5}
CODES = {"code_features": D}
MANY = {"signals": B}
NETWORKS = (
    Network("siren_line", 1, {"alpha": 5.0}),
    Network("siren_image", 2),
    Network("siren_video", 3, {"first_alpha": 8.0}),
    Network("siren_four_coordinates", 4, {"layers": 1}),
    Network("relu", 2, {"activation": "relu"}, smooth=False),
    Network("gelu_one_layer", 3, {"activation": "gelu", "layers": 1}),
    Network("fourier_relu", 3, FEATURES | {"activation": "relu"}, smooth=False),
    Network("fourier_lrelu", 2, FEATURES | {"activation": "lrelu", "alpha": 0.1}, smooth=False),
    Network("fourier_swish_four_coordinates", 4, FEATURES | {"activation": "swish"}),
    Network("fourier_siren_learnt", 3, FEATURES | {"learn_frequencies": True, "alpha": 2.0}),
    Network("fourier_siren_line", 1, FEATURES),
    Network("many_sirens", 3, MANY),
    Network("many_softplus", 2, MANY | {"activation": "softplus", "layers": 1}),
    Network("many_fourier_relu", 3, MANY | FEATURES | {"activation": "relu"}, smooth=False),
    Network("many_fourier_tanh", 2, MANY | FEATURES | {"activation": "tanh"}),
    Network("codes_siren", 3, CODES | {"alpha": 10.0}),
    Network("codes_lrelu", 2, CODES | {"activation": "lrelu"}, smooth=False),
    Network("codes_fourier_gelu", 3, CODES | FEATURES | {"activation": "gelu"}),
    Network("codes_fourier_relu", 2, CODES | FEATURES | {"activation": "relu"}, smooth=False),
)
each_network = pytest.mark.parametrize("network", NETWORKS, ids=str)


def network_of(name: str) -> Network:
    return next(network for network in NETWORKS if network.name == name)


def some(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("network", [network_of(name) for name in names], ids=str)


def plain(mlp: CoordMLP, coords: Tensor, codes: Tensor | None) -> Tensor:
    """What a network of those parameters gives at coords [B, N, d], signal by signal."""
    p = {name: value.to(coords.dtype) for name, value in mlp.named_parameters()}
    p |= {name: value.to(coords.dtype) for name, value in mlp.named_buffers()}
    return torch.stack(
        [
            one_signal(mlp, p, b if mlp.signals > 1 else 0, x, None if codes is None else codes[b])
            for b, x in enumerate(coords)
        ]
    )


def one_signal(
    mlp: CoordMLP, p: dict[str, Tensor], signal: int, x: Tensor, code: Tensor | None
) -> Tensor:
    """The values [N, C] of one signal at x [N, d]."""
    layers = sum(name.startswith("weights") for name in p)
    at_coords = "freq" not in p
    factors = 0
    if code is not None:
        film = p["film.weight"] @ code + p["film.bias"]
        scale, shift = 1 + film[: len(film) // 2], film[len(film) // 2 :]
    if not at_coords:
        freq, phase = p["freq"][signal], torch.zeros_like(x[0, :1])
        if code is not None:
            freq, phase = freq * scale[:, None], shift
        angle = (x[:, None] * freq).sum(-1) + phase
        x = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
    for layer in range(layers):
        weight, bias = p[f"weights.{layer}"][signal], p[f"biases.{layer}"][signal]
        sine = mlp.activation == "sine" and layer < layers - 1
        alpha = mlp.first_alpha if layer == 0 and at_coords and sine else mlp.alpha
        if code is not None and layer == 0 and at_coords:
            weight = weight * scale[:, None]
            bias = bias + shift / (alpha if sine else 1)
        elif code is not None:
            rank, (outputs, inputs) = mlp.rank, weight.shape
            values = p[f"factors.{factors}.weight"] @ code + p[f"factors.{factors}.bias"]
            left = values[: outputs * rank].reshape(outputs, rank)
            right = values[outputs * rank :].reshape(rank, inputs)
            weight = weight * (1 + left @ right / math.sqrt(rank))
            factors += 1
        x = x @ weight.T + bias
        if layer < layers - 1:
            x = oracles.activated(x, mlp.activation, alpha)
    return x
