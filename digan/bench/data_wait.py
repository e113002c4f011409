"""How long training would wait for its data: a simulation of the loader on measured times.

A `DataLoader` hands whole batches to its workers in turn, `prefetch` of them each ahead of what
training has taken; batches come out in their order, through one thread that copies each into
page-locked memory. With workers w = i mod W, S_i the time in which a worker makes batch i, C_i
that of the copy, and a step of training that takes tau = B / rate seconds:

    given_i   = 0 for i < P W, else taken_(i - P W)          batch i is asked for
    made_i    = max(made_(i - W), given_i) + S_i
    ready_i   = max(ready_(i - 1), made_i) + C_i
    taken_i   = max(taken_(i - 1) + tau, ready_i)            training waits for the rest

and the wait share is 1 - n tau / (time of n steps), once the first P W batches are through. S
and C are drawn from measured ones, with replacement, so that their jitter is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digan.bench.rows import Results
from digan.errors import DiganError

RATE = 200.0  # samples a second: what an H200 should train at
WORKERS = (1, 2, 4, 8)
STEPS = 20_000
PREFETCH = 4

# The rows of the loader section that the calculation reads.
WORKER_CASE = "a worker's batch of"
DECODED, COPIED, TOGETHER = "decoded", "copied", "workers together"


@dataclass(frozen=True)
class Wait:
    """What a number of workers means for training.

    Attributes:
        workers: W. batch: B. rate: samples a second that training could take.
        supply: samples a second that the workers and the copy can make at most.
        share: of training's time that is spent waiting, with the measured jitter.
        worst: the same if every batch took as long as the slowest that was measured.
    """

    workers: int
    batch: int
    rate: float
    supply: float
    share: float
    worst: float


def taken_times(
    made_in: NDArray[np.float64],
    copied_in: NDArray[np.float64],
    step: float,
    workers: int,
    prefetch: int = PREFETCH,
) -> NDArray[np.float64]:
    """When each batch is taken, seconds; the recursion of this file's head.

    Args:
        made_in, copied_in: S and C of every batch, [n]. step: tau.
        workers: W. prefetch: P, batches that each worker is ahead.
    """
    n, ahead = len(made_in), workers * prefetch
    made, taken = [0.0] * n, [0.0] * n
    ready = 0.0
    for i in range(n):
        free = made[i - workers] if i >= workers else 0.0
        given = taken[i - ahead] if i >= ahead else 0.0
        made[i] = max(free, given) + float(made_in[i])
        ready = max(ready, made[i]) + float(copied_in[i])
        taken[i] = max(taken[i - 1] + step if i else 0.0, ready)
    return np.array(taken)


def wait_share(
    made_in: NDArray[np.float64],
    copied_in: NDArray[np.float64],
    step: float,
    workers: int,
    prefetch: int = PREFETCH,
) -> float:
    """The part of training's time in which it has no batch, after the first P W."""
    taken = taken_times(made_in, copied_in, step, workers, prefetch)
    first = workers * prefetch
    if len(taken) < 2 * first + 2:
        raise DiganError(f"{len(taken)} batches are too few for {workers} workers")
    steps = len(taken) - 1 - first
    return max(0.0, 1 - steps * step / float(taken[-1] - taken[first]))


def waits(
    made: Sequence[float],
    copied: Sequence[float],
    batch: int,
    *,
    rate: float = RATE,
    workers: Sequence[int] = WORKERS,
    slowdown: float = 1.0,
    seed: int = 0,
) -> list[Wait]:
    """The wait of some numbers of workers.

    Args:
        made: measured seconds in which a worker alone makes a batch. copied: of the copy.
        batch: B. rate: samples a second that training could take. workers: the numbers.
        slowdown: of a worker among others against a worker alone.
        seed: of the draws from the measured times.
    """
    draw = np.random.default_rng(seed)
    times, copies = slowdown * np.array(made), np.array(copied)
    step = batch / rate
    found = []
    for count in workers:
        drawn, drawn_copies = draw.choice(times, STEPS), draw.choice(copies, STEPS)
        slowest = np.full(STEPS, times.max()), np.full(STEPS, copies.max())
        supply = batch / max(float(times.mean()) / count, float(copies.mean()))
        share = wait_share(drawn, drawn_copies, step, count)
        worst = wait_share(*slowest, step, count)
        found.append(Wait(count, batch, rate, supply, share, worst))
    return found


def waits_of(results: Results) -> list[dict[str, Any]]:
    """The calculation from the loader section's rows; empty without them."""
    found: dict[str, Any] = {}
    batch = 0
    for row in results.rows:
        if row.section == "loader" and row.allocator == "default" and row.samples:
            if row.case.startswith(WORKER_CASE):
                found[row.provider] = row
                batch = int(row.items)
            elif row.provider == TOGETHER:
                found[TOGETHER] = row
    if not {DECODED, COPIED} <= set(found):
        return []
    alone = found[DECODED]
    slowdown = 1.0
    if TOGETHER in found:
        together = found[TOGETHER]
        count = int(together.case.split()[0])  # "2 workers, batches of 64"
        each = count * together.median * batch / together.items
        slowdown = max(1.0, each / alone.median)
    calculated = waits(
        alone.seconds.tolist(), found[COPIED].seconds.tolist(), batch, slowdown=slowdown
    )
    return [{**asdict(wait), "slowdown": slowdown} for wait in calculated]


def format_waits(found: list[dict[str, Any]]) -> str:
    """The table of the calculation."""
    if not found:
        return ""
    first = found[0]
    lines = [
        f"data wait of a training run at {first['rate']:.0f} samples/s, batches of "
        f"{first['batch']}, calculated from the times above (a worker among others takes "
        f"{first['slowdown']:.2f}x):",
        "  workers    samples/s they can make    wait    all as slow as the slowest",
    ]
    lines += [
        f"  {w['workers']:7d}{w['supply']:27,.0f}"
        f"{_percent(w['share']):>8}{_percent(w['worst']):>30}"
        for w in found
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
