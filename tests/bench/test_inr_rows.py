"""The workloads of other INR projects: both providers do the same work, and all of it."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from digan.bench import inr_rows
from digan.bench.inr_rows import (
    OURS,
    PLAIN,
    clip_fitting,
    many_images,
    modulated_points,
    scattered_points,
)
from digan.bench.plain_mlp import plain_layers
from digan.ops import CoordMLP
from tests.op_cases import relative_error

SMALL = {
    "siren": functools.partial(clip_fitting, frames=3, size=8, width=16, layers=2),
    "fourier": functools.partial(
        clip_fitting, frames=3, size=8, width=16, layers=2, frequencies=12
    ),
    "scattered": functools.partial(scattered_points, points=90, width=16, layers=2),
    "scattered_fourier": functools.partial(
        scattered_points, points=90, width=16, layers=2, frequencies=12
    ),
    "points": functools.partial(
        modulated_points, signals=3, points=20, width=16, layers=2, code_features=5
    ),
    "images": functools.partial(many_images, signals=3, size=8, width=16, layers=2),
}
each_workload = pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)


@pytest.fixture
def networks(monkeypatch) -> dict:
    """The networks of the workload that is built next, by provider."""
    found: dict = {}
    compare = inr_rows._compare

    def keep(name, sizes, dtype, device, networks, *works):
        found.update(networks)
        return compare(name, sizes, dtype, device, networks, *works)

    monkeypatch.setattr(inr_rows, "_compare", keep)
    return found


@each_workload
def test_providers_agree(build, networks):
    """In values, in losses, and in the size of all gradients together."""
    work = build("cpu", torch.float32)
    values = {name: run() for name, run in work.forward.items()}
    losses = {name: run() for name, run in work.training.items()}
    assert set(values) == set(losses) == set(networks) >= {OURS, PLAIN}
    for name in values:
        assert not values[name].requires_grad
        assert relative_error(values[name], values[PLAIN]) < 1e-5
        assert relative_error(losses[name], losses[PLAIN]) < 1e-5
    assert isinstance(networks[OURS], CoordMLP)
    assert not any(isinstance(module, CoordMLP) for module in networks[PLAIN].modules())
    totals = []
    for network in networks.values():
        # An output's bias has no gradient where the loss sees derivatives alone.
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert len(grads) == len(list(network.parameters()))
        totals.append(torch.stack([g.double().square().sum() for g in grads]).sum())
    assert all(relative_error(total, totals[0]) < 1e-4 for total in totals)


@each_workload
def test_a_step_can_be_repeated(build, networks):
    """Gradients are those of one step, however often it ran."""
    work = build("cpu", torch.float32)
    for name, run in work.training.items():
        first = run()
        grads = [p.grad.clone() for p in networks[name].parameters()]
        assert torch.equal(run(), first)
        for p, grad in zip(networks[name].parameters(), grads, strict=True):
            assert relative_error(p.grad, grad) < 1e-5


@each_workload
def test_low_precision(build):
    """Under autocast both still agree: no provider rounds coordinates."""
    work = build("cpu", torch.bfloat16)
    values = {name: run() for name, run in work.forward.items()}
    assert {v.dtype for v in values.values()} == {torch.bfloat16}
    assert relative_error(values[OURS], values[PLAIN]) < 0.05
    losses = {name: run() for name, run in work.training.items()}
    assert relative_error(losses[OURS], losses[PLAIN]) < 0.05


def test_counted_arithmetic():
    """2 I O for every point and layer; frequencies count as a layer."""
    points, width = 3 * 8 * 8, 16
    siren = SMALL["siren"]("cpu", torch.float32)
    assert siren.flops == 2 * points * (3 * width + width * width + width * 3)
    fourier = SMALL["fourier"]("cpu", torch.float32)
    assert fourier.flops == 2 * points * (3 * 12 + 24 * width + width * width + width * 3)
    images = SMALL["images"]("cpu", torch.float32)
    assert images.flops == 2 * 3 * 8 * 8 * (2 * width + width * width + width * 3)


@each_workload
def test_our_provider_needs_no_more_arithmetic(build):
    """Its matrix products, counted; a grid at plain coordinates even spares one."""
    work = build("cpu", torch.float32)
    with FlopCounterMode(display=False) as counter:
        work.forward[OURS]()
    assert 0 < counter.get_total_flops() <= work.flops


def test_disagreement_is_an_error(monkeypatch):
    """Else a benchmark of two different things would go unnoticed."""

    def wrong(mlp, signal=0):
        layers = plain_layers(mlp, signal)
        layers[0].bias.data += 0.01
        return layers

    monkeypatch.setattr(inr_rows, "plain_layers", wrong)
    with pytest.raises(RuntimeError, match=r"clip, SIREN: CoordMLP must agree with nn.Sequential"):
        SMALL["siren"]("cpu", torch.float32)


def test_sizes_say_what_was_built():
    work = SMALL["fourier"]("cpu", torch.float32)
    assert work.name == "clip, Fourier features"
    assert work.sizes == {"frames": 3, "size": 8, "width": 16, "layers": 2, "frequencies": 12}
    assert work.forward[OURS]().shape == (3, 8, 8, 3)
