"""The discriminators' convolution equals PyTorch's in every order of gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from digan.nn import convolution
from digan.nn.convolution import convolve
from tests.golden_numbers import relative

STRIDED, SAME = {"stride": 2}, {"padding": 1}
each_form = pytest.mark.parametrize("form", [STRIDED, SAME], ids=["strided", "same"])


SMALL = ((3, 6, 9, 11), (5, 6, 3, 3))
# Of these PyTorch's own double backward is wrong in bfloat16, where a CPU has AMX.
LARGE = ((8, 8, 16, 16), (8, 8, 3, 3))


def gradients(convolution, dtype, *, second: bool, shapes=SMALL):
    """Output, both gradients, and the gradients of the input gradient's square."""
    draw = torch.Generator().manual_seed(3)
    x, weight = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for shape in shapes
    )
    out = convolution(x, weight)
    loss = out.pow(3).sum()
    found = [out, *torch.autograd.grad(loss, (x, weight), create_graph=second)]
    if second:
        found += torch.autograd.grad(found[1].square().sum(), (x, weight))
    return [t.detach() for t in found]


@each_form
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("backward_dtype", "limit"), [(None, 2e-6), (torch.bfloat16, 1e-2)])
def test_all_gradients(form, second, shapes, backward_dtype, limit):
    ours = gradients(
        lambda x, w: convolve(x, w, **form, backward_dtype=backward_dtype),
        torch.float32,
        second=second,
        shapes=shapes,
    )
    truth = gradients(
        lambda x, w: functional.conv2d(x, w, **form), torch.float64, second=second, shapes=shapes
    )
    assert len(ours) == (5 if second else 3)
    assert relative(ours[0], truth[0]) < 2e-6
    for a, b in zip(ours, truth, strict=True):
        assert a.dtype == torch.float32
        assert relative(a, b) < limit
    if backward_dtype is not None:  # that it is narrow shows
        assert all(relative(a, b) > 1e-4 for a, b in zip(ours[1:], truth[1:], strict=True))


@each_form
@pytest.mark.parametrize("backward_dtype", [None, torch.bfloat16])
def test_memory_stays_channels_last(form, backward_dtype):
    found = gradients(
        lambda x, w: convolve(x, w, **form, backward_dtype=backward_dtype),
        torch.float32,
        second=False,
    )
    for tensor in found:
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "wants", "backward_dtype", "special"), [
    (torch.float32, True, None, True),
    (torch.float32, False, None, False),
    (torch.float32, False, torch.bfloat16, True),
    (torch.bfloat16, True, None, False),
    (torch.bfloat16, True, torch.bfloat16, False),
    (torch.float64, True, None, False),
])  # fmt: skip
def test_only_where_it_pays(dtype, wants, backward_dtype, special, monkeypatch):
    """A generator's step wants no weight gradient, and bfloat16 is fast as it is."""
    used = []
    apply = convolution._Convolution.apply
    monkeypatch.setattr(convolution._Convolution, "apply", lambda *a: used.append(1) or apply(*a))
    weight = torch.randn(4, 3, 3, 3, dtype=dtype).requires_grad_(wants)
    x = torch.randn(1, 3, 5, 5, dtype=dtype)
    convolve(x, weight, stride=2, backward_dtype=backward_dtype)
    assert bool(used) == special


def test_on_a_gpu_no_kernel_is_as_large_as_the_image():
    """R1's gradient by a weight, seen on a device without data, which takes a GPU's way."""

    class Kernels(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution.default:
                self.largest = max(self.largest, *args[1].shape[2:])
            return func(*args, **(kwargs or {}))

    found = {}
    for device in ("meta", "cpu"):
        x = torch.ones(2, 4, 16, 16, device=device).requires_grad_()
        weight = torch.ones(4, 4, 3, 3, device=device).requires_grad_()
        with Kernels() as kernels:
            out = convolve(x, weight, padding=1).pow(3).sum()
            (by_x,) = torch.autograd.grad(out, x, create_graph=True)
            by_x.square().sum().backward()
        found[device] = kernels.largest
    assert found == {"meta": 3, "cpu": 16}


@each_form
def test_gradcheck(form):
    def run(x, weight):
        how = convolution._How(form.get("stride", 1), form.get("padding", 0), torch.float64, True)
        return convolution._Convolution.apply(x, weight, how, torch.float64)

    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, weight))
    assert torch.autograd.gradgradcheck(run, (x, weight))
