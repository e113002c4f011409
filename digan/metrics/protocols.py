"""Protocols by name: everything that decides an FVD, a KVD or an inception score.

    digan-fvd, digan-kvd             the original DIGAN script
    fvd2048_16f, fvd2048_128f        StyleGAN-V; any other N, frames and stride likewise
    fvd2048_128f_subsample8f         16 frames, every 8th of a window of 128
    kvd2048_16f                      the kernel distance of the same features
    isv2048_ucf                      inception score of C3D; any other N likewise
    cdfvd2048_16f                    FVD of VideoMAE features, which are less biased to content
    fd-random3d                      see `digan.metrics.controls`

Two numbers compare only if their protocols agree, hence every result line holds its own whole.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from digan.config import METRIC_NAME
from digan.errors import DiganError

Kind: TypeAlias = Literal["fvd", "kvd", "isv"]
"""Fréchet distance, kernel distance, inception score."""

ClipRule: TypeAlias = Literal["windows", "per-video", "start"]
"""Which windows of videos are clips, see `EvaluationProtocol`."""

Rounding: TypeAlias = Literal["round", "truncate"]
"""How generated pixels become 8 bits."""

MOST_VIDEOS = 1_000_000
MOST_FRAMES = 65_536
_SUBSAMPLED = re.compile(r"(fvd|kvd|cdfvd)(\d+)_(\d+)f(?:_subsample(\d+)f)?")
_INCEPTION = re.compile(r"isv(\d+)_ucf")


@dataclass(frozen=True)
class EvaluationProtocol:
    """How one metric is computed.

    Attributes:
        name: of the metric.
        kind: Fréchet distance, kernel distance (unbiased MMD^2) or inception score.
        detector: which network gives the features: `i3d`, `c3d` or `videomae`.
        n_real, n_fake: videos asked for on each side; real ones are not needed by `isv`.
        frames: T of a clip.
        stride: every n-th frame of a window is taken.
        split: of the data; None for the protocol's own choice, which is all of a store.
        clip_rule: which windows of the real videos are clips. `windows`: any window of any
            video, so long videos weigh more; `per-video`: one window a video at a random offset.
        fake_clip_rule: the same for fakes that are files.
        rounding: of generated pixels to 8 bits, (x + 1) * 127.5 rounded or cut.
        resize: what happens to frames before the detector.
        covariance: divisor of the covariance, `unbiased` for N - 1 or `population` for N.
        repeats: runs with new seeds and new clips; the result is their mean.
        splits: of an inception score.
        seed: of the choice of clips and the first seed of the fakes.
        mirror: whether real clips are flipped; never so far.
        changed: what a caller changed of the named protocol, in words.
    """

    name: str
    kind: Kind
    detector: str
    n_real: int
    n_fake: int
    frames: int = 16
    stride: int = 1
    split: str | None = None
    clip_rule: ClipRule = "per-video"
    fake_clip_rule: ClipRule = "start"
    rounding: Rounding = "round"
    resize: str = "of the detector's file"
    covariance: Literal["unbiased", "population"] = "unbiased"
    repeats: int = 1
    splits: int = 1
    seed: int = 0
    mirror: bool = False
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in (
            ("n_real", 0 if self.kind == "isv" else 2, MOST_VIDEOS),
            ("n_fake", 2, MOST_VIDEOS),
            ("frames", 1, MOST_FRAMES),
            ("stride", 1, MOST_FRAMES),
            ("repeats", 1, 1000),
            ("splits", 1, self.n_fake),
            ("seed", 0, (1 << 63) - 1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise DiganError(
                    f"{name} of the protocol {self.name} must be from {least} to {most}, "
                    f"got {value}"
                )

    @property
    def span(self) -> int:
        """Frames that a video must have for a clip: T times the stride, as in StyleGAN-V."""
        return self.frames * self.stride

    def to_json(self) -> dict[str, object]:
        """All fields, ready for json."""
        return dataclasses.asdict(self) | {"changed": list(self.changed)}

    def change(
        self,
        *,
        videos: int | None = None,
        repeats: int | None = None,
        split: str | None = None,
        seed: int | None = None,
    ) -> EvaluationProtocol:
        """The protocol with other settings; a number or a repeat that differs is noted.

        Args:
            videos: on each side. repeats: see the class.
            split: of the data. seed: see the class.
        """
        new: dict[str, object] = {}
        notes = list(self.changed)
        if videos is not None and videos != self.n_fake:
            new |= {"n_fake": videos, "n_real": videos * self.n_real // self.n_fake}
            notes.append(f"{videos} videos instead of {self.n_fake}")
            if self.splits > videos:
                new["splits"] = 1
                notes.append(f"1 split instead of {self.splits}")
        if repeats is not None and repeats != self.repeats:
            new["repeats"] = repeats
            notes.append(f"{repeats} repeats instead of {self.repeats}")
        if split is not None:
            new["split"] = split
        if seed is not None:
            new["seed"] = seed
        return dataclasses.replace(self, changed=tuple(notes), **new)  # type: ignore[arg-type]


_I3D_RESIZE = (
    "shorter side to 224, bilinear without antialias, centre square, x / 127.5 - 1, for an I3D "
    "state dict; of the detector's file for TorchScript"
)
# The original script's own: logits, all windows of the data as clips, 10 repeats from seed 42.
_ORIGINAL = {
    "detector": "i3d", "n_real": 2048, "n_fake": 2048, "clip_rule": "windows",
    "rounding": "truncate", "resize": _I3D_RESIZE, "repeats": 10, "seed": 42,
}  # fmt: skip


def parse_protocol(name: str) -> EvaluationProtocol:
    """The protocol of a name, see the module.

    `fvdN_Ff_subsampleSf` takes F / S frames, every S-th of a window of F, on N videos.

    Raises:
        DiganError: no such protocol; says what the names look like.
    """
    if name in ("digan-fvd", "digan-kvd"):
        kind = "fvd" if name == "digan-fvd" else "kvd"
        return EvaluationProtocol(name=name, kind=kind, **_ORIGINAL)  # type: ignore[arg-type]
    if match := _INCEPTION.fullmatch(name):
        count = int(match[1])
        return EvaluationProtocol(
            name=name, kind="isv", detector="c3d", n_real=0, n_fake=count, splits=min(10, count)
        )
    match = _SUBSAMPLED.fullmatch(name)
    if match is None or not METRIC_NAME.fullmatch(name):
        raise DiganError(
            "a metric must be digan-fvd, digan-kvd, fvdN_Ff, kvdN_Ff or cdfvdN_Ff (also with "
            f"_subsampleSf), isvN_ucf or fd-random3d, as fvd2048_16f, got {name!r}"
        )
    count, window, stride = int(match[2]), int(match[3]), int(match[4] or 1)
    if stride < 1 or window % stride:
        raise DiganError(
            f"the frames of {name} must be a multiple of its subsampling, got {window} and {stride}"
        )
    kernel = match[1] == "kvd"
    return EvaluationProtocol(
        name=name,
        kind="kvd" if kernel else "fvd",
        detector="videomae" if match[1] == "cdfvd" else "i3d",
        n_real=count,
        n_fake=count,
        frames=window // stride,
        stride=stride,
        resize="of the detector's file" if match[1] == "cdfvd" else _I3D_RESIZE,
        # StyleGAN-V divides by N; a kernel distance has no covariance.
        covariance="unbiased" if kernel else "population",
    )


def parse_metrics(text: str) -> tuple[str, ...]:
    """Names separated by commas, each checked, none twice.

    Raises:
        DiganError: no name, or a name that is no protocol's.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise DiganError("metrics must be at least one name, got none")
    for name in names:
        if name != "fd-random3d":
            parse_protocol(name)
    return names


def random3d_protocol() -> EvaluationProtocol:
    """The protocol of `fd-random3d`: 512 fakes, and 1,024 real clips for both halves."""
    return EvaluationProtocol(
        name="fd-random3d",
        kind="fvd",
        detector="random3d",
        n_real=1024,
        n_fake=512,
        clip_rule="windows",
        resize="none",
    )
