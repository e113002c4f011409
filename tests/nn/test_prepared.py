"""Weights that are made ready once: the gradients of weights that are made ready at every use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from digan.nn import PairDiscriminator
from digan.nn.layers import Convolution
from digan.nn.prepared import PreparedWeights
from tests.nn.tiny import noise, randomised, tiny_discriminators

SIZE, BATCH = 32, 4


def passes(dtype: torch.dtype, count: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [
        (
            noise(BATCH, 2, 3, SIZE, SIZE, seed=2 * i, dtype=dtype).requires_grad_(),
            noise(BATCH, seed=2 * i + 1, dtype=dtype),
        )
        for i in range(count)
    ]


def logits(network: PairDiscriminator, frames: Tensor, dt: Tensor) -> Tensor:
    return torch.cat(network(frames, dt))


def losses(network: PairDiscriminator, dtype: torch.dtype) -> Iterator[Tensor]:
    """Of first order, and of second as R1 has it."""
    for frames, dt in passes(dtype):
        yield torch.nn.functional.softplus(logits(network, frames, dt)).mean()
    for frames, dt in passes(dtype):
        total = logits(network, frames, dt).sum()
        (by_frames,) = torch.autograd.grad(total, frames, create_graph=True)
        yield by_frames.square().sum()


def gradients(network: PairDiscriminator) -> dict[str, Tensor]:
    found = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == parameter.dtype
        assert parameter.grad.stride() == parameter.stride()
        found[name] = parameter.grad
    return found


def pair(dtype: torch.dtype, arithmetic: torch.dtype | None = None) -> PairDiscriminator:
    network = tiny_discriminators(SIZE)
    made = PairDiscriminator(network.config, dtype=arithmetic).to(dtype)
    return randomised(made, 3).requires_grad_(True)


def test_gradients_of_both_orders_are_those_of_weights_made_at_every_use():
    used, prepared = pair(torch.float64), pair(torch.float64)
    for loss in losses(used, torch.float64):
        loss.backward()
    with PreparedWeights(prepared) as weights:
        for loss in losses(prepared, torch.float64):
            loss.backward()
            weights.gather()
    ours, expected = gradients(prepared), gradients(used)
    for name, value in expected.items():
        assert float((ours[name] - value).norm() / value.norm()) < 1e-12, name


def test_every_weight_is_made_once(monkeypatch):
    network, made = pair(torch.float32), []
    original = Convolution.prepare
    monkeypatch.setattr(Convolution, "prepare", lambda self: made.append(self) or original(self))
    convolutions = [m for m in network.modules() if isinstance(m, Convolution)]
    with PreparedWeights(network):
        for loss in losses(network, torch.float32):
            loss.backward()
    assert made == convolutions
    next(losses(network, torch.float32))
    assert len(made) == 2 * len(convolutions)  # without, at every use


def test_sums_of_narrow_gradients_are_wide():
    """What one pass leaves is rounded to float16; the sum over passes is not."""
    network = pair(torch.float32, torch.float16)
    name = "video.blocks.0.conv0.weight"
    alone = []
    for i in range(2):
        with PreparedWeights(network):
            list(losses(network, torch.float32))[i].backward()
        alone.append(gradients(network)[name].clone())
        network.zero_grad()
    with PreparedWeights(network) as weights:
        for loss in list(losses(network, torch.float32))[:2]:
            loss.backward()
            weights.gather()
    together = gradients(network)[name]
    gain = network.get_submodule(name.removesuffix(".weight")).weight_gain
    assert torch.equal((alone[0] / gain).half().float() * gain, alone[0])
    expected = alone[0] + alone[1]
    assert float((together - expected).norm() / expected.norm()) < 1e-6
    rounded = (together / gain).half().float() * gain
    assert float((rounded - together).norm() / together.norm()) > 1e-5


def test_weights_that_rest_have_no_gradient():
    network = pair(torch.float32).requires_grad_(False)
    with PreparedWeights(network) as weights:
        assert not any(copy.requires_grad for copy in weights.copies)
        next(losses(network, torch.float32)).backward()
    assert all(p.grad is None for p in network.parameters())


def test_an_error_leaves_no_copies():
    network = pair(torch.float32)

    def fail() -> None:
        with PreparedWeights(network):
            next(losses(network, torch.float32)).backward()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    layers = [m for m in network.modules() if isinstance(m, Convolution)]
    assert all(layer.prepared is None and layer.weight.grad is None for layer in layers)
