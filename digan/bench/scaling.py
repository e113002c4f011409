"""What several processes reach against one: from the rows of section `processes`.

With t(1, B) the seconds of an iteration of B samples on one process alone, and N processes,

    efficiency = (samples a second of N) / (N * samples a second of 1)

which is t(1, B) / t(N, N B) where every process has B samples (weak scaling), and
t(1, B) / (N t(N, B)) where all share B (strong). N processes that do t(1, B) at the same time
without a message take t'(1, B): t(1, B) / t' is what the machine leaves of them (caches, memory,
clocks, neighbours), t' / t(N, N B) what messages and waiting for one another leave of that.

On a CPU the same is made of the processor's own time: what others on the machine take is not in it,
nor is waiting, so that of two processes on a busy machine it still tells the work that was added.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from digan.bench.rows import Results, Row

SECTION = "processes"
ALONE, APART, WEAK, STRONG = "one alone", "apart", "weak", "strong"
ITERATION, PENALTY = "iteration", "iteration with R1"
GENERATOR, DISCRIMINATOR = "generator's gradients", "discriminators' gradients"
AS_TRAINED, ANEW, REDUCED = "as trained", "in new memory", "all-reduce alone"
WALL, PROCESSOR = "wall", "processor"
R1_INTERVAL = 16  # iterations; the default of d_reg_interval


@dataclass(frozen=True)
class Scaling:
    """N processes against one.

    Attributes:
        processes: N. precision: of the arithmetic. batch: B.
        clock: WALL, or PROCESSOR: its seconds in a process, which others do not lengthen.
        alone, apart, weak, strong: seconds of an iteration with its part of R1, medians; strong
            is NaN where N does not divide B.
        machine, coupled: what the machine, and what messages and waiting leave; of `weak`.
        weak_efficiency, strong_efficiency: of the medians.
        weak_range, strong_range: least and largest of the rounds, each against its own round.
        bytes, messages: of the sums of an iteration with its part of R1, and their seconds.
    """

    processes: int
    precision: str
    batch: int
    clock: str
    alone: float
    apart: float
    weak: float
    strong: float
    machine: float
    coupled: float
    weak_efficiency: float
    strong_efficiency: float
    weak_range: tuple[float, float]
    strong_range: tuple[float, float]
    bytes: float
    messages: float


def efficiency(
    alone: float, alone_items: float, several: float, several_items: float, processes: int
) -> float:
    """(several_items / several) / (processes * alone_items / alone), times in seconds."""
    return (several_items / several) / (processes * alone_items / alone)


def sum_seconds(
    message: float, *, gpus: int, link: float, machines: int = 1, network: float = 1.0
) -> float:
    """Of one sum over machines * gpus processes: in the machine, then between the machines.

        message * (2 (G - 1)/G / link + 2 (M - 1)/M / network)

    The processes of a machine share a sum out among themselves (every part of it leaves each of
    them twice, but for its own), and each then adds its part to those of the other machines.

    Args:
        message: bytes. gpus: G, processes of a machine. machines: M.
        link: bytes a second out of a process, to others of its machine.
        network: bytes a second out of a machine, by all its adapters together.
    """
    inside, between = 2 * (gpus - 1) / gpus, 2 * (machines - 1) / machines
    return message * (inside / link + between / network)


def expected_efficiency(compute: float, messages: float) -> float:
    """compute / (compute + messages), seconds: nothing overlaps, nobody waits for the slowest."""
    return compute / (compute + messages)


def iteration_case(processes: int, batch: int, size: int, penalty: bool, clock: str = WALL) -> str:
    """The case of an iteration's rows."""
    what = PENALTY if penalty else ITERATION
    time = "" if clock == WALL else f", {clock} time"
    return f"{what}, {processes} processes, B={batch} {size}x{size}{time}"


def message_case(processes: int, what: str) -> str:
    """The case of a message's rows."""
    return f"{what}, {processes} processes"


def scaling_of(results: Results) -> list[dict[str, Any]]:
    """The figures of every number of processes and precision, as JSON values."""
    rows = {(r.case, r.provider, r.precision): r for r in results.rows if r.section == SECTION}
    found = []
    for (case, provider, precision), row in rows.items():
        if provider == WEAK and case.startswith(f"{ITERATION},") and row.samples:
            scaling = _scaling(rows, case, precision)
            if scaling is not None:
                found.append(asdict(scaling))
    return found


def _scaling(rows: dict[tuple[str, str, str], Row], case: str, precision: str) -> Scaling | None:
    words = case.split()
    processes, batch = int(words[1]), int(words[3].removeprefix("B="))
    whole: dict[str, tuple[Row, float]] = {}
    for name in (ALONE, APART, WEAK, STRONG):
        plain = rows.get((case, name, precision))
        penalty = rows.get((case.replace(ITERATION, PENALTY, 1), name, precision))
        if plain is None or penalty is None or not (plain.samples and penalty.samples):
            continue
        whole[name] = plain, (penalty.median - plain.median) / R1_INTERVAL
    if not {ALONE, APART, WEAK} <= whole.keys():
        return None
    seconds = {name: row.median + part for name, (row, part) in whole.items()}
    clock = PROCESSOR if case.endswith(f"{PROCESSOR} time") else WALL
    alone, nan = seconds[ALONE], float("nan")
    strong = STRONG in whole
    sizes, times = _messages(rows, processes)
    return Scaling(
        processes,
        precision,
        batch,
        clock,
        alone,
        seconds[APART],
        seconds[WEAK],
        seconds.get(STRONG, nan),
        alone / seconds[APART],
        seconds[APART] / seconds[WEAK],
        efficiency(alone, batch, seconds[WEAK], batch * processes, processes),
        efficiency(alone, batch, seconds[STRONG], batch, processes) if strong else nan,
        _range(whole, WEAK, batch * processes, processes),
        _range(whole, STRONG, batch, processes) if strong else (nan, nan),
        sizes,
        times,
    )


def _range(
    whole: dict[str, tuple[Row, float]], name: str, items: float, processes: int
) -> tuple[float, float]:
    """The least and largest efficiency of a round."""
    (one, one_part), (many, many_part) = whole[ALONE], whole[name]
    rounds = [
        efficiency(a + one_part, one.items, b + many_part, items, processes)
        for a, b in zip(one.seconds, many.seconds, strict=True)
    ]
    return float(min(rounds)), float(max(rounds))


def _messages(rows: dict[tuple[str, str, str], Row], processes: int) -> tuple[float, float]:
    """Bytes and seconds of an iteration's sums: G, D, and D once more for R1."""
    found = [
        rows.get((message_case(processes, what), AS_TRAINED, "fp32"))
        for what in (GENERATOR, DISCRIMINATOR)
    ]
    if any(row is None or not row.samples for row in found):
        return float("nan"), float("nan")
    shares = np.array([1.0, 1.0 + 1.0 / R1_INTERVAL])
    sizes = np.array([row.bytes for row in found if row is not None], dtype=float)
    times = np.array([row.median for row in found if row is not None])
    return float(shares @ sizes), float(shares @ times)


def format_scaling(found: list[dict[str, Any]]) -> str:
    """The table of the figures."""
    if not found:
        return ""
    lines = [
        f"several processes against one, seconds of an iteration with R1's part ({ALONE}: one "
        f"process of B samples; {APART}: N of these at once, no messages; {WEAK}: N, B samples "
        f"each; {STRONG}: N, B samples in all):",
        f"  {'N':>3}  {'precision':<11}{'clock':<11}{'B':>4}{ALONE:>12}{APART:>9}{WEAK:>9}"
        f"{STRONG:>9}   efficiency: machine, messages and waiting, weak (rounds), strong (rounds)",
    ]
    for s in found:
        weak, strong = (
            f"{s[f'{name}_efficiency']:.3f} ({s[f'{name}_range'][0]:.3f} - "
            f"{s[f'{name}_range'][1]:.3f})"
            for name in (WEAK, STRONG)
        )
        lines.append(
            f"  {s['processes']:>3}  {s['precision']:<11}{s['clock']:<11}{s['batch']:>4}"
            f"{s['alone']:>12.3f}{s['apart']:>9.3f}{s['weak']:>9.3f}{s['strong']:>9.3f}   "
            f"{s['machine']:.3f}, {s['coupled']:.3f}, {weak}, {strong}"
        )
        if s["clock"] == WALL:
            lines.append(
                f"       sums of an iteration: {s['bytes'] / 1e6:,.1f} MB in "
                f"{s['messages']:.4f} s, {100 * s['messages'] / s['weak']:.1f} % of it ({WEAK})"
            )
    return "\n".join(lines)
