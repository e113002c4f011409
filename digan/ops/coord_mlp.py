"""CoordMLP: coordinate networks as one module, for one signal, many, or a family with codes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from digan.ops import _registry
from digan.ops._activation import ACTIVATIONS, check_activation
from digan.ops._check import (
    check_count,
    check_flag,
    check_floating,
    check_integer,
    check_number,
    described,
)
from digan.ops.coord_networks import CoordNetworks, choose_path, wants_gradient, wide_dtype
from digan.ops.factorized_modulation import factorized_modulation

# How far the signals of a fresh network are apart, as standard deviations at codes of unit
# variance: of a weight relative to itself, of the first layer's phases (radians), of its
# frequencies relative to themselves.
_WEIGHT_SPREAD, _PHASE_SPREAD, _FREQ_SPREAD = 0.5, 0.5, 0.1

_linear = _registry.outside_autocast(functional.linear)


class CoordMLP(nn.Module):
    """A coordinate network (implicit neural representation) of d = 1 to 4 coordinates.

        h_1 = act(W_1 e + b_1),  h_k = act(W_k h_(k-1) + b_k),  out = W_L h_(L-1) + b_L

    with L = layers + 1 and e either the plain coordinates v (`frequencies=0`) or their Fourier
    features [sin(freq v); cos(freq v)]. Coordinates are in the order (x, y, t).

    One signal, the default:

        siren = CoordMLP(3, 3)                                        # (x, y, t) -> RGB
        fourier = CoordMLP(3, 3, frequencies=128, activation="relu")
        rgb = siren(coords)                                           # [N, 3] -> [N, 3]
        video = siren.on_grid(y, x, t)                                # [1, T, H, W, 3]

    Many independent signals, each with weights of its own, in one batched pass:

        many = CoordMLP(2, 3, signals=64)
        rgb = many(coords)                                            # [N, 2] -> [64, N, 3]

    A family of signals whose networks codes write (auto-decoder, hypernetwork, GAN):

        family = CoordMLP(3, 1, code_features=32)
        distance = family(coords, codes)                              # [B, N, 3] -> [B, N, 1]

    Every matrix is then W * (1 + left @ right / sqrt(rank)), `left` and `right` affine in the
    code (factorised modulation: INR-GAN, Skorokhodov et al. 2021), and the coordinates' own
    layer is modulated as FiLM does (Perez et al. 2018; pi-GAN, Chan et al. 2021): frequencies
    times 1 + gamma, phases plus beta, both affine in the code. Biases are shared.

    Initial values. Behind the first layer the pre-activations of a fresh network, alpha included,
    have a mean square of about 1 at any depth.
        sine: SIREN (Sitzmann et al. 2020, section 3.2). At plain coordinates weights
            U(-1/d, 1/d) and biases U(-1/sqrt(d), 1/sqrt(d)); in all other layers both
            U(-sqrt(6/I)/alpha, sqrt(6/I)/alpha). The mean square is 1 behind the first layer and
            settles at 0.80, where v = 1 - exp(-2 v).
        others: N(0, g^2/I) with g^2 = 1/E[act(Z)^2] for standard normal Z, which for relu is
            He et al. 2015, and biases 0. At plain coordinates weights N(0, 3/(2d)) and biases
            N(0, 1/2): variance 1 over the cube [-1, 1)^d, kinks all over it. On Fourier features
            N(0, 2/I), output N(0, 1/I).
        frequencies: N(0, frequency_scale^2) (Tancik et al. 2020).
        codes: a code of variance 1 changes a weight by half its size (standard deviation),
            phases by half a radian, frequencies by a tenth; code 0 is the network without codes.

    Precision: under autocast weights and activations take the autocast dtype; coordinates,
    frequencies, phases, the layer at plain coordinates and the writing of the codes' networks
    do not. `.to(torch.bfloat16)` works too, but it rounds frequencies, which a trained network
    does not forgive: prefer autocast.

    Native kernels (`impl="fused"`, or `auto` on a GPU), of any width, in float64, float32 (TF32 by
    PyTorch's setting), bfloat16 and float16. The fast way takes rows of whole 16 bytes: widths and
    2F that are multiples of 8, of 4 in float32; others go number by number. Outputs of up to 4
    features have a kernel of their own, bound by reading.
        points: a launch for every layer, bias and activation in it.
        grids: on Fourier features the first layer is `coord_linear`, which writes no features; at
            plain coordinates it is a sum of two tables in PyTorch and needs no product.
        activations: all are applied where the product ends. Backward, the slopes of linear, relu
            and lrelu are read with the output; the others keep the pre-activation and take a pass
            of `bias_act`'s.
        signals: a bias for each signal, which the ops do not know, and the activation behind it
            are passes of their own.
        derivatives: the first order by kernels, higher ones by the formulas in PyTorch.

    Args:
        coordinates: d. out_features: C, the values at a point.
        width: O of the hidden layers. layers: hidden layers, 1 or more.
        activation: of the hidden layers, any of `bias_act`.
        alpha: w0 of sine (30), slope of lrelu (0.2).
        first_alpha: w0 of a sine layer at plain coordinates: it sets the frequencies that the
            network begins with. alpha if None.
        frequencies: F, the number of Fourier frequencies; 0 for plain coordinates.
        frequency_scale: standard deviation of the frequencies in radians per unit, one number
            or one a coordinate. N samples a unit can show frequencies up to pi*N.
        learn_frequencies: frequencies are parameters; else a buffer.
        signals: S, independent networks in one module.
        code_features: D, the size of a code; 0 for networks without codes.
        rank: R of the modulation.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.
        generator: of the initial values; None for PyTorch's global one.

    Raises:
        ValueError: sizes out of range, unknown activation, several signals beside codes, a sine
            of alpha 0. TypeError: arguments of another type.
    """

    freq: Tensor | None

    def __init__(
        self,
        coordinates: int,
        out_features: int,
        *,
        width: int = 256,
        layers: int = 3,
        activation: str = "sine",
        alpha: float | None = None,
        first_alpha: float | None = None,
        frequencies: int = 0,
        frequency_scale: float | Sequence[float] = 30.0,
        learn_frequencies: bool = False,
        signals: int = 1,
        code_features: int = 0,
        rank: int = 8,
        impl: _registry.Impl | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        coordinates = check_integer("coordinates", coordinates)
        if not 1 <= coordinates <= 4:
            raise ValueError(f"coordinates must be 1 to 4, got {described(coordinates)}")
        out_features = check_count("out_features", out_features, 1)
        width, layers = check_count("width", width, 1), check_count("layers", layers, 1)
        signals, rank = check_count("signals", signals, 1), check_count("rank", rank, 1)
        frequencies = check_count("frequencies", frequencies, 0)
        code_features = check_count("code_features", code_features, 0)
        check_flag("learn_frequencies", learn_frequencies)
        if signals > 1 and code_features:
            raise ValueError(f"signals must be 1 for networks that codes write, got {signals}")
        if impl is not None and impl not in _registry.IMPLS:
            raise ValueError(f"impl must be one of {', '.join(_registry.IMPLS)}, got {impl!r}")
        self.coordinates, self.out_features = coordinates, out_features
        self.signals, self.code_features, self.rank = signals, code_features, rank
        self.activation, self.impl = activation, impl
        self.alpha, *_ = check_activation(activation, alpha)
        if activation == "sine" and self.alpha == 0:
            raise ValueError("alpha must not be 0 for sine, got 0")
        self.first_alpha = (
            self.alpha if first_alpha is None else check_number("first_alpha", first_alpha)
        )
        scale = _scale_of(frequency_scale, coordinates)
        self.register_buffer("freq", None)
        if frequencies:
            freq = torch.randn(signals, frequencies, coordinates, generator=generator) * scale
            self.freq = nn.Parameter(freq) if learn_frequencies else freq
        sizes = [2 * frequencies or coordinates, *[width] * layers, out_features]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index in range(layers + 1):
            weight, bias = self._initial(index, sizes, generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        if code_features:
            self._make_affines(sizes, generator)

    def _initial(
        self, index: int, sizes: Sequence[int], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Weight [S, O, I] and bias [S, O] of a layer, drawn as the class says."""
        inputs, outputs = sizes[index : index + 2]
        shape = (self.signals, outputs, inputs + 1)  # the bias is the last column
        at_coords = index == 0 and self.freq is None
        if self.activation == "sine":
            values = 2 * torch.rand(shape, generator=generator) - 1
            bound = 1 / inputs if at_coords else math.sqrt(6 / inputs) / self.alpha
            bias_size = 1 / math.sqrt(inputs) if at_coords else bound
        else:
            values = torch.randn(shape, generator=generator)
            bound, bias_size = math.sqrt(_gain(self.activation, self.alpha) / inputs), 0.0
            if at_coords:
                bound, bias_size = math.sqrt(1.5 / inputs), math.sqrt(0.5)
            elif index == 0:
                bound = math.sqrt(2 / inputs)
            elif index == len(sizes) - 2:
                bound = math.sqrt(1 / inputs)
        weight, bias = values.split([inputs, 1], dim=2)
        return weight * bound, bias[..., 0] * bias_size

    def _make_affines(self, sizes: Sequence[int], generator: torch.Generator | None) -> None:
        """The affine maps from a code to the first layer's FiLM and to all other factors."""
        first = sizes[1] if self.freq is None else self.freq.shape[1]
        spread = torch.tensor([_FREQ_SPREAD, _PHASE_SPREAD]).repeat_interleave(first)
        self.film = _Affine(self.code_features, spread, torch.zeros(2 * first), generator)
        self.factors = nn.ModuleList()
        for index in range(1 if self.freq is None else 0, len(sizes) - 1):
            # left = 0 + spread * code, right = noise + 0 * code: their product is linear in the
            # code at first, so no gradient vanishes at code 0 as that of a square would.
            left, right = (size * self.rank for size in (sizes[index + 1], sizes[index]))
            spread = torch.cat([torch.full((left,), _WEIGHT_SPREAD), torch.zeros(right)])
            center = torch.cat([torch.zeros(left), torch.randn(right, generator=generator)])
            self.factors.append(_Affine(self.code_features, spread, center, generator))

    def extra_repr(self) -> str:
        """The sizes, for `print(network)`."""
        parts = [f"{self.coordinates} -> {self.out_features}", f"activation={self.activation}"]
        if self.freq is not None:
            parts.append(f"frequencies={self.freq.shape[1]}")
        parts += [f"{n}={v}" for n in ("signals", "code_features") if (v := getattr(self, n)) > 1]
        return ", ".join(parts)

    def write(self, codes: Tensor | None = None) -> CoordNetworks:
        """The weights of every signal's network, to be evaluated any number of times.

        Args:
            codes: [B, D] for networks that codes write, else None.

        Returns:
            CoordNetworks with methods `at(coords)` and `on_grid(y, x, t)`.

        Raises:
            ValueError: codes missing, superfluous, or of another size.
        """
        self._check_codes(codes)
        dtype = self.weights[0].dtype
        wide = wide_dtype(dtype)
        weights, biases = list(self.weights), list(self.biases)
        freq = phase = None
        if self.freq is None:
            weights[0], biases[0] = weights[0].to(wide), biases[0].to(wide)
        else:
            freq = self.freq.to(wide)
            phase = freq.new_zeros(freq.shape[:2])
        if self.activation == "sine":
            # sin(alpha (W x + b)): here the factor costs less than at every point.
            for index in range(len(weights) - 1):
                at_coords = index == 0 and freq is None
                alpha = self.first_alpha if at_coords else self.alpha
                weights[index], biases[index] = weights[index] * alpha, biases[index] * alpha
        if codes is not None:
            native, impl = choose_path(self.impl, codes)
            if wants_gradient(codes, *weights) and not native:
                impl = "reference"  # without kernels the op's backward is no faster
            codes = codes.to(wide)
            gamma, beta = self.film(codes).chunk(2, dim=1)
            if freq is None:
                weights[0], biases[0] = weights[0] * (1 + gamma[:, :, None]), biases[0] + beta
            else:
                freq, phase = freq * (1 + gamma[:, :, None]), beta
            for index, factors in enumerate(self.factors, len(weights) - len(self.factors)):
                left, right = self._factors(factors(codes), weights[index])
                weights[index] = factorized_modulation(
                    weights[index][0].to(wide), left, right, demodulate=False, impl=impl
                ).to(dtype)
        return CoordNetworks(
            freq=freq,
            phase=phase,
            weights=tuple(weights),
            biases=tuple(biases),
            activation=self.activation,
            alpha=1.0 if self.activation == "sine" else self.alpha,
            batched=self.signals > 1 or codes is not None,
            impl=self.impl,
        )

    def _factors(self, values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """left [B, O, R] and right [B, R, I] for a weight [1, O, I]."""
        outputs, inputs = weight.shape[1:]
        left, right = values.split([outputs * self.rank, inputs * self.rank], dim=1)
        return left.view(-1, outputs, self.rank), right.view(-1, self.rank, inputs)

    def _check_codes(self, codes: Tensor | None) -> None:
        size = self.code_features
        if codes is not None:
            check_floating(weight=self.weights[0], codes=codes)
        given = None if codes is None else list(codes.shape)
        if not size and codes is not None:
            raise ValueError(f"codes must be None for networks without code_features, got {given}")
        if size and (codes is None or codes.dim() != 2 or codes.shape[1] != size):
            raise ValueError(f"codes must be [B, {size}], got {given}")

    def forward(self, coords: Tensor, codes: Tensor | None = None) -> Tensor:
        """Values at scattered points.

        Args:
            coords: [B, N, d] or, the same points for every signal, [N, d], in the order
                (x, y, t); any floating dtype, used in float32 (float64 for float64 networks).
            codes: [B, D] for networks that codes write, else None.

        Returns:
            [B, N, C], of the weights' dtype (under autocast, of its dtype). B is that of the
            codes, the signals or, for a single network, of coords; [N, C] if none has one.
            Differentiable to any order, by coords too.

        Raises:
            ValueError: shapes that do not fit. TypeError: not floating point.
            OpUnavailableError: `impl="fused"` without kernels.
        """
        return self.write(codes).at(coords)

    def on_grid(
        self, y: Tensor, x: Tensor, t: Tensor | None = None, codes: Tensor | None = None
    ) -> Tensor:
        """Values on a grid given by its axes, [B, T, H, W, C]; no coordinate tensor is made.

        Equal to `forward` at the points (x[w], y[h], t[b, k]). At Fourier features the first
        layer is `coord_linear`: the frames share one embedding, and time enters as a phase.

        A layer's activations take T*H*W*width numbers. For a long video write the weights once
        and loop; then nothing grows with T:

            networks = mlp.write(codes)
            for times in t.split(8):
                frames = networks.on_grid(y, x, times)

        Args:
            y: [H], x: [W], coordinates of the rows and columns.
            t: [T], or [B, T] with times of each signal's own, for networks of 3 coordinates;
                None for those of 2, which then have T = 1.
            codes: as in `forward`.

        Raises:
            ValueError: shapes that do not fit, a network of other than 2 or 3 coordinates.
            OpUnavailableError: `impl="fused"` without kernels.
        """
        return self.write(codes).on_grid(y, x, t)


class _Affine(nn.Module):
    """weight @ code + bias in the code's dtype, whatever autocast says: it writes weights."""

    def __init__(
        self, code_features: int, spread: Tensor, bias: Tensor, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        noise = torch.randn(len(bias), code_features, generator=generator)
        self.weight = nn.Parameter(noise * (spread / math.sqrt(code_features))[:, None])
        self.bias = nn.Parameter(bias)

    def forward(self, code: Tensor) -> Tensor:  # [B, D] -> [B, O]
        """Applies the map."""
        return _linear(code, self.weight.to(code.dtype), self.bias.to(code.dtype))


def _scale_of(frequency_scale: float | Sequence[float], coordinates: int) -> Tensor:
    """One number, or one a coordinate, as a tensor. Raises TypeError, ValueError."""
    one = getattr(frequency_scale, "ndim", 1) == 0  # a tensor or array of one number
    if one or isinstance(frequency_scale, str) or not isinstance(frequency_scale, Iterable):
        numbers = [check_number("frequency_scale", frequency_scale)]
    else:
        numbers = [check_number("frequency_scale", number) for number in frequency_scale]
        if len(numbers) != coordinates:
            raise ValueError(
                f"frequency_scale must be a number or {coordinates} numbers, "
                f"got {described(frequency_scale)}"
            )
    return torch.tensor(numbers, dtype=torch.get_default_dtype())


def _gain(activation: str, alpha: float) -> float:
    """1 / E[act(Z)^2] for standard normal Z: what keeps a variance through a layer."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    second_moment = torch.trapezoid(ACTIVATIONS[activation].function(z, alpha) ** 2 * density, z)
    return 1 / second_moment.item()
