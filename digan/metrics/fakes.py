"""Where the judged videos come from: a network, or a folder or store of videos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid, frame_times
from digan.metrics.clip_sets import VideoSet, choose_clips, clip_batches, own_batches
from digan.metrics.protocols import EvaluationProtocol, Rounding
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo
from digan.processes import World
from digan.randomness import sample_rng
from digan.synthesis import chunk_frames, to_uint8, write_videos


@dataclass
class FakeClips:
    """Clips of one repeat.

    Attributes:
        count: how many. batches: them, uint8 [n, T, H, W, 3].
        key: equal for equal clips of one source, but for frames, stride and rounding.
        notes: what should be said.
    """

    count: int
    batches: Iterator[Tensor]
    key: str
    notes: list[str] = field(default_factory=list)


class Fakes(ABC):
    """A source of judged videos; `facts` is what a result says about it."""

    facts: dict[str, Any]

    @abstractmethod
    def clips(
        self,
        protocol: EvaluationProtocol,
        repeat: int,
        real: VideoSet | None,
        label: int | None,
        batch: int,
        world: World | None = None,
    ) -> FakeClips:
        """The clips of one repeat.

        Args:
            protocol: says how many, and which frames. repeat: from 0.
            real: the data, whose classes a conditional network draws.
            label: class of the data, by number; None for all.
            batch: most clips at once.
            world: processes that share the batches, see `own_batches`.
        """


def to_levels(frames: Tensor, rounding: Rounding) -> Tensor:
    """[-1, 1] to uint8: (x + 1) * 127.5, rounded, or cut as (x + 1) / 2 * 255; clamped."""
    if rounding == "round":
        return to_uint8(frames)
    return ((frames.clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8)


class NetworkFakes(Fakes):
    """Videos of a generator: repeat r is made of seeds seed + r n ... seed + (r + 1) n - 1.

    Its frames are at training speed from t = 0, beyond the training clip if the protocol's
    window is longer. A conditional network draws its classes as the data have them, where both
    have classes of the same names, else takes them in turn.
    """

    def __init__(
        self, generator: Generator, info: NetworkInfo, facts: dict[str, Any] | None = None
    ) -> None:
        self.generator, self.info = generator, info
        self.facts = {
            "kind": "network",
            "clip_frames": info.clip_frames,
            "kimg": info.kimg,
            "resolution": info.generator.resolution,
            **(facts or {}),
        }

    def clips(
        self,
        protocol: EvaluationProtocol,
        repeat: int,
        real: VideoSet | None,
        label: int | None,
        batch: int,
        world: World | None = None,
    ) -> FakeClips:
        """See `Fakes`."""
        count = protocol.n_fake
        first = protocol.seed + repeat * count
        seeds = range(first, first + count)
        labels, notes = self._labels(seeds, real, label, protocol)
        t = frame_times(protocol.span, self.info.clip_frames)[:: protocol.stride]
        found = self._render(seeds, labels, t, protocol.rounding, own_batches(count, batch, world))
        return FakeClips(count, found, f"{first} {count} {labels}", notes)

    def _labels(
        self,
        seeds: Sequence[int],
        real: VideoSet | None,
        label: int | None,
        protocol: EvaluationProtocol,
    ) -> tuple[list[int] | None, list[str]]:
        known = self.info.generator.num_classes
        if not known:
            if label is None:
                return None, []
            raise DiganError("a metric per class needs a class-conditional network")
        own = self.info.classes
        shared = real is not None and bool(own) and set(real.classes) <= set(own)
        if label is not None:
            if not shared or real is None:
                raise DiganError("a metric per class needs data with the network's classes")
            return [own.index(real.classes[label])] * len(seeds), []
        if not shared or real is None:
            return [seed % known for seed in seeds], ["classes of the fakes were taken in turn"]
        wanted = real.of(protocol.split) & (real.labels >= 0)
        if not wanted.any():
            raise DiganError(f"{real.path} has no videos with a class, which the fakes need")
        pool = real.labels[wanted]
        found = []
        for seed in seeds:
            u = sample_rng(protocol.seed, "metric classes", seed).random()
            found.append(own.index(real.classes[int(pool[min(int(u * len(pool)), len(pool) - 1)])]))
        return found, []

    @torch.no_grad()
    def _render(
        self,
        seeds: Sequence[int],
        labels: list[int] | None,
        t: Tensor,
        rounding: Rounding,
        batches: Sequence[range],
    ) -> Iterator[Tensor]:
        for places in batches:
            own = seeds[places.start : places.stop]
            chosen = None if labels is None else labels[places.start : places.stop]
            inr = write_videos(self.generator, own, labels=chosen)
            chunk = chunk_frames(
                len(own), self.info.generator.resolution, self.generator.w_avg.device
            )
            pieces = []
            for piece in torch.split(t, chunk):
                pieces.append(to_levels(inr.render(SpaceTimeGrid(piece)), rounding).cpu())
            yield torch.cat(pieces, dim=1)


class FileFakes(Fakes):
    """Videos of a folder or store: by the protocol, from the first frame of each."""

    def __init__(self, videos: VideoSet, workers: int = 0) -> None:
        self.videos, self.workers = videos, workers
        self.facts = {**videos.to_json(), "sha256": videos.content_sha256()}

    def clips(
        self,
        protocol: EvaluationProtocol,
        repeat: int,
        real: VideoSet | None,
        label: int | None,
        batch: int,
        world: World | None = None,
    ) -> FakeClips:
        """See `Fakes`."""
        own = None
        if label is not None:
            name = real.classes[label] if real is not None else ""
            if name not in self.videos.classes:
                raise DiganError(f"{self.videos.path} has no videos of the class {name!r}")
            own = self.videos.classes.index(name)
        chosen = choose_clips(
            self.videos,
            span=protocol.span,
            count=protocol.n_fake,
            rule=protocol.fake_clip_rule,
            seed=protocol.seed,
            repeat=repeat,
            label=own,
        ).in_order()
        notes = chosen.shortfalls(protocol.n_fake, protocol.span, "fakes", "fakes")
        found = clip_batches(
            self.videos, chosen, protocol.frames, protocol.stride, batch=batch,
            workers=self.workers, world=world,
        )  # fmt: skip
        return FakeClips(len(chosen.picks), found, str(chosen.picks), notes)


def only_finite(features: Tensor, first: int, what: str) -> Tensor:
    """The features [n, D] of videos `first` and on; DiganError where they are not finite."""
    bad = ~torch.isfinite(features).all(dim=1)
    if bool(bad.any()):
        place = first + int(np.flatnonzero(bad.numpy())[0])
        raise DiganError(
            f"features must be finite, got NaN or infinity for {what} video number {place}"
        )
    return features
