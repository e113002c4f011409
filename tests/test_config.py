"""Settings: defaults as published, presets that fit together, errors that name the field."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
import yaml

from digan.config import (
    PRESETS,
    RESOLUTIONS,
    DiscriminatorConfig,
    GeneratorConfig,
    TrainConfig,
    from_dict,
    resolve,
    to_dict,
)
from digan.errors import DiganError
from digan.nn import PairDiscriminator


def test_official_preset_has_the_published_numbers():
    """Batch, optimisers, regularisation, EMA and sizes of the original."""
    config = PRESETS["official"]
    assert config == TrainConfig()
    expected = {
        "resolution": None, "clip_frames": 16, "batch": 64, "kimg": 25000, "precision": "fp32",
        "mirror": True, "augment": True, "gamma": 1, "lr": 0.0025, "beta2": 0.99,
        "d_reg_interval": 16, "g_reg_interval": 4, "ema_kimg": 20, "ema_rampup": 0.05,
        "w_avg_beta": 0.995, "cond": False, "kernels": "auto",
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.generator == GeneratorConfig(
        resolution=128, num_classes=0, latent_dim=512, channel_base=32768, channel_max=512,
        frequencies=128, rank=10, mapping_layers=2, clamp=None,
    )  # fmt: skip
    assert config.discriminator == DiscriminatorConfig(
        resolution=128, num_classes=0, channel_base=32768, channel_max=512, mapping_layers=8,
        group_size=4, clamp=256,
    )  # fmt: skip


def test_lazy_regularisation_of_the_official_preset():
    """The factors of StyleGAN2: lr and beta2 as in the published tables."""
    config = PRESETS["official"]
    found = [
        (config.lr * i / (i + 1), config.beta2 ** (i / (i + 1)))
        for i in (config.g_reg_interval, config.d_reg_interval)
    ]
    assert found[0] == pytest.approx((0.002, 0.991992), abs=1e-6)
    assert found[1] == pytest.approx((0.00235294, 0.990585), abs=1e-6)


@pytest.mark.parametrize("kind", [GeneratorConfig, DiscriminatorConfig])
def test_official_channels(kind):
    """512 up to 64, then half as many at every doubling."""
    found = {resolution: kind().channels(resolution) for resolution in (4, 8, 32, 64, 128, 256)}
    assert found == {4: 512, 8: 512, 32: 512, 64: 512, 128: 256, 256: 128}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name):
    """Their names, sizes and batches fit together."""
    config = PRESETS[name]
    assert config.preset == name
    assert config.generator.resolution == config.discriminator.resolution
    assert config.resolution in (None, config.generator.resolution)
    assert config.generator.num_classes == config.discriminator.num_classes == 0
    assert config.batch % config.discriminator.group_size == 0
    assert config.snap % config.tick == 0
    for resolution in (4, config.generator.resolution):
        assert config.generator.channels(resolution) >= 1
        assert config.discriminator.channels(resolution) >= 1


def test_fast_is_half_the_width_of_the_discriminator_and_nothing_else():
    """Half the channels at every resolution, a quarter of the parameters."""
    fast, official = PRESETS["fast"], PRESETS["official"]
    for resolution in (4, 8, 16, 32, 64, 128, 256, 512):
        half = official.discriminator.channels(resolution) // 2
        assert fast.discriminator.channels(resolution) == half
    same = dataclasses.replace(fast, preset="official", discriminator=official.discriminator)
    assert same == official
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in PairDiscriminator(config.discriminator).parameters())
            for config in (fast, official)
        ]
    assert sizes[0] / sizes[1] == pytest.approx(0.25, abs=0.01)


def test_tiny_is_small():
    """Two networks of some hundred thousand parameters."""
    tiny = PRESETS["tiny"]
    assert tiny.batch <= 8
    with torch.device("meta"):
        count = sum(p.numel() for p in PairDiscriminator(tiny.discriminator).parameters())
    assert count < 1e6


# ---------------------------------------------------------------- reading and writing

EVERY = [
    *PRESETS.values(),
    resolve(PRESETS["official"], resolution=256, num_classes=0),
    dataclasses.replace(
        resolve(TrainConfig(cond=True), resolution=64, num_classes=7),
        batch_gpu=16, kernels="reference", ema_rampup=None, threads=3, metrics=("fd-random3d",),
        generator=GeneratorConfig(clamp=256.0),
        discriminator=DiscriminatorConfig(clamp=None),
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", EVERY, ids=lambda c: f"{c.preset}-{c.resolution}")
@pytest.mark.parametrize("form", [json, yaml], ids=["json", "yaml"])
def test_round_trip(config, form):
    """A run's file gives the same tree back, with the same types."""
    if form is json:
        values = json.loads(json.dumps(to_dict(config)))
    else:
        values = yaml.safe_load(yaml.safe_dump(to_dict(config)))
    again = from_dict(TrainConfig, values)
    assert again == config
    for field in dataclasses.fields(TrainConfig):
        mine, theirs = getattr(again, field.name), getattr(config, field.name)
        assert type(mine) is type(theirs), field.name


@pytest.mark.parametrize("kind", [GeneratorConfig, DiscriminatorConfig])
def test_round_trip_of_a_network(kind):
    config = kind(resolution=64, channel_max=8, clamp=100.0)
    assert from_dict(kind, to_dict(config)) == config


def test_missing_fields_take_their_defaults():
    """A file may say only what it changes, at any depth."""
    config = from_dict(TrainConfig, {"kimg": 3, "generator": {"rank": 4}})
    assert config == TrainConfig(kimg=3.0, generator=GeneratorConfig(rank=4))
    assert isinstance(config.kimg, float)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"batchsize": 3}, "batchsize"),
        ({"generator": {"ranks": 4}}, "ranks"),
        ({"discriminator": {"latent_dim": 4}}, "latent_dim"),
    ],
)
def test_unknown_field(values, field):
    """A typo is an error, not a default."""
    with pytest.raises(DiganError, match=field):
        from_dict(TrainConfig, values)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"batch": "many"}, "batch"),
        ({"batch": 3.5}, "batch"),
        ({"batch": None}, "batch"),
        ({"batch": True}, "batch"),
        ({"kimg": "1e3"}, "kimg"),
        ({"kimg": True}, "kimg"),
        ({"kimg": None}, "kimg"),
        ({"mirror": 1}, "mirror"),
        ({"precision": "fp64"}, "precision"),
        ({"preset": "huge"}, "preset"),
        ({"kernels": True}, "kernels"),
        ({"metrics": "fd-random3d"}, "metrics"),
        ({"metrics": [3]}, "metrics"),
        ({"generator": 3}, "generator"),
        ({"generator": {"rank": "ten"}}, "rank"),
        ({"generator": {"clamp": "none"}}, "clamp"),
        ({"discriminator": {"clamp": [256]}}, "clamp"),
    ],
    ids=str,
)
def test_ill_typed_field(values, field):
    """Nothing is cast but whole numbers to floats; the error names the field."""
    with pytest.raises(DiganError, match=field):
        from_dict(TrainConfig, values)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("kind", [GeneratorConfig, DiscriminatorConfig, TrainConfig])
@pytest.mark.parametrize("resolution", [0, 16, 48, 100, 129, 2048, -64])
def test_resolution_must_be_a_power_of_two(kind, resolution):
    """From 32, which is the coarsest grid."""
    with pytest.raises(DiganError, match=f"power of two from 32 to 1024, got {resolution}"):
        kind(resolution=resolution)
    with pytest.raises(DiganError, match=f"got {resolution}"):
        from_dict(kind, {"resolution": resolution})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clip_frames": 1}, "clip-frames must be at least 2, got 1"),
        ({"batch": 0}, "batch must be positive and finite, got 0"),
        ({"kimg": -1.0}, "kimg must be positive and finite, got -1.0"),
        ({"kimg": math.nan}, "kimg must be positive and finite, got nan"),
        ({"kimg": math.inf}, "kimg must be positive and finite, got inf"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"tick": 0.0}, "tick must be positive"),
        ({"snap": 0.0}, "snap must be positive"),
        ({"d_reg_interval": 0}, "d-reg-interval must be positive"),
        ({"g_reg_interval": 0}, "g-reg-interval must be positive"),
        ({"batch": 64, "batch_gpu": 24}, "batch-gpu must divide the batch of 64, got 24"),
        ({"batch_gpu": -8}, "batch-gpu must divide"),
        ({"batch": 6}, "batch must be a multiple of 4, the group .* got 6"),
        ({"batch": 3}, "batch must be a multiple of 4, the group .* got 3"),
        ({"batch": 12, "batch_gpu": 6}, "batch-gpu must be a multiple of 4, the group .* got 6"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"seed": -1}, "seed must be from 0 to .*, got -1"),
        ({"seed": 1 << 63}, "seed must be from 0 to .*, got 9223372036854775808"),
        ({"metrics": ("fd-random3d", "lpips")}, "metrics must be of fd-random3d, .* got lpips"),
    ],
    ids=str,
)
def test_impossible_value(values, message):
    """The message is in the words of the command line."""
    with pytest.raises(DiganError, match=message):
        TrainConfig(**values)


@pytest.mark.parametrize("batch", [1, 2, 4, 8, 12, 64])
def test_batches_of_whole_groups(batch):
    """A group holds 4 samples, or all where there are fewer, of pairs and of frames."""
    assert TrainConfig(batch=batch).batch == batch
    assert TrainConfig(batch=3 * batch, batch_gpu=batch).batch_gpu == batch


@pytest.mark.parametrize("kind", [GeneratorConfig, DiscriminatorConfig])
@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("num_classes", -1, "0 to 65536"),
        ("channel_base", 0, "1 to 65536"),
        ("channel_max", 0, "1 to 65536"),
        ("channel_max", 1 << 17, "1 to 65536"),
        ("mapping_layers", -1, "0 to 64"),
        ("mapping_layers", 65, "0 to 64"),
    ],
)
def test_impossible_size(kind, name, value, bounds):
    """Also in a file: sizes decide how much memory its reader takes."""
    message = f"{name.replace('_', '-')} must be from {bounds}, got {value}"
    with pytest.raises(DiganError, match=message):
        from_dict(kind, {name: value})


def test_a_block_has_at_least_one_channel():
    with pytest.raises(DiganError, match="channel-base must be at least the resolution of 128"):
        GeneratorConfig(channel_base=100).channels(128)
    assert DiscriminatorConfig(channel_base=128).channels(128) == 1


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_resolve_fits_both_networks(resolution):
    """The data set's resolution goes everywhere, its classes only to conditional runs."""
    for cond, classes in ((True, 5), (False, 0)):
        config = resolve(
            dataclasses.replace(PRESETS["tiny"], cond=cond), resolution=resolution, num_classes=5
        )
        assert config.resolution == resolution
        for network in (config.generator, config.discriminator):
            assert (network.resolution, network.num_classes) == (resolution, classes)
        assert config.generator.frequencies == PRESETS["tiny"].generator.frequencies
        assert config.batch == PRESETS["tiny"].batch


def test_resolve_refuses_another_resolution():
    """Frames are not resized behind the user's back."""
    asked = TrainConfig(resolution=64)
    assert resolve(asked, resolution=64, num_classes=0).generator.resolution == 64
    with pytest.raises(DiganError, match="resolution must be the store's 128, got 64"):
        resolve(asked, resolution=128, num_classes=0)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["official"].batch = 3
