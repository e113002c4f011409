"""One computation again and again on other numbers: captured as a CUDA graph and replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

# The first chunk of a video warms up and the second is captured, which waits for the device.
LEAST_CHUNKS = 4

_log = logging.getLogger("digan.synthesis")

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Runs something once; returns what runs it again on the same memory, and the result's memory."""


def capture_graph(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """`Capture` by a CUDA graph. `run` must have run before: first calls set things up.

    Raises:
        RuntimeError: something in `run` cannot be captured, as a wait for the device.
    """
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # Other threads may use the device meanwhile; only this one's calls are held to the rules.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = run()
    except RuntimeError:
        torch.cuda.set_stream(before)  # a capture that fails leaves its own as the current one
        raise
    return graph.replay, result


class ChunkRunner:
    """Computes the chunks of a video: full ones by a replay, where there are enough of them.

    The graph holds the addresses of the weights, of a buffer for the times, and of its result;
    so it serves one video (or batch) at one size, and goes with it. A replay costs the host one
    call in the place of a few for every layer. Its result is copied to fresh memory on the device,
    since the next replay writes over it while it may still be on its way to the host: 3 bytes a
    pixel, of some thousand that the layers move.

    Args:
        function: times [n] on the device -> frames of these times; reads nothing else that
            changes.
        full: n of a full chunk. chunks: how many full ones are to come.
        capture: how to keep the computation; None for calling `function` every time.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        full: int,
        chunks: int,
        capture: Capture | None,
    ) -> None:
        self.function, self.full = function, full
        self.capture = capture if chunks >= LEAST_CHUNKS else None
        self._is_warm = False
        self._kept: tuple[Callable[[], None], Tensor, Tensor] | None = None

    def __call__(self, t: Tensor) -> Tensor:
        """Frames at times t [n] in memory of their own."""
        if len(t) != self.full or self.capture is None:
            return self.function(t)
        if not self._is_warm:
            self._is_warm = True
            return self.function(t)
        if self._kept is None:
            buffer = t.clone()
            try:
                replay, result = self.capture(lambda: self.function(buffer))
            except RuntimeError as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                _log.warning("chunks are not replayed as a CUDA graph: %s", reason)
                self.capture = None
                return self.function(t)
            self._kept = replay, result, buffer
        replay, result, buffer = self._kept
        buffer.copy_(t)
        replay()
        return result.clone()
