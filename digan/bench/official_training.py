"""One iteration of the original's training, for one process, timed beside ours.

Its loss class, its augmentation, its statistics and its networks do the work. What stands in
line in its training loop is written down here in our words: the conversion of the real batch,
the phases with their optimisers, the repair of gradients, and the average.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from digan.config import TrainConfig
from digan.errors import DiganError

MOTION_DIM = 512  # its loss draws motion codes of this size, whatever the network's


@contextmanager
def published_settings(*, tf32: bool = False) -> Iterator[None]:
    """PyTorch as the original's training loop sets it: cuDNN may search, TF32 is off.

    Args:
        tf32: let it have TF32 all the same, which its loop does not.
    """
    matmul = torch.backends.cuda.matmul.allow_tf32
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32
    )
    try:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with exact:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul


@dataclass(frozen=True)
class RealBatch:
    """Real pairs as its loss wants them, in parts of `batch_gpu` samples.

    Attributes:
        images: both frames' channels and a plane of the time difference, [P, 7, H, W].
        labels: one-hot classes [P, num_classes], no columns if unconditional.
    """

    images: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]


@dataclass
class _Phase:
    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    interval: int


class OfficialIteration:
    """The original's networks in training, and the steps of its loop.

    Random numbers come from PyTorch's global generator, as the original draws them.

    Args:
        loss_class: its loss.
        settings: what its configuration files add to `config`: arguments of its loss.
        config: resolved settings; batch, batch_gpu, learning rate, intervals and the average.
        generator, discriminators, average: its networks, on the device.
        wide_reals: give real pairs float64, as in its loop: its loader collates Python's time
            differences to float64, which spreads to the frames they are joined with, up to
            the first layer. False keeps them in float32.

    Raises:
        DiganError: a latent size that its loss cannot draw.
    """

    def __init__(
        self,
        loss_class: Any,
        settings: dict[str, Any],
        config: TrainConfig,
        generator: Any,
        discriminators: Any,
        average: Any,
        *,
        wide_reals: bool = True,
    ) -> None:
        if config.generator.latent_dim != MOTION_DIM:
            raise DiganError(
                f"--official: its loss draws motion codes of {MOTION_DIM} numbers, and "
                f"latent-dim is {config.generator.latent_dim}"
            )
        self.config = config
        self.generator = generator.train().requires_grad_(False)
        self.discriminators = discriminators.train().requires_grad_(False)
        self.average = average.eval().requires_grad_(False)
        self.device = next(generator.parameters()).device
        self.seen = 0
        self.iterations = 0
        self._time_dtype = torch.float64 if wide_reals else torch.float32
        self._loss = loss_class(
            device=self.device,
            G_mapping=generator.mapping,
            G_synthesis=generator.synthesis,
            D=discriminators,
            r1_gamma=config.gamma,
            **settings,
        )
        g_optimizer = self._adam(generator, config.g_reg_interval)
        d_optimizer = self._adam(discriminators, config.d_reg_interval)
        self._g_main = _Phase("Gmain", generator, g_optimizer, 1)
        self._g_reg = _Phase("Greg", generator, g_optimizer, config.g_reg_interval)
        self._d_main = _Phase("Dmain", discriminators, d_optimizer, 1)
        self._d_reg = _Phase("Dreg", discriminators, d_optimizer, config.d_reg_interval)

    def _adam(self, network: nn.Module, interval: int) -> torch.optim.Optimizer:
        ratio = interval / (interval + 1)
        betas = (0.0, self.config.beta2**ratio)
        return torch.optim.Adam(
            network.parameters(), lr=self.config.lr * ratio, betas=betas, eps=1e-8
        )

    def prepare(self, frames: Tensor, dt: Tensor, label: Tensor | None = None) -> RealBatch:
        """A real batch on the device, in [-1, 1].

        Args:
            frames: uint8 [B, 2, 3, H, W]. dt: [B]. label: classes [B], or None.
        """
        part = self.config.part
        images = frames.to(self.device).flatten(1, 2).to(torch.float32) / 127.5 - 1
        times = dt.to(self._time_dtype).view(-1, 1, 1, 1).to(self.device)
        images = torch.cat([images, times * torch.ones_like(images[:, :1])], dim=1)
        classes = self.config.generator.num_classes
        if label is None or not classes:
            labels = torch.zeros(len(frames), classes, device=self.device)
        else:
            labels = nn.functional.one_hot(label.to(self.device), classes).to(torch.float32)
        return RealBatch(images.split(part), labels.split(part))

    def step(self, frames: Tensor, dt: Tensor, label: Tensor | None = None) -> None:
        """A plain iteration: the generator, the discriminators, the average; R1 is not in it.

        Every `g_reg_interval` iterations it has the generator's empty regularisation phase,
        which the original keeps with a path length weight of 0.

        Args:
            frames: uint8 [B, 2, 3, H, W]. dt: [B]. label: classes [B], or None.
        """
        real = self.prepare(frames, dt, label)
        codes = self._codes(phases=4)
        self._run(self._g_main, real, codes[0])
        if self.iterations % self._g_reg.interval == 0:
            self._run(self._g_reg, real, codes[1])
        self._run(self._d_main, real, codes[2])
        self._update_average()
        self.seen += self.config.batch
        self.iterations += 1

    def regularize(self, real: RealBatch) -> None:
        """The R1 step of the discriminators, with its own optimiser step."""
        self._run(self._d_reg, real, self._codes(phases=1)[0])

    def _codes(self, phases: int) -> list[list[tuple[Tensor, Tensor]]]:
        """Latents and one-hot classes for every phase, in parts; its loop draws for all four."""
        batch, classes = self.config.batch, self.config.generator.num_classes
        part = self.config.part if self.config.batch_gpu else batch
        z = torch.randn([phases * batch, self.config.generator.latent_dim], device=self.device)
        if classes:
            drawn = torch.randint(classes, (phases * batch,), device=self.device)
            c = nn.functional.one_hot(drawn, classes).to(torch.float32)
        else:
            c = torch.zeros(phases * batch, 0, device=self.device)
        return [
            list(zip(of_z.split(part), of_c.split(part), strict=True))
            for of_z, of_c in zip(z.split(batch), c.split(batch), strict=True)
        ]

    def _run(self, phase: _Phase, real: RealBatch, codes: list[tuple[Tensor, Tensor]]) -> None:
        phase.optimizer.zero_grad(set_to_none=True)
        phase.network.requires_grad_(True)
        parts = list(zip(real.images, real.labels, codes, strict=True))
        for i, (images, labels, (z, c)) in enumerate(parts):
            self._loss.accumulate_gradients(
                phase=phase.name, real_img=images, real_c=labels, gen_z=z, gen_c=c,
                sync=i == len(parts) - 1, gain=phase.interval,
            )  # fmt: skip
        phase.network.requires_grad_(False)
        for parameter in phase.network.parameters():
            if parameter.grad is not None:
                gradient = parameter.grad
                torch.nan_to_num(gradient, nan=0, posinf=1e5, neginf=-1e5, out=gradient)
        phase.optimizer.step()

    def _update_average(self) -> None:
        """One parameter at a time, as its loop does it."""
        half_life = self.config.ema_kimg * 1000
        if self.config.ema_rampup is not None:
            half_life = min(half_life, self.seen * self.config.ema_rampup)
        decay = 0.5 ** (self.config.batch / max(half_life, 1e-8))
        for averaged, current in zip(
            self.average.parameters(), self.generator.parameters(), strict=True
        ):
            averaged.copy_(current.lerp(averaged, decay))
        for averaged, current in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            averaged.copy_(current)
