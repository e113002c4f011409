"""Recomputed activations: the numbers of kept ones, and fewer bytes."""

from __future__ import annotations

import pytest
import torch

from digan.training.step import Trainer
from tests.training.stages import distance, gradients, real_pairs, stage_trainer

EXACT = 1e-12


@pytest.fixture
def small_pieces(monkeypatch):
    """Slices of one image, pieces of a frame and a few rows, so that 32 pixels have several."""
    monkeypatch.setattr("digan.nn.recompute._SLICE_PIXELS", 3 * 32 * 32)
    monkeypatch.setattr("digan.nn.pieces._CPU_BYTES", 8 * 32 * 8)


def phase_gradients(trainer: Trainer, phase: str) -> dict[str, torch.Tensor]:
    """Of one phase; the optimiser's step does not change what .grad holds."""
    batch = range(trainer.config.batch)
    real = real_pairs(trainer)
    if phase == "G":
        trainer.train_generator(trainer._fakes("G", batch))
        return gradients(trainer.generator)
    if phase == "D":
        trainer.train_discriminator(trainer._fakes("D", batch), real)
    else:
        trainer.regularize_discriminator(real)
    return gradients(trainer.discriminator)


@pytest.mark.parametrize("phase", ["G", "D", "R1"])
@pytest.mark.parametrize("cond", [False, True])
def test_gradients_of_training(small_pieces, phase, cond):
    kept = phase_gradients(stage_trainer(cond=cond), phase)
    made_again = phase_gradients(stage_trainer(cond=cond, recompute=True), phase)
    assert distance(made_again, kept) < EXACT
    assert sum(float(g.norm()) for g in kept.values()) > 0
