"""Teacher-forced comparison: every phase of an iteration, from the weights of a float64 run.

Two free runs part from rounding alone: Adam's first steps are signs, and a GAN is chaotic. So
a float64 run is the teacher: it takes down the weights before every phase and what the phase
computed. A student, of another precision or with other kernels, runs the same iteration with
the same draws, but each of its phases starts from the teacher's weights and no step is taken.

The teacher is a `PlainTrainer`, a student a `Trainer` with all that is tuned; each runs its own
methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from digan.config import TrainConfig
from digan.data.synthetic import HOURS, cloud_frames
from digan.training.draws import FakeDraws
from digan.training.losses import RealPairs
from digan.training.statistics import Statistics
from digan.training.step import Trainer
from tests.training.plain_step import PlainTrainer

CLIPS = 16
Weights = dict[str, dict[str, Tensor]]  # by network


@dataclass(frozen=True)
class Phase:
    """What a phase computed."""

    losses: dict[str, float]  # also the mean squared input gradients of R1
    gradient: Tensor  # by all parameters of the network that it trains, float64 [P], on the CPU


@dataclass(frozen=True)
class State:
    """One iteration of the teacher, by phase: G, D (fakes and reals), and R1 where it is due."""

    step: int
    weights: dict[str, Weights]  # before each phase
    truth: dict[str, Phase]


@dataclass(frozen=True)
class Deviation:
    """A student's phase against the teacher's."""

    loss: float  # the largest relative error of a loss
    cosine: float  # of the gradients
    ratio: float  # of their norms
    error: float  # norm(student - teacher) / norm(teacher)


class _Ledger(Statistics):
    """Keeps what a phase reports, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[Tensor]] = {}

    def add(self, name: str, values: Tensor) -> None:
        self.values.setdefault(name, []).append(values.detach().double().flatten())

    def losses(self) -> dict[str, float]:
        return {
            name: float(torch.cat(values).mean())
            for name, values in self.values.items()
            if name.endswith(("loss", "r1_video", "r1_image"))
        }


class _Scribe:
    """In the place of an optimiser: takes the gradient down, and steps only if it may."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.may_step = True
        self.gradient = torch.empty(0)

    def step(self) -> None:
        (group,) = self.optimizer.param_groups
        self.gradient = torch.cat([p.grad.detach().double().flatten() for p in group["params"]])
        if self.may_step:
            self.optimizer.step()


class Witness(Trainer):
    """A trainer that takes down what its phases compute; see `phase_gradients` for students.

    Put before another kind of trainer among the bases of a class, it watches that kind.
    """

    def __init__(self, config: TrainConfig, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.g_optimizer: Any = _Scribe(self.g_optimizer)
        self.d_optimizer: Any = _Scribe(self.d_optimizer)
        self.forced: dict[str, Weights] | None = None
        self.weights: dict[str, Weights] = {}
        self.found: dict[str, Phase] = {}

    def iteration(self, frames: Tensor, dt: Tensor, label: Tensor | None) -> None:
        self.weights, self.found = {}, {}
        super().iteration(frames, dt, label)

    def train_generator(self, draws: FakeDraws) -> None:
        self._take_down("G", self.g_optimizer, partial(super().train_generator, draws))

    def train_discriminator(self, draws: FakeDraws, real: RealPairs) -> None:
        self._take_down("D", self.d_optimizer, partial(super().train_discriminator, draws, real))

    def regularize_discriminator(self, real: RealPairs) -> None:
        self._take_down("R1", self.d_optimizer, partial(super().regularize_discriminator, real))

    def _take_down(self, phase: str, scribe: _Scribe, run: Callable[[], None]) -> None:
        scribe.may_step = self.forced is None
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        for name, network in networks.items():
            if self.forced is None:
                self.weights.setdefault(phase, {})[name] = _copy(network)
            else:
                network.load_state_dict(self.forced[phase][name])
        ledger = self.statistics = _Ledger()
        run()
        # The guard puts numbers for what is not finite; here that must not pass.
        complaints = self.g_guard.read()[0] + self.d_guard.read()[0]
        assert not complaints, complaints
        self.found[phase] = Phase(ledger.losses(), scribe.gradient.cpu())


class PlainWitness(Witness, PlainTrainer):
    """The teacher."""


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def witness(
    config: TrainConfig,
    dtype: torch.dtype = torch.float32,
    kind: type[Witness] = Witness,
    **changes: Any,
) -> Witness:
    """A trainer of a precision, with kernels, on a device: `precision`, `kernels`, `device`."""
    device = changes.pop("device", "cpu")
    return kind(replace(config, **changes), dtype=dtype, device=device)


def teacher_states(config: TrainConfig, count: int) -> Iterator[State]:
    """The first iterations of a float64 run on drifting clouds."""
    teacher = witness(config, torch.float64, PlainWitness, kernels="reference", precision="fp32")
    for step in range(count):
        teacher.iteration(*cloud_pairs(config, step), None)
        yield State(step, teacher.weights, teacher.found)


def phase_gradients(student: Witness, state: State) -> dict[str, Phase]:
    """The phases of a teacher's iteration as a student of the same settings computes them."""
    student.seen = state.step * student.config.batch
    student.forced = state.weights
    student.iteration(*cloud_pairs(student.config, state.step), None)
    assert student.found.keys() == state.truth.keys()
    return student.found


def deviation(student: Phase, teacher: Phase) -> Deviation:
    """How far a student is from the teacher in one phase."""
    assert student.losses.keys() == teacher.losses.keys()
    ours, theirs = student.gradient, teacher.gradient
    norms = float(ours.norm()), float(theirs.norm())
    return Deviation(
        max(abs(student.losses[name] / value - 1) for name, value in teacher.losses.items()),
        float(ours @ theirs) / (norms[0] * norms[1]),
        norms[0] / norms[1],
        float((ours - theirs).norm()) / norms[1],
    )


def deviations_by_phase(student: Witness, states: Iterable[State]) -> dict[str, list[Deviation]]:
    """From the teacher, by phase, over the states that have it."""
    found: dict[str, list[Deviation]] = {}
    for state in states:
        for phase, computed in phase_gradients(student, state).items():
            found.setdefault(phase, []).append(deviation(computed, state.truth[phase]))
    return found


@cache
def _clip(size: int, frames: int, index: int) -> Tensor:
    """uint8 [frames, 3, size, size]: drifting clouds of one of the four hours."""
    hour = list(HOURS)[index % len(HOURS)]
    clip = np.stack(list(cloud_frames(hour, size, frames, 0, index)))
    return torch.from_numpy((clip * 255 + 0.5).astype(np.uint8)).permute(0, 3, 1, 2)


def cloud_pairs(config: TrainConfig, step: int) -> tuple[Tensor, Tensor]:
    """Pairs of frames [B, 2, 3, H, W] as bytes, and their time differences [B]."""
    size, count = config.generator.resolution, config.clip_frames
    source = np.random.default_rng(step)
    times = [np.sort(source.choice(count, 2, replace=False)) for _ in range(config.batch)]
    clips = [_clip(size, count, (step * config.batch + i) % CLIPS) for i in range(config.batch)]
    frames = torch.stack([clip[time] for clip, time in zip(clips, times, strict=True)])
    return frames, torch.tensor([(t[1] - t[0]) / (count - 1) for t in times])
