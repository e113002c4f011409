"""Frames from the device that computes them to the host, copied while the next are computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Copy:
    """A copy under way.

    Attributes:
        source: on the device; kept for as long as the copy is, so that its memory is nobody's.
        target: on the host, complete after `Copies.finish` alone.
        done: what tells that it is, by the device.
    """

    source: Tensor
    target: Tensor
    done: Any


class Copies(Protocol):
    """How a device copies beside what it computes."""

    def start(self, source: Tensor) -> Copy:
        """Begins a copy of what has been asked to be computed so far; waits for nothing."""

    def finish(self, copy: Copy) -> Tensor:
        """The target, once it is complete."""


class CudaCopies:
    """Copies into pinned memory on a stream of their own.

    A target is fresh: PyTorch's allocator of pinned memory hands a block out again once its
    tensor is gone and its copy done. So a consumer may keep what it is given, and one that does
    not makes two or three blocks serve a video of any length.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def start(self, source: Tensor) -> Copy:
        """See `Copies`."""
        target = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        done = torch.cuda.Event(blocking=True)  # who waits leaves its core to the encoder
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
            done.record(self.stream)
        return Copy(source, target, done)

    def finish(self, copy: Copy) -> Tensor:
        """See `Copies`. The source may be written again from here on."""
        copy.done.synchronize()
        return copy.target


def copies_for(device: torch.device) -> Copies | None:
    """None where frames are on the host already, or where copies cannot run beside the rest."""
    return CudaCopies(device) if device.type == "cuda" else None


def to_host(chunks: Iterable[Tensor], copies: Copies | None) -> Iterator[Tensor]:
    """The same chunks on the host, in order.

    With copies, a chunk is handed out when the next one has been asked for, so that the device
    computes it while this one is copied and used. At most two sources exist at a time.

    Args:
        chunks: tensors that nobody writes to again.
        copies: of their device; None for `Tensor.cpu`, one after the other.
    """
    if copies is None:
        for chunk in chunks:
            yield chunk.cpu()
        return
    before: Copy | None = None
    for chunk in chunks:
        started = copies.start(chunk)
        del chunk
        if before is not None:
            yield copies.finish(before)
        before = started
    if before is not None:
        yield copies.finish(before)
