"""CoordMLP on the emulated kernels: SIREN and Fourier-feature networks, on grids and at points."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from digan.ops import CoordMLP, coord_mlp, coord_networks
from tests.emulation.build import emulated
from tests.emulation.byte_table import CountedCalls
from tests.op_cases import generator_of, relative_error
from tests.ops.plain_networks import NETWORKS, B, N, each_network, plain, some
from tests.ops.test_coord_mlp import check_equal, derivative_losses, gradients, leaves

H, W = 6, 4


@pytest.fixture
def calls(monkeypatch):
    """Kernels serve CPU tensors, as `impl="fused"` has them serve a GPU's; the calls of the ops."""
    path = coord_networks.choose_path
    for module in (coord_mlp, coord_networks):
        monkeypatch.setattr(module, "choose_path", lambda *given: (True, path(*given)[1]))
    with emulated(seed=11) as controls, CountedCalls(controls) as counted:
        yield counted.calls
    assert counted.calls
    assert [call.name for call in counted.calls if not call.launches] == []


def names(calls: list, forward: bool = True) -> list[str]:
    return [c.name for c in calls if c.name.endswith("_backward") != forward]


def axes(mlp: CoordMLP, dtype: torch.dtype) -> tuple[Tensor, ...]:
    lines = [torch.linspace(-0.9, 0.8, n, dtype=torch.float64).to(dtype) for n in (H, W, 3)]
    return tuple(lines[: mlp.coordinates])


def points(*lines: Tensor) -> Tensor:
    """[N, d] of a grid's axes y, x, t, in the order (x, y, t)."""
    y, x, *t = lines
    mesh = torch.meshgrid(*t, y, x, indexing="ij")
    return torch.stack(mesh[::-1], dim=-1).flatten(0, -2)


@each_network
def test_points(network, calls):
    """Values, and all gradients, in float64; one matrix product for every layer."""
    mlp, coords, codes = network.make(), network.coords(), network.codes()
    wanted = leaves(mlp, coords, codes)
    cotangent = torch.randn(B, N, 2, generator=generator_of("dy"), dtype=torch.float64)
    out, truth = mlp(coords, codes), plain(mlp, coords, codes)
    assert names(calls).count("modulated_linear") == len(mlp.weights)
    assert relative_error(out, truth) < 1e-13
    check_equal(
        gradients((out * cotangent).sum(), wanted),
        gradients((truth * cotangent).sum(), wanted),
        1e-12,
    )


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.coordinates in (2, 3)], ids=str)
def test_grids(network, calls):
    """As at the points of the grid; Fourier features are never made, not even once."""
    mlp, codes = network.make(), network.codes()
    lines = axes(mlp, torch.float64)
    out = mlp.on_grid(*lines, codes=codes)
    made = names(calls)
    assert made.count("coord_linear") == (mlp.freq is not None)
    assert made.count("modulated_linear") == len(mlp.weights) - 1
    assert "fourier_features" not in made
    everywhere = points(*lines).expand(len(out), -1, -1)
    assert relative_error(out.flatten(1, 3), plain(mlp, everywhere, codes)) < 1e-13


@pytest.mark.parametrize("width", [1, 8, 24, 33, 72])
@pytest.mark.parametrize("frequencies", [0, 12])
def test_any_width_under_autocast(width, frequencies, calls):
    """bfloat16 on grids and at points, forward and backward, beside the float64 network."""
    mlp = CoordMLP(
        3, 3, width=width, layers=2, frequencies=frequencies, frequency_scale=3.0, first_alpha=5.0,
        alpha=4.0, generator=generator_of("width"),
    )  # fmt: skip
    wide = copy.deepcopy(mlp).double()
    lines = axes(mlp, torch.float32)
    coords = points(*lines)
    truth = plain(wide, coords.double()[None], None)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = {"points": mlp(coords), "grid": mlp.on_grid(*lines).flatten(0, 3)}
    exact = gradients(truth.square().sum(), dict(wide.named_parameters()))
    for place, out in found.items():
        assert out.dtype == torch.bfloat16
        assert 1e-4 < relative_error(out, truth) < 0.05, place
        ours = gradients(out.float().square().sum(), dict(mlp.named_parameters()))
        ours, theirs = (
            torch.cat([g.double().flatten() for g in each.values()]) for each in (ours, exact)
        )
        assert float(ours @ theirs / (ours.norm() * theirs.norm())) > 0.99, place
    assert {"modulated_linear_backward"} <= set(names(calls, forward=False))


@some("siren_video", "fourier_siren_learnt", "codes_fourier_gelu")
def test_second_derivatives_by_coordinates(network, calls):
    """Eikonal losses: the first order by kernels, the second by the formulas."""
    mlp, codes = network.make(), network.codes()
    coords = network.coords().requires_grad_()
    found = derivative_losses(lambda x: mlp(x, codes), coords)
    truth = derivative_losses(lambda x: plain(mlp, x, codes), coords)
    check_equal(found, truth, 1e-10)
    assert "modulated_linear_backward" in names(calls, forward=False)
