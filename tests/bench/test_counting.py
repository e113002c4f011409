"""The guard against slow orders of computation: operations and bytes are counted, not timed."""

from __future__ import annotations

import pytest
import torch

from digan.bench.counting import WorkCounter, count_flops
from digan.bench.floors import generator_layers, generator_work
from digan.bench.training_work import training_phases
from digan.config import PRESETS, GeneratorConfig, resolve
from digan.grid import SpaceTimeGrid
from digan.nn import Generator
from digan.ops import fir_resample
from digan.ops._registry import _kernels
from tests.op_cases import OPS, generator_of, make_inputs

MOST_FLOPS = 15.1e9  # of a 128x128 frame, T = 16; the original's order takes 19.6
FRAMES, SIDE = 16, 128
# What the plain order of computation allocates: upsampled activation beside the embedding.
CONCATENATED = 512 + 256


@pytest.fixture(scope="module")
def official_video():
    with torch.no_grad():
        network = Generator(GeneratorConfig(), dtype=torch.bfloat16)
        return network.write(network.map(torch.randn(1, 512)), torch.randn(1, 512))


def rendering(video):
    t = torch.linspace(0, 1, FRAMES, dtype=torch.float64)
    with torch.no_grad():
        return lambda: video.render(SpaceTimeGrid(t))


def test_a_frame_takes_no_more_arithmetic_than_the_algebra_needs(official_video):
    with torch.no_grad():
        flops = count_flops(rendering(official_video)) / FRAMES
    layers = sum(layer.flops for layer in generator_layers(GeneratorConfig()))
    assert layers < flops < MOST_FLOPS
    assert flops < 1.01 * layers  # the layers to RGB are all that comes on top


def test_no_tensor_of_a_frame_is_larger_than_a_piece(official_video):
    with torch.no_grad(), WorkCounter() as counter:
        rendering(official_video)()
    picture = FRAMES * SIDE * SIDE * 3 * 4
    assert counter.flops / FRAMES < MOST_FLOPS
    # One row of all 16 frames' concatenated input would be larger than the largest tensor.
    piece = 1 << 24  # 256 channels of digan.nn.pieces
    assert counter.largest <= max(picture, piece)
    assert counter.largest < FRAMES * SIDE * SIDE * CONCATENATED * 2 / 20
    # Every activation once, every layer: what a frame allocates, in MB.
    assert counter.allocated / FRAMES < 200e6


@pytest.fixture(scope="module")
def official_step():
    """The official preset's phases at B = 2, counted by op formulas and from inside."""
    config = resolve(PRESETS["official"], resolution=SIDE, num_classes=0)
    config = type(config)(**{**vars(config), "batch": 2})
    found = {}
    for name, phase in training_phases(config).items():
        with WorkCounter() as counter:
            phase()
        found[name] = (count_flops(phase), counter)
    return found


@pytest.mark.parametrize(("phase", "most"), [("G", 0.945e12), ("D", 2.345e12), ("R1", 2.285e12)])
def test_a_training_step_takes_no_more_arithmetic_than_its_layers(official_step, phase, most):
    flops, counter = official_step[phase]
    assert 0.98 * most < flops < most
    assert counter.flops == flops


@pytest.mark.parametrize("phase", ["G", "D", "R1"])
def test_no_tensor_of_a_training_step_is_concatenated(official_step, phase):
    _, counter = official_step[phase]
    pairs = 2 * 2  # B = 2, two frames each
    assert counter.largest < pairs * SIDE * SIDE * CONCATENATED * 4 / 2
    # The largest is an activation of the discriminators with the border of its filter.
    assert counter.largest <= pairs * (SIDE + 2) ** 2 * 256 * 4


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.name != "fir_resample"], ids=lambda op: op.name
)
def test_the_registered_formula_counts_what_the_kernel_does(op):
    """Forward and backward of every case, seen from outside and from inside."""
    for case in op.cases:
        inputs = make_inputs(op, case, generator_of(case.name), torch.float32)
        for name, value in inputs.items():
            if value is not None and name not in op.constant:
                inputs[name] = value.requires_grad_()

        def work(inputs=inputs, case=case):
            out = op.function(**inputs, **case.options)
            if out.requires_grad and out.numel():
                out.sum().backward()

        with WorkCounter() as counter:
            work()
        assert counter.flops == count_flops(work), case.name


@pytest.mark.parametrize("options", [{"padding": 2}, {"down": 2, "padding": 1}])
def test_the_registered_formula_of_fir_resample(options):
    """As the discriminators use it, one convolution forward and one backward."""
    x = torch.randn(2, 8, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()

    def work():
        fir_resample(x, torch.tensor([1.0, 3.0, 3.0, 1.0]), **options).sum().backward()

    with WorkCounter() as counter:
        work()
    assert counter.flops == count_flops(work) > 0


def test_every_op_with_a_product_states_its_flops():
    from torch.utils.flop_counter import flop_registry

    products = {"modulated_linear", "coord_linear", "factorized_modulation", "fourier_features_at"}
    for name in products | {f"{p}_backward" for p in products}:
        assert name in _kernels
        assert getattr(torch.ops.digan, name) in flop_registry


def test_the_counter_sees_the_plain_order():
    """Upsample, concatenate, multiply: counted and found too large, so the guard can fail."""
    low, features = torch.randn(1, 32, 32, 8), torch.randn(1, 64, 64, 24)
    weight = torch.randn(16, 32)
    with WorkCounter() as counter:
        up = low.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        torch.nn.functional.linear(torch.cat([up, features], dim=-1), weight)
    assert counter.flops == 2 * 64 * 64 * 32 * 16
    assert counter.largest == 64 * 64 * 32 * 4
    assert counter.largest_shape[-1] == 32
    assert counter.allocated >= counter.largest + 64 * 64 * 16 * 4


def test_views_and_in_place_work_allocate_nothing():
    x = torch.zeros(8, 8)
    with WorkCounter() as counter:
        x.t()[1:].add_(1).unflatten(0, (1, 7))
    assert (counter.allocated, counter.flops) == (0, 0)


def test_the_floor_of_the_official_generator():
    """GFLOP and, in bfloat16, MB of a 128x128 frame, layer by layer, worked out by hand."""
    layers = generator_layers(GeneratorConfig())
    found = {
        layer.name: (round(layer.flops / 1e9, 2), round(layer.numbers * 2 / 1e6, 1))
        for layer in layers
    }
    low = dict.fromkeys(("b8.0", "b8.1", "b16.0", "b16.1", "b32.0", "b32.1"), (0.54, 2.1))
    assert found == {
        "b4.0": (0.27, 1.0),
        **low,
        "b64.0": (1.61, 7.3),
        "b64.1": (2.15, 8.4),
        "b128.0": (3.22, 16.8),
        "b128.1": (2.15, 16.8),
        "b128.2": (2.15, 16.8),
    }
    work = generator_work(GeneratorConfig(), frames=3, itemsize=2)
    assert sum(flops for flops, _ in work) == 3 * sum(layer.flops for layer in layers)
    assert sum(size for _, size in work) == 3 * 2 * sum(layer.numbers for layer in layers)
