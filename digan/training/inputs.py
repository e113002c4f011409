"""What an iteration reads beside the networks, made ahead and moved without waiting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from digan.data.datasets import PairBatch
from digan.errors import DiganError
from digan.training.augment import AugmentDraws
from digan.training.draws import FakeDraws
from digan.training.losses import RealPairs

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """The draws and the real pairs of one iteration, on the networks' device.

    Attributes:
        seen: samples of the run before this iteration.
        g, d: what the fakes of the generator's and of the discriminators' phase are made from.
        real: the batch. regularize: whether R1 is due.
        again: R1's own augmentation of the same pairs; None without augmentation or R1.
    """

    seen: int
    g: FakeDraws
    d: FakeDraws
    real: RealPairs
    regularize: bool
    again: AugmentDraws | None

    @property
    def penalized(self) -> RealPairs:
        """The pairs as R1 sees them."""
        return RealPairs(self.real.frames, self.real.dt, self.real.label, self.again)


def each_tensor(value: T, change: Callable[[str, Tensor], Tensor], name: str = "") -> T:
    """A tree of dataclasses with every tensor replaced by `change(its dotted name, it)`."""
    if isinstance(value, Tensor):
        changed: Any = change(name, value)
        return changed  # type: ignore[no-any-return]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields: dict[str, Any] = {
        f.name: each_tensor(getattr(value, f.name), change, f"{name}.{f.name}".strip("."))
        for f in dataclasses.fields(value)
    }
    return dataclasses.replace(value, **fields)


def moved(value: T, device: torch.device) -> T:
    """The tree on a device; to a GPU through pinned memory, so that nobody waits."""

    def move(_: str, tensor: Tensor) -> Tensor:
        if device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    return each_tensor(value, move)


class StaticInputs:
    """Inputs in memory that stays where it is, for work that reads the same addresses always."""

    def __init__(self) -> None:
        self.places: dict[str, Tensor] = {}

    def load(self, inputs: Inputs) -> Inputs:
        """Copies the tensors to their places, and returns inputs that read there."""
        return each_tensor(inputs, self._put)

    def _put(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.places:
            self.places[name] = tensor.clone()
        else:
            assert self.places[name].shape == tensor.shape, name
            self.places[name].copy_(tensor)
        return self.places[name]


class Prefetcher:
    """Makes the inputs of the next iteration while a GPU computes this one.

    `take` and `fetch` are called in turns by the one thread that trains: kernels are launched
    and not waited for, so that the time until they are done is free for the next draws. On a
    GPU, copies and conversions run on a stream of their own.

    Args:
        batches: of real pairs, in order.
        prepare: makes inputs on the device of a batch, given the samples seen before it.
        seen: samples of the run before the first batch. size: samples of a batch.
        device: of the inputs.
    """

    def __init__(
        self,
        batches: Iterator[PairBatch],
        prepare: Callable[[PairBatch, int], Inputs],
        *,
        seen: int,
        size: int,
        device: torch.device,
    ) -> None:
        self.batches, self.prepare, self.seen, self.size = batches, prepare, seen, size
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.next: Inputs | None = None
        self.error: DiganError | None = None

    def fetch(self) -> None:
        """Starts to make the next inputs; nothing happens behind the last batch."""
        if self.next is not None or self.error is not None:
            return
        try:
            batch = next(self.batches, None)
        except DiganError as error:  # of inputs that are not wanted yet
            self.error = error
            return
        if batch is None:
            return
        if self.stream is None:
            self.next = self.prepare(batch, self.seen)
        else:
            with torch.cuda.stream(self.stream):
                self.next = self.prepare(batch, self.seen)
        self.seen += self.size

    def take(self) -> Inputs:
        """The next inputs, for work on the current stream.

        Raises:
            StopIteration: there are no more batches.
            DiganError: what the loader has to say of the store.
        """
        self.fetch()
        if self.error is not None:
            raise self.error
        inputs, self.next = self.next, None
        if inputs is None:
            raise StopIteration
        if self.stream is not None:
            current = torch.cuda.current_stream(self.stream.device)
            current.wait_stream(self.stream)

            def keep(_: str, tensor: Tensor) -> Tensor:
                tensor.record_stream(current)  # or its memory would serve the next inputs at once
                return tensor

            each_tensor(inputs, keep)
        return inputs
