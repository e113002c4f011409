"""One of several processes that measure what they cost each other.

    torchrun --nproc-per-node N -m digan.bench.processes_job TASK RESULT

The processes of a job hold one set of networks each, and take four parts in turns: the first alone,
all at once without a message, all together with B samples each, and all together with B samples in
all. So everything is compared within seconds, in the same memory. The first one writes the rows.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from digan.bench.cases import Context, Options
from digan.bench.rows import Row
from digan.bench.scaling import (
    ALONE,
    ANEW,
    APART,
    AS_TRAINED,
    DISCRIMINATOR,
    GENERATOR,
    PROCESSOR,
    REDUCED,
    SECTION,
    STRONG,
    WALL,
    WEAK,
    iteration_case,
    message_case,
)
from digan.bench.timing import LEAST_ROUNDS
from digan.bench.training_section import CAPTURED_AFTER, captured, real_batch, run_settings, trainer
from digan.errors import DiganError
from digan.processes import RepeatedSum, Vote, World, joined
from digan.training.step import Trainer

MESSAGES = tuple(4**n << 12 for n in range(9))  # bytes, beside the gradients' and not above
MESSAGE_ROUNDS = 5
SHORT, CALLS = 1 << 20, 10  # so many calls a sample of a message of at most so many bytes
CLOCKS = {WALL: time.perf_counter, PROCESSOR: time.process_time}
ON_GPU = 8  # iterations a sample: the host runs ahead of a GPU


@dataclass
class Part:
    """What a process does while others do the same, or wait.

    Attributes:
        name: ALONE, APART, WEAK or STRONG. run: the trainer. everyone: not the first alone.
        items: samples of all processes together.
        samples: seconds of an iteration, by whether it has R1 and by clock.
    """

    name: str
    run: Trainer
    everyone: bool
    items: int
    samples: dict[tuple[bool, str], list[float]] = field(default_factory=dict)


def parts_of(run: Trainer, world: World) -> list[Part]:
    """The four parts around one set of networks; three where the batch cannot be shared."""
    batch, size = run.config.batch, world.size
    parts = [Part(ALONE, run, False, batch), Part(APART, run, True, size * batch)]
    parts.append(Part(WEAK, _among(run, world, size * batch), True, size * batch))
    if batch % size == 0:
        parts.append(Part(STRONG, _among(run, world, batch), True, batch))
    return parts


def _among(run: Trainer, world: World, batch: int) -> Trainer:
    """The same networks and optimisers, as one process's among others."""
    other = copy.copy(run)
    other.take_part(dataclasses.replace(run.config, batch=batch), world)
    return other


class Rounds:
    """Samples of parts that take turns.

    Args:
        world: of the job. context: its device and options.
    """

    def __init__(self, world: World, context: Context) -> None:
        self.world, self.context = world, context
        self.on_gpu = context.device.type == "cuda"
        self.frames, self.dt = real_batch(context)

    def wait(self) -> None:
        """For a GPU; a CPU has nothing under way."""
        if self.on_gpu:
            torch.cuda.synchronize(self.context.device)

    def together(
        self, work: Callable[[], Any], calls: int = 1, here: bool = True
    ) -> dict[str, list[float]]:
        """Seconds of a call by clock and process; all begin at once. Only of those `here`."""
        self.wait()
        self.world.gather(0)
        seconds: dict[str, float] = {}
        if here:
            start = {clock: now() for clock, now in CLOCKS.items()}
            for _ in range(calls):
                work()
            self.wait()
            seconds = {clock: (now() - start[clock]) / calls for clock, now in CLOCKS.items()}
        everywhere = [found for found in self.world.gather(seconds) if found]
        return {clock: [found[clock] for found in everywhere] for clock in CLOCKS}

    def iteration(self, part: Part, penalty: bool, calls: int) -> dict[str, float]:
        """Seconds of an iteration by clock.

        Of the wall that of the slowest, where all end together; else the mean of the processes.
        """
        run, vote = part.run, Vote(part.run.world)
        share = len(run.own)
        interval = run.config.d_reg_interval

        def work() -> None:
            # R1 comes in iterations whose number its interval divides.
            run.seen = run.config.batch * (interval if penalty else interval + 1)
            with run_settings():
                run.iteration(self.frames[:share], self.dt[:share], None)
            vote(False)

        seconds = self.together(work, calls, part.everyone or self.world.is_first)
        vote.close()
        found = {clock: sum(own) / len(own) for clock, own in seconds.items()}
        return {**found, WALL: max(seconds[WALL])} if part.name in (WEAK, STRONG) else found

    def measure(self, parts: list[Part]) -> None:
        """Fills the parts' samples: as many rounds as asked for, at least two, within the budget.

        R1 is a sixteenth of a run's iterations, and is measured in the first rounds only.
        """
        options, calls = self.context.options, ON_GPU if self.on_gpu else 1
        for part in parts[1:]:  # the first one's trainer is the second's, and R1 comes on top
            self.iteration(part, True, CAPTURED_AFTER if self.on_gpu else 1)
        start = time.monotonic()
        for number in range(options.repeats):
            late = number >= LEAST_ROUNDS and time.monotonic() - start > options.budget
            if self.world.tell(late):
                break
            turn = number % len(parts)
            for penalty in (False, True) if number < LEAST_ROUNDS else (False,):
                for part in parts[turn:] + parts[:turn]:
                    for clock, seconds in self.iteration(part, penalty, calls).items():
                        part.samples.setdefault((penalty, clock), []).append(seconds)

    def messages(self, sums: dict[str, RepeatedSum]) -> dict[str, dict[str, list[float]]]:
        """Seconds of sums, by message and way, in turns.

        As training does it; as `World.sum_` does, by a message made anew and copied back; and
        the all-reduce without any copy.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for name, summed in sums.items():
            tensors = [torch.zeros_like(view) for view in summed.views]
            ways: dict[str, Callable[[], Any]] = {
                AS_TRAINED: partial(summed, tensors),
                ANEW: partial(self.world.sum_, tensors),
                REDUCED: summed.reduce,
            }
            calls = CALLS if summed.bytes <= SHORT else 1
            found[name] = {way: [] for way in ways}
            for number in range(1 + MESSAGE_ROUNDS):  # the first warms up
                for way, work in ways.items():
                    seconds = max(self.together(work, calls)[WALL])
                    if number:
                        found[name][way].append(seconds)
        return found


def measured(context: Context, world: World) -> list[Row]:
    """All rows of a job."""
    options, size = context.options, context.options.resolution
    rounds, found = Rounds(world, context), []
    provider = "fused" if options.wants("fused") else "reference"
    for precision in options.precisions:
        run = trainer(context, provider, precision)
        parts = parts_of(run, world)
        for part in parts if provider == "fused" else ():
            if part.name != APART:  # which is ALONE's trainer
                captured(part.run)
        rounds.measure(parts)
        # A GPU computes while its process waits, so the processor's time is not its own.
        clocks = (WALL,) if context.device.type == "cuda" else tuple(CLOCKS)
        for penalty, clock in itertools.product((False, True), clocks):
            case = iteration_case(world.size, options.batch, size, penalty, clock)
            found += [
                Row(SECTION, case, part.name, precision, unit="samples", items=part.items,
                    samples=[part.samples[penalty, clock]])
                for part in parts
            ]  # fmt: skip
    sums = {GENERATOR: parts[2].run.g_sum, DISCRIMINATOR: parts[2].run.d_sum}
    most = max(summed.bytes for summed in sums.values())
    for length in (length for length in MESSAGES if length <= most):
        halves = torch.zeros(length // 4, device=context.device).chunk(2)
        sums[f"message of {length / 1024:,.0f} KiB"] = RepeatedSum(world, halves)
    for name, ways in rounds.messages(sums).items():
        case = message_case(world.size, name)
        found += [
            Row(SECTION, case, way, "fp32", samples=[seconds], bytes=sums[name].bytes)
            for way, seconds in ways.items()
        ]
    vote = Vote(world)
    asked = [max(rounds.together(lambda: vote(False), CALLS)[WALL]) for _ in range(MESSAGE_ROUNDS)]
    vote.close()
    told = [max(rounds.together(lambda: world.gather([0.5, 2.0]), CALLS)[WALL])
            for _ in range(MESSAGE_ROUNDS)]  # fmt: skip
    for what, seconds in (("vote", asked), ("gather of a tick", told)):
        found.append(Row(SECTION, message_case(world.size, what), AS_TRAINED, "-",
                         samples=[seconds]))  # fmt: skip
    return found


def main(task: Path, result: Path) -> int:
    """Measures; the first process writes rows, or the error."""
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in json.loads(task.read_text(encoding="utf-8")).items()
    }
    options, found = Options(**values), None
    torch.set_num_threads(options.threads or 1)
    first = World()
    try:
        with joined(torch.device(options.device)) as (world, device):
            first = world
            rows = measured(Context(options, device, result.parent), world)
            found = [asdict(row) for row in rows]
    except DiganError as error:
        if first.is_first:
            result.write_text(json.dumps({"error": str(error)}), encoding="utf-8")
        return 1
    if first.is_first:
        result.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
