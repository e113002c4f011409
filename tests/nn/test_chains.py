"""Renderings by chained layers on the emulated kernel, against single layers and the original."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from digan.config import GeneratorConfig
from digan.grid import SpaceTimeGrid
from digan.nn import Generator, chains, generator
from digan.nn.generator import BlockWeights
from tests.emulation.build import emulated
from tests.golden_numbers import load
from tests.nn.original import original_generator, spatial_error
from tests.nn.tiny import noise, randomised
from tests.op_cases import relative_error

# Every block has 136 channels: three chains, each a little wider than what is worth one.
WIDE = GeneratorConfig(
    resolution=128, latent_dim=16, channel_base=136 * 128, channel_max=136, frequencies=16, rank=4
)
T = torch.tensor([[0.1, 1.2]], dtype=torch.float64)
# Two rows of the 32x32 grid and four columns, not in order: one tile of every grid.
CELLS = (torch.tensor([30, 3]), torch.tensor([0, 17, 5, 31]))
BOUND = {torch.bfloat16: 3e-2, torch.float16: 3e-3}


def written(config=WIDE, dtype=torch.bfloat16, count=1, **options):
    """Videos of a network in some dtype, and of the same in float64."""
    videos = []
    for narrow in (True, False):
        network = randomised(Generator(config, dtype=dtype if narrow else None, **options), 3)
        network = network if narrow else network.double()
        codes = [noise(count, config.latent_dim, seed=s).to(network.w_avg.dtype) for s in (0, 1)]
        with torch.no_grad():
            videos.append(network.write(network.map(codes[0]), codes[1]))
    return videos


def launched(controls):
    return [
        launch["kernel"].split("<")[0].removesuffix("_kernel") for launch in controls.launches()
    ]


@torch.no_grad()
def cells_of(video, t=T[:, :1], seed=0):
    """The cells on the emulator, and the kernels that made them."""
    with emulated(seed=seed) as controls:
        found = video.render_cells(t, *CELLS)
        return found, launched(controls)


@pytest.mark.parametrize(
    ("dtype", "clamp", "videos", "frames"),
    [(torch.bfloat16, None, 2, 1), (torch.float16, 0.5, 1, 2)],
    ids=["bfloat16", "float16"],
)
def test_cells(dtype, clamp, videos, frames):
    """Three chains are all there is, and as exact as single layers."""
    video, wide = written(replace(WIDE, clamp=clamp), dtype, videos)
    t = T[:, :frames].expand(videos, -1)
    with torch.no_grad():
        truth = wide.render_cells(t, *CELLS)
        layered = video.render_cells(t, *CELLS)  # no kernel is loaded: by formulas
    found, kernels = cells_of(video, t)
    assert kernels == ["fourier_features_axes", "coord_chain"] * 3
    assert found.dtype == torch.float32
    assert relative_error(found, truth) < BOUND[dtype]
    assert relative_error(found, truth) < 1.2 * relative_error(layered, truth)


def original(monkeypatch):
    """A network and inputs of the original at 128 pixels; its few channels are chained too."""
    monkeypatch.setattr(chains, "FEWEST_CHANNELS", 1)
    numbers = load("a1_generator_128_uncond", "subset")
    inputs = [torch.from_numpy(np.array(numbers[f"in/{n}"])) for n in ("z", "z_motion", "Ts")]
    return numbers, original_generator(numbers, torch.float64), inputs


@torch.no_grad()
def test_cells_of_the_original(monkeypatch):
    """Against the float64 network, which meets the original's numbers (test_golden_generator)."""
    _, network, (z, motion, t) = original(monkeypatch)
    t = t.double().view(len(z), -1)
    exact = network.write(network.map(z.double()), motion.double()).render_cells(t, *CELLS)
    network.float()
    network.compute_dtype = torch.bfloat16
    with emulated(seed=4) as controls:
        video = network.write(network.map(z.float()), motion.float())
        found = video.render_cells(t, *CELLS)
        assert launched(controls).count("coord_chain") == 3
    assert relative_error(found, exact) < BOUND[torch.bfloat16]


@pytest.mark.soak
@torch.no_grad()
def test_frames_of_the_original(monkeypatch):
    """All pixels, against the original's own numbers."""
    numbers, network, (z, motion, t) = original(monkeypatch)
    network.float()
    network.compute_dtype = torch.bfloat16
    grid = SpaceTimeGrid(t.double().view(len(z), -1))
    with emulated(seed=5) as controls:
        found = network.write(network.map(z.float()), motion.float()).render(grid)
        assert "coord_linear" not in launched(controls)
    picture = found.permute(0, 1, 4, 2, 3).flatten(0, 1)
    assert spatial_error(numbers, "f64/b128/img", picture) < BOUND[torch.bfloat16]


@pytest.mark.soak
@torch.no_grad()
def test_whole_frames(soak):
    """`render` on the emulator, of several tiles; in a soak with a finer block."""
    video, wide = written(replace(WIDE, resolution=64 if soak else 32, channel_base=136 * 64))
    grid = SpaceTimeGrid(T[:, :1])
    with emulated(seed=8) as controls:
        found = video.render(grid)
        kernels = launched(controls)
    assert set(kernels) == {"fourier_features_axes", "coord_chain"}
    assert relative_error(found, wide.render(grid)) < BOUND[torch.bfloat16]


def test_pieces_of_a_rendering_are_chained(monkeypatch):
    """Every piece's picture is what the chains give; with gradients nobody asks them."""
    video, _ = written(replace(WIDE, resolution=32))
    asked = []

    def stand_in(networks, blocks, t, levels):
        asked.append(t)
        rows, columns = (len(axis) for axis in levels[-1])
        return torch.full((*t.shape, rows, columns, 3), float(len(asked)))

    monkeypatch.setattr(generator, "render_chained", stand_in)
    grid = SpaceTimeGrid(torch.linspace(0, 1, 200, dtype=torch.float64))
    with torch.no_grad():
        found = video.render(grid)
    assert len(asked) > 1
    assert sum(t.numel() for t in asked) >= 200
    assert set(found.unique().tolist()) == set(range(1, len(asked) + 1))
    asked.clear()
    video.render(SpaceTimeGrid(T[:, :1]))
    assert not asked


@pytest.mark.parametrize("unchained", [4, 64, 128])
def test_grids_that_are_not_chained(unchained, monkeypatch):
    """Single layers before, between and behind chains, which hand on pictures and skips."""
    video, wide = written()
    monkeypatch.setattr(
        chains, "refusal", lambda networks, *_: networks[0].resolution == unchained and "no"
    )
    with torch.no_grad():
        truth = wide.render_cells(T[:, :1], *CELLS)
    found, kernels = cells_of(video, seed=unchained)
    assert kernels.count("coord_chain") == 2
    assert "coord_linear" in kernels
    assert relative_error(found, truth) < BOUND[torch.bfloat16]


def test_few_channels_are_not_chained():
    """The finest block has 72 channels: less than half of what a tile computes."""
    video, wide = written(replace(WIDE, channel_base=72 * 128))
    found, kernels = cells_of(video)
    assert kernels.count("coord_chain") == 2
    with torch.no_grad():
        assert relative_error(found, wide.render_cells(T[:, :1], *CELLS)) < BOUND[torch.bfloat16]


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({"chained": False}, torch.bfloat16), ({"impl": "reference"}, torch.bfloat16),
     ({}, torch.float32)],
    ids=["asked not to", "reference", "float32"],
)  # fmt: skip
def test_single_layers_remain(options, dtype):
    video, wide = written(dtype=dtype, **options)
    found, kernels = cells_of(video)
    assert "coord_chain" not in kernels
    with torch.no_grad():
        assert relative_error(found, wide.render_cells(T[:, :1], *CELLS)) < BOUND[torch.bfloat16]


def test_gradients_take_single_layers():
    video, _ = written()
    with emulated() as controls:
        video.render_cells(T[:, :1], CELLS[0][:1], CELLS[1][:1])
        assert "coord_chain" not in launched(controls)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channel_max": 128}, "single layers are faster below 129 channels, got 128"),
        ({"frequencies": 136}, "at most 128 frequencies in eights, got 136"),
        ({"channel_base": 65536, "channel_max": 516}, "512 channels in eights, got 516"),
        ({}, ""),
    ],
)
def test_refusals(change, said):
    video, _ = written(replace(WIDE, **change))
    networks = video.generator.synthesis_blocks()
    runs = chains.grids_of(networks)
    assert [(run.start, run.stop) for run in runs] == [(0, 4), (4, 5), (5, 6)]
    run = runs[0]
    with emulated():
        reason = chains.refusal(networks[run], video.blocks[run], video.blocks[4].upsampled)
    assert said in reason
    assert bool(reason) == bool(said)
    none = chains.refusal(networks[run], video.blocks[run], None)
    assert none.startswith(("no kernel of coord_chain", "single layers"))


def test_published_sizes_make_three_chains_that_the_kernel_serves():
    """The published 128x128 generator, without its numbers."""
    with torch.device("meta"):
        network = Generator(GeneratorConfig(resolution=128))
    networks = network.synthesis_blocks()
    blocks = [_unwritten(block) for block in networks]
    found = []
    with emulated():
        for run in chains.grids_of(networks):
            onward = blocks[run.stop].upsampled if run.stop < len(blocks) else None
            reason = chains.refusal(networks[run], blocks[run], onward)
            layers = sum(len(block.layers) for block in blocks[run])
            found.append((layers, None if onward is None else onward.shape[1], reason))
    assert found == [(7, 512, ""), (2, 256, ""), (3, None, "")]


def _unwritten(block):
    """What a block writes for one video, as far as its shapes."""
    weights = [layer.weight for layer in block.modulated()]
    features = 0 if block.embedding is None else block.embedding.frequencies
    low = torch.bfloat16
    return BlockWeights(
        torch.empty(1, features, 2), None, None, torch.empty(1, len(weights[0]), 1, dtype=low),
        [torch.empty(1, *weight.shape, dtype=low) for weight in weights],
        [torch.empty(len(weight)) for weight in weights],
        torch.empty(1, 3, len(weights[0]), dtype=low),
    )  # fmt: skip
