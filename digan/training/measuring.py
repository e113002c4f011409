"""Metrics with a detector at snapshots: the averaged generator against the run's own data."""

from __future__ import annotations

import os

import torch

from digan.config import TrainConfig
from digan.data.datasets import ClipPairs
from digan.metrics import (
    DetectorFile,
    Evaluator,
    MetricResult,
    NetworkFakes,
    StoreVideos,
    parse_protocol,
)
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo
from digan.processes import World


class SnapshotMetrics:
    """The metrics of a run whose names are protocols, at any length of its clips.

    The real side is the split that the run is trained on.

    Detectors are loaded at once, so that a missing file ends a run before its first step. The
    features of real clips are computed once and kept beside the store, where that can be written.

    Raises:
        DiganError: no such protocol, or a detector's file is missing or not of its kind.
    """

    def __init__(
        self,
        config: TrainConfig,
        pairs: ClipPairs,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        store = pairs.store
        self.protocols = {
            name: parse_protocol(name).change(split=pairs.split)
            for name in config.metrics
            if name != "fd-random3d"
        }
        beside = store.path.resolve().parent
        self.evaluator = Evaluator(
            StoreVideos(store),
            detectors={"i3d": DetectorFile(config.i3d), "c3d": DetectorFile(config.c3d)},
            cache=beside / f"{store.path.name}.features" if os.access(beside, os.W_OK) else None,
            device=device,
            workers=config.workers,
            progress=False,
            world=world or World(),
        )
        for protocol in self.protocols.values():
            self.evaluator.detector(protocol.detector)

    def evaluate(self, name: str, average: Generator, info: NetworkInfo) -> MetricResult:
        """One metric of the generator as it is now."""
        return self.evaluator.evaluate(NetworkFakes(average, info), self.protocols[name])
