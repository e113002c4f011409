"""The op library: the layers of coordinate networks as PyTorch ops. Imports torch only.

Every op takes plain tensors, has one PyTorch formula (`X_reference`), a schema under
`torch.ops.digan`, a fake function, gradients of all orders (none where the result is bytes), and
the argument `impl`: `auto` (the default, or DIGAN_OPS of the environment), `fused`, `reference`.

`CoordMLP` puts them together: coordinate networks as one module, on grids and at points.

Shapes: B videos, T frames, H rows, W columns, C (I in, O out) channels, F frequencies,
R rank. Coordinates in units of the caller, frequencies in radians per unit.

Autocast: x, weight and skip of the linear ops, and x of `bias_act` and `fir_resample`, take
the autocast dtype; freq, phase, axes and biases stay as they are.
"""

from digan import native
from digan.ops._registry import (
    Impl,
    OpUnavailableError,
    default_impl,
    status,
    unavailable,
)
from digan.ops.bias_act import bias_act, bias_act_reference
from digan.ops.coord_chain import coord_chain, coord_chain_reference, coord_chain_refusal
from digan.ops.coord_linear import coord_linear, coord_linear_reference
from digan.ops.coord_mlp import CoordMLP
from digan.ops.coord_networks import CoordNetworks
from digan.ops.factorized_modulation import factorized_modulation, factorized_modulation_reference
from digan.ops.fir_resample import fir_resample, fir_resample_reference
from digan.ops.fourier_features import fourier_features, fourier_features_reference
from digan.ops.fourier_features_at import fourier_features_at, fourier_features_at_reference
from digan.ops.frames_to_uint8 import frames_to_uint8, frames_to_uint8_reference
from digan.ops.modulated_linear import modulated_linear, modulated_linear_reference

native.load()

__all__ = [
    "CoordMLP",
    "CoordNetworks",
    "Impl",
    "OpUnavailableError",
    "bias_act",
    "bias_act_reference",
    "coord_chain",
    "coord_chain_reference",
    "coord_chain_refusal",
    "coord_linear",
    "coord_linear_reference",
    "default_impl",
    "factorized_modulation",
    "factorized_modulation_reference",
    "fir_resample",
    "fir_resample_reference",
    "fourier_features",
    "fourier_features_at",
    "fourier_features_at_reference",
    "fourier_features_reference",
    "frames_to_uint8",
    "frames_to_uint8_reference",
    "modulated_linear",
    "modulated_linear_reference",
    "status",
    "unavailable",
]
