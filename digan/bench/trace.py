"""A profiler's trace of training iterations, summed up by class and by phase.

The trace is the JSON that `torch.profiler` exports for chrome://tracing. On a GPU the pieces of
an iteration are kernels and copies, found in their phase by the time of their launch, also when
a CUDA graph launched them. On a CPU they are the operations' own times, each without what it
calls. What is left of the iteration is idle: nothing ran on the GPU, or the host was between
two operations.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from digan.bench.kernel_classes import CLASSES, ROOT, Place, kernel_class, place
from digan.errors import DiganError
from digan.formats import from_json

ITERATION = "digan: iteration"
"""The mark around an iteration; the marks of its phases are `digan: NAME`."""
PREFIX = "digan: "
BETWEEN = "between"
BINS = 600  # of the picture's time line
LISTED = 12

_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
_LAUNCHES = {"cuda_runtime", "cuda_driver"}
_MARKS = {"user_annotation"}
_HOST = {"cpu_op", "user_annotation"}

Event = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Time of one thing; microseconds."""

    start: float
    end: float
    kind: str
    name: str
    phase: str


@dataclass
class Profile:
    """Where the time of one iteration went.

    Attributes:
        label, provider, precision: what was traced.
        source: kernels (of a GPU) or operations (of a CPU).
        wall: seconds of the iteration in the trace.
        untraced: seconds of the same iteration without a profiler; None where not measured.
        seconds: by class, with idle; they add up to `wall`.
        phases: seconds of every phase by class, without idle.
        largest: name, class, count and seconds of the names with most time.
        unknown: the same of names in no class.
        line: of every phase, [start, length, class] in parts of the wall time.
    """

    label: str
    provider: str
    precision: str
    source: str
    wall: float
    untraced: float | None
    seconds: dict[str, float]
    phases: dict[str, dict[str, float]]
    largest: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    line: dict[str, list[list[Any]]] = field(default_factory=dict)

    @property
    def idle_share(self) -> float:
        """Of the traced iteration."""
        return self.seconds["idle"] / self.wall

    @property
    def idle_share_untraced(self) -> float | None:
        """Of an iteration without a profiler, whose launches it slows: 1 - busy / untraced."""
        if self.untraced is None:
            return None
        return max(0.0, 1 - (self.wall - self.seconds["idle"]) / self.untraced)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the two shares."""
        shares = {"idle_share": self.idle_share, "idle_share_untraced": self.idle_share_untraced}
        return {**asdict(self), **shares}


def read_events(path: Path) -> list[Event]:
    """The complete events of a trace file.

    Raises:
        DiganError: not there, or no trace.
    """
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        found = [e for e in content["traceEvents"] if e.get("ph") == "X"]
        found = [{**e, "ts": float(e["ts"]), "dur": float(e.get("dur", 0.0))} for e in found]
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DiganError(f"{path} is no trace of torch.profiler: {error}") from error
    return found


def summarize(
    events: list[Event],
    *,
    which: int = 0,
    label: str = "iteration",
    provider: str = "",
    precision: str = "",
    untraced: float | None = None,
) -> Profile:
    """The profile of one marked iteration.

    Args:
        events: of a trace. which: number of the iteration among those that are marked.
        label, provider, precision, untraced: as in `Profile`.

    Raises:
        DiganError: there is no such iteration, or nothing in it.
    """
    marks = sorted(
        (e["ts"], e["ts"] + e["dur"], e["name"].removeprefix(PREFIX))
        for e in events
        if e.get("cat") in _MARKS and e["name"].startswith(PREFIX)
    )
    iterations = [mark for mark in marks if PREFIX + mark[2] == ITERATION]
    if not -len(iterations) <= which < len(iterations):
        raise DiganError(
            f"the trace has {len(iterations)} marked iterations, and not number {which}"
        )
    phases = [mark for mark in marks if PREFIX + mark[2] != ITERATION]
    on_gpu = any(e.get("cat") in _DEVICE for e in events)
    begin, end, _ = iterations[which]
    if on_gpu:
        pieces, begin, end = _device_pieces(events, phases, begin, end)
    else:
        pieces = _host_pieces(events, phases, begin, end)
    if not pieces:
        raise DiganError(f"nothing ran in iteration {which} of the trace")
    return _summed(
        _apart(pieces, begin, end), begin, end,
        Profile(label, provider, precision, "kernels" if on_gpu else "operations",
                0.0, untraced, {}, {}),
    )  # fmt: skip


class _Phases:
    """The phase of an instant: the innermost mark around it."""

    def __init__(self, marks: list[tuple[float, float, str]]) -> None:
        self._marks = marks
        self._starts = [mark[0] for mark in marks]

    def at(self, time: float) -> str:
        for start, end, name in reversed(self._marks[: bisect.bisect_right(self._starts, time)]):
            if start <= time < end:
                return name
        return BETWEEN


def _device_pieces(
    events: list[Event], marks: list[tuple[float, float, str]], begin: float, end: float
) -> tuple[list[Piece], float, float]:
    """Kernels launched in [begin, end), and the iteration's time on the GPU.

    It begins with its first kernel and ends with the next iteration's first, where there is
    one: what lies between is the time that the GPU waits for the host.
    """
    launched = {
        e["args"]["correlation"]: e["ts"]
        for e in events
        if e.get("cat") in _LAUNCHES and "correlation" in e.get("args", {})
    }
    optimising = _Phases(
        sorted(
            (e["ts"], e["ts"] + e["dur"], "optimiser")
            for e in events
            if e.get("cat") in _MARKS and (e["name"].startswith("Optimizer.") or _is_average(e))
        )
    )
    by_op = _classes_of_ops(events)
    phases, found, later, unlaunched = _Phases(marks), [], [], []
    for event in events:
        if event.get("cat") not in _DEVICE:
            continue
        arguments = event.get("args", {})
        time = launched.get(arguments.get("correlation"))
        if time is None:
            unlaunched.append(event)
            continue
        if time < begin:
            continue
        if time >= end:
            later.append(event["ts"])
            continue
        kind = kernel_class(event["name"])
        if optimising.at(time) == "optimiser":
            kind = "optimiser"
        elif kind is None:
            kind = by_op.get(arguments.get("External id"), "other")
        found.append(
            Piece(event["ts"], event["ts"] + event["dur"], kind, event["name"], phases.at(time))
        )
    if not found:
        return [], begin, end
    start = min(p.start for p in found)
    stop = min(later) if later else max(p.end for p in found)
    # What nobody in the trace has launched still keeps the GPU busy.
    for event in unlaunched:
        kind = kernel_class(event["name"]) or "other"
        end = event["ts"] + event["dur"]
        if end > start and event["ts"] < stop:
            found.append(Piece(event["ts"], end, kind, event["name"], BETWEEN))
    return found, start, stop


def _is_average(event: Event) -> bool:
    return bool(event["name"] == PREFIX + "EMA")


def _classes_of_ops(events: list[Event]) -> dict[Any, str]:
    """By the number that kernels name their operation with: what it is, by all around it."""
    found = {}
    for event, where, _ in _nested(events):
        number = event.get("args", {}).get("External id")
        if number is not None:
            found[number] = where.inner or "other"
    return found


def _host_pieces(
    events: list[Event], marks: list[tuple[float, float, str]], begin: float, end: float
) -> list[Piece]:
    """Stretches of [begin, end) in which an operation, and none that it calls, was running."""
    phases, found = _Phases(marks), []
    for event, where, own in _nested(events):
        for start, stop in own:
            if where.own != "idle" and stop > begin and start < end:
                found.append(
                    Piece(max(start, begin), min(stop, end), where.own, event["name"],
                          phases.at(start))
                )  # fmt: skip
    return found


def _nested(events: list[Event]) -> list[tuple[Event, Place, list[tuple[float, float]]]]:
    """Every host event with its place and the stretches of its own time."""
    threads: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        if event.get("cat") in _HOST:
            threads[event.get("pid"), event.get("tid")].append(event)
    found: list[tuple[Event, Place, list[tuple[float, float]]]] = []
    for own in threads.values():
        own.sort(key=lambda e: (e["ts"], -e["dur"]))
        calls = _which_call(own)
        stack: list[tuple[Event, Place, list[tuple[float, float]]]] = []
        time = 0.0

        def close(until: float, stack: Any = stack) -> None:
            nonlocal time
            while stack and stack[-1][0]["ts"] + stack[-1][0]["dur"] <= until:
                event, _, stretches = stack.pop()
                stop = event["ts"] + event["dur"]
                if stop > time:
                    stretches.append((time, stop))
                    time = stop

        for index, event in enumerate(own):
            close(event["ts"])
            outer = stack[-1][1] if stack else ROOT
            if stack and event["ts"] > time:
                stack[-1][2].append((time, event["ts"]))
            time = event["ts"]
            mark = event["cat"] in _MARKS and event["name"].startswith(PREFIX)
            average = Place("optimiser", "optimiser", True)
            where = (
                (average if _is_average(event) else outer)
                if mark
                else place(event["name"], outer, calls[index])
            )
            stack.append((event, where, []))
            found.append(stack[-1])
        close(float("inf"))
    return found


def _which_call(events: list[Event]) -> list[bool]:
    """Whether each event of a thread, in order, has others inside."""
    return [
        index + 1 < len(events) and events[index + 1]["ts"] < event["ts"] + event["dur"]
        for index, event in enumerate(events)
    ]


def _apart(pieces: Iterable[Piece], begin: float, end: float) -> list[Piece]:
    """Pieces that overlap no more: what began first keeps the time that two streams share."""
    found, time = [], begin
    for piece in sorted(pieces, key=lambda p: (p.start, p.end)):
        start, stop = max(piece.start, time), min(piece.end, end)
        if stop > start:
            found.append(Piece(start, stop, piece.kind, piece.name, piece.phase))
            time = stop
    return found


def _summed(pieces: list[Piece], begin: float, end: float, profile: Profile) -> Profile:
    wall = end - begin
    seconds = dict.fromkeys(CLASSES, 0.0)
    phases: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names: dict[tuple[str, str], list[float]] = defaultdict(list)
    for piece in pieces:
        length = (piece.end - piece.start) / 1e6
        seconds[piece.kind] += length
        phases[piece.phase][piece.kind] += length
        names[piece.name, piece.kind].append(length)
    seconds["idle"] = wall / 1e6 - sum(seconds.values())
    rows = sorted(
        ({"name": name[:160], "class": kind, "count": len(own), "seconds": sum(own)}
         for (name, kind), own in names.items()),
        key=lambda row: -float(str(row["seconds"])),
    )  # fmt: skip
    profile.wall = wall / 1e6
    profile.seconds = seconds
    profile.phases = {name: dict(own) for name, own in phases.items()}
    profile.largest = rows[:LISTED]
    profile.unknown = [row for row in rows if row["class"] == "other"][:LISTED]
    profile.line = _time_line(pieces, begin, wall)
    return profile


def _time_line(pieces: list[Piece], begin: float, wall: float) -> dict[str, list[list[Any]]]:
    """Of every phase, runs of bins: each bin has the class with most of its time.

    A bin that no piece of the phase fills to a half belongs to nobody, or to another phase.
    """
    width = wall / BINS
    bins: dict[str, list[dict[str, float]]] = {}
    for piece in pieces:
        if piece.phase not in bins:
            bins[piece.phase] = [defaultdict(float) for _ in range(BINS)]
        own = bins[piece.phase]
        first = int((piece.start - begin) / width)
        for number in range(first, min(int((piece.end - begin) / width) + 1, BINS)):
            low, high = begin + number * width, begin + (number + 1) * width
            own[number][piece.kind] += max(0.0, min(piece.end, high) - max(piece.start, low))
    line: dict[str, list[list[Any]]] = {}
    for phase, own in bins.items():
        runs: list[list[Any]] = []
        for number, times in enumerate(own):
            if sum(times.values()) < width / 2:
                continue
            kind = max(times, key=lambda name: times[name])
            if runs and runs[-1][2] == kind and runs[-1][0] + runs[-1][1] == number:
                runs[-1][1] += 1
            else:
                runs.append([number, 1, kind])
        line[phase] = [[start / BINS, length / BINS, kind] for start, length, kind in runs]
    return line
