"""The worker processes of `prepare`: started cleanly, stopped at once, replaced if they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digan.data.parts import Part, Parts
from digan.data.reading import Settings, StoppedError, make_part
from digan.data.sources import Source
from digan.errors import DiganError

if TYPE_CHECKING:
    from tqdm import tqdm

# Set in each worker by `_start`.
_consumed: Synchronized[int]
_stop: Any


def run_workers(
    store: Path,
    sources: list[Source],
    settings: Settings,
    workers: int | None,
    bar: tqdm[Any],
) -> None:
    """Make the part of every source, with `workers` processes (None: one a core).

    With one worker or one source everything happens in this process. A worker that dies
    (out of memory, a crash inside a codec) is replaced, and what it was reading is tried
    once more, alone; if that kills its worker too, the source is skipped with that reason.
    Raises what `make_part` raises; interrupted, the workers stop at their next frame.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(workers or cores or 1, len(sources))
    if count <= 1:
        for source in sources:
            make_part(store, source, settings, lambda consumed: _advance(bar, consumed))
        return
    left = sources
    while left:
        suspects = _pool(store, left, settings, count, bar)
        for source in suspects:  # one by one: who kills its worker again is guilty
            if _pool(store, [source], settings, 1, bar):
                part = Part(source.name, source.stamp, settings.key, "skipped")
                part.reason = "the process that read it died"
                Parts(store).finish(part, None)
        parts = Parts(store)
        left = [s for s in left if parts.load(s.name, s.stamp, settings.key) is None]


def _advance(bar: tqdm[Any], consumed: int) -> None:
    bar.update(consumed)


def _pool(
    store: Path, sources: list[Source], settings: Settings, count: int, bar: tqdm[Any]
) -> list[Source]:
    """Run a pool over sources; returns those that were being read when a worker died."""
    context = multiprocessing.get_context("spawn")
    consumed, started, stop = context.Value("q", 0), context.Event(), context.Event()
    start = bar.n
    pool = ProcessPoolExecutor(count, context, _start, (consumed, started, stop))
    pending: dict[Future[None], Source] = {}
    suspects: list[Source] = []
    queue = iter(sources)
    try:
        while True:
            # A few in advance, so that a stop does not wait for a long queue.
            while len(pending) < 2 * count and (source := next(queue, None)) is not None:
                pending[pool.submit(_work, store, source, settings)] = source
            if not pending:
                break
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            bar.update(start + consumed.value - bar.n)
            for future in done:
                future.result()
                del pending[future]
    except BrokenProcessPool as error:
        if not started.is_set():
            raise DiganError(
                "no worker process could start: memory may be short; a script that calls prepare "
                "needs `if __name__ == '__main__':` around the call, or workers=1"
            ) from error
        parts = Parts(store)
        suspects = [
            source
            for source in pending.values()
            if parts.load(source.name, source.stamp, settings.key) is None
        ]
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return suspects


def _start(consumed: Synchronized[int], started: Any, stop: Any) -> None:
    """Runs once in each new worker."""
    global _consumed, _stop
    _consumed, _stop = consumed, stop
    started.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow(sentinel: int) -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)  # the main process was killed

        threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def _progress(consumed: int) -> None:
    with _consumed.get_lock():
        _consumed.value += consumed


def _work(store: Path, source: Source, settings: Settings) -> None:
    with contextlib.suppress(StoppedError):
        make_part(store, source, settings, _progress, _stop.is_set)
