"""The strided convolution of the discriminators equals PyTorch's in every order of gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from digan.nn import strided
from digan.nn.strided import strided_convolution
from tests.golden_numbers import relative


def gradients(convolve, dtype, *, second: bool):
    """Output, both gradients, and the gradients of the input gradient's square."""
    draw = torch.Generator().manual_seed(3)
    x, weight = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for shape in ((3, 6, 9, 11), (5, 6, 3, 3))
    )
    out = convolve(x, weight)
    loss = out.pow(3).sum()
    found = [out, *torch.autograd.grad(loss, (x, weight), create_graph=second)]
    if second:
        found += torch.autograd.grad(found[1].square().sum(), (x, weight))
    return [t.detach() for t in found]


@pytest.mark.parametrize("second", [False, True])
def test_all_gradients(second):
    ours = gradients(strided_convolution, torch.float32, second=second)
    truth = gradients(lambda x, w: functional.conv2d(x, w, stride=2), torch.float64, second=second)
    assert len(ours) == (5 if second else 3)
    for a, b in zip(ours, truth, strict=True):
        assert relative(a, b) < 2e-6


def test_memory_stays_channels_last():
    out, dx, dweight = gradients(strided_convolution, torch.float32, second=False)
    for tensor in (out, dx, dweight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "wants", "special"), [
    (torch.float32, True, True), (torch.float32, False, False), (torch.bfloat16, True, False),
    (torch.float64, True, False),
])  # fmt: skip
def test_only_where_it_is_faster(dtype, wants, special, monkeypatch):
    """A generator's step wants no weight gradient, and bfloat16 is fast as it is."""
    used = []
    apply = strided._Strided.apply
    monkeypatch.setattr(strided._Strided, "apply", lambda *a: used.append(1) or apply(*a))
    weight = torch.randn(4, 3, 3, 3, dtype=dtype).requires_grad_(wants)
    strided_convolution(torch.randn(1, 3, 5, 5, dtype=dtype), weight)
    assert bool(used) == special


def test_gradcheck():
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(strided._Strided.apply, (x, weight))
    assert torch.autograd.gradgradcheck(strided._Strided.apply, (x, weight))
