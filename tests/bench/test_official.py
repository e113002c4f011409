"""The original's networks and training beside ours; DIGAN_OFFICIAL names a checkout of it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
import yaml

from digan.bench.official import (
    AGREEMENT,
    check_agreement,
    copied_discriminators,
    copied_generator,
    load_official,
    op_paths,
)
from digan.bench.official_training import published_settings
from digan.config import PRESETS, GeneratorConfig, TrainConfig, resolve
from digan.errors import DiganError
from digan.training.losses import RealPairs, r1_penalty
from tests.bench.fake_checkout import files_of, small
from tests.requirements import require


def test_weights_follow_the_seed_and_leave_the_global_generator(fake):
    code, config = load_official(fake), small()
    state = torch.random.get_rng_state()
    first, again, other = (code.generator(config.generator, s, "cpu").weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_unknown_resolution_is_refused(fake):
    config = dataclasses.replace(small().generator, resolution=512)
    with pytest.raises(DiganError, match="has no resolution 512, only 32, 64"):
        load_official(fake).generator(config, 0, "cpu")


@pytest.fixture(scope="module")
def original():
    path = os.environ.get("DIGAN_OFFICIAL")
    if not path:
        require("official", "DIGAN_OFFICIAL names no checkout of the original")
    before = files_of(Path(path))
    yield load_official(path)
    assert files_of(Path(path)) == before


def test_original_has_our_defaults(original):
    """The official preset is what its configuration files say."""
    config = yaml.safe_load((original.path / "configs/digan.yml").read_text())
    g, coordinates = PRESETS["official"].generator, config["generator"]["coords"]
    assert coordinates["medium_res_cfg"]["predictable_emb_size"] == g.frequencies
    assert coordinates["motion_sigma"] == g.motion_scale
    assert config["generator"]["fmm"]["rank"] == g.rank
    assert config["generator"]["fmaps"] * 32768 == g.channel_base
    assert (
        config["discriminator"]["fmaps"] * 32768 == PRESETS["official"].discriminator.channel_base
    )
    assert config["loss_kwargs"]["r1_gamma"] == PRESETS["official"].gamma
    assert config["loss_kwargs"]["style_mixing_prob"] == config["loss_kwargs"]["pl_weight"] == 0


@pytest.mark.parametrize("cond", [False, True])
def test_original_agrees(original, cond):
    found = check_agreement(original, small(cond=cond), batch=4, frames=3)
    assert max(dataclasses.astuple(found)) < AGREEMENT


def test_disagreement_is_reported_with_the_numbers(original):
    with pytest.raises(DiganError, match=r"disagree: .*frames \d\.\d\de-\d\d, video .*below 1e-09"):
        check_agreement(original, small(), tolerance=1e-9)


def test_original_frames_are_those_of_its_own_forward(original):
    generator = original.generator(small().generator, 0, "cpu")
    z, t = torch.randn(2, 512), torch.linspace(0, 1, 16).expand(2, 16)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        images, _ = generator(z, None, timesteps=16, noise_mode="const")
        torch.manual_seed(5)
        frames = original.frames(generator, z, torch.randn(2, 512), t)
    assert torch.equal(frames.permute(0, 1, 4, 2, 3).flatten(0, 1), images)


def batch_of(config: TrainConfig):
    frames = torch.randint(0, 256, (config.batch, 2, 3, 64, 64), dtype=torch.uint8)
    return frames, torch.rand(config.batch), torch.randint(3, (config.batch,))


def parameters(network) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("cond", [False, True])
def test_original_iteration_moves_what_it_should(original, cond):
    config = small(cond=cond, batch_gpu=2)
    training = original.iteration(config, 0, "cpu", arithmetic="float32")
    frames, dt, label = batch_of(config)
    networks = training.generator, training.discriminators, training.average
    before = [parameters(network) for network in networks]
    with published_settings(), original.watch() as watch:
        training.step(frames, dt, label)
        moved = [parameters(network) for network in networks]
        training.regularize(training.prepare(frames, dt, label))
    after = [parameters(network) for network in networks]
    assert [torch.equal(*pair) for pair in zip(before, moved, strict=True)] == [False] * 3
    assert [torch.equal(*p) for p in zip(moved, after, strict=True)] == [True, False, True]
    assert training.seen == config.batch
    assert training.iterations == 1
    assert all(values.isfinite().all() for values in after)
    assert "fallback" in watch.paths()["upfirdn2d"]


def test_original_regularization_is_ours(original):
    """The R1 phase, which without augmentation draws nothing, has our gradients."""
    config = small(augment=False)
    frames, dt, _ = batch_of(config)
    training = original.iteration(config, 0, "cpu", arithmetic="float32")
    ours = copied_discriminators(training.discriminators, config.discriminator)
    training.regularize(training.prepare(frames, dt))
    real = RealPairs(frames / 127.5 - 1, dt, None, None)
    loss, _, _ = r1_penalty(ours, real, config.gamma, config.batch)
    torch.autograd.backward(loss * config.d_reg_interval)
    theirs = {n: p.grad for n, p in training.discriminators.named_parameters()}
    name = "videoD.b64.conv0.weight"
    mine = ours.video.blocks[0].conv0.weight.grad
    assert float((theirs[name] - mine).norm() / mine.norm()) < 1e-4


def test_original_draws_motion_codes_of_one_size(original):
    config = small()
    config = dataclasses.replace(
        config, generator=dataclasses.replace(config.generator, latent_dim=64)
    )
    check_agreement(original, config)
    with pytest.raises(DiganError, match="motion codes of 512 numbers, and latent-dim is 64"):
        original.iteration(config, 0, "cpu")


def test_weights_that_do_not_fit(original):
    generator = original.generator(small().generator, 0, "cpu")
    with pytest.raises(DiganError, match="do not fit our network: Error") as caught:
        copied_generator(generator, GeneratorConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_original_agrees_at_the_official_preset(original):
    config = resolve(PRESETS["official"], resolution=128, num_classes=0)
    check_agreement(original, config)


@pytest.mark.gpu
def test_original_builds_its_plugins(original):
    paths = op_paths(original, small(), device="cuda")
    assert paths["bias_act"] == paths["upfirdn2d"] == "its CUDA plugin"
