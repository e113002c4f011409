"""What `nvcc -Xptxas=-v` says of every kernel: registers, stack, spills, shared memory."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """One kernel's code for one card; sizes in bytes."""

    name: str  # as the compiler mangles it
    card: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def parse(log: str) -> list[Kernel]:
    """Every kernel in a log.

    Raises:
        ValueError: a kernel is named and its figures do not follow.
    """
    kernels = []
    chunks = re.split(r"(?=^ptxas info\s*: Compiling entry function)", log, flags=re.MULTILINE)
    for chunk in chunks:
        entry = _ENTRY.search(chunk)
        if entry is None:
            continue
        stack, used = _STACK.search(chunk), _USED.search(chunk)
        if stack is None or used is None:
            raise ValueError(f"no figures follow {entry[0]!r}")
        line = chunk[used.start() :].splitlines()[0]
        shared = _SHARED.search(line)
        kernels.append(
            Kernel(entry[1], entry[2], int(used[1]), *map(int, stack.groups()),
                   int(shared[1]) if shared else 0)
        )  # fmt: skip
    return kernels
