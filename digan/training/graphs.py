"""How the phases of an iteration are run: call by call, or captured once as CUDA graphs.

A phase is work on static memory: it reads the parameters, the optimiser's moments, counters and
the inputs' places, writes to them, and leaves nothing else behind. Replayed, it is one launch
in place of thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch

from digan.errors import DiganError
from digan.processes import World
from digan.training.inputs import Inputs, StaticInputs

Work = Callable[[], None]
# Calls before a phase is captured. They are steps of the run like all others: in them cuDNN
# chooses its algorithms, and what is made at first use (moments, statistics) comes into being
# outside the graph's own memory.
WARM_UPS = 3


class Capture(Protocol):
    """Records work once, to be repeated."""

    def warm_up(self, work: Work) -> None:
        """Runs the work where it will be recorded."""

    def record(self, work: Work) -> Work:
        """What repeats the work; the work itself is not done."""


class Phases(Protocol):
    """Runs the phases of iterations."""

    def load(self, inputs: Inputs) -> Inputs:
        """The inputs as the phases of this iteration must read them."""

    def run(self, name: str, work: Work) -> None:
        """One phase. `work` reads inputs from `load` only, and is the same in every call."""


class EagerPhases:
    """Calls them."""

    def load(self, inputs: Inputs) -> Inputs:
        """As they are."""
        return inputs

    def run(self, name: str, work: Work) -> None:
        """Calls the work."""
        work()


class GraphedPhases:
    """Calls each phase a few times, then captures it and repeats that.

    Args:
        capture: records. say: told why, if something cannot be captured.
        warm_ups: calls of a phase before it is captured.
    """

    def __init__(
        self, capture: Capture, say: Callable[[str], None], warm_ups: int = WARM_UPS
    ) -> None:
        self.capture, self.say, self.warm_ups = capture, say, warm_ups
        self.inputs = StaticInputs()
        self.calls: dict[str, int] = {}
        self.graphs: dict[str, Work] = {}
        self.gave_up = False

    def load(self, inputs: Inputs) -> Inputs:
        """Copies them to where the graphs read."""
        return self.inputs.load(inputs)

    def run(self, name: str, work: Work) -> None:
        """Repeats the phase, or calls it while there is nothing to repeat."""
        graph = self.graphs.get(name)
        if graph is None and not self.gave_up:
            count = self.calls[name] = self.calls.get(name, 0) + 1
            if count <= self.warm_ups:
                self.capture.warm_up(work)
                return
            graph = self._record(name, work)
        if graph is None:
            work()
        else:
            graph()

    def _record(self, name: str, work: Work) -> Work | None:
        try:
            graph = self.capture.record(work)
        except RuntimeError as error:  # also of CUDA, also for want of memory
            self.gave_up = True
            reason = " ".join(str(error).split())[:200]
            self.say(
                f"CUDA graphs: phase {name} cannot be captured ({reason}); phases without a graph "
                "run call by call"
            )
            return None
        self.graphs[name] = graph
        return graph


class CudaCapture:
    """CUDA graphs, which share their memory: phases never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """On a side stream, as recording will."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """Captures; other threads (of the loader) may call CUDA meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            work()
        replay: Work = graph.replay
        return replay


def why_not_graphs(
    wish: Literal["auto", "on", "off"], device: torch.device, world: World
) -> str | None:
    """Why phases are not captured, as a sentence for the log; None if they are.

    Raises:
        DiganError: they were demanded and cannot be.
    """
    reason = None
    if wish == "off":
        reason = "switched off by --cuda-graphs off"
    elif device.type != "cuda":
        reason = f"the device is {device.type}"
    elif world.size > 1 and "cuda:nccl" not in (how := torch.distributed.get_backend_config()):
        reason = f"sums over processes by {how} wait for the host"
    if wish == "on" and reason is not None:
        raise DiganError(f"--cuda-graphs on cannot be kept: {reason}")
    return reason
