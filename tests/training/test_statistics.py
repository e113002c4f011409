"""Running means, and the guard against gradients that are not finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from digan.errors import DiganError
from digan.training import checkpoint, runs
from digan.training.loop import train
from digan.training.statistics import GradientGuard, Statistics
from digan.training.step import Trainer
from tests.tiny_runs import tiny_config


def test_means_weigh_every_value_alike_and_start_anew():
    statistics = Statistics()
    statistics.add("a", torch.tensor([1.0, 2.0, 3.0]))
    statistics.add("b", torch.tensor(-4.0, dtype=torch.float64))
    statistics.add("a", torch.tensor([[6.0]], requires_grad=True))
    assert statistics.read() == {"a": 3.0, "b": -4.0}
    assert statistics.read() == {}
    statistics.add("a", torch.tensor([7.0]))
    assert statistics.read() == {"a": 7.0}


class Guarded:
    """A guard over three parameters, and steps with the gradients that a test wants."""

    def __init__(self) -> None:
        self.parameters = {name: nn.Parameter(torch.zeros(2)) for name in ("a.x", "a.y", "b.z")}
        self.guard = GradientGuard(self.parameters)

    def step(self, number: int, **gradients: list[float]) -> Tensor:
        for name, parameter in self.parameters.items():
            parameter.grad = torch.tensor(gradients.get(name.split(".")[1], [3.0, 4.0]))
        return self.guard.check(number)

    def gradient(self, name: str) -> list[float]:
        grad = self.parameters[name].grad
        assert grad is not None
        return grad.tolist()


def test_finite_gradients_pass_and_have_a_norm():
    guarded = Guarded()
    norm = guarded.step(0, y=[0.0, 0.0])
    assert float(norm) == pytest.approx(math.sqrt(50))
    assert guarded.gradient("a.x") == [3.0, 4.0]
    assert guarded.guard.read() == ([], 0)


def test_bad_entries_are_replaced_counted_and_named():
    guarded = Guarded()
    guarded.step(5)
    norm = guarded.step(6, y=[math.nan, 2.0])
    assert float(norm) == 0.0
    assert guarded.gradient("a.y") == [0.0, 2.0]
    assert guarded.gradient("b.z") == [3.0, 4.0]
    guarded.step(7, y=[1.0, math.inf], z=[-math.inf, 1.0])
    assert guarded.gradient("a.y") == [1.0, 1e5]
    assert guarded.gradient("b.z") == [-1e5, 1.0]
    sentences, in_a_row = guarded.guard.read()
    assert sentences == [
        "a.y: non-finite gradient in 2 steps, first in step 6",
        "b.z: non-finite gradient in 1 steps, first in step 7",
    ]
    assert in_a_row == 2


def test_a_good_step_ends_the_run_of_bad_ones_and_reading_forgets():
    guarded = Guarded()
    for number in range(3):
        guarded.step(number, x=[math.nan, 0.0])
    assert guarded.guard.read()[1] == 3
    guarded.step(3, x=[math.nan, 0.0])
    sentences, in_a_row = guarded.guard.read()
    assert sentences == ["a.x: non-finite gradient in 1 steps, first in step 3"]
    assert in_a_row == 4  # reading does not end the run of bad steps
    guarded.step(4)
    assert guarded.guard.read() == ([], 0)


def test_huge_but_finite_entries_pass():
    guarded = Guarded()
    norm = guarded.step(0, x=[1e15, -1e15])
    assert guarded.gradient("a.x") == pytest.approx([1e15, -1e15])
    assert float(norm) == pytest.approx(math.sqrt(2) * 1e15)
    assert guarded.guard.read() == ([], 0)


def poison(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> None:
    """Puts NaN into one gradient of the generator in steps first..last."""
    original = Trainer._phase

    def phase(self: Trainer, network: Any, *rest: Any) -> Tensor:
        parameter = network.get_parameter("blocks.0.to_rgb.bias") if hasattr(
            network, "w_avg"
        ) else None  # fmt: skip
        if parameter is None or not first <= self.step <= last:
            return original(self, network, *rest)
        handle = parameter.requires_grad_(True).register_hook(lambda g: g * math.nan)
        norm = original(self, network, *rest)
        handle.remove()
        return norm

    monkeypatch.setattr(Trainer, "_phase", phase)


@pytest.mark.usefixtures("few_samples")
def test_a_run_stops_when_gradients_stay_bad(store, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, 5, 100)
    config = tiny_config(kimg=1.0, tick=0.004, snap=0.008, max_nonfinite=3)
    with pytest.raises(DiganError) as caught:
        train(config, store, tmp_path)
    message = str(caught.value)
    assert "generator.blocks.0.to_rgb.bias" in message
    assert "3 steps in a row" in message
    (run,) = tmp_path.iterdir()
    assert str(run) in message
    log = (run / "log.txt").read_text()
    assert "WARNING: generator.blocks.0.to_rgb.bias: non-finite gradient in 1 steps" in log
    assert "first in step 5" in log
    assert f"stopped: {message}" in log
    status = runs.read_status(run)
    assert status is not None
    assert status["finished"] is False
    state, _ = checkpoint.read_state(run)
    assert state["seen"] == 6 * 4  # of the snapshot before the last bad step
    for network in ("generator", "discriminator", "average"):
        assert all(torch.isfinite(v).all() for v in state[network].values()), network


@pytest.mark.usefixtures("few_samples")
def test_a_single_bad_step_is_told_and_survived(store, tmp_path, monkeypatch):
    poison(monkeypatch, 1, 1)
    outcome = train(tiny_config(max_nonfinite=2), store, tmp_path, progress=False)
    assert outcome.finished
    log = (Path(outcome.run) / "log.txt").read_text()
    assert log.count("WARNING: generator") == 1
    assert "in 1 steps, first in step 1" in log
