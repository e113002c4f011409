"""Clocks: providers of one piece of work measured in turns, round after round.

What is compared is measured alternately within seconds, so that a machine that slows down
slows all of them. Every round begins with another provider. Medians and percentiles are
taken later, from all the samples.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Work = Callable[[], Any]
K = TypeVar("K")

LEAST_ROUNDS = 2  # however small the time budget is


class Clock:
    """Seconds that a piece of work takes on a device.

    On a GPU a buffer twice the size of the L2 cache is written before every sample, and the
    time is that between two events on the stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cold: torch.Tensor | None = None
        if device.type == "cuda":
            size = torch.cuda.get_device_properties(device).L2_cache_size
            self._cold = torch.empty(2 * size, dtype=torch.int8, device=device)

    def time(self, work: Work) -> float:
        """One sample."""
        if self._cold is None:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        self._cold.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def measure(
    providers: Mapping[K, Work],
    clock: Clock,
    *,
    rounds: int,
    budget: float,
    warm_up: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> dict[K, list[float]]:
    """Samples of every provider, in seconds.

    Args:
        providers: what is compared; each is called without arguments.
        clock: of their device.
        rounds: samples of each provider.
        budget: seconds after which no new round begins; two are always made.
        warm_up: calls of each provider before the first sample.
        say: told before every provider and round.
    """
    for name, work in providers.items():
        say(f"{name}: warm-up")
        for _ in range(warm_up):
            work()
    if clock.device.type == "cuda":
        torch.cuda.synchronize(clock.device)
    samples: dict[K, list[float]] = {name: [] for name in providers}
    order = list(providers)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    try:
        for number in range(rounds):
            if number >= LEAST_ROUNDS and time.perf_counter() - start > budget:
                break
            say(f"round {number + 1}/{rounds}")
            turn = number % max(len(order), 1)
            for name in order[turn:] + order[:turn]:
                samples[name].append(clock.time(providers[name]))
    finally:
        if collecting:
            gc.enable()
    return samples
