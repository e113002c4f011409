"""One training iteration: G, D on fakes and on reals, R1, average.

The order is the original's: the generator moves first; the discriminators then see fresh
fakes of the moved generator, with fresh latents, motions and times.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from digan.config import TrainConfig
from digan.execution import choose_impl
from digan.nn import PairDiscriminator
from digan.nn.prepared import PreparedWeights
from digan.processes import RepeatedSum, World
from digan.training.augment import AugmentDraws
from digan.training.distributed import own_parts
from digan.training.draws import FakeDraws, sample_fakes
from digan.training.graphs import EagerPhases, Phases
from digan.training.inputs import Inputs, moved
from digan.training.losses import (
    RealPairs,
    discriminator_fake_loss,
    discriminator_real_loss,
    generator_loss,
    r1_penalty,
)
from digan.training.networks import make_networks
from digan.training.statistics import GradientGuard, Statistics

# Factor of losses whose gradients pass through float16, a power of two. Gradients by activations
# are of the order of 1e-5, where float16 has few bits left, and reach 65504 as rarely with it.
FP16_SCALE = 1024.0


def lazy_adam(
    parameters: list[nn.Parameter], lr: float, beta2: float, interval: int
) -> torch.optim.Adam:
    """Adam with betas (0, beta2), corrected for lazy regularisation every `interval` steps.

    PyTorch's fused form: one pass over parameters, gradients and moments in place of a dozen.
    On a GPU it may be captured in a CUDA graph.
    """
    ratio = interval / (interval + 1)
    betas = (0.0, beta2**ratio)
    return torch.optim.Adam(
        parameters, lr=lr * ratio, betas=betas, eps=1e-8, fused=True, capturable=_on_gpu(parameters)
    )


def _on_gpu(parameters: list[nn.Parameter]) -> bool:
    return parameters[0].device.type == "cuda"


def load_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads an optimiser's state of a run on any device.

    The settings in it are the same but for one, which is the device's.
    """
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["capturable"] = _on_gpu(group["params"])


def ema_decay(seen: int, batch: int, ema_kimg: float, rampup: float | None) -> float:
    """Share of the average kept in one iteration: 0.5^(batch / half-life).

    The half-life is ema_kimg thousand samples, at most `rampup` times the samples seen.
    """
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, seen * rampup)
    return float(0.5 ** (batch / max(half_life, 1e-8)))


class Trainer:
    """Networks, their average, their optimisers, and the number of samples seen.

    Args:
        config: resolved settings.
        labels: classes of the data's clips, conditional runs only; fakes draw from them.
        world: the processes of the run.
        device: of everything.
        dtype: of the parameters; float64 in tests.
        compiler: backend of torch.compile, if the configuration asks for that.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        labels: np.ndarray | None = None,
        world: World | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiler: str = "inductor",
    ) -> None:
        self.config = config
        self.labels = labels if config.cond else None
        self.world = world or World()
        self.device = torch.device(device)
        self.seen = 0
        impl = choose_impl(config.kernels, self.device)
        # Initial weights are a function of the seed; the global generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator, self.discriminator = make_networks(config, self.device, impl)
        narrow = (self.generator.compute_dtype, self.discriminator.video.compute_dtype)
        self.scale = FP16_SCALE if torch.float16 in narrow else 1.0
        self.generator.to(self.device, dtype).requires_grad_(False)
        self.discriminator.to(self.device, dtype).requires_grad_(False)
        # What judges in G and D; R1 stays eager, for PyTorch compiles no double backward.
        self.judge: PairDiscriminator = self.discriminator
        if config.compile:
            compiled: Any = torch.compile(self.discriminator, backend=compiler)
            self.judge = compiled
        self.average = copy.deepcopy(self.generator).eval()
        self.g_optimizer = lazy_adam(
            list(self.generator.parameters()), config.lr, config.beta2, config.g_reg_interval
        )
        self.d_optimizer = lazy_adam(
            list(self.discriminator.parameters()), config.lr, config.beta2, config.d_reg_interval
        )
        self.g_guard = GradientGuard(dict(self.generator.named_parameters(prefix="generator")))
        self.d_guard = GradientGuard(
            dict(self.discriminator.named_parameters(prefix="discriminator"))
        )
        self.statistics = Statistics()
        # `step` as the phases read it: a CUDA graph would keep a Python number forever.
        self._step = torch.zeros((), dtype=torch.int64, device=self.device)
        self.take_part(config, self.world)

    def take_part(self, config: TrainConfig, world: World) -> None:
        """Makes this the trainer of one process among those of `world`.

        The configuration may differ from that of the networks in the batch and in `batch_gpu`.
        """
        self.config, self.world = config, world
        # This process's positions in the batch, and its micro-batches as positions in these.
        parts = own_parts(config, world)
        self.own = sorted(position for part in parts for position in part)
        place = {position: index for index, position in enumerate(self.own)}
        self.parts = [torch.tensor([place[p] for p in part], device=self.device) for part in parts]
        self.phases: Phases = EagerPhases()
        self.g_sum = RepeatedSum(world, list(self.generator.parameters()))
        self.d_sum = RepeatedSum(world, list(self.discriminator.parameters()))

    def numbers(self, seen: int) -> list[int]:
        """Which samples of the run are this process's in the iteration after `seen` samples."""
        return [seen + position for position in self.own]

    @property
    def step(self) -> int:
        """Iterations done."""
        return self.seen // self.config.batch

    def iteration(self, frames: Tensor, dt: Tensor, label: Tensor | None) -> None:
        """One iteration on a batch of real pairs.

        Args:
            frames: uint8 [B, 2, 3, H, W], this process's samples in the order of `numbers`.
            dt: [B]. label: classes [B], or None.
        """
        self.advance(self.prepare(frames, dt, label, self.seen))

    def prepare(self, frames: Tensor, dt: Tensor, label: Tensor | None, seen: int) -> Inputs:
        """All that the iteration after `seen` samples reads, on the networks' device.

        It depends on nothing that training changes, so it may be made ahead.
        """
        config, indices = self.config, self.numbers(seen)
        regularize = seen // config.batch % config.d_reg_interval == 0
        return Inputs(
            seen=seen,
            g=self._fakes("G", indices),
            d=self._fakes("D", indices),
            real=self._reals(frames, dt, label, "D/real", indices),
            regularize=regularize,
            again=self._augment("R1", indices) if regularize else None,
        )

    def advance(self, inputs: Inputs) -> None:
        """One iteration on inputs of `prepare`. On a GPU it launches and does not wait."""
        assert inputs.seen == self.seen
        inputs = self.phases.load(inputs)
        self._step.fill_(self.step)
        self.phases.run("G", partial(self.train_generator, inputs.g))
        self.phases.run("D", partial(self.train_discriminator, inputs.d, inputs.real))
        if inputs.regularize:
            self.phases.run("R1", partial(self.regularize_discriminator, inputs.penalized))
        self.update_average()
        self.seen += self.config.batch

    def _augment(self, stream: str, indices: Sequence[int]) -> AugmentDraws | None:
        if not self.config.augment:
            return None
        size, cpu = self.config.generator.resolution, torch.device("cpu")
        draws = AugmentDraws.sample(self.config.seed, f"{stream}/augment", indices, size, cpu)
        return moved(draws, self.device)

    def _fakes(self, phase: str, indices: Sequence[int]) -> FakeDraws:
        draws = sample_fakes(
            self.config.seed,
            phase,
            indices,
            latent_dim=self.config.generator.latent_dim,
            size=self.config.generator.resolution,
            labels=self.labels,
            augment=self.config.augment,
            device=torch.device("cpu"),
        )
        return moved(draws, self.device)

    def _reals(
        self, frames: Tensor, dt: Tensor, label: Tensor | None, stream: str, indices: Sequence[int]
    ) -> RealPairs:
        dtype = self.generator.w_avg.dtype
        label = label if self.config.cond else None
        pairs = moved(RealPairs(frames, dt, label, None), self.device)
        return RealPairs(
            pairs.frames.to(dtype) / 127.5 - 1,
            pairs.dt.to(dtype),
            pairs.label,
            self._augment(stream, indices),
        )

    def train_generator(self, draws: FakeDraws) -> None:
        """The generator's step. w_avg moves once, by the mean of w over the whole batch."""
        batch, codes = self.config.batch, []

        def loss(part: Tensor) -> Tensor:
            value, logits, w = generator_loss(self.generator, self.judge, draws.take(part), batch)
            codes.append(w)
            self.statistics.add("G/loss", value * (batch / len(part)))
            self.statistics.add("G/video_logit", logits.video)
            self.statistics.add("G/image_logit", logits.image)
            return value

        norm = self._phase(self.generator, self.g_optimizer, self.g_guard, self.g_sum, [loss])
        self.statistics.add("G/gradient_norm", norm)
        self._update_w_avg(codes)

    def train_discriminator(self, draws: FakeDraws, real: RealPairs) -> None:
        """The discriminators' step: fakes, then reals, in two backward passes."""
        batch, codes = self.config.batch, []

        def fake_loss(part: Tensor) -> Tensor:
            value, logits, w = discriminator_fake_loss(
                self.generator, self.judge, draws.take(part), batch
            )
            codes.append(w)
            self.statistics.add("D/fake_loss", value * (batch / len(part)))
            self.statistics.add("D/fake_video_logit", logits.video)
            self.statistics.add("D/fake_image_logit", logits.image)
            return value

        def real_loss(part: Tensor) -> Tensor:
            value, logits = discriminator_real_loss(self.judge, real.take(part), batch)
            self.statistics.add("D/real_loss", value * (batch / len(part)))
            self.statistics.add("D/real_video_logit", logits.video)
            self.statistics.add("D/real_image_logit", logits.image)
            return value

        norm = self._phase(
            self.discriminator,
            self.d_optimizer,
            self.d_guard,
            self.d_sum,
            [fake_loss, real_loss],
        )
        self.statistics.add("D/gradient_norm", norm)
        self._update_w_avg(codes)

    def regularize_discriminator(self, real: RealPairs) -> None:
        """The lazy R1 step, `d_reg_interval` times as strong for being as rare."""

        def loss(part: Tensor) -> Tensor:
            penalty, video, image = r1_penalty(
                self.discriminator, real.take(part), self.config.gamma, self.config.batch,
                self.scale,
            )  # fmt: skip
            self.statistics.add("D/r1_video", video)
            self.statistics.add("D/r1_image", image)
            return penalty * self.config.d_reg_interval

        norm = self._phase(self.discriminator, self.d_optimizer, self.d_guard, self.d_sum, [loss])
        self.statistics.add("D/r1_gradient_norm", norm)

    def _phase(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        guard: GradientGuard,
        summed: RepeatedSum,
        losses: list[Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """Gradients of the losses over this process's parts, summed over all, then a step."""
        parameters = list(network.parameters())
        for parameter in parameters:
            parameter.grad = None
        network.requires_grad_(True)
        try:
            with PreparedWeights(self.discriminator) as weights:
                for loss in losses:
                    for part in self.parts:
                        torch.autograd.backward(loss(part) * self.scale)
                        weights.gather()
        finally:
            network.requires_grad_(False)
        for parameter in parameters:  # R1 does not reach biases; their Adam moments move on
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.scale != 1:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / self.scale)
        sums = summed([p.grad for p in parameters if p.grad is not None])
        for parameter, gradient in zip(parameters, sums, strict=True):
            parameter.grad = gradient
        norm = guard.check(self._step)
        optimizer.step()
        return norm

    def _update_w_avg(self, codes: list[Tensor]) -> None:
        total = torch.cat(codes).sum(dim=0)
        self.world.sum_([total])
        self.generator.update_w_avg(total / self.config.batch, self.config.w_avg_beta)

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the averaged generator; its w_avg is copied."""
        decay = ema_decay(
            self.seen, self.config.batch, self.config.ema_kimg, self.config.ema_rampup
        )
        averaged: list[Tensor] = list(self.average.parameters())
        current: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        self.average.w_avg.copy_(self.generator.w_avg)
