"""CoordMLP against networks written out in plain PyTorch: values, derivatives, grids."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from digan.ops import CoordMLP, coord_mlp, coord_networks
from tests.op_cases import generator_of, relative_error
from tests.ops.plain_networks import NETWORKS, B, N, each_network, plain, some


@pytest.fixture(params=["small", "large", "groups", "kernels", "reference"])
def impl(request, monkeypatch):
    """Every way that a network can be evaluated; `impl` of the network.

    Small and large activations take different ways, many signals go in groups, and native kernels
    get whole layers: here their ops are called as if there were some, and run their formulas.
    """
    if request.param == "large":
        monkeypatch.setattr(coord_networks, "_LARGE", 0)
    elif request.param == "kernels":
        path = coord_networks.choose_path
        for module in (coord_mlp, coord_networks):
            monkeypatch.setattr(module, "choose_path", lambda *given: (True, path(*given)[1]))
    elif request.param == "groups":
        monkeypatch.setattr(coord_networks, "_GROUP", 2 * N * 9 * 8)  # two signals at N points
    return "reference" if request.param == "reference" else None


def leaves(mlp: CoordMLP, coords: Tensor, codes: Tensor | None) -> dict[str, Tensor]:
    """Everything that has a gradient, by name."""
    found = dict(mlp.named_parameters())
    found["coords"] = coords.requires_grad_()
    if codes is not None:
        found["codes"] = codes.requires_grad_()
    return found


def gradients(loss: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(x) if g is None else g
        for (name, x), g in zip(wanted.items(), found, strict=True)
    }


def check_equal(found: dict[str, Tensor], truth: dict[str, Tensor], limit: float) -> None:
    errors = {name: relative_error(found[name], truth[name]) for name in truth}
    assert {n: e for n, e in errors.items() if not e <= limit} == {}


# ---------------------------------------------------------------- values and derivatives


@each_network
def test_values_and_gradients(network, impl):
    mlp, coords, codes = network.make(impl=impl), network.coords(), network.codes()
    wanted = leaves(mlp, coords, codes)
    cotangent = torch.randn(B, N, 2, generator=generator_of("dy"), dtype=torch.float64)
    out, truth = mlp(coords, codes), plain(mlp, coords, codes)
    assert out.shape == (B, N, 2)
    assert relative_error(out, truth) < 1e-13
    check_equal(
        gradients((out * cotangent).sum(), wanted),
        gradients((truth * cotangent).sum(), wanted),
        1e-12,
    )
    # Without a gradient by the coordinates other formulas may run; they give the same.
    del wanted["coords"]
    fixed = mlp(coords.detach(), codes)
    assert relative_error(fixed, truth) < 1e-13
    check_equal(
        gradients((fixed * cotangent).sum(), wanted),
        gradients((truth * cotangent).sum(), wanted),
        1e-12,
    )


@each_network
def test_float32(network):
    """As exact as plain PyTorch in float32, within a factor of 4 and the last digits."""
    mlp, coords, codes = network.make(torch.float32), network.coords(), network.codes()
    coords = coords.float()
    codes = None if codes is None else codes.float()
    wide = copy.deepcopy(mlp).double()
    truth = plain(wide, coords.double(), None if codes is None else codes.double())
    out = mlp(coords, codes)
    assert out.dtype == torch.float32
    limit = 4 * relative_error(plain(mlp, coords, codes), truth) + 1e-6
    assert relative_error(out, truth) < limit


def derivative_losses(function, coords: Tensor) -> dict[str, Tensor]:
    """What eikonal, flow and physics losses take: |gradient|, and the Laplacian."""
    out = function(coords)
    (first,) = torch.autograd.grad(out[..., 0].sum(), coords, create_graph=True)
    laplacian = 0
    for axis in range(coords.shape[-1]):
        (second,) = torch.autograd.grad(first[..., axis].sum(), coords, create_graph=True)
        laplacian = laplacian + second[..., axis]
    return {"gradient": first, "laplacian": laplacian, "eikonal": (first.norm(dim=-1) - 1) ** 2}


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.smooth], ids=str)
def test_second_derivatives_by_coordinates(network, impl):
    """Their values, and the gradients of losses on them by every parameter and by the codes."""
    mlp, coords, codes = network.make(impl=impl), network.coords(), network.codes()
    wanted = leaves(mlp, coords, codes)
    found = derivative_losses(lambda c: mlp(c, codes), coords)
    truth = derivative_losses(lambda c: plain(mlp, c, codes), coords)
    check_equal(found, truth, 1e-11)
    for name in ("laplacian", "eikonal"):
        check_equal(
            gradients(found[name].square().mean(), wanted),
            gradients(truth[name].square().mean(), wanted),
            1e-10,
        )


@some("relu", "fourier_relu", "codes_lrelu")
def test_eikonal_loss_of_piecewise_linear_networks(network):
    mlp, coords, codes = network.make(), network.coords(), network.codes()
    wanted = leaves(mlp, coords, codes)
    losses = []
    for function in (mlp, lambda c, k: plain(mlp, c, k)):
        out = function(coords, codes)
        (first,) = torch.autograd.grad(out[..., 0].sum(), coords, create_graph=True)
        losses.append(((first.norm(dim=-1) - 1) ** 2).mean())
    check_equal(gradients(losses[0], wanted), gradients(losses[1], wanted), 1e-11)


@some("siren_image", "many_softplus", "codes_fourier_gelu")
def test_gradgradcheck(network):
    """PyTorch's own finite differences, through the ops' own second order too."""
    mlp, codes = network.make(width=3, layers=1, alpha=2.0, first_alpha=2.0), network.codes()
    coords = network.coords()[:, :2].requires_grad_()
    inputs = (coords,) if codes is None else (coords, codes.requires_grad_())
    assert torch.autograd.gradcheck(mlp, inputs)
    assert torch.autograd.gradgradcheck(mlp, inputs)
    if codes is not None:
        fixed = coords.detach()
        assert torch.autograd.gradgradcheck(lambda c: mlp(fixed, c), (codes,))


# ---------------------------------------------------------------- grids


def axes(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """y, x and t of a grid with sides that nothing divides."""
    x = torch.linspace(-1, 0.9, 7, dtype=dtype)
    return torch.linspace(1, -0.8, 5, dtype=dtype), x, torch.tensor([0.0, 0.4, 1.3], dtype=dtype)


def grid_points(y: Tensor, x: Tensor, t: Tensor | None) -> Tensor:
    """[T*H*W, d] in the order (x, y, t)."""
    if t is None:
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    times, rows, columns = torch.meshgrid(t, y, x, indexing="ij")
    return torch.stack([columns, rows, times], dim=-1).reshape(-1, 3)


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.coordinates in (2, 3)], ids=str)
def test_grid_equals_points(network, impl):
    mlp, codes = network.make(impl=impl), network.codes()
    y, x, t = axes()
    t = t if network.coordinates == 3 else None
    count = B if mlp.signals > 1 or codes is not None else 1
    out = mlp.on_grid(y, x, t, codes)
    frames = 1 if t is None else 3
    assert out.shape == (count, frames, 5, 7, 2)
    points = grid_points(y, x, t)
    at_points = mlp(points, codes).reshape(out.shape)
    truth = plain(mlp, points.expand(count, -1, -1), codes).reshape(out.shape)
    assert relative_error(out, at_points) < 1e-12
    assert relative_error(out, truth) < 1e-12
    cotangent = torch.randn(out.shape, generator=generator_of("dy"), dtype=torch.float64)
    wanted = leaves(mlp, y, codes)
    del wanted["coords"]
    check_equal(
        gradients((out * cotangent).sum(), wanted),
        gradients((truth * cotangent).sum(), wanted),
        1e-12,
    )


@some("siren_video", "codes_siren", "fourier_relu", "codes_fourier_gelu", "many_fourier_relu")
def test_grid_with_times_of_each_signal(network):
    mlp, codes = network.make(), network.codes()
    count = B if mlp.signals > 1 or codes is not None else 1
    y, x, t = axes()
    own = torch.stack([t + b / 7 for b in range(count)])
    out = mlp.on_grid(y, x, own, codes)
    for b in range(count):
        assert torch.allclose(out[b], mlp.on_grid(y, x, own[b], codes)[b], rtol=0, atol=1e-13)


@some("siren_video", "fourier_siren_learnt", "codes_fourier_gelu")
def test_grid_is_differentiable_by_its_axes(network):
    mlp, codes = network.make(), network.codes()
    wanted = dict(zip("yxt", (axis.requires_grad_() for axis in axes()), strict=True))
    out = mlp.on_grid(*wanted.values(), codes)
    points = grid_points(*wanted.values())
    truth = plain(mlp, points.expand(len(out), -1, -1), codes).reshape(out.shape)
    cotangent = torch.randn(out.shape, generator=generator_of("dy"), dtype=torch.float64)
    check_equal(
        gradients((out * cotangent).sum(), wanted),
        gradients((truth * cotangent).sum(), wanted),
        1e-12,
    )


@some("siren_video", "fourier_relu", "codes_siren")
def test_a_long_video_in_parts(network):
    """Weights written once, frames in chunks: the same video, whatever the chunks."""
    mlp, codes = network.make(), network.codes()
    y, x, _ = axes()
    t = torch.linspace(0, 2, 11, dtype=torch.float64)
    networks = mlp.write(codes)
    parts = [networks.on_grid(y, x, times) for times in t.split(4)]
    whole = mlp.on_grid(y, x, t, codes)
    assert relative_error(torch.cat(parts, dim=1), whole) < 1e-14


def test_large_times_cost_no_digits():
    """Ten thousand radians: the phase is formed in float64 and turned back."""
    mlp = CoordMLP(3, 1, width=8, layers=1, frequencies=16, generator=generator_of("far"))
    y, x, _ = axes(torch.float32)
    t = torch.tensor([100.0, 333.0])
    truth = copy.deepcopy(mlp).double().on_grid(y.double(), x.double(), t.double())
    assert relative_error(mlp.on_grid(y, x, t), truth) < 2e-6
    assert relative_error(truth[:, 0], truth[:, 1]) > 0.1


# ---------------------------------------------------------------- autocast


@some("siren_image", "fourier_siren_learnt", "codes_fourier_gelu", "codes_siren", "many_sirens")
def test_autocast(network, impl):
    """bfloat16 out; coordinates, phases and the writing of weights stay as exact as they are.

    The points lie closer together than bfloat16 can tell, at frequencies that can.
    """
    mlp = network.make(
        torch.float32, alpha=None, first_alpha=2000.0, frequency_scale=2000.0, impl=impl
    )
    steps = torch.linspace(0.9, 0.904, N).repeat(B, network.coordinates, 1).transpose(1, 2)
    assert len(steps[0].bfloat16().unique()) < 3
    codes = network.codes(torch.float32)
    exact = mlp(steps, codes)
    with torch.autocast("cpu", torch.bfloat16):
        out = mlp(steps, codes)
        loss = out.float().square().sum()
    assert out.dtype == torch.bfloat16
    assert relative_error(out, exact) < 0.05
    loss.backward()
    for name, parameter in mlp.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


@some("siren_video", "fourier_relu", "codes_fourier_gelu")
def test_autocast_on_grids(network, impl):
    mlp, codes = network.make(torch.float32, impl=impl), network.codes(torch.float32)
    axis = torch.linspace(-1, 1, 6)
    exact = mlp.on_grid(axis, axis, axis, codes)
    with torch.autocast("cpu", torch.bfloat16):
        out = mlp.on_grid(axis, axis, axis, codes)
    assert out.dtype == torch.bfloat16
    assert relative_error(out, exact) < 0.05
