"""Which process owns which sample of a batch, and in which micro-batch."""

from __future__ import annotations


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
