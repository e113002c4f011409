"""The clip to invert: its frames, their times, and which of them the optimisation may see."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digan.data.images import read_image, square
from digan.data.sources import pictures_in
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.grid import frame_times
from digan.randomness import sample_rng

Frames = NDArray[np.uint8]
_ORDINALS = {2: "nd", 3: "rd"}


@dataclass(frozen=True)
class Clip:
    """A clip, and what of it is observed.

    Attributes:
        frames: uint8 [T, S, S, 3].
        t: their times in clip units, float64 [T], increasing.
        observed: which frames the optimisation sees, bool [T]; the others are held out, and
            measure what is predicted.
        fps: frames per second; 0 if unknown.
        source: where it comes from, in words.
        given: what is seen of the frames in their place, uint8 as they, where noise was added.

    Raises:
        ValueError: shapes that do not fit.
        DiganError: fewer than 2 frames, or none observed.
    """

    frames: Frames
    t: Tensor
    observed: NDArray[np.bool_]
    fps: float = 0.0
    source: str = "a clip"
    given: Frames | None = None

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise ValueError(
                f"frames must be uint8 [T, S, S, 3], "
                f"got {self.frames.dtype} {list(self.frames.shape)}"
            )
        if self.t.shape != (count,) or self.observed.shape != (count,):
            raise ValueError(
                f"t and observed must be [{count}], "
                f"got {list(self.t.shape)} and {list(self.observed.shape)}"
            )
        if self.given is not None and self.given.shape != self.frames.shape:
            raise ValueError(
                f"given must be {list(self.frames.shape)}, got {list(self.given.shape)}"
            )
        if count < 2:
            raise DiganError(f"a clip must have at least 2 frames, {self.source} has {count}")
        if not self.observed.any():
            raise DiganError(f"at least one frame of {self.source} must be observed, got none")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seen(self) -> Frames:
        """What the optimisation sees: the frames, or the frames with noise."""
        return self.frames if self.given is None else self.given

    @property
    def indices(self) -> list[int]:
        """Numbers of the observed frames."""
        return [int(i) for i in np.flatnonzero(self.observed)]


def read_clip(
    path: Path,
    resolution: int,
    clip_frames: int,
    *,
    start: int = 0,
    stride: int = 1,
    frames: int | None = None,
    observe: str | None = None,
    t_start: float = 0.0,
    time_step: float | None = None,
) -> Clip:
    """A clip of a video file, a GIF or a folder of pictures.

    Every frame is cut to its centre square and resized with antialias.

    Args:
        path: a file or a folder.
        resolution: S, the network's.
        clip_frames: N, frames of a training clip.
        start: the first frame used. stride: every how many-th is used.
        frames: how many; None for N, or fewer if there are no more.
        observe: numbers of the frames that are seen, within the clip, see `parse_frames`; None
            for all.
        t_start: time of the first. time_step: between two; None for training speed, 1/(N-1).

    Raises:
        DiganError: nothing to read, too few frames, numbers outside the clip.
    """
    for name, value, least in (("start", start, 0), ("stride", stride, 1)):
        if value < least:
            raise DiganError(f"{name} must be at least {least}, got {value}")
    if frames is not None and frames < 2:
        raise DiganError(f"frames must be at least 2, got {frames}")
    if time_step is not None and not (math.isfinite(time_step) and time_step > 0):
        raise DiganError(f"the time step must be a positive number, got {time_step}")
    if not math.isfinite(t_start):
        raise DiganError(f"the time of the first frame must be finite, got {t_start}")
    wanted = clip_frames if frames is None else frames
    pictures, fps = _read(path, resolution, start, stride, wanted)
    which = f" from {start} on" if start else ""
    which += f", every {stride}{_ORDINALS.get(stride, 'th')}" if stride > 1 else ""
    if len(pictures) < 2:
        raise DiganError(f"a clip must have at least 2 frames, {path} has {len(pictures)}{which}")
    if frames is not None and len(pictures) < frames:
        raise DiganError(f"frames must be at most {len(pictures)} for {path}{which}, got {frames}")
    observed = np.ones(len(pictures), bool)
    if observe is not None:
        observed[:] = False
        observed[parse_frames(observe, len(pictures))] = True
    t = frame_times(len(pictures), clip_frames, t_start=t_start)
    if time_step is not None:
        t = t_start + time_step * torch.arange(len(pictures), dtype=torch.float64)
    return Clip(np.stack(pictures), t, observed, fps / stride, str(path))


def _read(
    path: Path, resolution: int, start: int, stride: int, wanted: int
) -> tuple[list[Frames], float]:
    """The pictures that are wanted, as many as there are, and the rate of all in the source."""
    if not path.exists():
        raise DiganError(f"the video {path} does not exist")
    if path.is_dir():
        names = pictures_in(path)
        if not names:
            raise DiganError(f"the folder {path} holds no pictures")
        chosen = names[start::stride][:wanted]
        return [square(read_image(path / name), resolution) for name in chosen], 0.0
    decoding = decode_frames(path)
    try:
        found: list[Frames] = []
        for frame in decoding:
            if frame.index >= start and (frame.index - start) % stride == 0:
                found.append(square(frame.image, resolution))
            if len(found) == wanted:
                break
        return found, decoding.info.fps
    finally:
        decoding.close()


_PART = re.compile(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*")


def parse_frames(text: str, count: int) -> list[int]:
    """Numbers of frames from 0-7, 0-14:2 (every second) or 0,3,9-12; ranges are inclusive.

    Raises:
        DiganError: not of that form, reversed, or outside the clip's `count` frames.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or match[3] == "0":
            raise DiganError(f"observe must look like 0-7, 0-14:2 or 0,3,9-12, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise DiganError(f"observe must not be reversed, got {part.strip()!r}")
        if last >= count:
            raise DiganError(
                f"observe must be frames of the clip, 0 to {count - 1}, got {part.strip()!r}"
            )
        numbers += range(first, last + 1, int(match[3] or 1))
    return sorted(set(numbers))


def noisy(clip: Clip, sigma: float, seed: int) -> Clip:
    """The clip, seen through Gaussian noise; its own frames stay as the truth.

    Args:
        clip: any. sigma: standard deviation in levels of 255. seed: of the noise.

    Raises:
        DiganError: sigma is negative or not finite.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise DiganError(f"noise must be 0 or more levels of 255, got {sigma}")
    if sigma == 0:
        return clip
    draws = sample_rng(seed, "inversion/noise", 0).standard_normal(clip.frames.shape)
    given = np.clip(np.rint(clip.frames + sigma * draws), 0, 255).astype(np.uint8)
    return dataclasses.replace(clip, given=given)
