"""The section of predictions: from a few frames of a clip, those before, after and between."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from digan.inversion import (
    Clip,
    FitSettings,
    Inversion,
    blend_frames,
    fit_clip,
    plan,
    psnr,
    read_clip,
    repeat_frames,
)
from digan.showcase.media import Film, Frames, Plan, Scene
from digan.showcase.studio import Studio, grid_of, seed_text
from digan.synthesis import Shot, long_video, red_box, resample, stream

CLIPS = 2  # of the network's own
STARTS = 16
STEPS = 500
FEWEST_FRAMES = 8  # of a clip: about 4 are given, with gaps between and at both ends
UNSEEN = 128  # grey level of frames that are not given
_BACKWARD = 3  # a step of the search against a rendered frame, in work

Places = NDArray[np.bool_]  # [T], which frames


def prediction(studio: Studio) -> Plan:
    """From given frames: what comes after, what was before, what lies between."""
    video, info = studio.settings.video, studio.info
    read = None
    if video is not None:
        read = read_clip(video, info.generator.resolution, info.clip_frames)
    count = info.clip_frames if read is None else len(read)
    if count < FEWEST_FRAMES:
        return Plan(f"Left out: a clip of {count} frames, and {FEWEST_FRAMES} are needed.")
    given = given_frames(count)
    if read is not None:
        searches = [_Search(studio, lambda: _observed(read, given))]
        what = f"of {read.source}"
    else:
        own = [max(studio.settings.seeds) + 1 + i for i in range(CLIPS)]
        searches = [_Search(studio, _own_clip(studio, seed, given)) for seed in own]
        what = (
            f"of clips that the network itself made from seeds {seed_text(own)}, not chosen; the "
            "search knows the frames alone"
        )
    return Plan(
        "Codes whose video agrees with a few given frames are sought by gradient descent from the "
        f"average code, in {STEPS} steps from {STARTS} starts. The network then has frames at all "
        "other times too.",
        (_scene(studio, searches, given, count, what),),
    )


def given_frames(count: int) -> list[int]:
    """Numbers of the frames that are given of a clip: evenly spaced, neither first nor last."""
    step = max(2, count // 5)
    return list(range(step, count - step, step))


def _observed(clip: Clip, given: list[int]) -> Clip:
    observed = np.zeros(len(clip), bool)
    observed[given] = True
    return replace(clip, observed=observed)


def _own_clip(studio: Studio, seed: int, given: list[int]) -> Callable[[], Clip]:
    """A clip that the network makes, when it is asked for."""

    def make() -> Clip:
        count = studio.info.clip_frames
        shot = long_video(studio.codes([seed]), count, count)
        clip = Clip(_frames(studio, shot), shot.grid.t, np.ones(count, bool), source=f"seed {seed}")
        return _observed(clip, given)

    return make


@dataclass(frozen=True)
class _Search:
    """The search for a clip's codes, made once, when the first film that shows them is shot."""

    studio: Studio
    source: Callable[[], Clip]

    @cached_property
    def clip(self) -> Clip:
        return self.source()

    @cached_property
    def found(self) -> Inversion:
        studio = self.studio
        return fit_clip(studio.generator, self.clip, _settings(), progress=studio.progress)

    @cached_property
    def frames(self) -> Frames:
        """The model's frames at all times of the clip."""
        count = self.studio.info.clip_frames
        return _frames(self.studio, long_video(self.found.codes, count, len(self.clip)))

    def measured(self) -> str:
        """How near the found frames are to the clip, beside guesses without a network."""
        clip, t = self.clip, self.clip.t.numpy()
        seen = clip.observed
        places = np.arange(len(clip))
        before, after = places < clip.indices[0], places > clip.indices[-1]
        held = repeat_frames(clip.frames[seen], t[seen], t)
        blended = blend_frames(clip.frames[seen], t[seen], t)

        def against(which: Places, guess: Frames, how: str) -> str:
            model, other = (psnr(f[which], clip.frames[which]) for f in (self.frames, guess))
            return f"{_decibels(model)} ({how} {_decibels(other)})"

        inside = ~(seen | before | after)
        given = psnr(self.frames[seen], clip.frames[seen])
        return (
            f"PSNR of {clip.source}: given frames {_decibels(given)}, "
            f"past {against(before, held, 'repeating the first')}, "
            f"between {against(inside, blended, 'blending')}, "
            f"future {against(after, held, 'repeating the last')}."
        )


def _settings() -> FitSettings:
    return FitSettings(steps=STEPS, starts=STARTS)


def _work(studio: Studio) -> int:
    """Pixels of all steps of a search, a step counting as much as some rendered frames."""
    side, settings = studio.info.generator.resolution, _settings()
    cells = sum(phase.steps * phase.starts / phase.stride**2 for phase in plan(settings))
    return round(_BACKWARD * settings.batch_frames * cells * side * side)


def _scene(
    studio: Studio, searches: list[_Search], given: list[int], count: int, what: str
) -> Scene:
    """The given frames, the whole clip, and what was found, side by side; a row a clip."""
    hidden = np.ones(count, bool)
    hidden[given] = False
    size = studio.settings.size or studio.info.generator.resolution

    def film(caption: str, draw: Callable[[_Search], Frames], work: int = 0) -> Film:
        def frames() -> Iterator[Frames]:
            yield grid_of(np.stack([draw(search) for search in searches]), 1)

        return Film(caption, studio.settings.fps, count, frames, work, pixelated=True)

    def only_given(search: _Search) -> Frames:
        shown = search.clip.frames.copy()
        shown[hidden] = UNSEEN
        return resample(shown, size, "nearest")

    def found(search: _Search) -> Frames:
        return red_box(resample(search.frames, size, "nearest"), hidden)

    clip_frames = studio.info.clip_frames
    return Scene(
        "Past, future and in between",
        f"Given are frames {', '.join(map(str, given))} of 0 to {count - 1}, {what}. Predicted "
        "frames have a red box.",
        (
            film("Given frames, the others grey", only_given),
            film("The clip", lambda search: resample(search.clip.frames, size, "nearest")),
            film("Found by the model", found, _work(studio) * len(searches)),
        ),
        _command(studio, given),
        times=tuple(i / (clip_frames - 1) for i in range(count)),
        columns=(3, 3),
        measured=lambda: "\n".join(search.measured() for search in searches),
    )


def _command(studio: Studio, given: list[int]) -> str:
    """Lines that make the same."""
    lines, video = [], studio.settings.video
    names = [str(video)]
    network = ["--network", studio.network]
    if video is None:
        own = [max(studio.settings.seeds) + 1 + i for i in range(CLIPS)]
        names = [f"out/seed{seed:04d}.mp4" for seed in own]
        words = ["digan", "generate", *network, "--seeds", seed_text(own)]
        if studio.settings.trunc != 1:
            words += ["--trunc", f"{studio.settings.trunc:g}"]
        lines.append(shlex.join(words))
    search = ["--observe", ",".join(map(str, given)), "--steps", str(STEPS)]
    if FitSettings.starts != STARTS:
        search += ["--starts", str(STARTS)]
    lines += [shlex.join(["digan", "invert", *network, name, *search]) for name in names]
    return "\n".join(lines)


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"


def _frames(studio: Studio, shot: Shot) -> Frames:
    """All frames of a shot's first video: [T, H, W, 3]."""
    return np.concatenate([piece[0].numpy() for piece in stream(studio.generator, shot)])
