"""The processes of a job: who they are, what they tell each other, and how they fail together.

`torchrun` starts them. One process is a world of size 1, for which nothing here does any work, so
that callers need no second path. Messages are numbers: tensors as they are, everything else as
JSON; nothing is pickled.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import Store, _get_default_store
from torch.distributed.rendezvous import rendezvous

from digan.errors import DiganError
from digan.pulse import ERROR_KEY, Pulse

_LAST_WORDS = 5.0  # seconds that the others wait for them
_PATIENCE = datetime.timedelta(minutes=30)  # the longest that one process may keep the others


class OtherProcessError(DiganError):
    """Another process of the job failed and took this one along; the text is its error."""


@dataclass(frozen=True)
class World:
    """The processes of a job, and this one's place among them.

    Every method but the properties is collective: all processes call it, in the same order.

    Raises:
        OtherProcessError: from any of them, if another process is gone.
    """

    rank: int = 0
    size: int = 1
    pulse: Pulse | None = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and talks."""
        return self.rank == 0

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """This process's items: every `size`-th, from number `rank`."""
        return items[self.rank :: self.size]

    def deal(self, shares: Sequence[Sequence[Any]]) -> list[Any]:
        """The inverse of `share`: the items of all processes in their first order."""
        count = sum(map(len, shares))
        return [shares[i % self.size][i // self.size] for i in range(count)]

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Sums tensors of one dtype over all processes in place, as one flat message.

        A single tensor that lies in one piece is its own message.
        """
        if self.size == 1:
            return
        tensors = list(tensors)
        if len(tensors) == 1 and tensors[0].is_contiguous():
            self.message(distributed.all_reduce, tensors[0])
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        self.message(distributed.all_reduce, flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def copy_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors of any dtypes with those of the first process."""
        if self.size == 1:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for alike in kinds.values():
            flat = torch.cat([t.reshape(-1) for t in alike])
            self.message(distributed.broadcast, flat, 0)
            for tensor, piece in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
                tensor.copy_(piece.view_as(tensor))

    def tell(self, value: Any = None) -> Any:
        """The first process's value, which JSON can hold; what the others pass is not read."""
        if self.size == 1:
            return value
        text = _to_bytes(value) if self.is_first else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor(len(text))
        self.message(distributed.broadcast, length, 0)
        if not self.is_first:
            text = torch.empty(int(length), dtype=torch.uint8)
        self.message(distributed.broadcast, text, 0)
        return json.loads(bytes(text.tolist()))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, which JSON can hold, by rank."""
        return [json.loads(bytes(t.tolist())) for t in self.gather_tensors(_to_bytes(value))]

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank, on the CPU; they differ in their first axis only.

        A process whose first axis is empty may leave the others' sizes at 0 too.
        """
        tensor = tensor.cpu().contiguous()
        if self.size == 1:
            return [tensor]
        shapes = [torch.zeros(tensor.dim(), dtype=torch.int64) for _ in range(self.size)]
        self.message(distributed.all_gather, shapes, torch.tensor(tensor.shape))
        most = torch.stack(shapes).amax(dim=0).tolist()
        padded = torch.zeros(most, dtype=tensor.dtype)
        if tensor.numel():
            padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self.message(distributed.all_gather, found, padded)
        return [each[: int(shape[0])] for each, shape in zip(found, shapes, strict=True)]

    def message(self, send: Callable[..., Any], *words: Any) -> None:
        """Sends and waits; for a message between GPUs their streams wait alone."""
        with self.together():
            work = send(*words, async_op=True)
            first = words[0]
            if isinstance(first, Tensor) and first.is_cuda:
                work.wait()
            else:
                self.wait(work)

    def wait(self, work: Any) -> None:
        """Waits for a message of the host that is under way; inside `together`."""
        if self.pulse is not None and not self.pulse.wait(work.is_completed):
            raise OtherProcessError(self.pulse.words)
        work.wait()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turns a broken connection into the error of the process that broke it."""
        try:
            yield
        except RuntimeError as error:
            if self.pulse is not None:
                self.pulse.notice()
            words = ""
            with contextlib.suppress(RuntimeError):
                store: Store = _get_default_store()
                store.wait([ERROR_KEY], datetime.timedelta(seconds=_LAST_WORDS))
                words = store.get(ERROR_KEY).decode()
            silent = "another process of the job ended without a word; its own output may say why"
            raise OtherProcessError(words or silent) from error


class RepeatedSum:
    """Sums tensors of the same shapes over all processes again and again, in one flat message.

    The message's memory is made once. `World.sum_` makes it anew in every call and copies the sums
    back, which takes longer than the sum itself between two processes of one machine.

    Args:
        world: the processes.
        like: tensors of one dtype and device, whose shapes and layouts are those of all calls.

    Attributes:
        views: where the sums are, in the order of `like`; none for a process alone.
    """

    def __init__(self, world: World, like: Sequence[Tensor]) -> None:
        self.world = world
        self._flat = torch.empty(0)
        self.views: list[Tensor] = []
        if world.size == 1:
            return
        numbers = [t.numel() for t in like]
        self._flat = torch.zeros(sum(numbers), dtype=like[0].dtype, device=like[0].device)
        # Odd sizes come last, so that every other tensor begins at a multiple of 4 numbers, as
        # kernels that load four at a time want it.
        order = sorted(range(len(like)), key=lambda i: numbers[i] % 4 != 0)
        pieces = self._flat.split([numbers[i] for i in order])
        place = dict(zip(order, pieces, strict=True))
        self.views = [place[i].as_strided_(t.shape, t.stride()) for i, t in enumerate(like)]

    @property
    def bytes(self) -> int:
        """Of the message; 0 for a process alone."""
        return self._flat.numel() * self._flat.element_size()

    @torch.no_grad()
    def __call__(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sums, valid until the next call; alone, the tensors themselves. Collective."""
        if self.world.size == 1:
            return tensors
        torch._foreach_copy_(self.views, list(tensors))
        self.reduce()
        return self.views

    def reduce(self) -> None:
        """The message alone: what the memory holds becomes its sum over all processes."""
        self.world.sum_([self._flat])


def _to_bytes(value: Any) -> Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


class Vote:
    """Whether any process wished something, asked again and again without waiting.

    The answer is to the wishes of the call before: the message travels while the caller works, on
    the CPU, so that no GPU is waited for. All processes get the same answer in the same call. A
    process that is gone shows here within one call, also where a GPU would wait for it.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._pending: tuple[Any, Tensor] | None = None

    def __call__(self, wish: bool) -> bool:
        """The answer to the last call's wishes; alone, the wish itself."""
        if self.world.size == 1:
            return wish
        answer = self.close()
        with self.world.together():
            ballot = torch.tensor(int(wish))
            work = distributed.all_reduce(ballot, distributed.ReduceOp.MAX, async_op=True)
        self._pending = (work, ballot)
        return answer

    def close(self) -> bool:
        """Waits for the message that is under way, and returns its answer."""
        if self._pending is None:
            return False
        work, ballot = self._pending
        self._pending = None
        with self.world.together():
            self.world.wait(work)
        return bool(ballot)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Joins the processes that torchrun started, if it did.

    Args:
        device: cpu, or cuda, of which every process takes the one of its place on the machine.

    Yields:
        The world, and this process's device.

    Raises:
        DiganError: torchrun's variables are incomplete; fewer GPUs than processes.
        OtherProcessError: another process failed.
    """
    size = _variable("WORLD_SIZE", 1)
    if size == 1:
        yield World(), device
        return
    device = _own_device(device)
    # Tensors of the host travel beside those of the GPU: small messages never wait for it.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"the processes cannot reach one another: {reason}") from error
    own_line = _get_default_store().clone()  # type: ignore[attr-defined]
    pulse = Pulse(own_line, rank, size)
    try:
        yield World(rank, size, pulse), device
    except OtherProcessError:
        if pulse.words:
            # A message to a silent process is still under way. Python would wait for it when it
            # ends, so it is not asked to.
            atexit.register(_leave)
        raise
    except Exception as error:
        pulse.notice()
        words = f"process {rank} of {size} failed: {' '.join(str(error).split()) or repr(error)}"
        with contextlib.suppress(RuntimeError):  # the store may be gone with its process
            _last_words_to(words)
        raise
    pulse.end()
    # A group is only left in peace: closing it in a failing job would wait for the dead.
    distributed.destroy_process_group()


def _leave() -> None:
    """Ends the process with what it has printed, and without what Python does when it ends."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)


def _variable(name: str, default: int | None = None) -> int:
    """An integer that torchrun puts into the environment."""
    text = os.environ.get(name, "" if default is None else str(default))
    try:
        return int(text)
    except ValueError as error:
        raise DiganError(
            f"{name} must be a number, got {text!r}: start several processes with torchrun"
        ) from error


def _own_device(device: torch.device) -> torch.device:
    if device.type != "cuda":
        return device
    place, count = _variable("LOCAL_RANK"), torch.cuda.device_count()
    if place >= count:
        raise DiganError(
            f"process {place} of this machine has no GPU: there are {count}; "
            f"torchrun --nproc-per-node must be at most {count}"
        )
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def _last_words_to(words: str) -> None:
    """Leaves an error for the others, unless one is there: the first is the cause."""
    _get_default_store().compare_set(ERROR_KEY, "", words)
