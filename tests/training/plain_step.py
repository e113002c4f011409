"""The iteration as one would write it first: what the tuned one is compared with.

Every use of a weight scales and casts it anew, every phase is called, every tensor of the
average moves on its own, and operations are PyTorch's (`kernels="reference"`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from digan.processes import RepeatedSum
from digan.training.statistics import GradientGuard
from digan.training.step import Trainer, ema_decay


class PlainTrainer(Trainer):
    """A trainer without anything that is kept between two uses."""

    def _phase(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        guard: GradientGuard,
        summed: RepeatedSum,
        losses: list[Callable[[Tensor], Tensor]],
    ) -> Tensor:
        del summed  # its memory is kept from one use to the next
        network.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        for loss in losses:
            for part in self.parts:
                loss(part).backward()
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.world.sum_(p.grad for p in network.parameters() if p.grad is not None)
        norm = guard.check(self.step)
        optimizer.step()
        return norm

    @torch.no_grad()
    def update_average(self) -> None:
        config = self.config
        decay = ema_decay(self.seen, config.batch, config.ema_kimg, config.ema_rampup)
        for averaged, current in zip(
            self.average.parameters(), self.generator.parameters(), strict=True
        ):
            averaged.copy_(decay * averaged + (1 - decay) * current)
        self.average.w_avg.copy_(self.generator.w_avg)
