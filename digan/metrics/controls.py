"""`fd-random3d`, always beside the controls that say what its value means.

A random network's Fréchet distance falls from its start as soon as colours are about right,
so a fall alone proves little. Next to it stand the same distance for videos whose faults are
known, and two figures of diversity. A generator that has learned something is below
`mean_frame` and `frozen`; `floor` is the best that this many samples can show.

The real clips are dealt into two halves by turns. The even ones are the reference of every
distance; all controls are made from the odd ones, so that no clip meets its own copy.
Neighbours that overlap in time would make the halves too much alike and the floor too low:
pass clips of different videos, or in shuffled order.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from digan import __version__
from digan.errors import DiganError
from digan.metrics.clip_sets import gather_batches
from digan.metrics.diversity import PixelStatistics
from digan.metrics.features import Clips, Random3d, video_batches
from digan.metrics.frechet import FeatureStatistics, frechet_distance
from digan.processes import World
from digan.randomness import sample_rng

METRIC = "fd-random3d"
_SHUFFLE_STREAM = "metrics shuffled control"


def freeze(videos: Tensor) -> Tensor:
    """Every video held at its frame 0, [B, T, H, W, 3] of the same shape and dtype."""
    return videos[:, :1].expand_as(videos)


def shuffle_in_time(videos: Tensor, seed: int, first_index: int = 0) -> Tensor:
    """The frames of every video [B, T, H, W, 3] in random order, never in the true one.

    The order is a function of `seed` and of the video's number, first_index + its place.
    """
    frames = videos.shape[1]
    if frames < 2:
        raise DiganError(f"shuffling in time needs at least 2 frames, got {frames}")
    shuffled = torch.empty_like(videos)
    still = np.arange(frames)
    for place, video in enumerate(videos):
        rng = sample_rng(seed, _SHUFFLE_STREAM, first_index + place)
        order = still
        while np.array_equal(order, still):
            order = rng.random(frames).argsort(kind="stable")
        shuffled[place] = video[torch.from_numpy(order).to(videos.device)]
    return shuffled


@dataclass(frozen=True)
class ControlReport:
    """What is known of the real clips alone.

    Attributes:
        floor: distance of the real control half to the real reference half.
        mean_frame: distance of the data's mean frame held still.
        frozen: distance of the control half, each clip held at its frame 0.
        shuffled: distance of the control half, the frames of each clip in random order.
        pairwise_distance: root mean square difference of two real clips, grey levels.
        frame_change: mean absolute change from frame to frame, grey levels.
    """

    floor: float
    mean_frame: float
    frozen: float
    shuffled: float
    pairwise_distance: float
    frame_change: float


@dataclass(frozen=True)
class Protocol:
    """All that decides the value: two results compare only when these agree.

    Attributes:
        frames: T.
        resolution: (H, W).
        width: number of features.
        seed: of the network's weights and of the shuffled control.
        network_sha256: of the network's weights.
        real_sha256: of the real clips' bytes in their order.
        n_real: all real clips.
        n_reference: the half of them that everything is held against.
        n_control: the other half, of which floor, frozen and shuffled are made.
        versions: of digan, torch, numpy and python.
        data: what only the caller knows: split, stride, fps, resize filter, rounding, ...
    """

    frames: int
    resolution: tuple[int, int]
    width: int
    seed: int
    network_sha256: str
    real_sha256: str
    n_real: int
    n_reference: int
    n_control: int
    versions: Mapping[str, str]
    data: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


def _ratio(fake: float, real: float) -> float:
    """fake / real; NaN where the data have none of it."""
    return fake / real if real > 0 else math.nan


def _json_number(value: float) -> float | None:
    """JSON has no NaN: it becomes null."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Random3dResult:
    """`fd-random3d` of one set of fakes, with controls, diversity and protocol.

    Attributes:
        fd: distance of the fakes to the reference half of the real clips.
        pairwise_distance: root mean square difference of two fakes, grey levels.
        frame_change: their mean absolute change from frame to frame, grey levels.
        n_fake: number of fakes; the controls are comparable when it is `n_control`.
        controls: the same figures for real clips and known faults.
        protocol: how it was measured.
    """

    fd: float
    pairwise_distance: float
    frame_change: float
    n_fake: int
    controls: ControlReport
    protocol: Protocol

    @property
    def floor(self) -> float:
        """`ControlReport.floor`."""
        return self.controls.floor

    @property
    def mean_frame(self) -> float:
        """`ControlReport.mean_frame`."""
        return self.controls.mean_frame

    @property
    def frozen(self) -> float:
        """`ControlReport.frozen`."""
        return self.controls.frozen

    @property
    def shuffled(self) -> float:
        """`ControlReport.shuffled`."""
        return self.controls.shuffled

    @property
    def pairwise_ratio(self) -> float:
        """Pairwise distance of the fakes over that of the data; 1 is right, 0 is one video."""
        return _ratio(self.pairwise_distance, self.controls.pairwise_distance)

    @property
    def change_ratio(self) -> float:
        """Change per frame of the fakes over that of the data; 1 is right, 0 is stills."""
        return _ratio(self.frame_change, self.controls.frame_change)

    def to_json(self) -> dict[str, object]:
        """A result line: `metric`, `results` (all numbers) and `protocol`, ready for json."""
        controls, protocol = self.controls, self.protocol
        return {
            "metric": METRIC,
            "results": {
                METRIC: self.fd,
                "floor": controls.floor,
                "mean_frame": controls.mean_frame,
                "frozen": controls.frozen,
                "shuffled": controls.shuffled,
                "pairwise_distance_fake": self.pairwise_distance,
                "pairwise_distance_real": controls.pairwise_distance,
                "pairwise_ratio": _json_number(self.pairwise_ratio),
                "frame_change_fake": self.frame_change,
                "frame_change_real": controls.frame_change,
                "change_ratio": _json_number(self.change_ratio),
            },
            "protocol": {
                **protocol.data,
                "frames": protocol.frames,
                "resolution": list(protocol.resolution),
                "width": protocol.width,
                "seed": protocol.seed,
                "network_sha256": protocol.network_sha256,
                "real_sha256": protocol.real_sha256,
                "n_real": protocol.n_real,
                "n_reference": protocol.n_reference,
                "n_control": protocol.n_control,
                "n_fake": self.n_fake,
                "versions": dict(protocol.versions),
            },
        }

    def format(self) -> str:
        """A table of a few lines, the fakes first, then the controls from best to worst."""
        controls, protocol = self.controls, self.protocol
        height, width = protocol.resolution
        rows = sorted(
            [
                ("floor: real against real", controls.floor),
                ("real, shuffled in time", controls.shuffled),
                ("real, frozen at frame 0", controls.frozen),
                ("mean frame held still", controls.mean_frame),
            ],
            key=lambda row: row[1],
        )
        lines = [
            f"{METRIC} (not FVD), {self.n_fake} fakes against {protocol.n_reference} real clips,"
            f" {protocol.frames} frames of {height}x{width}"
        ]
        lines += [f"  {name:<26}{value:>10.3f}" for name, value in [("fakes", self.fd), *rows]]
        for name, ratio, fake, real in (
            (
                "distance between videos",
                self.pairwise_ratio,
                self.pairwise_distance,
                controls.pairwise_distance,
            ),
            ("change per frame", self.change_ratio, self.frame_change, controls.frame_change),
        ):
            share = f"{ratio:>10.3f}" if math.isfinite(ratio) else f"{'none':>10}"
            lines.append(f"  {name:<26}{share} of the data's ({fake:.2f} / {real:.2f} of 255)")
        return "\n".join(lines)


class RealReference:
    """The real side of `fd-random3d` with its controls, made once for many sets of fakes.

    Build it with `from_clips`, then call `evaluate` for each set of fakes.

    Attributes:
        network: the feature network.
        statistics: of the features of the reference half.
        controls: the controls.
        protocol: how it was measured.
    """

    def __init__(
        self,
        network: Random3d,
        statistics: FeatureStatistics,
        controls: ControlReport,
        protocol: Protocol,
    ) -> None:
        self.network = network
        self.statistics = statistics
        self.controls = controls
        self.protocol = protocol

    @classmethod
    def from_clips(
        cls,
        real: Clips,
        *,
        width: int = 64,
        seed: int = 0,
        device: torch.device | str = "cpu",
        data: Mapping[str, str | int | float | bool | None] | None = None,
    ) -> RealReference:
        """Reads all real clips once.

        Args:
            real: uint8 [N, T, H, W, 3] or an iterable of such batches, N >= 4 (1,024 give
                512 on each side), T >= 2, H and W multiples of 16.
            width: number of features, see `Random3d`.
            seed: of the network's weights and of the shuffled control.
            device: where the features are computed.
            data: facts about the clips for the protocol: split, stride, fps, resize, ...

        Raises:
            DiganError: wrong dtype, shape, width or seed, clips of unequal shape, or fewer
                than 4 clips.
        """
        network = Random3d(width, seed).to(device)
        reference, control, frozen, shuffled = (FeatureStatistics() for _ in range(4))
        pixels = PixelStatistics()
        digest = hashlib.sha256()
        for videos in video_batches(real):
            start = pixels.count
            pixels.update(videos)
            digest.update(videos.cpu().numpy().tobytes())
            # Clip i is of the reference half for even i, of the control half for odd i.
            first_odd = 1 - start % 2
            odd = videos[first_odd::2]
            reference.update(network(videos[start % 2 :: 2]))
            control.update(network(odd))
            frozen.update(network(freeze(odd)))
            shuffled.update(network(shuffle_in_time(odd, seed, (start + first_odd) // 2)))
        if pixels.count < 4:
            raise DiganError(f"{METRIC} needs at least 4 real clips, got {pixels.count}")
        frames, height, columns = pixels.shape
        held = pixels.mean_frame().expand(1, frames, height, columns, 3)
        feature = network(held)
        mean_frame = FeatureStatistics().update(feature).update(feature)  # it never varies
        controls = ControlReport(
            floor=frechet_distance(reference, control),
            mean_frame=frechet_distance(reference, mean_frame),
            frozen=frechet_distance(reference, frozen),
            shuffled=frechet_distance(reference, shuffled),
            pairwise_distance=pixels.mean_pairwise_distance(),
            frame_change=pixels.mean_frame_change(),
        )
        protocol = Protocol(
            frames=frames,
            resolution=(height, columns),
            width=width,
            seed=seed,
            network_sha256=network.fingerprint(),
            real_sha256=digest.hexdigest(),
            n_real=pixels.count,
            n_reference=reference.count,
            n_control=control.count,
            versions={
                "digan": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            data=dict(data or {}),
        )
        return cls(network, reference, controls, protocol)

    def evaluate(self, fake: Clips, world: World | None = None) -> Random3dResult:
        """Measures one set of fakes.

        Args:
            fake: uint8 [M, T, H, W, 3] or an iterable of such batches, M >= 2, of the real
                clips' T, H, W. For a fair look at the controls M is `n_control`.
            world: processes of which each brings its share of the batches, see `own_batches`.

        Raises:
            DiganError: wrong dtype or shape, or fewer than 2 fakes.
        """
        found: list[Tensor] = []
        pixels = PixelStatistics()
        expected = (self.protocol.frames, *self.protocol.resolution)
        for videos in video_batches(fake):
            if tuple(videos.shape[1:4]) != expected:
                raise DiganError(
                    f"fakes must have the real clips' frames, height and width {list(expected)},"
                    f" got {list(videos.shape[1:4])}"
                )
            pixels.update(videos)
            found.append(self.network(videos).cpu())
        features = FeatureStatistics()
        for rows in gather_batches(found, world):
            features.update(rows)
        pixels = pixels.of_all(world or World())
        if pixels.count < 2:
            raise DiganError(f"{METRIC} needs at least 2 fakes, got {pixels.count}")
        return Random3dResult(
            fd=frechet_distance(self.statistics, features),
            pairwise_distance=pixels.mean_pairwise_distance(),
            frame_change=pixels.mean_frame_change(),
            n_fake=pixels.count,
            controls=self.controls,
            protocol=self.protocol,
        )


def evaluate_random3d(
    real: Clips,
    fake: Clips,
    *,
    width: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    data: Mapping[str, str | int | float | bool | None] | None = None,
) -> Random3dResult:
    """`RealReference.from_clips(real, ...)` and its `evaluate(fake)` in one call."""
    reference = RealReference.from_clips(real, width=width, seed=seed, device=device, data=data)
    return reference.evaluate(fake)
