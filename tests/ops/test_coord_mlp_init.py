"""The initial values of CoordMLP: those of the papers, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from digan.ops import CoordMLP
from tests.op_cases import generator_of
from tests.ops.plain_networks import NETWORKS, network_of


def mean_squares(mlp: CoordMLP, points: int) -> list[float]:
    """Of the pre-activations, alpha included, behind every layer of the first signal."""
    generator = generator_of("points")
    x = 2 * torch.rand(points, mlp.coordinates, generator=generator, dtype=torch.float64) - 1
    networks = mlp.double().write()
    if networks.freq is not None:
        angle = x @ networks.freq[0].T
        x = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
    found = []
    act = {"sine": torch.sin, "relu": torch.relu, "gelu": functional.gelu}
    act |= {"tanh": torch.tanh, "softplus": functional.softplus}
    with torch.no_grad():
        for weight, bias in zip(networks.weights, networks.biases, strict=True):
            z = x @ weight[0].T + bias[0]
            found.append(z.square().mean().item())
            x = act[mlp.activation](z)
    return found


@pytest.mark.parametrize("frequencies", [0, 128])
def test_siren_keeps_its_variance(frequencies):
    """Sitzmann et al. 2020: about 1 behind the first layer, then v = 1 - exp(-2 v), near 0.8.

    A layer of 256 units estimates its own mean square to about 1/sqrt(256) = 6 %, and the
    deviation is handed on; 12 % is twice that.
    """
    mlp = CoordMLP(
        3, 8, width=256, layers=5, frequencies=frequencies, generator=generator_of("siren")
    )
    first, *hidden, output = mean_squares(mlp, 1000)
    expected = 1 - math.exp(-2) if frequencies else 1.0
    if frequencies:
        assert abs(first - 1) < 0.12
    else:  # w0 = 30 at plain coordinates: many turns, so that any sine is as likely
        assert first > 50
    for found in hidden:
        assert abs(found / expected - 1) < 0.12, (found, expected)
        expected = 1 - math.exp(-2 * expected)
    # The output has the hidden bound, without alpha: as in the paper, small values at first.
    assert output < 0.01


@pytest.mark.parametrize("alpha", [1.0, 60.0])
def test_siren_has_the_same_spread_at_any_w0(alpha):
    mlp = CoordMLP(
        2, 1, width=256, layers=2, alpha=alpha, first_alpha=30.0, generator=generator_of("w0")
    )
    assert abs(mean_squares(mlp, 1000)[1] - 1) < 0.12


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "softplus"])
@pytest.mark.parametrize("frequencies", [0, 64])
def test_other_activations_keep_their_variance(activation, frequencies):
    """He et al. 2015 for relu, the same argument for the others: 1 in every layer.

    The mean square of a relu layer of 512 units varies by sqrt(5/512) = 10 %, layer by layer.
    """
    mlp = CoordMLP(
        2, 1, width=512, layers=4, activation=activation, frequencies=frequencies,
        generator=generator_of("he"),
    )  # fmt: skip
    for found in mean_squares(mlp, 500)[:-1]:
        assert abs(found - 1) < 0.3


def test_relu_is_he_initialised():
    mlp = CoordMLP(2, 1, width=512, layers=2, activation="relu", generator=generator_of("he"))
    assert abs(mlp.weights[1].std() - math.sqrt(2 / 512)) < 0.01 * math.sqrt(2 / 512)
    assert not mlp.biases[1].any()


def test_bounds_of_siren():
    """U(-1/d, 1/d) at the coordinates, U(-sqrt(6/I)/w0, sqrt(6/I)/w0) behind."""
    mlp = CoordMLP(2, 3, width=256, layers=2, alpha=20.0, generator=generator_of("bounds"))
    bounds = [0.5, math.sqrt(6 / 256) / 20, math.sqrt(6 / 256) / 20]
    for weight, bound in zip(mlp.weights, bounds, strict=True):
        assert 0.98 * bound < weight.abs().max() <= bound
        assert abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.05


def test_frequencies_have_the_scale_asked_for():
    mlp = CoordMLP(
        3, 1, frequencies=4000, frequency_scale=(30.0, 10.0, 2.0), generator=generator_of("f")
    )
    assert torch.allclose(mlp.freq[0].std(0), torch.tensor([30.0, 10.0, 2.0]), rtol=0.05)


@pytest.mark.parametrize("frequencies", [0, 200])
def test_codes_spread_the_signals(frequencies):
    """Codes of variance 1: weights by half their size, phases by 0.5, frequencies by a tenth."""
    mlp = CoordMLP(
        2, 1, width=200, layers=2, code_features=16, frequencies=frequencies,
        generator=generator_of("spread"),
    )  # fmt: skip
    codes = torch.randn(200, 16, generator=generator_of("spread codes"))
    family, still = mlp.write(codes), mlp.write(torch.zeros(1, 16))
    relative = family.weights[1] / still.weights[1] - 1
    assert abs(relative.square().mean().sqrt() - 0.5) < 0.05
    if frequencies:
        first, phases = family.freq / still.freq, family.phase
    else:
        first, phases = family.weights[0] / still.weights[0], family.biases[0] - still.biases[0]
    assert abs(first.std() - 0.1) < 0.01
    assert abs(phases.std() - 0.5) < 0.05


def test_generator_decides_everything():
    """Two modules of one seed are equal, and the global generator is left alone."""
    state = torch.get_rng_state()
    pairs = [[n.make().state_dict() for n in NETWORKS] for _ in range(2)]
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(*pairs, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    torch.manual_seed(3)
    first = CoordMLP(2, 1, width=4).weights[1]
    torch.manual_seed(4)
    assert not torch.equal(first, CoordMLP(2, 1, width=4).weights[1])


def test_fixed_frequencies_are_a_buffer_and_learnt_ones_a_parameter():
    fixed, learnt = network_of("fourier_relu").make(), network_of("fourier_siren_learnt").make()
    assert "freq" in dict(fixed.named_buffers())
    assert "freq" not in dict(fixed.named_parameters())
    assert "freq" in dict(learnt.named_parameters())
    assert "freq" in fixed.state_dict()
    assert "freq" in learnt.state_dict()
