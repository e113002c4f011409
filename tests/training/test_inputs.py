"""Inputs that are made ahead, and which gradients the phases take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from digan.data.datasets import PairBatch
from digan.errors import DiganError
from digan.training.inputs import Inputs, Prefetcher, each_tensor
from digan.training.step import Trainer
from tests.requirements import require
from tests.training.stages import (
    LABELS,
    distance,
    gradients,
    real_batch,
    stage_config,
    stage_trainer,
)


def batches(count: int, size: int = 4) -> Iterator[PairBatch]:
    for i in range(count):
        frames, dt, label = real_batch(size)
        yield PairBatch(frames + i, dt, label)


def prefetcher(trainer: Trainer, source: Iterator[PairBatch]) -> Prefetcher:
    return Prefetcher(
        source,
        lambda batch, seen: trainer.prepare(*batch, seen),
        seen=trainer.seen,
        size=trainer.config.batch,
        device=trainer.device,
    )


def tensors(inputs: Inputs) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    each_tensor(inputs, lambda name, tensor: found.setdefault(name, tensor))
    return found


@pytest.mark.parametrize("ahead", [False, True])
def test_inputs_made_ahead_are_those_made_in_time(ahead):
    trainer = stage_trainer(batch=4, cond=True)
    inputs = prefetcher(trainer, batches(3))
    for i, batch in enumerate(batches(3)):
        taken = inputs.take()
        if ahead:
            inputs.fetch()
            inputs.fetch()  # one is made ahead, and no more
        expected = tensors(trainer.prepare(*batch, 4 * i))
        ours = tensors(taken)
        assert taken.seen == 4 * i
        assert taken.regularize == (i % 2 == 0) == ("again.color" in ours)
        assert ours.keys() == expected.keys() >= {"g.z", "d.t", "real.frames", "real.augment.shift"}
        assert all(torch.equal(ours[k], v) for k, v in expected.items())
        trainer.advance(taken)
    with pytest.raises(StopIteration):
        inputs.take()


def test_what_the_loader_says_is_heard():
    def damaged() -> Iterator[PairBatch]:
        yield from batches(1)
        raise DiganError("record 7 is damaged")

    inputs = prefetcher(stage_trainer(batch=4), damaged())
    inputs.take()
    inputs.fetch()  # not yet: the iteration before is to be finished
    with pytest.raises(DiganError, match="record 7"):
        inputs.take()


@pytest.mark.gpu
def test_inputs_on_a_gpu_are_those_of_the_cpu():
    if not torch.cuda.is_available():
        require("gpu", "no CUDA device is visible")
    config = replace(stage_config(), batch=4)
    gpu, cpu = Trainer(config, device="cuda"), Trainer(config)
    made, expected = prefetcher(gpu, batches(6)), prefetcher(cpu, batches(6))
    for _ in range(6):
        ours, theirs = tensors(made.take()), tensors(expected.take())
        made.fetch()
        for name, value in theirs.items():
            assert ours[name].is_cuda
            torch.testing.assert_close(ours[name].cpu(), value, rtol=0, atol=1e-6)


class Wanted(TorchDispatchMode):
    """Convolutions' gradients that were computed: by input, by weight."""

    def __init__(self) -> None:
        super().__init__()
        self.by_input = self.by_weight = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            # Those of fir_resample, one filter a channel, have no weight that learns.
            by_input, by_weight = args[10][:2]
            self.by_input += by_input and args[9] == 1
            self.by_weight += by_weight
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_generators_phase_takes_no_gradient_by_a_discriminators_weight(precision):
    trainer = stage_trainer(dtype=torch.float32, batch=4, precision=precision)
    draws = trainer._fakes("G", range(4))
    with Wanted() as wanted:
        trainer.train_generator(draws)
    assert wanted.by_weight == 0
    assert wanted.by_input > 0
    assert all(p.grad is None for p in trainer.discriminator.parameters())
    real = trainer._reals(*real_batch(4), "D/real", range(4))
    with Wanted() as wanted:
        trainer.train_discriminator(draws, real)
    assert wanted.by_weight > 0
    assert all(p.grad is not None for p in trainer.discriminator.parameters())


def test_compiled_discriminators_take_the_same_step():
    """R1 in between is eager, or it would fail: PyTorch compiles no double backward."""
    config = stage_config(batch=4, compile=True)
    compiled = Trainer(config, labels=LABELS, dtype=torch.float64, compiler="aot_eager")
    plain = stage_trainer(batch=4)
    for name in ("generator", "discriminator", "average"):
        getattr(compiled, name).load_state_dict(getattr(plain, name).state_dict())
    for step in range(2):
        for trainer in (compiled, plain):
            trainer.iteration(*(t.roll(step, 0) for t in real_batch(4)))
        for name in ("generator", "discriminator"):
            ours, expected = getattr(compiled, name), getattr(plain, name)
            assert distance(gradients(ours), gradients(expected)) < 1e-9
    assert compiled.judge is not compiled.discriminator
    assert plain.judge is plain.discriminator


def test_a_scale_of_losses_changes_no_gradient():
    """Powers of two, so that only what is too small for its dtype could differ."""
    plain, scaled = stage_trainer(batch=4), stage_trainer(batch=4)
    scaled.scale = 1024.0
    draws, real = plain._fakes("G", range(4)), plain._reals(*real_batch(4), "D/real", range(4))
    for trainer in (plain, scaled):
        trainer.train_generator(draws)
    assert distance(gradients(scaled.generator), gradients(plain.generator)) < 1e-14
    for trainer in (plain, scaled):
        trainer.train_discriminator(draws, real)
    assert distance(gradients(scaled.discriminator), gradients(plain.discriminator)) < 1e-14
    for trainer in (plain, scaled):
        trainer.regularize_discriminator(real)
    assert distance(gradients(scaled.discriminator), gradients(plain.discriminator)) < 1e-14
