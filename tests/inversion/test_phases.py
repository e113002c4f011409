"""The plan of an inversion."""

from __future__ import annotations

import math

import pytest

from digan.errors import DiganError
from digan.inversion import FitSettings, plan


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 601])
@pytest.mark.parametrize("starts", [1, 2, 5, 16])
@pytest.mark.parametrize("space", ["w", "w+"])
def test_phases_add_up_and_narrow(steps, starts, space):
    phases = plan(FitSettings(steps=steps, starts=starts, space=space))
    assert sum(phase.steps for phase in phases) == steps
    assert all(phase.steps > 0 for phase in phases)
    counts = [phase.starts for phase in phases]
    assert counts[0] <= starts
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1
    strides = [phase.stride for phase in phases]
    assert strides == sorted(strides, reverse=True)
    assert all(not phase.per_layer or space == "w+" for phase in phases)
    if steps >= 100:
        assert [counts[0], counts[-1], strides[-1]] == [starts, 1, 1]
        assert phases[-1].per_layer == (space == "w+")


def test_times_grow_from_the_first_frame():
    first, motion, *later = plan(FitSettings(steps=400))
    assert {first.frames(step, 16) for step in range(first.steps)} == {1}
    grown = [motion.frames(step, 16) for step in range(motion.steps)]
    assert grown == sorted(grown)
    assert set(grown) == set(range(3, 17))
    for phase in later:
        assert {phase.frames(step, 16) for step in range(phase.steps)} == {16}
    assert motion.frames(0, 1) == 1


def test_rates_warm_up_and_fall():
    for phase in plan(FitSettings(steps=400)):
        rates = [phase.rate(step) for step in range(phase.steps)]
        assert all(rate > 0 for rate in rates)
        assert rates[:10] == sorted(rates[:10])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] == pytest.approx(phase.lr[1])
        assert max(rates) <= phase.lr[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"starts": -1}, "starts must be at least 1, got -1"),
        ({"batch_frames": 0}, "batch frames must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
        ({"lr": math.nan}, "lr must be a positive number, got nan"),
        ({"stop_psnr": math.inf}, "stop psnr must be a positive number, got inf"),
        ({"prior_motion": -1.0}, "prior motion must be 0 or more, got -1.0"),
        ({"prior_content": math.nan}, "prior content must be 0 or more, got nan"),
        ({"space": "z"}, "space must be w or w+, got 'z'"),
    ],
)
def test_numbers_that_cannot_be(changes, message):
    with pytest.raises(DiganError) as error:
        FitSettings(**changes)
    assert str(error.value) == message
