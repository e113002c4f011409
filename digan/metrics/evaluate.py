"""A metric by a protocol: features of both sides, the value, its repeats, its floor.

Videos stream through the detector; only features are kept (2,048 x 400 numbers are 3 MB). The
features of the real side are the same for every network and lie in a cache by content.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan import __version__
from digan.data.datasets import dead_workers_named
from digan.data.progress import progress_bar
from digan.errors import DiganError
from digan.metrics.clip_sets import (
    ChosenClips,
    VideoSet,
    choose_clips,
    clip_batches,
    gather_batches,
    own_batches,
)
from digan.metrics.controls import METRIC as RANDOM3D
from digan.metrics.controls import RealReference
from digan.metrics.detectors import Detector, load_detector
from digan.metrics.fakes import Fakes, only_finite
from digan.metrics.feature_cache import read_features, write_features
from digan.metrics.frechet import frechet_distance, polynomial_mmd
from digan.metrics.inception import inception_score
from digan.metrics.protocols import EvaluationProtocol
from digan.processes import World

_CACHE_VERSION = "1"
_BATCH_FRAMES = 128  # frames sent to a detector at once


@dataclass(frozen=True)
class DetectorFile:
    """Where a detector comes from: `path` of its file, and the `sha256` that it must have."""

    path: Path | str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class MetricResult:
    """One metric of one set of fakes.

    Attributes:
        protocol: how it was computed.
        values: one a repeat; an inception score has one a split.
        floor: the same distance of one half of the real clips to the other; None where there
            are none. Halves have fewer videos, so it is a little high.
        n_real, n_fake, n_floor: videos that were used, the last in each half.
        detector, data, fakes: what is known of the three.
        notes: what a reader should know, in sentences.
        seconds: that it took.
    """

    protocol: EvaluationProtocol
    values: tuple[float, ...]
    floor: float | None
    n_real: int
    n_fake: int
    n_floor: int
    detector: Mapping[str, object]
    data: Mapping[str, object]
    fakes: Mapping[str, object]
    notes: tuple[str, ...] = ()
    label: str | None = None
    seconds: float = 0.0

    @property
    def value(self) -> float:
        """Mean over repeats or splits."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over repeats or splits, with divisor n; 0 for one."""
        return float(np.std(self.values))

    def to_json(self) -> dict[str, Any]:
        """A result line, ready for json."""
        name = self.protocol.name
        return {
            "metric": name,
            "results": {
                name: self.value,
                "deviation": self.deviation,
                "values": list(self.values),
                "floor": self.floor,
            },
            "protocol": {
                **self.protocol.to_json(),
                "class": self.label,
                "n_real_used": self.n_real,
                "n_fake_used": self.n_fake,
                "n_floor_used": self.n_floor,
                "detector_file": dict(self.detector),
                "data": dict(self.data),
                "versions": versions(),
            },
            "fakes": dict(self.fakes),
            "notes": list(self.notes),
            "seconds": self.seconds,
            "timestamp": time.time(),
        }

    def format(self) -> str:
        """One line, and one for each note."""
        spread = f" ± {self.deviation:.3f}" if len(self.values) > 1 else ""
        of = f" [{self.label}]" if self.label else ""
        line = f"{self.protocol.name}{of}  {self.value:.3f}{spread}   {self.n_fake} fakes"
        if self.n_real:
            line += f", {self.n_real} real"
        if self.floor is not None:
            line += f", floor {self.floor:.3f} ({self.n_floor} against {self.n_floor})"
        return "\n".join([line, *(f"  note: {note}" for note in self.notes)])


def versions() -> dict[str, str]:
    """Of what computes."""
    return {
        "digan": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def distance(protocol: EvaluationProtocol, real: Tensor, fake: Tensor) -> float:
    """The protocol's distance of two sets of features [N, D] and [M, D]."""
    if protocol.kind == "kvd":
        return polynomial_mmd(real, fake)
    return frechet_distance(real, fake, population=protocol.covariance == "population")


@dataclass
class Evaluator:
    """Metrics against one set of real videos, for any number of fakes.

    Attributes:
        real: the data; None for metrics without, as an inception score.
        detectors: files by kind, see `load_detector`.
        cache: folder for the features of real clips; None keeps them in memory only.
        device: where detectors run. workers: processes that read clips.
        batch: clips at once; by default 128 frames' worth.
        progress: bars on standard error.
        world: processes that share the clips; results are those of one process.
    """

    real: VideoSet | None
    detectors: Mapping[str, DetectorFile] = field(default_factory=dict)
    cache: Path | None = None
    device: torch.device | str = "cpu"
    workers: int = 0
    batch: int | None = None
    progress: bool = True
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self._loaded: dict[str, Detector] = {}
        self._memory: dict[str, Tensor] = {}
        self._judged: Fakes | None = None  # whose features are in the memory below
        self._fake_memory: dict[str, Tensor] = {}
        self._random3d: dict[str, RealReference] = {}
        self._data: dict[str, object] | None = None

    @property
    def data(self) -> dict[str, object]:
        """What results say about the real videos."""
        if self._data is None:
            self._data = {}
            if self.real is not None:
                self._data = {**self.real.to_json(), "sha256": self.real.content_sha256()}
        return self._data

    def detector(self, kind: str) -> Detector:
        """The detector of a kind, loaded once."""
        if kind not in self._loaded:
            file = self.detectors.get(kind, DetectorFile())
            self._loaded[kind] = load_detector(
                kind, file.path, sha256=file.sha256, device=self.device
            )
        return self._loaded[kind]

    @dead_workers_named()
    def evaluate(
        self, fakes: Fakes, protocol: EvaluationProtocol, label: int | None = None
    ) -> MetricResult:
        """Computes one metric.

        Args:
            fakes: the judged videos. protocol: how.
            label: class of the data, by number; None for all.

        Raises:
            DiganError: what detectors, sets and distances raise; fewer than 2 videos on a side;
                a process that reads clips died.
        """
        started = time.monotonic()
        if protocol.kind != "isv" and self.real is None:
            raise DiganError(f"{protocol.name} needs real videos to compare with")
        detector = self.detector(protocol.detector)
        notes: list[str] = list(protocol.changed)
        values: list[float] = []
        floor, n_floor, n_real, n_fake = None, 0, 0, 0
        for repeat in range(protocol.repeats):
            real = None
            if protocol.kind != "isv":
                real, chosen = self._real_features(detector, protocol, repeat, label)
                n_real = len(real)
                if repeat == 0:
                    floor, n_floor = _floor(protocol, real, chosen)
                    notes += _said_of(chosen, protocol)
            fake, said = self._fake_features(detector, fakes, protocol, repeat, label)
            notes += [note for note in said if note not in notes]
            n_fake = len(fake)
            if real is not None:
                values.append(distance(protocol, real, fake))
                continue
            splits = min(protocol.splits, n_fake)
            if splits < protocol.splits:
                notes.append(f"{splits} splits where {protocol.splits} were asked for")
            values += inception_score(fake, splits).splits
        if protocol.repeats > 1 and float(np.ptp(values)) <= 1e-9 * abs(values[0]):
            notes.append("every repeat has the same clips, so the deviation says nothing")
        return MetricResult(
            protocol, tuple(values), floor, n_real, n_fake, n_floor, detector.to_json(),
            self.data, fakes.facts, tuple(notes), self._class_name(label),
            time.monotonic() - started,
        )  # fmt: skip

    @dead_workers_named()
    def random3d(self, fakes: Fakes, protocol: EvaluationProtocol) -> dict[str, Any]:
        """`fd-random3d` with its controls, as a result line; its table is under `table`.

        The protocol's n_real is for both halves together, see `RealReference`.
        """
        if self.real is None:
            raise DiganError(f"{RANDOM3D} needs real videos to compare with")
        started = time.monotonic()
        batch = self._batch_size(protocol)
        key = json.dumps(protocol.to_json())
        chosen = self._choose(protocol, 0, None)
        notes = [*protocol.changed, *_said_of(chosen, protocol)]
        if key not in self._random3d:
            clips = clip_batches(
                self.real, chosen, protocol.frames, protocol.stride, batch=batch,
                workers=self.workers,
            )  # fmt: skip
            shown = self._shown(clips, len(chosen.picks), "real")
            self._random3d[key] = RealReference.from_clips(
                shown, device=self.device, data={"store": self.real.path.name, **_flat(protocol)}
            )
        made = fakes.clips(protocol, 0, self.real, None, batch, self.world)
        own = sum(map(len, own_batches(made.count, batch, self.world)))
        shown = self._shown(made.batches, own, "fakes")
        result = self._random3d[key].evaluate(shown, self.world)
        line = result.to_json()
        return {
            **line,
            "fakes": dict(fakes.facts),
            "notes": notes + made.notes,
            "seconds": time.monotonic() - started,
            "timestamp": time.time(),
            "table": result.format(),
        }

    def _class_name(self, label: int | None) -> str | None:
        return None if label is None or self.real is None else self.real.classes[label]

    def _batch_size(self, protocol: EvaluationProtocol) -> int:
        return self.batch or max(1, _BATCH_FRAMES // protocol.frames)

    def _choose(self, protocol: EvaluationProtocol, repeat: int, label: int | None) -> ChosenClips:
        assert self.real is not None
        return choose_clips(
            self.real,
            span=protocol.span,
            count=protocol.n_real,
            rule=protocol.clip_rule,
            seed=protocol.seed,
            repeat=repeat,
            split=protocol.split,
            label=label,
        )

    def _real_features(
        self, detector: Detector, protocol: EvaluationProtocol, repeat: int, label: int | None
    ) -> tuple[Tensor, ChosenClips]:
        drawn = self._choose(protocol, repeat, label)
        chosen = drawn.in_order()  # small data give the same clips in every repeat
        about = {
            "version": _CACHE_VERSION,
            "data": self.data["sha256"],
            "detector": detector.to_json() | {"file": ""},
            "picks": hashlib.sha256(np.array(chosen.picks).tobytes()).hexdigest(),
            "frames": protocol.frames,
            "stride": protocol.stride,
        }

        def compute() -> Tensor:
            assert self.real is not None
            batch = self._batch_size(protocol)
            clips = clip_batches(
                self.real, chosen, protocol.frames, protocol.stride, batch=batch,
                workers=self.workers, world=self.world,
            )  # fmt: skip
            return self._extract(detector, clips, len(chosen.picks), batch, "real")

        found = self._cached(about, compute, len(chosen.picks))
        places = {pick: place for place, pick in enumerate(chosen.picks)}
        return found[[places[pick] for pick in drawn.picks]], drawn

    def _fake_features(
        self,
        detector: Detector,
        fakes: Fakes,
        protocol: EvaluationProtocol,
        repeat: int,
        label: int | None,
    ) -> tuple[Tensor, list[str]]:
        # Two metrics of one kind of clip, as FVD and KVD, share their features.
        plain = replace(protocol, name="", changed=(), kind="fvd", covariance="unbiased", splits=1,
                        repeats=1, n_real=2)  # fmt: skip
        batch = self._batch_size(protocol)
        made = fakes.clips(protocol, repeat, self.real, label, batch, self.world)
        key = json.dumps([replace(plain, seed=0).to_json(), made.key, detector.sha256])
        if self._judged is not fakes:
            self._judged, self._fake_memory = fakes, {}
        if key not in self._fake_memory:
            self._fake_memory[key] = self._extract(
                detector, made.batches, made.count, batch, "fake"
            )
        return self._fake_memory[key], made.notes

    def _shown(self, clips: Iterator[Tensor], count: int, what: str) -> Iterator[Tensor]:
        with progress_bar(what, count, "video", self.progress and self.world.is_first) as bar:
            for videos in clips:
                yield videos
                bar.update(len(videos))

    def _extract(
        self, detector: Detector, clips: Iterator[Tensor], count: int, batch: int, what: str
    ) -> Tensor:
        own = own_batches(count, batch, self.world)
        shown = self._shown(clips, sum(map(len, own)), f"{detector.kind} {what}")
        found = [
            only_finite(detector(videos), places.start, what)
            for places, videos in zip(own, shown, strict=True)
        ]
        return torch.cat(gather_batches(found, self.world))

    def _cached(
        self, about: Mapping[str, Any], compute: Callable[[], Tensor], count: int
    ) -> Tensor:
        text = json.dumps(about, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        if key in self._memory:
            return self._memory[key]
        file = None if self.cache is None else self.cache / f"{key}.safetensors"
        found = None if file is None else read_features(file, text, count)
        # They compute together or not at all, also where not all see the first one's files.
        if not all(self.world.gather(found is not None)):
            found = compute()
            if file is not None and self.world.is_first:
                write_features(file, found, text)
        assert found is not None
        self._memory[key] = found
        return found


def _floor(
    protocol: EvaluationProtocol, real: Tensor, chosen: ChosenClips
) -> tuple[float | None, int]:
    """Real against real, no video in both halves; None where a half has fewer than 2 clips."""
    first, second = chosen.halves()
    n = min(len(first), len(second))
    if n < 2:
        return None, 0
    return distance(protocol, real[first[:n]], real[second[:n]]), n


def _said_of(chosen: ChosenClips, protocol: EvaluationProtocol) -> list[str]:
    return chosen.shortfalls(protocol.n_real, protocol.span, "real clips", "real videos")


def _flat(protocol: EvaluationProtocol) -> dict[str, str | int | float | bool | None]:
    """What of a protocol `fd-random3d` notes beside its own."""
    return {
        "split": protocol.split or "all",
        "stride": protocol.stride,
        "clip_rule": protocol.clip_rule,
        "rounding": protocol.rounding,
        "clip_seed": protocol.seed,
    }
