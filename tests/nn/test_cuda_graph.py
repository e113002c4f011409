"""The generator on a device: nothing comes from elsewhere on the way, so a CUDA graph holds it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from digan import ops
from digan.grid import SpaceTimeGrid
from digan.nn import Generator
from tests.cuda_graphs import captured
from tests.nn.test_kernels import EVEN, TIMES, pair, smooth
from tests.nn.tiny import noise
from tests.op_cases import relative_error
from tests.requirements import require


class Places(TorchDispatchMode):
    """The devices of all tensors that the operations see."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = _pytree.tree_leaves((args, kwargs, out))
        self.seen |= {t.device.type for t in tensors if isinstance(t, Tensor)}
        return out


class Work:
    """A forward and a backward pass on memory that stays where it is."""

    def __init__(self, network: Generator, device: str) -> None:
        dtype, size = network.w_avg.dtype, network.config.latent_dim
        self.network = network
        self.z, self.z_motion = torch.zeros(2, 2, size, dtype=dtype, device=device)
        self.leaves = [self.z.requires_grad_(), self.z_motion.requires_grad_()]
        self.leaves += network.parameters()
        self.times = TIMES.to(device=device, dtype=dtype)
        size = network.config.resolution
        frames = torch.empty(*TIMES.shape, size, size, 3, dtype=dtype)
        self.cotangent = smooth(frames).to(device)

    def copy_in(self, seed: int) -> None:
        for place, shift in ((self.z, 0), (self.z_motion, 1)):
            place.data.copy_(noise(*place.shape, seed=seed + shift))

    def run(self) -> list[Tensor]:
        """Frames, then the gradients."""
        video = self.network(self.z, self.z_motion, SpaceTimeGrid(self.times))
        return [video.detach(), *torch.autograd.grad(video, self.leaves, self.cotangent)]


def gradient(results: list[Tensor]) -> Tensor:
    return torch.cat([g.detach().double().cpu().flatten() for g in results[1:]])


def on_device(network: nn.Module, device: str) -> Generator:
    moved = network.to(device)
    assert isinstance(moved, Generator)
    return moved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_made_on_the_device(dtype):
    """A device without data: a tensor of the CPU's would have to be copied, which waits."""
    network = on_device(pair(EVEN, dtype)[1], "meta")
    work = Work(network, "meta")
    with Places() as places:
        results = work.run()
    assert places.seen == {"meta"}
    assert len(results) == 1 + len(work.leaves)


def test_a_tensor_from_elsewhere_shows():
    work = Work(on_device(pair(EVEN, torch.float32)[1], "meta"), "meta")
    work.times = work.times.new_zeros(TIMES.shape, device="cpu")
    with Places() as places:
        work.run()
    assert places.seen == {"cpu", "meta"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_generator_in_a_graph(dtype, monkeypatch):
    """Captured once, replayed on new codes: the bits of a call, and right."""
    for name, status in ops.status().items():
        if status != "fused":
            require("gpu", f"{name}: {status}")
    monkeypatch.setenv("DIGAN_OPS", "fused")
    truth, network = pair(EVEN, dtype)
    work, exact = Work(on_device(network, "cuda"), "cuda"), Work(truth, "cpu")
    work.copy_in(0)
    graph, results = captured(work.run)
    for seed in (2, 4):
        for tensor in results:
            tensor.fill_(float("nan"))
        for each in (work, exact):
            each.copy_in(seed)
        graph.replay()
        replayed = [t.clone() for t in results]
        assert all(torch.equal(a, b) for a, b in zip(replayed, work.run(), strict=True))
        golden = exact.run()
        limit = 1e-5 if dtype == torch.float32 else 3e-2
        assert relative_error(replayed[0].cpu(), golden[0]) < limit
        ours, theirs = gradient(replayed), gradient(golden)
        assert float(ours @ theirs / (ours.norm() * theirs.norm())) > 0.999
