"""`--batch-gpu auto`: the largest number of samples a pass that the memory holds.

On a GPU every phase of an iteration is tried with real shapes and throw-away gradients, beside
networks, average and moments as in a run. On a CPU, where a program that takes too much is killed
or swaps, nothing is tried: the bytes are counted (`digan.training.live_memory`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from digan.config import TrainConfig
from digan.errors import DiganError
from digan.processes import World
from digan.training.live_memory import PhaseWork, peak_bytes
from digan.training.step import Trainer

GPU_SHARE = 0.95  # of the free memory; the rest is for what other passes fragment
# A library's own memory inside an operation, the loader and the process itself are not counted.
CPU_SHARE = 0.85


class Memory(Protocol):
    """Something that knows what a pass takes.

    Attributes:
        limit: bytes that may be taken. how: where the limit and the needs come from.
    """

    limit: int
    how: str

    def needs(self, samples: int) -> int | None:
        """Most bytes at once of an iteration's passes of so many samples; None: it ran out."""


class Card(Protocol):
    """The part of `torch.cuda` that trials ask."""

    name: str

    def restart(self) -> None:
        """Gives cached memory back and begins to watch anew."""

    def free(self) -> int:
        """Bytes that this process has or may take."""

    def peak(self) -> int:
        """Most bytes that this process held since `restart`."""


class CudaCard:
    """A GPU, by what its allocator reserves and not by what tensors use of that.

    A pass that only fits if blocks are freed on the way would wait for the device each time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = torch.cuda.get_device_name(device)

    def restart(self) -> None:
        """See `Card`."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def free(self) -> int:
        """See `Card`."""
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free) + torch.cuda.memory_reserved(self.device)

    def peak(self) -> int:
        """See `Card`."""
        return torch.cuda.max_memory_reserved(self.device)


class TriedMemory:
    """Runs the phases on a trainer's networks, which it leaves as they were.

    Args:
        trainer: as it would run; its weights, moments, counts and statistics stay.
        card: its device.
    """

    def __init__(self, trainer: Trainer, card: Card) -> None:
        self.card = card
        self.work = PhaseWork(trainer.generator, trainer.discriminator, trainer.config)
        # The moments, which the first steps would make.
        optimizers = (trainer.g_optimizer, trainer.d_optimizer)
        self._held = [
            torch.empty_like(parameter)
            for optimizer in optimizers
            if not optimizer.state
            for group in optimizer.param_groups
            for parameter in group["params"]
            for _ in range(2)
        ]
        card.restart()
        self.limit = int(GPU_SHARE * card.free())
        self.how = f"{GPU_SHARE:.0%} of what {card.name} has free, by trial"

    def needs(self, samples: int) -> int | None:
        """See `Memory`."""
        self.card.restart()
        try:
            fits = self._try(samples)
            return self.card.peak() if fits else None
        finally:
            self.work.clear()
            self.card.restart()

    def _try(self, samples: int) -> bool:
        # Gradients of one network stay while the other's are made, as in a run.
        for phase in PhaseWork.PHASES:
            try:
                self.work.run(phase, samples)
            except RuntimeError as error:  # torch.OutOfMemoryError, or a library's own words
                if isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error):
                    return False
                raise
        return True


class CountedMemory:
    """Counts the bytes of a CPU run beside what the system says is available.

    Args:
        config: resolved settings. available: bytes. processes: of the run.
    """

    def __init__(self, config: TrainConfig, available: int, processes: int = 1) -> None:
        self.processes = processes
        self.limit = int(CPU_SHARE * available)
        self.how = f"{CPU_SHARE:.0%} of the {available / 1e9:.1f} GB available, by counting"
        self.work = PhaseWork.on_meta(config)
        self._generator, self._discriminator = (
            sum(p.numel() * p.element_size() for p in network.parameters())
            for network in (self.work.generator, self.work.discriminator)
        )

    def needs(self, samples: int) -> int | None:
        """See `Memory`."""
        # Weights and two moments of both; the average; the gradients of the other network.
        always = 4 * self._generator + 3 * self._discriminator
        most = 0
        for phase in PhaseWork.PHASES:
            other = self._discriminator if phase == "G" else self._generator

            def work(phase: str = phase) -> None:
                self.work.run(phase, samples)

            # The message of several processes is there while what it will sum is made.
            own = self._generator + self._discriminator - other if self.processes > 1 else 0
            most = max(most, always + other + own + peak_bytes(work))
            self.work.clear()
        return most


def candidates(config: TrainConfig, processes: int = 1) -> list[int]:
    """Sizes of a pass, ascending, that give the same result but for rounding.

    They divide a process's share of the batch and hold whole groups of the minibatch statistic;
    where none does, the share itself.
    """
    share, group = config.batch // processes, config.discriminator.group_size
    return [n for n in range(group, share + 1, group) if share % n == 0] or [share]


def largest_pass(
    memory: Memory, sizes: list[int], world: World | None = None
) -> tuple[int, dict[int, int | None]]:
    """The largest of some ascending sizes that fits on every process, and what was found out.

    Raises:
        DiganError: none fits.
    """
    found: dict[int, int | None] = {}

    def fits(samples: int) -> bool:
        found[samples] = needed = memory.needs(samples)
        return needed is not None and needed <= memory.limit

    low, high = 0, len(sizes)  # of the sizes, `low` are known to fit; `high` and more do not
    if fits(sizes[-1]):
        low = high
    else:
        high -= 1
    while low < high:
        middle = (low + high) // 2
        if fits(sizes[middle]):
            low = middle + 1
        else:
            high = middle
    # A vote for every size that fits here: the smallest process decides.
    votes = torch.tensor([float(number < low) for number in range(len(sizes))])
    world = world or World()
    world.sum_([votes])
    chosen = int((votes == world.size).sum())
    if chosen == 0:
        needed = found.get(sizes[0])
        amount = "more" if needed is None else f"{needed / 1e9:.1f} GB"
        raise DiganError(
            f"batch-gpu auto: the smallest pass, of {sizes[0]} samples, needs {amount} and "
            f"{memory.limit / 1e9:.1f} GB may be taken ({memory.how}): --recompute needs less"
        )
    return sizes[chosen - 1], found


def settle_batch_gpu(
    config: TrainConfig,
    *,
    device: torch.device,
    labels: np.ndarray | None = None,
    world: World | None = None,
    make_memory: Callable[[TrainConfig], Memory] | None = None,
) -> tuple[TrainConfig, str]:
    """The configuration with a number for `auto`, and a sentence that says how it was found.

    Args:
        config: resolved settings; any other batch_gpu is left as it is, and nothing is said.
        device, labels, world: of the run.
        make_memory: what to ask instead of the device.

    Raises:
        DiganError: not even the smallest pass fits.
    """
    if config.batch_gpu != "auto":
        return config, ""
    world = world or World()
    sizes = candidates(config, world.size)
    first = replace(config, batch_gpu=sizes[0])
    if make_memory is not None:
        memory = make_memory(first)
    elif device.type == "cuda":
        trainer = Trainer(first, labels=labels, world=world, device=device)
        memory = TriedMemory(trainer, CudaCard(device))
    else:
        memory = CountedMemory(first, available_memory(), world.size)
    chosen, found = largest_pass(memory, sizes, world)
    # Where another process decided, this one may not have asked for that size.
    needed = found[chosen] if chosen in found else memory.needs(chosen)
    known = "" if needed is None else f" needs {needed / 1e9:.2f} GB"
    said = (
        f"batch-gpu auto: {chosen} of {config.batch} samples a pass:{known} of "
        f"{memory.limit / 1e9:.2f} GB ({memory.how})"
    )
    if larger := [n for n in sizes if n > chosen]:
        needed = found.get(larger[0])
        said += f"; {larger[0]} " + (
            "would not fit" if needed is None else f"would need {needed / 1e9:.2f} GB"
        )
    return replace(config, batch_gpu=chosen), said


def available_memory(proc: Path = Path("/proc"), control: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can have without swapping: of the system, and of its control group.

    Raises:
        DiganError: the system does not say.
    """
    found = []
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for line in _lines(proc / "self" / "cgroup"):
        _, kinds, path = line.split(":", 2)
        if kinds == "" or "memory" in kinds.split(","):
            found += _left_in_group(control / kinds.replace(",", "/"), path.strip("/"), kinds == "")
    if not found:
        raise DiganError(
            "batch-gpu auto: this system does not say how much memory is available; give a number"
        )
    return max(0, min(found))


def _left_in_group(root: Path, path: str, unified: bool) -> list[int]:
    """What a control group and those above it leave; inside a container the root is its own."""
    names = ("memory.max", "memory.current") if unified else (
        "memory.limit_in_bytes", "memory.usage_in_bytes",
    )  # fmt: skip
    cached = "inactive_file" if unified else "total_inactive_file"
    found = []
    for folder in (root / path, *(root / path).parents):
        limit, used = ("".join(_lines(folder / name)) for name in names)
        if limit.isdigit() and used.isdigit():
            stat = dict(line.split() for line in _lines(folder / "memory.stat"))
            found.append(int(limit) - int(used) + int(stat.get(cached, 0)))
        if folder == root:
            break
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
