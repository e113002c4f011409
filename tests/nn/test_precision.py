"""bf16 generators against float64: block by block, and whole.

The widths are a small part of the official network's, which `make soak` takes as it is; the
structure, the rank and the initial weights are the official ones.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from digan.config import GeneratorConfig
from digan.grid import SpaceTimeGrid
from digan.nn import Generator
from digan.ops import Impl
from tests.nn.tiny import noise
from tests.op_cases import relative_error

OFFICIAL = GeneratorConfig()
REDUCED = GeneratorConfig(latent_dim=64, channel_base=4096, channel_max=64, frequencies=32)
BLOCKS = (4, 8, 16, 32, 64, 128)
TIMES = torch.tensor([[0.1, 0.7], [0.4, 1.0]], dtype=torch.float64)
IMPLS: tuple[Impl, ...] = ("reference", "auto")
each_impl = pytest.mark.parametrize("impl", IMPLS)


def generators(config: GeneratorConfig, impl: Impl) -> tuple[Generator, Generator]:
    """The same initial weights computing in float64, by the formulas, and in bf16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        narrow = Generator(config, impl=impl, dtype=torch.bfloat16)
    truth = Generator(config, impl="reference").double()
    truth.load_state_dict(narrow.state_dict())
    return truth, narrow


def render(network: Generator) -> Tensor:
    """Two videos of two frames; in one piece, since gradients are on."""
    size, dtype = network.config.latent_dim, network.w_avg.dtype
    z, z_motion = (noise(2, size, seed=seed).to(dtype) for seed in (0, 1))
    video: Tensor = network(z, z_motion, SpaceTimeGrid(TIMES)).detach()
    return video


@pytest.mark.soak
@each_impl
def test_whole_generator(impl, soak):
    """Under 3 % of the picture's norm; in float32 under 1e-5, so it is bf16 that is measured."""
    truth, narrow = generators(OFFICIAL if soak else REDUCED, impl)
    golden = render(truth)
    error = relative_error(render(narrow), golden)
    assert error < 3e-2
    assert error > 1e-3
    narrow.compute_dtype = None
    assert relative_error(render(narrow), golden) < 1e-5


@each_impl
def test_every_block_alone(impl):
    """Under 1 % for a block's activations and for its colours, from exact inputs.

    Colours are what the block adds to the picture: the picture itself would hide their error.
    """
    truth, narrow = generators(REDUCED, impl)
    given: list[tuple[Tensor, ...]] = []
    exact: list[tuple[Tensor, Tensor]] = []
    found: list[tuple[Tensor, Tensor]] = []
    for block in truth.blocks:
        block.register_forward_pre_hook(lambda _, args: given.append(args))
        block.register_forward_hook(lambda _, args, out: exact.append(out))
    with torch.enable_grad():
        render(truth)

    def replaced(_, args):
        x, image = given[len(found)][:2]
        if x is None:
            return args
        return x.to(torch.bfloat16), torch.zeros_like(image, dtype=torch.float32), *args[2:]

    for block in narrow.blocks:
        block.register_forward_pre_hook(replaced)
        block.register_forward_hook(lambda _, args, out: found.append(out))
    render(narrow)
    assert len(found) == len(exact) == len(BLOCKS)
    for name, (x, colours), (golden, image), inputs in zip(
        BLOCKS, found, exact, given, strict=True
    ):
        assert (x.dtype, colours.dtype) == (torch.bfloat16, torch.float32)
        before = inputs[1]
        if before is not None:
            factor = image.shape[2] // before.shape[2]
            up = before.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
            image = image - up
        assert 1e-4 < relative_error(x, golden) < 1e-2, name
        assert 1e-4 < relative_error(colours, image) < 1e-2, name
