"""Chunks copied beside what is computed, and replayed: with stand-ins for a GPU's queues.

The stand-ins are as unkind as a GPU may be: a copy happens at the last moment, so that memory
written or handed out too early shows, and a replay writes over what the last one gave.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from digan.grid import frame_times
from digan.nn import Generator
from digan.synthesis import replay, stream_frames, write_videos
from digan.synthesis.replay import LEAST_CHUNKS, ChunkRunner, capture_graph
from digan.synthesis.transfer import Copy, CudaCopies, to_host
from tests.synthesis.rendered import CLIP, frames_of
from tests.tiny_runs import tiny_network


class LateCopies:
    """Nothing is copied before somebody waits for it."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0
        self.order: list[str] = []

    def start(self, source: Tensor) -> Copy:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.order.append("start")
        return Copy(source, torch.full_like(source, 77), None)

    def finish(self, copy: Copy) -> Tensor:
        self.under_way -= 1
        self.order.append("finish")
        return copy.target.copy_(copy.source)


def again(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """`Capture` without a GPU: runs again, into the memory of the first result."""
    result = run()

    def once_more() -> None:
        result.copy_(run())

    return once_more, result


def cannot(run: Callable[[], Tensor]) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nin 12 frames")


@pytest.fixture(scope="module")
def network() -> Generator:
    return tiny_network()


# ---------------------------------------------------------------- copies


def test_a_chunk_is_given_out_when_the_next_is_on_its_way():
    copies = LateCopies()
    asked = []

    def chunks() -> Iterator[Tensor]:
        for i in range(4):
            asked.append(i)
            yield torch.full((2, 3), i)

    for i, chunk in enumerate(to_host(chunks(), copies)):
        assert asked[-1] == min(i + 1, 3)
        assert torch.equal(chunk, torch.full((2, 3), i))
    assert copies.order == ["start", "start", *["finish", "start"] * 2, "finish", "finish"]
    assert copies.most == 2


def test_two_sources_are_kept_at_most():
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def chunks() -> Iterator[Tensor]:
        nonlocal most
        for i in range(9):
            chunk = torch.full((2,), i)
            alive.add(chunk)
            most = max(most, len(alive))
            yield chunk
            del chunk

    assert [int(chunk[0]) for chunk in to_host(chunks(), LateCopies())] == list(range(9))
    assert most == 2


@pytest.mark.parametrize("count", [0, 1])
def test_few_chunks(count):
    chunks = [torch.ones(3, dtype=torch.uint8)] * count
    assert len(list(to_host(iter(chunks), LateCopies()))) == count
    assert len(list(to_host(iter(chunks), None))) == count


# ---------------------------------------------------------------- replays


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9, 13])
def test_replayed_frames_are_those_computed(network, count):
    """In chunks of 3, with a shorter one behind; each bit, whatever is kept or written over."""
    inr, t = write_videos(network, [3, 9]), frame_times(3 * count + 2, CLIP)
    captured = 0

    def counted(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        nonlocal captured
        captured += 1
        return again(run)

    expected = frames_of(inr, t, chunk=3)
    found = frames_of(inr, t, chunk=3, copies=LateCopies(), capture=counted)
    assert (found == expected).all()
    assert captured == (count >= LEAST_CHUNKS)


def test_a_kept_result_would_be_seen(network, monkeypatch):
    """These stand-ins find the fault they are there for: a result that the next replay takes."""
    inr, t = write_videos(network, [3]), frame_times(12, CLIP)
    expected = frames_of(inr, t, chunk=2)
    monkeypatch.setattr(Tensor, "clone", lambda self: self)
    found = frames_of(inr, t, chunk=2, copies=LateCopies(), capture=again)
    assert (found != expected).any()


def test_full_chunks_are_computed_once_and_then_replayed():
    calls: list[list[float]] = []

    def double(t: Tensor) -> Tensor:
        calls.append(t.tolist())
        return 2 * t

    def kept(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = run()
        return lambda: calls.append(["replayed"]), result

    run = ChunkRunner(double, 2, LEAST_CHUNKS, kept)
    for start in range(0, 9, 2):
        run(torch.arange(start, min(start + 2, 9), dtype=torch.float64))
    replays = [["replayed"]] * (LEAST_CHUNKS - 1)
    assert calls == [[0, 1], [2, 3], *replays, [8]]


def test_what_cannot_be_captured_is_computed_and_said_once(network, caplog):
    inr, t = write_videos(network, [3]), frame_times(13, CLIP)
    with caplog.at_level(logging.WARNING, "digan.synthesis"):
        found = frames_of(inr, t, chunk=2, capture=cannot)
    assert (found == frames_of(inr, t, chunk=2)).all()
    said = "operation not permitted when stream is capturing"
    assert caplog.messages == [f"chunks are not replayed as a CUDA graph: {said}"]


def test_a_runner_without_capture_calls_every_time():
    run = ChunkRunner(lambda t: t + 1, 2, 100, None)
    assert [run(torch.full((2,), float(i))).tolist() for i in range(4)] == [
        [i + 1, i + 1] for i in range(4)
    ]
    assert replay.LEAST_CHUNKS > 2  # one warms up, one is captured


# ---------------------------------------------------------------- the calls of PyTorch's CUDA


class Recorder:
    """Stands for torch.cuda: notes what is done in which order, by the real signatures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.now = "main"
        recorder = self

        class Stream:
            def __init__(self, device: Any) -> None:
                assert device == torch.device("cuda", 0)

            def wait_stream(self, other: Any) -> None:
                recorder.done.append(f"side waits for {other}")

        class Event:
            def __init__(self, **arguments: Any) -> None:
                REAL_EVENT.bind(**arguments)

            def record(self, stream: Any) -> None:
                assert isinstance(stream, Stream)
                recorder.done.append(f"record on {recorder.now}")

            def synchronize(self) -> None:
                recorder.done.append("wait")

        @contextlib.contextmanager
        def stream(given: Any) -> Iterator[None]:
            assert isinstance(given, Stream)
            recorder.now = "side"
            yield
            recorder.now = "main"

        for name, stand_in in (("Stream", Stream), ("Event", Event), ("stream", stream)):
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: recorder.now)
        empty, copy = torch.empty, Tensor.copy_

        def pinned(*arguments: Any, pin_memory: bool, **more: Any) -> Tensor:
            assert pin_memory
            return empty(*arguments, **more)

        def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
            recorder.done.append(f"copy on {recorder.now}{', at once' * (not non_blocking)}")
            return copy(target, source)

        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(Tensor, "copy_", copied)


REAL_EVENT = inspect.signature(torch.cuda.Event.__new__).replace(
    parameters=list(inspect.signature(torch.cuda.Event.__new__).parameters.values())[1:]
)
REAL_GRAPH = inspect.signature(torch.cuda.graph.__init__)


def test_a_copy_waits_for_what_is_computed_and_nobody_for_the_copy(monkeypatch):
    recorder = Recorder(monkeypatch)
    copies = CudaCopies(torch.device("cuda", 0))
    copy = copies.start(torch.tensor([1, 2], dtype=torch.uint8))
    assert recorder.done == ["side waits for main", "copy on side", "record on side"]
    assert copies.finish(copy).tolist() == [1, 2]
    assert recorder.done[3:] == ["wait"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_leaves_the_current_stream_as_it_was(monkeypatch, fails):
    """Also one that fails, after which PyTorch's own context may not."""
    current = ["main"]

    class Graph:
        def replay(self) -> None:
            current.append("replayed")

    class Capturing:
        def __init__(self, graph: Any, **arguments: Any) -> None:
            REAL_GRAPH.bind(self, graph, **arguments)

        def __enter__(self) -> None:
            current[0] = "capturing"

        def __exit__(self, *raised: object) -> None:
            if raised[0] is None:
                current[0] = "main"

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))

    def run() -> Tensor:
        assert current[0] == "capturing"
        if fails:
            raise RuntimeError("not permitted")
        return torch.ones(1)

    if fails:
        with pytest.raises(RuntimeError, match="not permitted"):
            capture_graph(run)
    else:
        replayed, result = capture_graph(run)
        replayed()
        assert torch.equal(result, torch.ones(1))
        assert current[1:] == ["replayed"]
    assert current[0] == "main"


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_gpu_gives_the_bits_of_its_eager_run(dtype):
    """Copies on their stream and graphs, against one chunk after the other on one stream."""
    device = torch.device("cuda")
    network = tiny_network().to(device)
    network.compute_dtype = dtype
    inr, t = write_videos(network, [3, 9]), frame_times(29, CLIP)

    class Waiting(CudaCopies):
        def finish(self, copy: Copy) -> Tensor:
            torch.cuda.synchronize()
            return copy.source.cpu()

    expected = frames_of(inr, t, chunk=3, copies=Waiting(device), capture=cannot)
    for _ in range(3):
        torch.cuda._sleep(20_000_000)  # the host is far ahead
        found = torch.cat(list(stream_frames(inr, t, chunk=3)), dim=1)
        assert (found.numpy().astype(expected.dtype) == expected).all()


@pytest.mark.gpu
def test_a_chunk_is_captured_on_a_gpu():
    network = tiny_network().to("cuda")
    inr, t = write_videos(network, [3]), frame_times(12, CLIP)
    captured = 0

    def counted(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        nonlocal captured
        captured += 1
        return capture_graph(run)

    frames_of(inr, t, chunk=2, capture=counted)
    assert captured == 1
