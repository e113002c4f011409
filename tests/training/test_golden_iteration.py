"""Two whole training iterations against the original's: losses, gradients, weights, averages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from digan.nn.official import (
    discriminator_name,
    discriminator_state,
    generator_name,
    generator_state,
)
from digan.training.draws import FakeDraws, sort_times
from digan.training.losses import RealPairs
from digan.training.statistics import Statistics
from digan.training.step import Trainer, ema_decay
from tests.golden_numbers import Numbers, load, relative

FILE = "f_training_iteration"
SIZE = 64


@pytest.fixture(scope="module")
def numbers() -> Numbers:
    return load(FILE, "full")


class Recorder(Statistics):
    """Keeps what a phase reports, per sample and in full precision."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        self.values[name] = values.detach().clone()


def golden_trainer(numbers: Numbers, dtype: torch.dtype) -> Trainer:
    config = TrainConfig(
        resolution=SIZE,
        clip_frames=16,
        batch=4,
        augment=False,
        generator=GeneratorConfig(
            resolution=SIZE, latent_dim=16, channel_base=512, channel_max=8, frequencies=8
        ),
        discriminator=DiscriminatorConfig(resolution=SIZE, channel_base=512, channel_max=8),
    )
    trainer = Trainer(config, dtype=dtype)
    trainer.statistics = Recorder()

    def state(net: str) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(numbers[f"{net}/{kind}/{name}"]).to(dtype)
            for kind in ("param", "buffer")
            for name in numbers.names(f"{net}/{kind}/")
        }

    trainer.generator.load_state_dict(generator_state(state("G")))
    trainer.discriminator.load_state_dict(discriminator_state(state("D"), SIZE))
    trainer.average.load_state_dict(trainer.generator.state_dict())
    return trainer


def fakes(numbers: Numbers, iteration: int, phase: str, dtype: torch.dtype) -> FakeDraws:
    z, z_motion, first, second = (
        torch.from_numpy(numbers[f"in/it{iteration}/{phase}/{name}"])
        for name in ("z", "z_motion", "Ts_beta21", "Ts_beta12")
    )
    return FakeDraws(z.to(dtype), z_motion.to(dtype), sort_times(first, second), None, None)


def reals(trainer: Trainer, numbers: Numbers, iteration: int) -> RealPairs:
    """Through the trainer's own conversion from bytes."""
    frames = torch.from_numpy(numbers[f"in/it{iteration}/real_uint8"]).unflatten(1, (2, 3))
    dt = torch.from_numpy(numbers[f"f64/it{iteration}/real_delta_t"])
    return trainer._reals(frames, dt, None, "unused", range(4))


def worst(
    numbers: Numbers, prefix: str, network: nn.Module, ours: Callable[[str], str], grad: bool
) -> float:
    """The largest relative error over all of a network's parameters, every one of them met."""
    own = dict(network.named_parameters())
    names = [name for name in numbers.names(prefix) if not name.endswith("w_avg")]
    assert sorted(map(ours, names)) == sorted(own)
    errors = []
    for name in names:
        value = own[ours(name)]
        tensor = value.grad if grad else value
        golden = numbers[prefix + name]
        assert tensor is not None
        errors.append(relative(tensor.reshape(golden.shape), golden))
    return max(errors)


def discriminators_name(name: str) -> str:
    return discriminator_name(name, SIZE)


def recorded(trainer: Trainer) -> dict[str, Tensor]:
    assert isinstance(trainer.statistics, Recorder)
    return trainer.statistics.values


def loss_errors(trainer: Trainer, numbers: Numbers, precision: str, iteration: int) -> list[float]:
    """Errors of the losses and logits of the phases that ran last."""
    at = f"{precision}/it{iteration}"
    values = recorded(trainer)
    generator = numbers[f"{at}/Gmain/G_loss"].mean() + numbers[f"{at}/Gmain/G_Iloss"].mean()
    discriminator = numbers[f"{at}/Dmain/D_loss"].mean() + numbers[f"{at}/Dmain/D_Iloss"].mean()
    return [
        relative(values["G/loss"], generator),
        relative(values["D/fake_loss"] + values["D/real_loss"], discriminator),
        relative(values["G/video_logit"], numbers[f"{at}/Gmain/scores_fake"].ravel()),
        relative(values["D/fake_video_logit"], numbers[f"{at}/Dmain/scores_fake"].ravel()),
        relative(values["D/real_video_logit"], numbers[f"{at}/Dmain/scores_real"].ravel()),
    ]


def test_two_iterations_in_float64(numbers):
    trainer = golden_trainer(numbers, torch.float64)
    for it in (0, 1):
        trainer.seen = 4 * it
        at = f"f64/it{it}"

        trainer.train_generator(fakes(numbers, it, "G", torch.float64))
        w_avg = trainer.generator.w_avg
        assert relative(w_avg, numbers[f"{at}/Gmain/w_avg_after"]) < 1e-9
        if it == 0:
            net = trainer.generator
            assert worst(numbers, f"{at}/Gmain/grad/", net, generator_name, True) < 1e-9
            assert worst(numbers, f"{at}/Gmain/after/", net, generator_name, False) < 1e-9

        real = reals(trainer, numbers, it)
        trainer.train_discriminator(fakes(numbers, it, "D", torch.float64), real)
        assert relative(w_avg, numbers[f"{at}/Dmain/w_avg_after"]) < 1e-9
        net = trainer.discriminator
        if it == 0:
            assert worst(numbers, f"{at}/Dmain/grad/", net, discriminators_name, True) < 1e-9
        assert worst(numbers, f"{at}/Dmain/after/", net, discriminators_name, False) < 1e-9
        assert max(loss_errors(trainer, numbers, "f64", it)) < 1e-9

        if it == 0:
            trainer.regularize_discriminator(real)
            assert worst(numbers, f"{at}/Dreg/grad/", net, discriminators_name, True) < 1e-9
            assert worst(numbers, f"{at}/Dreg/after/", net, discriminators_name, False) < 1e-9
            # The file has the pairs' penalties; those of the frames enter the gradients above.
            penalty = recorded(trainer)["D/r1_video"]
            assert relative(penalty, numbers[f"{at}/Dreg/r1_penalty"]) < 1e-9
            trainer.update_average()
            for name, value in trainer.average.state_dict().items():
                assert torch.equal(value, trainer.generator.state_dict()[name]), name
        else:
            # The file's own half-life: 10 images, no ramp.
            trainer.config = replace(trainer.config, ema_kimg=0.01, ema_rampup=None)
            assert ema_decay(4, 4, 0.01, None) == pytest.approx(
                float(numbers["f64/it1/ema_beta"]), rel=1e-12
            )
            trainer.update_average()
            assert worst(numbers, f"{at}/ema/", trainer.average, generator_name, False) < 1e-9
            buffer = next(n for n in numbers.names(f"{at}/ema/") if n.endswith("w_avg"))
            assert relative(trainer.average.w_avg, numbers[f"{at}/ema/{buffer}"]) < 1e-9

    steps = {"G": trainer.g_optimizer, "D": trainer.d_optimizer}
    for net_name, optimizer in steps.items():
        taken = {int(state["step"]) for state in optimizer.state.values()}
        assert taken == set(numbers[f"f64/{net_name}_adam_steps"].tolist())


def test_optimisers_are_the_originals(numbers):
    trainer = golden_trainer(numbers, torch.float64)
    for net, optimizer in (("G", trainer.g_optimizer), ("D", trainer.d_optimizer)):
        (group,) = optimizer.param_groups
        assert group["lr"] == pytest.approx(float(numbers[f"f64/{net}_lr"]), rel=1e-12)
        assert group["betas"][0] == float(numbers[f"f64/{net}_beta1"]) == 0
        assert group["betas"][1] == pytest.approx(float(numbers[f"f64/{net}_beta2"]), rel=1e-12)
        assert group["eps"] == 1e-8


def test_average_follows_the_originals_schedule(numbers):
    for seen, batch, kimg, ramp, beta in numbers["ema_schedule_table"]:
        ours = ema_decay(int(seen), int(batch), kimg, None if ramp < 0 else ramp)
        assert ours == pytest.approx(beta, rel=1e-9, abs=1e-12)


def test_losses_in_float32(numbers):
    """Adam's first step divides by |g|, so the second iteration is looser than the first."""
    trainer = golden_trainer(numbers, torch.float32)
    for it, bound in ((0, 1e-5), (1, 1e-4)):
        trainer.seen = 4 * it
        trainer.train_generator(fakes(numbers, it, "G", torch.float32))
        real = reals(trainer, numbers, it)
        trainer.train_discriminator(fakes(numbers, it, "D", torch.float32), real)
        errors = loss_errors(trainer, numbers, "f64", it)
        assert max(errors[:2]) < 1e-5
        assert max(errors) < bound
        if it == 0:
            trainer.regularize_discriminator(real)
            penalty = recorded(trainer)["D/r1_video"]
            assert relative(penalty, numbers["f64/it0/Dreg/r1_penalty"]) < 1e-3
