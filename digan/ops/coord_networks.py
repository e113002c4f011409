"""CoordNetworks: the evaluation of S coordinate networks, at points or on a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._activation import ACTIVATIONS, activate
from digan.ops._check import check_floating, check_shape, check_tensor
from digan.ops.bias_act import bias_act
from digan.ops.coord_linear import coord_linear
from digan.ops.fourier_features_at import fourier_features_at
from digan.ops.modulated_linear import modulated_linear

_TURN = 2 * math.pi

# Without native kernels, on a CPU. From this many bytes of one signal's activation on an op is
# faster than plain PyTorch: it goes tile by tile and so spares the memory. Below, its calls cost
# more than that.
_LARGE = 1 << 22
# Many small signals go through all layers in groups whose activations stay in cache.
_GROUP = 1 << 21

_baddbmm = _registry.outside_autocast(torch.baddbmm)
_activate = _registry.outside_autocast(activate)
# Coordinates stay as they are under autocast: bfloat16 would merge neighbouring pixels.
_linear_on_coords = _registry.outside_autocast(modulated_linear)
_bias_act_on_coords = _registry.outside_autocast(bias_act)


@dataclass(frozen=True)
class CoordNetworks:
    """The networks of S signals with their weights written: what `CoordMLP.write` returns.

    Evaluating it again, at other points or frame by frame, does not write the weights again.

    Attributes:
        freq, phase: [S, F, d] radians per unit and [S, F]; both None on plain coordinates.
        weights: [S, O, I], first layer to last. The factor w0 of sine layers is in them.
        biases: [S, O] each, or [1, O] where all signals share one.
        activation, alpha: of all layers but the last.
        batched: whether outputs have an axis of signals where the points have none.
        impl: path of the ops.
    """

    freq: Tensor | None
    phase: Tensor | None
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: str
    alpha: float
    batched: bool
    impl: _registry.Impl | None

    @property
    def signals(self) -> int:
        """S, the number of signals."""
        return self.weights[0].shape[0]

    @property
    def coordinates(self) -> int:
        """d, the number of coordinates of a point."""
        return (self.weights[0] if self.freq is None else self.freq).shape[2]

    def at(self, coords: Tensor) -> Tensor:
        """Values at points; see `CoordMLP.forward`."""
        d, signals = self.coordinates, self.signals
        check_tensor("coords", coords)
        check_floating(weight=self.weights[0], coords=coords)
        everywhere = coords.dim() == 2  # the same points for all signals
        right = coords.dim() in (2, 3) and coords.shape[-1] == d
        if not (right and (everywhere or signals == 1 or coords.shape[0] == signals)):
            wanted = "B" if signals == 1 else signals
            raise ValueError(
                f"coords must be [{wanted}, N, {d}] or [N, {d}], got {list(coords.shape)}"
            )
        groups = self._groups(coords, coords.shape[-2])
        if len(groups) > 1:
            sizes = [group.signals for group in groups]
            parts = [coords] * len(groups) if everywhere else coords.split(sizes)
            return torch.cat([g.at(part) for g, part in zip(groups, parts, strict=True)])
        x = coords.to(wide_dtype(self.weights[-1].dtype))
        if everywhere:
            x = x.expand(signals, -1, -1)
        elif signals == 1:  # one network for all sets of points: they are one set
            x = x.reshape(1, coords.shape[0] * coords.shape[1], d)
        native, impl = choose_path(self.impl, coords)
        if wants_gradient(coords) and not native:
            # Who differentiates by the coordinates will do so twice. Plain autograd is then the
            # shorter way: it keeps what the ops would compute again, and leaves out what nobody
            # asked for.
            impl = "reference"
        if self.freq is not None:
            assert self.phase is not None
            dtype = self.weights[0].dtype
            x = fourier_features_at(self.freq, self.phase, x, dtype=dtype, impl=impl)
        x = self._rest(x, 0, native, impl)
        if everywhere:
            return x if self.batched else x[0]
        return x.reshape(coords.shape[0], coords.shape[1], x.shape[-1])

    def on_grid(self, y: Tensor, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Values on a grid given by its axes; see `CoordMLP.on_grid`."""
        signals, count = self.signals, 2 if t is None else 3
        if self.coordinates != count:
            axes = "y, x" if t is None else "y, x, t"
            raise ValueError(
                f"a grid of {axes} needs a network of {count} coordinates, "
                f"got one of {self.coordinates}"
            )
        check_floating(weight=self.weights[0], y=y, x=x, t=t)
        check_shape({}, "y", y, ("H",))
        check_shape({}, "x", x, ("W",))
        dtype = wide_dtype(self.weights[-1].dtype)
        if t is not None:
            if t.dim() != 1 and (t.dim() != 2 or t.shape[0] != signals):
                raise ValueError(f"t must be [T] or [{signals}, T], got {list(t.shape)}")
            t = t.to(dtype).expand(signals, -1)
        groups = self._groups(y, len(y) * len(x) * (1 if t is None else t.shape[1]))
        if len(groups) > 1:
            times = [t] * len(groups) if t is None else t.split([g.signals for g in groups])
            return torch.cat([g.on_grid(y, x, own) for g, own in zip(groups, times, strict=True)])
        native, impl = choose_path(self.impl, y)
        first = self._separable if self.freq is None else self._embedded
        z = first(y.to(dtype), x.to(dtype), t, native, impl)
        size = z.shape[:-1]
        rows = z.reshape(signals, size[1] * size[2] * size[3], z.shape[-1])
        out = self._rest(rows, 1, native, impl)
        return out.reshape(*size, out.shape[-1])

    def _groups(self, coords: Tensor, rows: int) -> list[CoordNetworks]:
        """These networks, or the groups of them that are to be evaluated one after the other."""
        width = max(weight.shape[1] for weight in self.weights)
        count = max(_GROUP // max(rows * width * self.weights[-1].element_size(), 1), 1)
        on_cpu = coords.device.type == "cpu" and not torch.compiler.is_compiling()
        if self.signals <= count or not on_cpu:
            return [self]

        # Not slices: autograd joins the parts of a split in one step.
        def parts(tensor: Tensor | None) -> Iterable[Tensor | None]:
            if tensor is None or tensor.shape[0] == 1:  # of all signals
                return itertools.repeat(tensor)
            pieces: tuple[Tensor, ...] = tensor.split(count)
            return pieces

        weights = zip(*(weight.split(count) for weight in self.weights), strict=True)
        biases = zip(*map(parts, self.biases), strict=False)
        return [
            replace(self, freq=freq, phase=phase, weights=own, biases=shifts)
            for freq, phase, own, shifts in zip(
                parts(self.freq), parts(self.phase), weights, biases, strict=False
            )
        ]

    def _separable(
        self, y: Tensor, x: Tensor, t: Tensor | None, native: bool, impl: _registry.Impl
    ) -> Tensor:
        """The first layer at the plain coordinates of a grid, [S, T, H, W, O]; t is [S, T].

        A linear function of coordinates is the sum of a table for the rows of all frames and
        one for the columns.
        """
        weight, bias = self.weights[0], self.biases[0]
        rows = weight[:, None, None, :, 1] * y[:, None] + bias[:, None, None]
        if t is not None:
            rows = rows + weight[:, None, None, :, 2] * t[:, :, None, None]
        columns = weight[:, None, :, 0] * x[:, None]
        z = rows[:, :, :, None] + columns[:, None, None]
        return self._activated(z, self.activation, native, impl, at_coords=True)

    def _embedded(
        self, y: Tensor, x: Tensor, t: Tensor | None, native: bool, impl: _registry.Impl
    ) -> Tensor:
        """The first layer on the Fourier features of a grid, [S, T, H, W, O]; t is [S, T]."""
        assert self.freq is not None
        assert self.phase is not None
        freq, phase = self.freq, self.phase[:, None]
        weight, bias = self.weights[0], self.biases[0]
        if t is not None:
            phase = phase + _turned(freq[:, None, :, 2], t[:, :, None])
        shared = bias.shape[0] == 1
        whole = shared and (native or ACTIVATIONS[self.activation].homogeneous)
        if wants_gradient(weight) and not native and not wants_gradient(freq, phase, y, x):
            impl = "reference"  # autograd leaves out the gradients of what is fixed
        z = coord_linear(
            freq[..., :2], phase, y, x, weight, bias[0] if shared else None, None,
            self.activation if whole else "linear", alpha=self.alpha, impl=impl,
        )  # fmt: skip
        if whole:
            return z
        if not shared:  # the ops know one bias for all signals
            z = z + bias.to(z.dtype)[:, None, None, None]
        return self._activated(z, self.activation, native, impl)

    def _rest(self, x: Tensor, first: int, native: bool, impl: _registry.Impl) -> Tensor:
        """The layers from `first` on, of rows [S, P, I]."""
        last = len(self.weights) - 1
        for index in range(first, last + 1):
            activation = self.activation if index < last else "linear"
            weight, bias = self.weights[index], self.biases[index]
            shared = bias.shape[0] == 1
            at_coords = index == 0 and self.freq is None
            op = _linear_on_coords if at_coords else modulated_linear
            x = x.to(weight.dtype)
            large = x.shape[1] * weight.shape[1] * x.element_size() >= _LARGE
            if native or (shared and large and impl != "reference"):
                whole = shared and (native or ACTIVATIONS[activation].homogeneous)
                x = op(
                    x, weight, bias[0] if shared else None,
                    activation if whole else "linear", alpha=self.alpha, impl=impl,
                )  # fmt: skip
                if whole:
                    continue
                z = x if shared else x + bias.to(x.dtype)[:, None]
            else:
                if not at_coords:
                    x, weight = _registry.autocast(x, weight)
                z = _baddbmm(bias.to(x.dtype)[:, None], x, weight.transpose(1, 2))
            x = self._activated(z, activation, native, impl, at_coords=at_coords)
        return x

    def _activated(
        self,
        z: Tensor,
        activation: str,
        native: bool,
        impl: _registry.Impl,
        *,
        at_coords: bool = False,
    ) -> Tensor:
        if native:
            op = _bias_act_on_coords if at_coords else bias_act
            return op(z, None, activation, alpha=self.alpha, dim=-1, impl=impl)
        if activation == "sine":
            return torch.sin(z)  # alpha is in the weights
        # PyTorch's own derivatives take fewer passes than the formulas of the ops.
        return _activate(z, activation, self.alpha, 1.0, None)


def choose_path(impl: _registry.Impl | None, tensor: Tensor) -> tuple[bool, _registry.Impl]:
    """Whether native kernels will serve a tensor, and `impl` for the ops."""
    chosen = cast(_registry.Impl, impl or _registry.default_impl())
    if chosen == "auto":
        served = tensor.device.type == "cuda" and not _registry.unavailable("modulated_linear")
        return served, chosen
    return chosen == "fused", chosen


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of coordinates, frequencies and phases beside weights of a dtype."""
    return torch.promote_types(dtype, torch.float32)


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether autograd will go through any of them."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _turned(freq: Tensor, t: Tensor) -> Tensor:
    """freq * t in freq's dtype, less whole turns, which would cost its last digits."""
    if freq.dtype == torch.float64:
        return freq * t
    angle = freq.double() * t.double()
    return (angle - _TURN * torch.round(angle.detach() / _TURN)).to(freq.dtype)
