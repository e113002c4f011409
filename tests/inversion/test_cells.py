"""Parts of frames with gradients: the same numbers as in the whole frame."""

from __future__ import annotations

import pytest
import torch

from digan.grid import SpaceTimeGrid
from digan.nn.generator import cell_pixels
from tests.golden_numbers import relative
from tests.tiny_runs import tiny_network


def test_pixels_of_cells():
    assert cell_pixels(torch.tensor([3, 0]), 1).tolist() == [3, 0]
    assert cell_pixels(torch.tensor([3, 0]), 4).tolist() == [12, 13, 14, 15, 0, 1, 2, 3]
    assert cell_pixels(torch.arange(0), 2).tolist() == []


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_cells_are_those_of_the_frame(resolution, stride):
    network = tiny_network(resolution, seed=stride)
    draws = torch.Generator().manual_seed(resolution + stride)
    z, z_motion = torch.randn(2, 3, 16, generator=draws)
    t = torch.rand(2, dtype=torch.float64, generator=draws)
    rows = torch.arange(stride - 1, 32, stride)
    columns = torch.randperm(32, generator=draws)[:5]
    factor = resolution // 32
    with torch.no_grad():
        video = network.write(network.map(z), z_motion)
        whole = video.render(SpaceTimeGrid(t))
        part = video.render_cells(t, rows, columns)
    wanted = whole[:, :, cell_pixels(rows, factor)][:, :, :, cell_pixels(columns, factor)]
    assert part.shape == (3, 2, factor * len(rows), factor * 5, 3)
    assert relative(part, wanted) < 1e-5


def test_gradients_of_cells_add_up_to_those_of_the_frame():
    network = tiny_network(64).double()
    ws = network.map(torch.randn(1, 16).double())
    t = torch.tensor([0.0, 0.6], dtype=torch.float64)

    def gradients(loss_of) -> tuple[torch.Tensor, ...]:
        codes = ws.clone().requires_grad_(), torch.ones(1, 16).double().requires_grad_()
        return torch.autograd.grad(loss_of(network.write(*codes)), codes)

    whole = gradients(lambda video: video.render(SpaceTimeGrid(t)).square().sum())
    lattices = [(torch.arange(i, 32, 2), torch.arange(j, 32, 2)) for i in (0, 1) for j in (0, 1)]
    parts = [
        gradients(lambda video, place=place: video.render_cells(t, *place).square().sum())
        for place in lattices
    ]
    for i in (0, 1):
        assert relative(sum(part[i] for part in parts), whole[i]) < 1e-10
