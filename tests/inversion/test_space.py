"""W, whitened: round and of size 1 for codes that were not used to measure it."""

from __future__ import annotations

import pytest
import torch

from digan.inversion import measure_space
from digan.nn.snapshot import load_network
from tests.tiny_runs import tiny_network


def whitened(network, count: int, seed: int) -> torch.Tensor:
    space = measure_space(network)
    z = torch.randn(count, network.config.latent_dim, generator=torch.Generator().manual_seed(seed))
    classes = network.config.num_classes
    w = network.mapping(z, torch.arange(count) % classes if classes else None)
    return torch.linalg.solve(space.basis, (w - space.mean).T).T


@pytest.mark.parametrize("classes", [0, 3])
def test_fresh_codes_are_round(classes):
    network = tiny_network(num_classes=classes, seed=5)
    u = whitened(network, 20_000, seed=8).double()
    second = u.T @ u / len(u)
    # Directions that the mapping hardly takes are let in at a least size; none is larger than 1.
    assert second.diagonal().max() < 1.1
    assert (second - torch.diag(second.diagonal())).abs().max() < 0.1
    assert second.diagonal().median() > 0.9


def test_the_trained_network_too():
    u = whitened(load_network("demo")[0], 20_000, seed=9).double()
    assert 0.9 < u.square().mean() < 1.1


def test_the_middle_is_the_average_code_and_the_space_is_repeatable():
    network = tiny_network(seed=2)
    network.w_avg.copy_(torch.randn(16))
    space, again, other = (measure_space(network, seed) for seed in (0, 0, 1))
    assert torch.equal(space.codes(torch.zeros(2, 16)), network.w_avg.expand(2, -1))
    assert torch.equal(space.basis, again.basis)
    assert not torch.equal(space.basis, other.basis)
    assert torch.allclose(space.basis, space.basis.T, atol=1e-6)
    rows = torch.randn(2, 3, 16)
    assert torch.allclose(space.codes(rows)[1, 2], space.codes(rows[1, 2]), atol=1e-5)
