"""The losses' formulas, R1, and that parts of a batch and processes add up to the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import Tensor

from digan.nn import pair_input
from digan.processes import World
from digan.training.augment import diff_augment
from digan.training.distributed import split_batch
from digan.training.draws import FakeDraws
from digan.training.losses import (
    Logits,
    RealPairs,
    discriminator_fake_loss,
    discriminator_real_loss,
    generate_pairs,
    generator_loss,
    judge_reals,
    r1_penalty,
)
from digan.training.step import Trainer
from tests.training.stages import (
    BATCH,
    SIZE,
    distance,
    gradients,
    real_batch,
    real_pairs,
    stage_config,
    stage_trainer,
)

# ---------------------------------------------------------------- formulas


def test_logistic_loss_is_the_mean_of_each_batch():
    video = torch.tensor([0.3, -2.0], dtype=torch.float64)
    image = torch.tensor([1.0, -1.0, 0.0, 4.0], dtype=torch.float64)
    logits = Logits(video, image)
    for sign in (1.0, -1.0):
        by_hand = torch.log1p(torch.exp(sign * video)).mean()
        by_hand = by_hand + torch.log1p(torch.exp(sign * image)).mean()
        torch.testing.assert_close(logits.loss(sign, 2), by_hand)
        # A half of a batch of 4 carries half of its loss.
        torch.testing.assert_close(logits.loss(sign, 4), by_hand / 2)


def test_losses_go_the_right_way():
    trainer = stage_trainer()
    draws = trainer._fakes("G", range(BATCH))
    nets = trainer.generator, trainer.discriminator
    with torch.no_grad():
        g_loss, logits, w = generator_loss(*nets, draws, BATCH)
        d_loss, again, _ = discriminator_fake_loss(*nets, draws, BATCH)
        real_loss, real_logits = discriminator_real_loss(nets[1], real_pairs(trainer), BATCH)
    assert torch.equal(logits.video, again.video)
    assert (logits.video.shape, logits.image.shape, w.shape) == ((16,), (32,), (16, 8))
    assert torch.equal(g_loss, logits.loss(-1.0, BATCH))
    assert torch.equal(d_loss, logits.loss(1.0, BATCH))
    assert torch.equal(real_loss, real_logits.loss(-1.0, BATCH))


def test_fake_loss_leaves_the_generator_alone():
    trainer = stage_trainer()
    trainer.generator.requires_grad_(True)
    trainer.discriminator.requires_grad_(True)
    loss, _, w = discriminator_fake_loss(
        trainer.generator, trainer.discriminator, trainer._fakes("D", range(BATCH)), BATCH
    )
    loss.backward()
    assert not w.requires_grad
    assert all(p.grad is None for p in trainer.generator.parameters())
    assert all(p.grad is not None for p in trainer.discriminator.parameters())


def test_generated_pairs_are_in_the_order_of_time():
    trainer = stage_trainer()
    draws = trainer._fakes("G", range(BATCH))
    with torch.no_grad():
        frames, _ = generate_pairs(trainer.generator, draws)
        late, _ = generate_pairs(trainer.generator, replace(draws, t=draws.t[:, 1:]))
    assert frames.shape == (BATCH, 2, 3, SIZE, SIZE)
    torch.testing.assert_close(frames[:, 1:], late, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(frames[:, 0], frames[:, 1])


def r1_by_hand(trainer: Trainer, real: RealPairs) -> tuple[Tensor, Tensor]:
    """Squared gradient norms [B] and [2B], each network and each input on its own."""
    nets = trainer.discriminator
    pair = pair_input(real.frames, real.dt).requires_grad_()
    frames = diff_augment(torch.stack([pair[:, :3], pair[:, 3:6]], dim=1), real.augment)
    logits = nets.video(torch.cat([frames[:, 0], frames[:, 1], pair[:, 6:]], dim=1), real.label)
    (by_pair,) = torch.autograd.grad(logits.sum(), pair)
    augmented = frames.detach().flatten(0, 1).requires_grad_()
    label = None if real.label is None else real.label.repeat_interleave(2)
    (by_image,) = torch.autograd.grad(nets.image(augmented, label).sum(), augmented)
    assert by_pair[:, 6].abs().max() > 0  # the time plane is one of the seven channels
    return by_pair.pow(2).sum(dim=(1, 2, 3)), by_image.pow(2).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("cond", [False, True])
def test_r1_differentiates_by_the_right_inputs(cond):
    trainer = stage_trainer(cond=cond)
    real = real_pairs(trainer)
    video, image = r1_by_hand(trainer, real)
    penalty, ours_video, ours_image = r1_penalty(trainer.discriminator, real, 1.0, BATCH)
    torch.testing.assert_close(ours_video, video, rtol=1e-10, atol=0)
    torch.testing.assert_close(ours_image, image, rtol=1e-10, atol=0)
    torch.testing.assert_close(penalty, (video.mean() + image.mean()) / 2, rtol=1e-10, atol=0)
    # Differentiating by the other side of the augmentation gives other numbers.
    plain = r1_penalty(trainer.discriminator, replace(real, augment=None), 1.0, BATCH)
    assert float((plain[1] - video).abs().max()) > 1e-3 * float(video.max())


def test_r1_grows_with_gamma_and_reaches_the_weights():
    trainer = stage_trainer()
    real = real_pairs(trainer)
    trainer.discriminator.requires_grad_(True)
    once, _, _ = r1_penalty(trainer.discriminator, real, 1.0, BATCH)
    tenfold, _, _ = r1_penalty(trainer.discriminator, real, 10.0, BATCH)
    torch.testing.assert_close(tenfold, 10 * once, rtol=1e-12, atol=0)
    once.backward()
    for net in (trainer.discriminator.video, trainer.discriminator.image):
        weight = net.from_rgb.weight.grad
        assert weight is not None
        assert weight.abs().max() > 0


def test_r1_is_as_strong_as_its_interval_is_long():
    norms = []
    for interval in (2, 6):
        trainer = stage_trainer(d_reg_interval=interval)
        trainer.regularize_discriminator(real_pairs(trainer))
        found = gradients(trainer.discriminator)
        norms.append(torch.cat([g.flatten() for g in found.values()]).norm())
    torch.testing.assert_close(norms[1], 3 * norms[0], rtol=1e-10, atol=0)


def test_r1_comes_every_interval_only():
    trainer = stage_trainer(d_reg_interval=2, batch=4)
    seen = []
    for _ in range(4):
        trainer.iteration(*real_batch(4))
        seen.append("D/r1_video" in trainer.statistics.read())
    assert seen == [True, False, True, False]
    assert trainer.step == 4


def test_real_bytes_become_minus_one_to_one():
    trainer = stage_trainer(dtype=torch.float32)
    frames, dt, label = real_batch()
    frames[0, 0, 0, 0, 0], frames[0, 0, 0, 0, 1] = 0, 255
    real = trainer._reals(frames, dt, label, "D/real", range(BATCH))
    assert real.frames.dtype == real.dt.dtype == torch.float32
    assert real.frames[0, 0, 0, 0, :2].tolist() == [-1.0, 1.0]
    assert real.label is None  # the run is not conditional


# ---------------------------------------------------------------- parts of a batch


def test_parts_hold_whole_groups_and_every_sample_once():
    for batch, parts in ((16, 1), (16, 2), (16, 4), (64, 4), (4, 1), (24, 3)):
        found = split_batch(batch, parts, 4)
        assert sorted(chain(*found)) == list(range(batch))
        groups = batch // 4
        for part in found:
            own = len(part) // 4
            for place, sample in enumerate(part):
                mates = [s for p, s in enumerate(part) if p % own == place % own]
                assert {s % groups for s in mates} == {sample % groups}


def test_parts_smaller_than_a_group_are_strided():
    assert split_batch(4, 2, 4) == [[0, 2], [1, 3]]
    assert split_batch(2, 1, 4) == [[0, 1]]
    with pytest.raises(ValueError, match="must divide"):
        split_batch(16, 3, 4)


def phases(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """One iteration, phase by phase: gradients, weights, statistics."""
    found = {}
    real = real_pairs(trainer)
    trainer.train_generator(trainer._fakes("G", range(BATCH)))
    found["G gradients"] = gradients(trainer.generator)
    found["w_avg after G"] = {"w_avg": trainer.generator.w_avg.clone()}
    trainer.train_discriminator(trainer._fakes("D", range(BATCH)), real)
    found["D gradients"] = gradients(trainer.discriminator)
    trainer.regularize_discriminator(real)
    found["R1 gradients"] = gradients(trainer.discriminator)
    trainer.update_average()
    for name, network in (("G", trainer.generator), ("average", trainer.average)):
        found[name] = {k: v.clone() for k, v in network.state_dict().items()}
    found["D"] = {k: v.clone() for k, v in trainer.discriminator.state_dict().items()}
    return found


def check_same(ours: dict[str, dict[str, Tensor]], expected: dict[str, dict[str, Tensor]]) -> None:
    for name, tensors in expected.items():
        # Where R1 or a kink leaves a gradient at rounding error, Adam's first step is its sign.
        bound = 1e-12 if "gradients" in name or "w_avg" in name else 1e-10
        assert distance(ours[name], tensors) < bound, name


def test_micro_batches_equal_the_whole_batch():
    whole = stage_trainer(cond=True)
    expected, statistics = phases(whole), whole.statistics.read()
    for part in (8, 4):
        split = stage_trainer(cond=True, batch_gpu=part)
        assert [len(p) for p in split.parts] == [part] * (BATCH // part)
        check_same(phases(split), expected)
        ours = split.statistics.read()
        assert ours.keys() == statistics.keys()
        for name, value in statistics.items():  # kept in float32
            assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_other_parts_would_not_be_equal():
    """The rule of `split_batch` matters: contiguous parts break the groups."""
    whole, split = stage_trainer(), stage_trainer(batch_gpu=8)
    split.parts = [torch.arange(0, 8), torch.arange(8, 16)]
    draws = whole._fakes("G", range(BATCH))
    whole.train_generator(draws)
    split.train_generator(draws)
    assert distance(gradients(split.generator), gradients(whole.generator)) > 1e-6


class MeetingPoint:
    """Sums what the threads that stand for processes bring, as an all-reduce does."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.brought: dict[int, list[Tensor]] = {}

    def world(self, rank: int, size: int) -> World:
        meeting = self

        class Member(World):
            def sum_(self, tensors: Iterable[Tensor]) -> None:
                own = list(tensors)
                meeting.brought[rank] = [t.clone() for t in own]
                meeting.barrier.wait()
                for place, tensor in enumerate(own):
                    tensor.copy_(sum(meeting.brought[r][place] for r in range(size)))
                meeting.barrier.wait()

        return Member(rank, size)


def in_processes(size: int, work: Callable[[Trainer], None], **changes: object) -> list[Trainer]:
    """Runs the work in `size` trainers that meet in every sum."""
    meeting = MeetingPoint(size)
    trainers = [stage_trainer(world=meeting.world(rank, size), **changes) for rank in range(size)]
    failures: list[BaseException] = []

    def act(trainer: Trainer) -> None:
        try:
            work(trainer)
        except BaseException as error:
            failures.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=act, args=(trainer,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return trainers


def test_two_processes_equal_one():
    def work(trainer: Trainer) -> None:
        for _ in range(2):
            trainer.iteration(*(value[trainer.own] for value in real_batch()))

    one = stage_trainer()
    work(one)
    first, second = in_processes(2, work)
    assert [len(p) for p in first.parts] == [len(p) for p in second.parts] == [8]
    assert sorted([*first.own, *second.own]) == list(range(BATCH))
    assert first.numbers(BATCH) == [BATCH + position for position in first.own]
    for trainer in (first, second):
        for name in ("generator", "discriminator", "average"):
            ours, expected = getattr(trainer, name), getattr(one, name)
            assert distance(ours.state_dict(), expected.state_dict()) < 1e-9, name
    # The processes themselves agree to the bit.
    for name, value in first.generator.state_dict().items():
        assert torch.equal(value, second.generator.state_dict()[name])


def test_two_processes_with_micro_batches_have_the_gradients_of_one():
    def work(trainer: Trainer) -> None:
        real = real_pairs(trainer).take(torch.tensor(trainer.own))
        trainer.train_generator(trainer._fakes("G", trainer.own))
        trainer.train_discriminator(trainer._fakes("D", trainer.own), real)

    one = stage_trainer()
    work(one)
    first, _ = in_processes(2, work, batch_gpu=4)
    assert [len(p) for p in first.parts] == [4, 4]
    for network in ("generator", "discriminator"):
        ours, expected = getattr(first, network), getattr(one, network)
        assert distance(gradients(ours), gradients(expected)) < 1e-12
    assert distance({"w": first.generator.w_avg}, {"w": one.generator.w_avg}) < 1e-12


def test_one_process_sums_nothing():
    tensor = torch.ones(3)
    World().sum_([tensor])
    assert tensor.tolist() == [1.0, 1.0, 1.0]
    assert World().is_first
    assert not World(rank=1, size=2).is_first


# ---------------------------------------------------------------- trainers


def test_initial_weights_follow_the_seed_and_leave_the_global_generator():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again = Trainer(stage_config(seed=4)), Trainer(stage_config(seed=4))
    other = Trainer(stage_config(seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (t.generator.state_dict() for t in (first, again, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["mapping.layers.0.weight"], c["mapping.layers.0.weight"])


def test_iterations_do_not_read_the_global_generator():
    results = []
    for noise in (1, 2):
        trainer = stage_trainer(batch=4)
        torch.manual_seed(noise)
        trainer.iteration(*real_batch(4))
        results.append(trainer.generator.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_w_avg_moves_once_a_phase_by_the_mean_of_the_whole_batch():
    trainer = stage_trainer(batch_gpu=4)
    expected = trainer.generator.w_avg.clone()
    for phase in ("G", "D"):
        draws = trainer._fakes(phase, range(BATCH))
        mean = trainer.generator.map(draws.z.double())[:, 0].mean(dim=0)
        if phase == "G":
            trainer.train_generator(draws)
        else:
            trainer.train_discriminator(draws, real_pairs(trainer))
        expected = 0.995 * expected + 0.005 * mean
        torch.testing.assert_close(trainer.generator.w_avg, expected, rtol=1e-12, atol=1e-14)


def test_every_phase_of_an_iteration_has_draws_of_its_own(monkeypatch):
    """Fresh latents for the discriminators; augmentations of fakes, reals and R1 differ."""
    trainer = stage_trainer(batch=4)
    seen: dict[str, list[Tensor]] = {"z": [], "color": []}

    def watch(name: str) -> None:
        original = getattr(Trainer, name)

        def phase(self: Trainer, *draws: FakeDraws | RealPairs) -> None:
            for draw in draws:
                assert draw.augment is not None
                seen["color"].append(draw.augment.color)
                if isinstance(draw, FakeDraws):
                    seen["z"].append(draw.z)
            original(self, *draws)

        monkeypatch.setattr(Trainer, name, phase)

    for name in ("train_generator", "train_discriminator", "regularize_discriminator"):
        watch(name)
    for _ in range(2):
        trainer.iteration(*real_batch(4))
    assert (len(seen["z"]), len(seen["color"])) == (4, 7)  # R1 in the first iteration only
    for values in seen.values():
        rows = torch.cat(values).double()
        assert len(rows.unique(dim=0)) == len(rows)


def test_real_logits_use_their_own_augmentation():
    trainer = stage_trainer()
    real = real_pairs(trainer)
    assert real.augment is not None
    fakes = trainer._fakes("D", range(BATCH)).augment
    assert fakes is not None
    assert not torch.equal(real.augment.color, fakes.color)
    with torch.no_grad():
        plain = judge_reals(trainer.discriminator, replace(real, augment=None))
        augmented = judge_reals(trainer.discriminator, real)
    assert not torch.allclose(plain.video, augmented.video)
    assert not torch.allclose(plain.image, augmented.image)
