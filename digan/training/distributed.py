"""The processes of a run, and which of them owns which sample of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class World:
    """The processes of a run. One process is a world of size 1.

    The training step asks it for its parts of a batch and to sum gradients and statistics;
    nothing else of the step knows that other processes exist.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and talks."""
        return self.rank == 0

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Sums tensors over all processes in place, as one flat message."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def split_batch(batch: int, parts: int, group: int) -> list[list[int]]:
    """The samples of each part, such that groups of the minibatch statistic stay whole.

    The statistic groups sample i with all j = i mod (batch / group). A part takes whole
    groups, in an order in which the same rule finds them again; so the logits of the parts
    are those of the whole batch, for pairs and for frames alike. Where a part is no multiple
    of the group, groups cannot stay whole and the parts are simply strided.

    Args:
        batch: samples of an iteration. parts: their number, a divisor of batch.
        group: samples a group of the minibatch statistic.
    """
    if batch % parts:
        raise ValueError(f"the number of parts must divide the batch of {batch}, got {parts}")
    size = min(group, batch)
    if batch % size or (batch // size) % parts:
        return [list(range(p, batch, parts)) for p in range(parts)]
    groups = batch // size
    share = groups // parts
    return [
        [member * groups + g for member in range(size) for g in range(p * share, (p + 1) * share)]
        for p in range(parts)
    ]
