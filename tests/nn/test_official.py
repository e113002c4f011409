"""The map between the original's names and ours."""

from __future__ import annotations

import re

import pytest
import torch

from digan.config import DiscriminatorConfig, GeneratorConfig
from digan.nn import Generator, PairDiscriminator
from digan.nn.official import (
    discriminator_name,
    discriminator_state,
    generator_name,
    generator_state,
)
from tests.golden_numbers import load


def names_of(file: str, source: str) -> list[str]:
    numbers = load(file, source)
    names = [*numbers.names("param/"), *numbers.names("buffer/")]
    return [name for name in names if not name.endswith("resample_filter")]


@pytest.mark.parametrize("source", ["full", "subset"])
@pytest.mark.parametrize(
    ("file", "resolution", "classes"),
    [
        ("a1_generator_128_uncond", 128, 0),
        ("a2_generator_64_uncond", 64, 0),
        ("b2_generator_64_cond5", 64, 5),
    ],
)
def test_generator_names_are_a_bijection(source, file, resolution, classes):
    """Each of the original's tensors is one of ours, and none of ours is left over."""
    ours = [generator_name(name) for name in names_of(file, source)]
    with torch.device("meta"):
        network = Generator(GeneratorConfig(resolution=resolution, num_classes=classes))
    assert len(set(ours)) == len(ours)
    assert set(ours) == set(network.state_dict())


@pytest.mark.parametrize("source", ["full", "subset"])
def test_discriminator_names_are_a_bijection(source):
    """The same for the pair of discriminators; filter taps are constants, not state."""
    ours = [discriminator_name(n, 64) for n in names_of("d1_discriminator_64_group4", source)]
    with torch.device("meta"):
        network = PairDiscriminator(DiscriminatorConfig(resolution=64))
    assert len(set(ours)) == len(ours)
    assert set(ours) == set(network.state_dict())


def test_blocks_count_from_opposite_ends():
    """Our generator's blocks are listed upwards, the discriminators' downwards."""
    assert generator_name("synthesis.b128.conv0.affine.bias") == "blocks.5.layers.0.affine.bias"
    assert generator_name("synthesis.b256.extra_convs.0.weight") == "blocks.6.layers.2.weight"
    assert generator_name("synthesis.b4.conv1.weight") == "blocks.0.layers.0.weight"
    assert discriminator_name("videoD.b128.skip.weight", 128) == "video.blocks.0.skip.weight"
    assert discriminator_name("imageD.b8.conv1.bias", 256) == "image.blocks.5.conv1.bias"


def test_names_of_conditional_discriminators():
    """Label networks, of which no golden file holds a pair."""
    found = [f"{net}D.mapping.embed.{part}" for net in ("video", "image") for part in "wb"]
    found = [name[:-1] + {"w": "weight", "b": "bias"}[name[-1]] for name in found]
    found += [
        f"{net}D.mapping.fc{i}.{part}"
        for net in ("video", "image")
        for i in range(8)
        for part in ("weight", "bias")
    ]
    with torch.device("meta"):
        network = PairDiscriminator(DiscriminatorConfig(resolution=32, num_classes=3))
    wanted = {name for name in network.state_dict() if ".mapping." in name}
    assert {discriminator_name(name, 32) for name in found} == wanted


@pytest.mark.parametrize(
    "name",
    [
        "synthesis.b8.noise_strength",
        "synthesis.b8.conv1.noise_const",
        "synthesis.b8.conv2.weight",
        "synthesis.b12.conv1.weight",
        "synthesis.b8.coord_fuser.xyaffine.gain",
        "mapping.w_average",
        "mapping.fc0.weight.more",
        "w_avg",
        "",
    ],
)
def test_unknown_generator_name(name):
    """A name that the original does not use is refused, not passed on."""
    with pytest.raises(KeyError, match=re.escape(repr(name))):
        generator_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "b64.conv0.weight",
        "audioD.b64.conv0.weight",
        "videoD.b64.conv2.weight",
        "videoD.b64.skip.bias",
        "videoD.b128.conv0.weight",
        "videoD.b4.conv0.weight",
        "videoD.blocks.0.conv0.weight",
        "imageD.mapping.w_avg",
    ],
)
def test_unknown_discriminator_name(name):
    """Blocks above the resolution are unknown too."""
    with pytest.raises(KeyError):
        discriminator_name(name, 64)


def test_pointwise_weights_lose_their_kernel_axes():
    """[O, I, 1, 1] of the generator becomes [O, I]; 3x3 weights of the others stay."""
    state = generator_state(
        {
            "synthesis.b8.conv0.weight": torch.zeros(5, 4, 1, 1),
            "synthesis.b8.resample_filter": torch.zeros(4, 4),
        }
    )
    assert list(state) == ["blocks.1.layers.0.weight"]
    assert list(state["blocks.1.layers.0.weight"].shape) == [5, 4]
    weight = {"videoD.b64.fromrgb.weight": torch.zeros(5, 7, 1, 1)}
    assert list(discriminator_state(weight, 64)["video.from_rgb.weight"].shape) == [5, 7, 1, 1]
