"""How the videos are shown: times, density, extent, marks, formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from digan.data.sinks import FORMATS
from digan.errors import DiganError
from digan.generate.videos import Walked
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn.snapshot import NetworkInfo
from digan.synthesis import curve_times, parse_curve

MOST_PIXELS = 16384  # of a side; H.264 holds no more


@dataclass(frozen=True)
class Request:
    """What to render of every video, and how to write it.

    Attributes:
        t: time stamps [T], float64. fps: playback speed.
        density, zoom: see `SpaceTimeGrid`. truncation: psi.
        chunk: frames computed at once; None for as many as memory likes.
        formats, outdir: what to write, and where.
        walk: what moves from seed to seed while a video plays; None for one seed a video.
        closed: a walk returns to its first stop.
        mark: red boxes where frames or pixels are extrapolated.
        difference: pairs of videos, with where they differ.
        compare: the plain enlargements beside the model's.
    """

    t: Tensor
    fps: float
    density: int = 1
    zoom: float = 1.0
    truncation: float = 1.0
    chunk: int | None = None
    formats: tuple[str, ...] = ("mp4",)
    outdir: Path = Path("out")
    walk: Walked | None = None
    closed: bool = False
    mark: bool = False
    difference: bool = False
    compare: bool = False

    @property
    def grid(self) -> SpaceTimeGrid:
        """Where every video is evaluated."""
        return SpaceTimeGrid(self.t, self.density, self.zoom)


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Raises DiganError for a format that is not known, or twice the same."""
    for name in formats:
        if name not in FORMATS:
            raise DiganError(f"format must be of {', '.join(FORMATS)}, got {name!r}")
    return tuple(dict.fromkeys(formats))


def density_of(size: int | None, resolution: int) -> int:
    """How many times denser than training `size` pixels are.

    Raises:
        DiganError: size is no multiple of the network's resolution.
    """
    if size is None:
        return 1
    if size < resolution or size % resolution:
        raise DiganError(
            f"size must be a multiple of the network's resolution of {resolution}, got {size}"
        )
    return size // resolution


def request_times(
    info: NetworkInfo,
    frames: int | None,
    t_start: float,
    t_end: float | None,
    time_density: int,
    *,
    curve: str | None = None,
    loop: bool = False,
) -> Tensor:
    """Time stamps for the flags of `digan generate`.

    Args:
        info: of the network. frames: at training speed, None for a clip.
        t_start, t_end, time_density: see `frame_times`.
        curve: how the same frames are spread over the same range of time, see `parse_curve`.
        loop: time must return to its start, by the curve or else by `swing`.

    Raises:
        DiganError: times that cannot be, a loop along a curve that does not return.
    """
    count = info.clip_frames if frames is None else frames
    t = frame_times(
        count, info.clip_frames, t_start=t_start, t_end=t_end, time_density=time_density
    )
    if curve is None and not loop:
        return t
    chosen = parse_curve(curve or "swing")
    first, last = float(t[0]), float(t[-1])
    if loop and last > first:
        ends = chosen(t.new_tensor([0.0, 1.0]))
        if abs(float(ends[1] - ends[0])) > 1e-9:
            raise DiganError(
                f"--loop needs a time curve that returns, as swing or ping-pong, got {curve!r}"
            )
    return curve_times(chosen, len(t), first, last, closed=loop)
