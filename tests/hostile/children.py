"""Work in a forked process, with its end, its time and its memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        result: what the work returned, if it did.
        signal: of its death, 0 for none. seconds: of processor time. megabytes: that it took beyond
            what it began with.
    """

    result: Any
    signal: int
    seconds: float
    megabytes: float


def in_child(work: Callable[[], Any], seconds: int = 10) -> End:
    """Runs work that returns what JSON can hold; more than some seconds of processor kill it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        text = b'"died"'
        try:
            result = work()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            text = json.dumps([result, after - before]).encode()
        except BaseException as error:
            text = json.dumps([f"raised {type(error).__name__}: {error}", 0]).encode()
        finally:
            os.write(write, text)
            os._exit(0)
    os.close(write)
    chunks = []
    deadline = time.monotonic() + 30 * seconds  # a process that sleeps takes no processor
    while chunk := os.read(read, 65536):
        chunks.append(chunk)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
    os.close(read)
    _, status, usage = os.wait4(pid, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    found = json.loads(b"".join(chunks)) if chunks else [None, 0]
    return End(found[0], number, usage.ru_utime + usage.ru_stime, found[1] / 1024)
