"""The generator's own laws: determinism, classes, truncation, sizes, precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from digan.config import GeneratorConfig
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator
from digan.nn.layers import ModulatedLayer
from tests.golden_numbers import relative
from tests.nn.tiny import noise, tiny_generator

GRID = SpaceTimeGrid(torch.tensor([0.0, 0.4, 1.3], dtype=torch.float64))
LATENT = 12


def latents(batch: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return noise(batch, LATENT, seed=1, dtype=dtype), noise(batch, LATENT, seed=2, dtype=dtype)


def meta(config: GeneratorConfig) -> Generator:
    with torch.device("meta"):
        return Generator(config)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(("resolution", "rows"), [(32, 8), (64, 10), (128, 13), (256, 16)])
def test_resolutions(resolution, rows):
    """Pictures of every size, and a row of ws for every layer and one for the last RGB."""
    network = tiny_generator(resolution)
    assert network.num_ws == rows
    with torch.no_grad():
        video = network(*latents(), GRID)
    assert video.shape == (2, 3, resolution, resolution, 3)
    assert video.dtype == torch.float32
    assert torch.isfinite(video).all()
    assert float(video.std()) > 0.1


def test_official_parameter_counts():
    """63.5 million at 128, of which 57.8 million are the modulated layers' affines."""
    network = meta(GeneratorConfig())
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(63.5, abs=0.05)
    layers = [m for m in network.modules() if isinstance(m, ModulatedLayer)]
    assert len(layers) == 12
    affines = sum(p.numel() for layer in layers for p in layer.affine.parameters())
    assert affines / 1e6 == pytest.approx(57.8, abs=0.05)


def test_official_layer_sizes():
    """Channels of model and input of every layer at 128: 512 up to 64, then 256."""
    found = [
        [tuple(layer.weight.shape) for layer in block.layers]
        for block in meta(GeneratorConfig()).blocks
    ]
    pair = [(512, 512), (512, 512)]
    last = [(256, 768), (256, 256), (256, 256)]
    assert found == [[(512, 256)], pair, pair, pair, [(512, 768), (512, 512)], last]


def test_which_row_each_layer_reads():
    """A layer to RGB shares its row with the next block's first layer; the last has its own."""
    network = tiny_generator(128)
    z, z_motion = latents(1)
    with torch.no_grad():
        ws = network.map(z)
        before = network.write(ws, z_motion).blocks
        readers: list[set[str]] = []
        for row in range(network.num_ws):
            moved = ws.clone()
            moved[:, row] += 1
            after = network.write(moved, z_motion).blocks
            changed = set()
            for block, old, new in zip(network.blocks, before, after, strict=True):
                name = f"b{block.resolution}"
                for i, (a, b) in enumerate(zip(old.layers, new.layers, strict=True)):
                    changed |= set() if torch.equal(a, b) else {f"{name}.{i}"}
                changed |= set() if torch.equal(old.rgb, new.rgb) else {f"{name}.rgb"}
                if old.freq is not None:
                    changed |= set() if torch.equal(old.freq, new.freq) else {f"{name}.freq"}
            readers.append(changed)
    assert readers == [
        {"b4.0", "b4.freq"},
        {"b8.0", "b4.rgb"}, {"b8.1"},
        {"b16.0", "b8.rgb"}, {"b16.1"},
        {"b32.0", "b16.rgb"}, {"b32.1"},
        {"b64.0", "b64.freq", "b32.rgb"}, {"b64.1"},
        {"b128.0", "b128.freq", "b64.rgb"}, {"b128.1"}, {"b128.2"},
        {"b128.rgb"},
    ]  # fmt: skip


# ---------------------------------------------------------------- determinism


def test_forward_draws_nothing():
    """A video is a function of its codes: the global random state neither moves nor matters."""
    network = tiny_generator()
    codes = latents()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = network(*codes, GRID)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(6)
        assert torch.equal(network(*codes, GRID), first)
        assert torch.equal(network.eval()(*codes, GRID), first)


def test_both_codes_matter():
    """Another z or another z_motion is another video; at t = 0 the motion code has no say."""
    network = tiny_generator()
    z, z_motion = latents(1)
    with torch.no_grad():
        video = network(z, z_motion, GRID)
        moved = network(z, z_motion + 1, GRID)
        assert relative(network(z + 1, z_motion, GRID), video) > 0.1
        assert relative(moved[:, 1:], video[:, 1:]) > 0.01
        assert torch.equal(moved[:, 0], video[:, 0])


@pytest.mark.parametrize("wide", [True, False], ids=["float64", "float32"])
def test_videos_of_a_batch_are_independent(wide):
    """Every video of a batch is the one that its codes make alone."""
    network = tiny_generator(wide=wide)
    z, z_motion = latents(5, network.w_avg.dtype)
    times = noise(5, 3, seed=4).abs()
    with torch.no_grad():
        together = network(z, z_motion, SpaceTimeGrid(times))
        for i in range(5):
            one = slice(i, i + 1)
            alone = network(z[one], z_motion[one], SpaceTimeGrid(times[one]))
            # In float32 a code that is rounded otherwise moves every frequency.
            assert relative(alone, together[one]) < (1e-12 if wide else 1e-5)


# ---------------------------------------------------------------- classes and truncation


def test_class_index_and_one_hot_agree():
    network = tiny_generator(32, classes=5)
    z, z_motion = latents(3)
    label = torch.tensor([4, 0, 2])
    with torch.no_grad():
        video = network(z, z_motion, GRID, label)
        assert torch.equal(network(z, z_motion, GRID, torch.eye(5)[label]), video)
        assert torch.equal(network(z, z_motion, GRID, label.int()), video)
        assert relative(network(z, z_motion, GRID, (label + 1) % 5), video) > 0.01


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        (5, None, "label must be one of 5 classes for every sample, got None"),
        (5, torch.tensor([1, 5]), r"label must be from 0 to 4, got \[1, 5\]"),
        (5, torch.tensor([-1, 2]), r"label must be from 0 to 4, got \[-1, 2\]"),
        (5, torch.tensor([[1], [2]]), r"class indices must be \[B\], got \[2, 1\]"),
        (5, torch.eye(4)[:2], r"class weights must be \[B, 5\], got \[2, 4\]"),
        (0, torch.tensor([0, 0]), "label must be None for an unconditional network"),
    ],
)
def test_labels_that_do_not_fit(classes, label, message):
    with pytest.raises(ValueError, match=message):
        tiny_generator(32, classes=classes).map(latents()[0], label)


def test_truncation():
    """psi 1 is the code itself, 0 the mean code; the cutoff spares later rows, bit by bit."""
    network = tiny_generator()
    z, _ = latents()
    with torch.no_grad():
        ws = network.map(z)
        assert torch.equal(network.map(z, truncation=1.0), ws)
        assert torch.equal(network.map(z, truncation=0.0), network.w_avg.expand_as(ws))
        half = network.map(z, truncation=0.5)
        assert relative(half, (ws + network.w_avg) / 2) < 1e-6
        some = network.map(z, truncation=0.5, truncation_cutoff=4)
        assert torch.equal(some[:, :4], half[:, :4])
        assert torch.equal(some[:, 4:], ws[:, 4:])
        assert torch.equal(network.map(z, truncation=0.5, truncation_cutoff=0), ws)


def test_w_avg_moves_only_when_it_is_told():
    """w_avg <- mean + beta (w_avg - mean); neither mapping nor rendering moves it."""
    network = tiny_generator()
    z, z_motion = latents()
    before = network.w_avg.clone()
    network.train()(z, z_motion, GRID)
    assert torch.equal(network.w_avg, before)
    mean = network.map(z)[:, 0].mean(dim=0)
    network.update_w_avg(mean, 0.75)
    assert relative(network.w_avg, 0.75 * before + 0.25 * mean) < 1e-6
    assert not network.w_avg.requires_grad
    network.update_w_avg(mean, 0.0)
    assert torch.equal(network.w_avg, mean.detach())


# ---------------------------------------------------------------- errors


def test_shapes_that_do_not_fit():
    network = tiny_generator(64)
    z, z_motion = latents()
    ws = network.map(z)
    for wrong in (ws[:, :9], ws[:, 0], ws[..., :5]):
        with pytest.raises(ValueError, match=r"ws must be \[B, 10, 12\], got \["):
            network.write(wrong, z_motion)
    for wrong in (z_motion[:1], z_motion[:, :5], z_motion[0]):
        with pytest.raises(ValueError, match=r"z_motion must be \[2, 12\], got \["):
            network.write(ws, wrong)
    for wrong in (z[:, :5], z[0], z[:, None]):
        with pytest.raises(ValueError, match=r"z must be \[B, 12\], got \["):
            network.map(wrong)
    with pytest.raises(ValueError, match=r"t must be \[T\] or \[2, T\]"):
        network.write(ws, z_motion).render(SpaceTimeGrid(torch.zeros(3, 4)))


# ---------------------------------------------------------------- paths and precision


@pytest.mark.parametrize("settings", [{}, {"clamp": 2.0}], ids=["free", "clamped"])
def test_formula_and_ops_agree(settings):
    """impl='reference' and 'auto': one picture and one gradient, to float64 rounding."""
    results = []
    for impl in ("reference", "auto"):
        network = tiny_generator(64, wide=True, impl=impl, **settings)
        z, z_motion = (x.requires_grad_() for x in latents(dtype=torch.float64))
        video = network(z, z_motion, GRID)
        loss = (video * noise(*video.shape, seed=3, dtype=torch.float64)).sum()
        leaves = [z, z_motion, *network.parameters()]
        results.append([video, *torch.autograd.grad(loss, leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert relative(ours, theirs) < 1e-12
    if "clamp" in settings:
        assert float(results[0][0].detach().abs().max()) > 2  # the sum of blocks is free


def test_second_derivative_by_the_codes():
    """The generator can be differentiated twice, by formula and by ops alike."""
    found = []
    for impl in ("reference", "auto"):
        network = tiny_generator(64, wide=True, impl=impl)
        z, z_motion = (x.requires_grad_() for x in latents(1, torch.float64))
        video = network(z, z_motion, GRID)
        direction = noise(*video.shape, seed=3, dtype=torch.float64)
        (slope,) = torch.autograd.grad((video * direction).sum(), z, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [z, z_motion]))
    for ours, theirs in zip(*found, strict=True):
        assert relative(ours, theirs) < 1e-11


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [(None, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)],
    ids=["fp32", "bf16", "fp16"],
)
@pytest.mark.parametrize("resolution", [32, 128])
def test_precision(dtype, limit, resolution):
    """Error of the whole generator against float64; clamp 256 as fp16 wants it."""
    truth = tiny_generator(resolution, wide=True, clamp=256.0)
    network = tiny_generator(resolution, clamp=256.0, dtype=dtype)
    with torch.no_grad():
        golden = truth(*latents(dtype=torch.float64), GRID)
    video = network(*latents(), GRID)
    assert video.dtype == torch.float32
    error = relative(video, golden)
    assert error < limit
    if dtype is not None:  # the narrow dtype was in use at all
        assert error > 1e-5
    video.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


def test_frequencies_and_phases_stay_wide():
    """In bf16 only the layers' matrices are narrow: a narrow phase would be a wrong frame."""
    network = tiny_generator(64, dtype=torch.bfloat16)
    with torch.no_grad():
        ws = network.map(latents()[0])
        written = network.write(ws, latents()[1])
    for block in written.blocks:
        assert {w.dtype for w in [*block.layers, block.rgb]} == {torch.bfloat16}
        for kept in (block.freq, block.constant, block.motion):
            assert kept is None or kept.dtype == torch.float32


def test_clamp_bounds_every_activation():
    """Activations of all blocks stay within the clamp, and reach it."""
    network = tiny_generator(64, clamp=0.5)
    seen: list[Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with torch.no_grad():
        network(*latents(), SpaceTimeGrid(frame_times(2, 16)))
    assert [float(x.abs().max()) for x in seen] == [0.5] * 5
