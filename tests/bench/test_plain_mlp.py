"""Plain PyTorch with the weights of a CoordMLP: the same values, and weights of its own."""

from __future__ import annotations

import pytest
import torch

from digan.bench.plain_mlp import plain_layers, plain_modulated
from digan.ops import CoordMLP
from tests.op_cases import relative_error


def new_mlp(**settings) -> CoordMLP:
    draw = torch.Generator().manual_seed(1)
    return CoordMLP(3, 2, width=17, layers=2, first_alpha=7.0, generator=draw, **settings)


@pytest.fixture
def coords() -> torch.Tensor:
    return 2 * torch.rand(3, 33, 3, generator=torch.Generator().manual_seed(2)) - 1


@pytest.mark.parametrize("frequencies", [0, 5])
def test_every_signal(coords, frequencies):
    mlp = new_mlp(signals=3, frequencies=frequencies, learn_frequencies=frequencies > 0)
    found = torch.stack([plain_layers(mlp, signal)(coords[0]) for signal in range(3)])
    assert relative_error(found, mlp(coords[0])) < 1e-5


def test_codes(coords):
    mlp = new_mlp(code_features=4)
    codes = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))
    assert relative_error(plain_modulated(mlp)((coords, codes))[0], mlp(coords, codes)) < 1e-5
    # Code 0 is the network without codes.
    assert relative_error(plain_layers(mlp)(coords), mlp(coords, 0 * codes)) < 1e-5


@pytest.mark.parametrize("settings", [{}, {"frequencies": 5}, {"code_features": 4}])
def test_weights_are_copies(coords, settings):
    mlp = new_mlp(**settings)
    before = [value.clone() for value in mlp.state_dict().values()]
    plain = plain_modulated(mlp) if "code_features" in settings else plain_layers(mlp)
    for value in plain.state_dict().values():
        value.add_(1.0)
    assert all(map(torch.equal, before, mlp.state_dict().values()))


def test_networks_of_another_form_are_refused():
    relu = new_mlp(activation="relu", code_features=4)
    for build in (plain_layers, plain_modulated):
        with pytest.raises(ValueError, match="mlp must have sine layers, got 'relu'"):
            build(relu)
    for settings in ({}, {"frequencies": 5, "code_features": 4}):
        with pytest.raises(ValueError, match="mlp must have codes, and plain coordinates"):
            plain_modulated(new_mlp(**settings))
