"""Which process owns which sample of a batch, and in which micro-batch."""

from __future__ import annotations

from digan.config import TrainConfig
from digan.errors import DiganError
from digan.processes import World


def own_parts(config: TrainConfig, world: World) -> list[list[int]]:
    """Positions in the batch of every micro-batch of a process.

    Raises:
        DiganError: the batch cannot be dealt to so many processes.
    """
    batch, size = config.batch, world.size
    if batch % size:
        raise DiganError(f"batch must be a multiple of the {size} processes, got {batch}")
    share = batch // size
    part = min(config.part, share)
    if share % part:
        raise DiganError(
            f"batch-gpu must divide the {share} samples of each of {size} processes, got {part}"
        )
    parts = split_batch(batch, batch // part, config.discriminator.group_size)
    return list(world.share(parts))


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
