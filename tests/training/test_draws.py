"""The random numbers of training are a function of the seed and the sample's number."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from digan.training.draws import FakeDraws, sample_fakes, sort_times

CPU = torch.device("cpu")


def draw(indices: range, **changes: Any) -> FakeDraws:
    settings: dict[str, Any] = {
        "seed": 3,
        "phase": "G",
        "latent_dim": 6,
        "size": 32,
        "labels": np.array([0, 1, 1, 2]),
        "augment": True,
        "device": CPU,
        **changes,
    }
    seed, phase = settings.pop("seed"), settings.pop("phase")
    return sample_fakes(seed, phase, indices, **settings)


def tensors(draws: FakeDraws) -> dict[str, torch.Tensor]:
    found = {f.name: getattr(draws, f.name) for f in fields(draws) if f.name != "augment"}
    assert draws.augment is not None
    return {**found, "color": draws.augment.color, "shift": draws.augment.shift}


@pytest.mark.parametrize("part", [1, 4, 6])
def test_any_batch_split_gives_the_same_samples(part):
    whole = tensors(draw(range(100, 112)))
    parts = [tensors(draw(range(i, i + part))) for i in range(100, 112, part)]
    for name, value in whole.items():
        assert torch.equal(torch.cat([p[name] for p in parts]), value), name


def test_take_chooses_samples():
    whole = draw(range(8))
    index = torch.tensor([6, 0, 3])
    for name, value in tensors(whole.take(index)).items():
        assert torch.equal(value, tensors(whole)[name][index]), name
    plain = draw(range(8), labels=None, augment=False).take(index)
    assert plain.label is None
    assert plain.augment is None


@pytest.mark.parametrize("change", [{"phase": "D"}, {"seed": 4}])
def test_other_phases_and_seeds_are_other_numbers(change):
    first, second = tensors(draw(range(50))), tensors(draw(range(50), **change))
    for name in ("z", "z_motion", "t", "color"):
        assert not (first[name] == second[name]).any(), name
    for name in ("label", "shift"):
        assert not torch.equal(first[name], second[name]), name


def test_content_and_motion_are_normal_and_not_the_same():
    draws = draw(range(1000))
    assert not (draws.z == draws.z_motion).any()
    for value in (draws.z.double(), draws.z_motion.double()):
        assert abs(float(value.mean())) < 0.05
        assert abs(float(value.var()) - 1) < 0.06


def test_an_unconditional_run_shares_all_numbers_but_the_label():
    with_labels, without = draw(range(20)), draw(range(20), labels=None)
    assert without.label is None
    for name in ("z", "z_motion", "t"):
        assert torch.equal(getattr(with_labels, name), getattr(without, name)), name


def test_times_are_the_sorted_betas():
    t = draw(range(6000), latent_dim=1, labels=None, augment=False).t
    assert t.dtype == torch.float64
    assert (t[:, 0] <= t[:, 1]).all()
    assert (t >= 0).all()
    assert (t <= 1).all()
    # Of a ~ Beta(2, 1) and b ~ Beta(1, 2), independent:
    source = np.random.default_rng(0)
    a, b = source.beta(2, 1, 400_000), source.beta(1, 2, 400_000)
    expected = np.sort(np.stack([a, b], axis=1), axis=1)
    ours = t.numpy()
    np.testing.assert_allclose(ours.mean(axis=0), expected.mean(axis=0), atol=0.012)
    np.testing.assert_allclose(ours.var(axis=0), expected.var(axis=0), atol=0.006)
    gap, expected_gap = np.diff(ours, axis=1), np.diff(expected, axis=1)
    np.testing.assert_allclose(gap.mean(), expected_gap.mean(), atol=0.012)
    np.testing.assert_allclose(gap.var(), expected_gap.var(), atol=0.006)
    # Together they have the moments of the two: E a + E b = 2/3 + 1/3.
    np.testing.assert_allclose(ours.sum(axis=1).mean(), 1.0, atol=0.015)
    np.testing.assert_allclose(ours.sum(axis=1).var(), 2 / 18, atol=0.008)


def test_sort_times_keeps_both_draws():
    first, second = torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0.2, 0.3, 0.5])
    assert torch.equal(
        sort_times(first, second), torch.tensor([[0.2, 0.9], [0.1, 0.3], [0.5, 0.5]])
    )


def test_dt_is_the_difference():
    draws = draw(range(5))
    assert torch.equal(draws.dt, draws.t[:, 1] - draws.t[:, 0])


def test_labels_come_as_often_as_in_the_data():
    labels = np.array([0] * 6 + [2] * 3 + [5])
    found = draw(range(4000), latent_dim=1, labels=labels, augment=False).label
    assert found is not None
    assert found.dtype == torch.int64
    shares = torch.bincount(found, minlength=6).double() / 4000
    expected = torch.tensor([0.6, 0, 0.3, 0, 0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)
    assert shares[1] == shares[3] == shares[4] == 0
