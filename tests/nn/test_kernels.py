"""The generator on the emulated kernels: from codes to frames and back, and nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from digan.config import GeneratorConfig
from digan.grid import BASE_SIZE, SpaceTimeGrid
from digan.nn import Generator
from tests.emulation.build import emulated
from tests.emulation.byte_table import CountedCalls
from tests.nn.tiny import noise
from tests.op_cases import relative_error

# The official structure, with sizes that whole 16-byte chunks make up, and with odd ones. WIDE is
# for the soak: its layers on the 32x32 grid are wide enough for the large tile.
EVEN = GeneratorConfig(
    resolution=64, latent_dim=16, channel_base=1024, channel_max=32, frequencies=16, rank=4
)
ODD = replace(EVEN, channel_base=704, channel_max=13, frequencies=7, rank=3)
WIDE = replace(EVEN, channel_base=160 * 32, channel_max=160, frequencies=32, rank=10)
TIMES = torch.tensor([[0.1, 0.7], [0.4, 1.0]], dtype=torch.float64)
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "convolution", "einsum"}
OPS = ("coord_linear", "factorized_modulation", "modulated_linear")


@dataclass(frozen=True)
class Arithmetic:
    """A way to compute, and how far from float64 it may be.

    Attributes:
        dtype: of the coordinate layers. tf32: products of float32 round their operands, as
            PyTorch's setting allows or as the network wishes.
        frames, gradients: bounds on relative errors, of all frames and of all parameters'
            gradients together; the latter are those of rounding, and of slopes whose
            pre-activation is rounded across zero.
    """

    name: str
    dtype: torch.dtype
    frames: float
    gradients: float
    tf32: bool = False
    wish: bool = False


BFLOAT16 = Arithmetic("bfloat16", torch.bfloat16, 3e-2, 0.03)
ARITHMETIC = (
    Arithmetic("float32", torch.float32, 1e-5, 2e-3),
    Arithmetic("tf32", torch.float32, 3e-3, 0.02, tf32=True),
    Arithmetic("tf32 by wish", torch.float32, 3e-3, 0.02, tf32=True, wish=True),
    BFLOAT16,
    Arithmetic("float16", torch.float16, 3e-3, 0.02),
)
# Threads of a block of the large tile; the small one's has half as many.
LARGE = {(name, 256) for name in ("modulated_linear_kernel", "coord_linear_kernel")}


class ProductRows(TorchDispatchMode):
    """The most rows that a matrix product of PyTorch's own had."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and func.overloadpacket.__name__ in PRODUCTS:
            self.most = max(self.most, out.numel() // max(out.shape[-1], 1))
        return out


@dataclass
class Results:
    """Frames, and gradients of a loss by the parameters and the codes."""

    frames: Tensor
    gradient: Tensor  # of everything, end to end
    blocks: set[tuple[str, int]] = field(default_factory=set)  # kernels, and threads of a block


def smooth(frames: Tensor) -> Tensor:
    """A cotangent like a discriminator's: pixels close to one another agree about their error."""
    y, x = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in frames.shape[2:4])
    colours = torch.tensor([1.0, -0.5, 0.7], dtype=torch.float64)
    plane = torch.sin(3 * y)[:, None, None] * torch.cos(2 * x + 1)[:, None] * colours
    times = torch.tensor([[1.0, -0.8], [0.6, 1.3]], dtype=torch.float64)
    return (times[:, :, None, None, None] * plane).to(frames)


def evaluate(network: Generator, function: Callable[..., Tensor] | None = None) -> Results:
    """Two videos of two frames, forward and backward; `function` in place of the network's own."""
    dtype, size = network.w_avg.dtype, network.config.latent_dim
    codes = [noise(2, size, seed=seed).to(dtype).requires_grad_() for seed in (0, 1)]
    video = (network if function is None else function)(codes[0], codes[1], SpaceTimeGrid(TIMES))
    leaves = [*network.parameters(), *codes]
    found = torch.autograd.grad(video, leaves, smooth(video))
    gradient = torch.cat([g.double().flatten() for g in found])
    return Results(video.detach().double(), gradient)


def pair(
    config: GeneratorConfig, dtype: torch.dtype | None, tf32: bool | None = None
) -> tuple[Generator, Generator]:
    """The same initial weights computing in float64 by the formulas, and as the ops run here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        narrow = Generator(config, dtype=None if dtype == torch.float32 else dtype, tf32=tf32)
    truth = Generator(config, impl="reference").double()
    truth.load_state_dict(narrow.state_dict())
    return truth, narrow


def compare(config: GeneratorConfig, arithmetic: Arithmetic, seed: int) -> Results:
    """Holds the kernels to the float64 formulas; returns what they gave, and what was launched."""
    truth, narrow = pair(config, arithmetic.dtype, True if arithmetic.wish else None)
    golden = evaluate(truth)
    with emulated(seed=seed) as controls:
        found = evaluate(narrow)
        launches = controls.launches()
    found.blocks = {(e["kernel"].split("<")[0], e["block"][0]) for e in launches}
    error = relative_error(found.frames, golden.frames)
    assert error < arithmetic.frames
    if arithmetic.dtype != torch.float32 or arithmetic.tf32:  # else it did not run as it says
        assert error > 1e-5
    ours, theirs = found.gradient, golden.gradient
    assert relative_error(ours, theirs) < arithmetic.gradients
    assert float(ours @ theirs / (ours.norm() * theirs.norm())) > 0.999
    assert 0.99 < float(ours.norm() / theirs.norm()) < 1.01
    return found


@pytest.fixture
def precision():
    """Sets PyTorch's precision of float32 products, for the test."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.soak
@pytest.mark.parametrize("arithmetic", ARITHMETIC, ids=lambda a: a.name)
def test_whole_generator(arithmetic, precision, soak):
    """Frames, and gradients as one vector, against float64."""
    precision("high" if arithmetic.tf32 and not arithmetic.wish else "highest")
    for config in (EVEN, ODD, WIDE) if soak else (EVEN,):
        found = compare(config, arithmetic, seed=config.channel_max)
        tensor_cores = arithmetic.tf32 or arithmetic.dtype != torch.float32
        assert LARGE.issubset(found.blocks) == (config is WIDE and tensor_cores), found.blocks


def test_widths_of_no_chunk(precision):
    """13 channels and 7 frequencies, which no 16-byte access fits."""
    precision("highest")
    compare(ODD, BFLOAT16, seed=13)


def test_no_formula_runs():
    """Every op of a forward and a backward pass launches kernels, and no other product is large.

    PyTorch's own products are those of the codes: rows of videos or of frames, not of a grid.
    """
    _, network = pair(EVEN, torch.bfloat16)
    rows = ProductRows()
    with emulated(seed=3) as controls, CountedCalls(controls) as counted, rows:
        evaluate(network)
    names = [call.name for call in counted.calls]
    assert set(names) == {name + suffix for name in OPS for suffix in ("", "_backward")}
    for name in OPS:
        assert names.count(name) == names.count(f"{name}_backward"), names
    assert [call.name for call in counted.calls if not call.launches] == []
    assert 0 < rows.most < BASE_SIZE**2


@pytest.mark.soak
def test_compiles_into_one_graph(soak):
    """torch.compile passes through the ops: one graph, and the same launches, bit for bit.

    In a soak by Inductor too, which adds sums of gradients in another order.
    """
    _, network = pair(ODD, torch.bfloat16)
    runs, launched = [], []
    for backend in (None, "aot_eager", "inductor") if soak else (None, "aot_eager"):
        torch._dynamo.reset()
        function = network
        if backend is not None:
            function = torch.compile(network, backend=backend, fullgraph=True)
        with emulated(seed=7) as controls:
            runs.append(evaluate(network, function))
            launched.append(sorted(e["kernel"] for e in controls.launches()))
    torch._dynamo.reset()
    eager, traced = runs[:2]
    assert torch.equal(traced.frames, eager.frames)
    assert torch.equal(traced.gradient, eager.gradient)
    assert all(relative_error(run.gradient, eager.gradient) < 1e-5 for run in runs)
    assert launched[0]
    assert all(kernels == launched[0] for kernels in launched)
