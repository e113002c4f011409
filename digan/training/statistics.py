"""Running means of a tick, kept on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor

from digan.processes import World


class Statistics:
    """Means of named quantities between two reads, without touching the host before.

    Sums and counts are tensors on the device that stay where they are, so that adding to them
    can be part of a CUDA graph.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, name: str, values: Tensor) -> None:
        """Adds values of any shape to the mean called `name`."""
        total = values.detach().float().sum()
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(total)
            self._counts[name] = torch.zeros_like(total, dtype=torch.int64)
        self._sums[name] += total
        self._counts[name] += values.numel()

    def read(self, world: World | None = None) -> dict[str, float]:
        """The means since the last read, over all processes, as they first came."""
        names = list(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[n] for n in names]).double()
        counts = torch.stack([self._counts[n] for n in names]).double()
        if world is not None:
            world.sum_([sums, counts])
        for total in (*self._sums.values(), *self._counts.values()):
            total.zero_()
        both = zip(names, sums.tolist(), counts.tolist(), strict=True)
        return {name: total / count for name, total, count in both if count}


class GradientGuard:
    """Watches gradients: their norms, and whether every tensor of them is finite.

    Non-finite entries become 0 or +-1e5, as in the original; here they are also counted, and
    the first bad step of every parameter is remembered. Counters live on the device.
    """

    def __init__(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        self.parameters = parameters
        device = next(iter(parameters.values())).device
        self._bad = torch.zeros(len(parameters), dtype=torch.int64, device=device)
        self._first = torch.full_like(self._bad, -1)
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def check(self, step: int | Tensor) -> Tensor:
        """Cleans the gradients of one step and returns their norm before cleaning, or 0.

        `step` may be a number on the device, int64 [], which a CUDA graph reads anew.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        assert len(gradients) == len(self.parameters)
        if not isinstance(step, Tensor):
            step = torch.full_like(self._in_a_row, step)
        norms = torch.stack([n.float() for n in torch._foreach_norm(gradients)])
        finite = torch.isfinite(norms)
        self._bad += ~finite
        self._first.copy_(torch.where(~finite & (self._first < 0), step, self._first))
        any_bad = (~finite).any()
        self._in_a_row.add_(1).mul_(any_bad)
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)
        return norms.square().sum().sqrt().masked_fill(any_bad, 0.0)

    def read(self) -> tuple[list[str], int]:
        """Sentences naming the bad tensors since the last read, and the bad steps in a row."""
        bad, first = self._bad.tolist(), self._first.tolist()
        sentences = [
            f"{name}: non-finite gradient in {count} steps, first in step {step}"
            for name, count, step in zip(self.parameters, bad, first, strict=True)
            if count
        ]
        self._bad.zero_()
        self._first.fill_(-1)
        return sentences, int(self._in_a_row)
