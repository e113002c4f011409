"""What the found codes give: reconstruction, future, past, between, higher rate, denoised.

Each is a video of panels side by side and a sheet of its frames. Where the truth was held out,
what is predicted is measured against it, beside what one would guess without a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid
from digan.inversion.clip import Clip
from digan.inversion.panels import Panel, write_panels
from digan.inversion.quality import blend_frames, psnr, repeat_frames
from digan.nn import Generator
from digan.synthesis import Codes, Shot, stream

Frames = NDArray[np.uint8]
Times = NDArray[np.float64]
DEFAULT_FPS = 8.0
MOST_LENGTHS = 100
MOST_RATE = 64
MOST_FPS = 1000  # of a video file
_NO_TRUTH = 128  # grey level of frames that nobody has seen
_RESIDUAL_GAIN = 4.0


@dataclass(frozen=True)
class ResultSettings:
    """What is shown.

    Attributes:
        past, future: how far beyond the observed frames, in clip lengths; held-out frames are
            always reached.
        rate: factor of the higher frame rate. fps: of playback; the clip's own by default.

    Raises:
        DiganError: a number that cannot be.
    """

    past: float = 0.5
    future: float = 1.0
    rate: int = 4
    fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("past", "future"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_LENGTHS:  # these are held in memory
                raise DiganError(
                    f"{name} must be from 0 to {MOST_LENGTHS} clip lengths, got {value} "
                    "(digan generate --codes streams longer videos)"
                )
        if not 1 <= self.rate <= MOST_RATE:
            raise DiganError(f"rate must be from 1 to {MOST_RATE}, got {self.rate}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise DiganError(f"fps must be positive, got {self.fps}")


def check_speed(clip: Clip, settings: ResultSettings) -> None:
    """Raises DiganError for a playback speed that no file holds: before long work, not after."""
    fastest = (settings.fps or clip.fps or DEFAULT_FPS) * settings.rate
    if fastest > MOST_FPS:
        raise DiganError(
            f"fps times rate must be at most {MOST_FPS}, got {fastest:g}: pass a smaller --rate"
        )


@dataclass(frozen=True)
class Result:
    """One of the results.

    Attributes:
        name: of its files. panels: what is side by side. fps: of playback.
        measures: PSNR in dB by name; empty where there is no truth.
        frames: how many were measured.
    """

    name: str
    panels: list[Panel]
    fps: float
    measures: dict[str, float]
    frames: int

    def format(self) -> str:
        """One line."""
        if not self.measures:
            return f"{self.name}: no truth to measure it by"
        values = ", ".join(f"{name} {value:.2f} dB" for name, value in self.measures.items())
        return f"{self.name}: {values} ({self.frames} frames)"


class _Scene:
    """A clip, its codes, and how to make any frame of it."""

    def __init__(
        self, generator: Generator, codes: Codes, clip: Clip, settings: ResultSettings
    ) -> None:
        self.generator, self.codes, self.clip, self.settings = generator, codes, clip, settings
        self.t: Times = clip.t.numpy()
        self.step = float(self.t[1] - self.t[0])
        self.seen_t = self.t[clip.observed]
        self.seen = clip.seen[clip.observed]
        self.fps = settings.fps or clip.fps or DEFAULT_FPS

    def frames(self, t: Times) -> Frames:
        """The model's frames at any times."""
        grid = SpaceTimeGrid(torch.from_numpy(np.ascontiguousarray(t, np.float64)))
        chunks = [part[0].numpy() for part in stream(self.generator, Shot(self.codes, grid))]
        return np.concatenate(chunks)

    def steps_of(self, length: float) -> int:
        """Clip lengths as a number of frames."""
        return round(length / self.step)

    def truth(self, indices: NDArray[np.int_]) -> tuple[Frames, NDArray[np.bool_]]:
        """The clip's frames of some numbers, grey where the clip has none, and where it has."""
        known = (indices >= 0) & (indices < len(self.clip))
        size = self.clip.frames.shape[1:]
        found = np.full((len(indices), *size), _NO_TRUTH, np.uint8)
        found[known] = self.clip.frames[indices[known]]
        return found, known


def reconstruction(scene: _Scene) -> Result:
    """The observed frames, and the codes' own."""
    made = scene.frames(scene.seen_t)
    panels = [Panel("given", scene.seen), Panel("reconstruction", made)]
    measures = {"reconstruction": psnr(made, scene.seen)}
    return Result("reconstruction", panels, scene.fps, measures, len(made))


def future(scene: _Scene) -> Result:
    """What comes after the last observed frame."""
    first, last = scene.clip.indices[0], scene.clip.indices[-1]
    end = max(last + scene.steps_of(scene.settings.future), len(scene.clip) - 1)
    indices = np.arange(first, end + 1)
    return _predicted("future", scene, indices, indices > last, "repeating the last")


def past(scene: _Scene) -> Result:
    """What was before the first observed frame."""
    first, last = scene.clip.indices[0], scene.clip.indices[-1]
    begin = min(first - scene.steps_of(scene.settings.past), 0)
    indices = np.arange(begin, last + 1)
    return _predicted("past", scene, indices, indices < first, "repeating the first")


def _predicted(
    name: str, scene: _Scene, indices: NDArray[np.int_], beyond: NDArray[np.bool_], guess: str
) -> Result:
    t = scene.t[0] + scene.step * indices
    made, held = scene.frames(t), repeat_frames(scene.seen, scene.seen_t, t)
    real, known = scene.truth(indices)
    panels = [
        Panel("real", real),
        Panel("model, predicted in red", made, beyond),
        Panel(guess, held),
    ]
    return _measured(name, panels, scene.fps, beyond & known, guess)


def between(scene: _Scene) -> Result:
    """The frames that were held out between observed ones."""
    first, last = scene.clip.indices[0], scene.clip.indices[-1]
    indices = np.arange(first, last + 1)
    gaps = ~scene.clip.observed[first : last + 1]
    t = scene.t[indices]
    panels = [
        Panel("real", scene.clip.frames[indices]),
        Panel("model, in between in red", scene.frames(t), gaps),
        Panel("linear blend", blend_frames(scene.seen, scene.seen_t, t)),
    ]
    return _measured("between", panels, scene.fps, gaps, "linear blend")


def _measured(
    name: str, panels: list[Panel], fps: float, which: NDArray[np.bool_], guess: str
) -> Result:
    """Measures the second and third panel against the first, where it holds the truth."""
    real, made, guessed = (panel.frames[which] for panel in panels)
    measures = {"model": psnr(made, real), guess: psnr(guessed, real)} if which.any() else {}
    return Result(name, panels, fps, measures, int(which.sum()))


def rate(scene: _Scene) -> Result:
    """The observed range at a higher frame rate, all its frames made by the model."""
    factor = scene.settings.rate
    first, last = scene.clip.indices[0], scene.clip.indices[-1]
    places = first + np.arange((last - first) * factor + 1) / factor
    t = scene.t[0] + scene.step * places
    panels = [
        Panel("given, repeated", repeat_frames(scene.seen, scene.seen_t, t)),
        Panel(f"model, {factor}x frame rate", scene.frames(t)),
        Panel("linear blend", blend_frames(scene.seen, scene.seen_t, t)),
    ]
    return Result("rate", panels, scene.fps * factor, {}, 0)


def denoised(scene: _Scene) -> Result:
    """The observed frames without what the model cannot say, which is noise at best."""
    made = scene.frames(scene.seen_t)
    away = scene.seen.astype(np.float64) - made
    residual = np.clip(np.rint(128 + _RESIDUAL_GAIN * away), 0, 255).astype(np.uint8)
    panels = [
        Panel("given", scene.seen),
        Panel("denoised", made),
        Panel(f"taken away, x{_RESIDUAL_GAIN:.0f}", residual),
    ]
    if scene.clip.given is None:
        return Result("denoised", panels, scene.fps, {}, 0)
    clean = scene.clip.frames[scene.clip.observed]
    panels.append(Panel("clean", clean))
    measures = {"denoised": psnr(made, clean), "given": psnr(scene.seen, clean)}
    return Result("denoised", panels, scene.fps, measures, len(made))


RESULTS: dict[str, Callable[[_Scene], Result]] = {
    "reconstruction": reconstruction,
    "future": future,
    "past": past,
    "between": between,
    "rate": rate,
    "denoised": denoised,
}


def parse_results(text: str) -> list[str]:
    """Names of results, separated by commas. Raises DiganError for one that is not known."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in RESULTS:
            raise DiganError(f"results must be of {', '.join(RESULTS)}, got {name!r}")
    return list(dict.fromkeys(names))


def make_results(
    generator: Generator,
    codes: Codes,
    clip: Clip,
    settings: ResultSettings | None = None,
    names: Sequence[str] = tuple(RESULTS),
) -> list[Result]:
    """The results that are asked for; `between` only where frames were held out there.

    Args:
        generator: the network. codes: of one video, the clip's.
        clip: what was inverted. settings: how far, and how dense.
        names: of RESULTS.

    Raises:
        DiganError: a name that is not known.
    """
    names = parse_results(",".join(names))
    scene = _Scene(generator, codes, clip, settings or ResultSettings())
    first, last = clip.indices[0], clip.indices[-1]
    whole = bool(clip.observed[first : last + 1].all())
    return [RESULTS[name](scene) for name in names if not (name == "between" and whole)]


def write_results(outdir: Path, results: Sequence[Result]) -> list[Path]:
    """`NAME.mp4` and `NAME-sheet.png` of every result; returns the paths.

    Raises:
        DiganError: they cannot be written.
    """
    paths = []
    for result in results:
        paths += write_panels(outdir / result.name, result.panels, result.fps)
    return paths
