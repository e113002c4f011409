"""The section of predictions: from some frames of a clip, those before, after and between."""

from __future__ import annotations

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
from digan.showcase.studio import Studio
from digan.synthesis import Shot, long_video, red_box, resample, stream

STARTS = 8
STEPS = 300
EVERY = 3  # of the frames that are given where those between are asked for
FEWEST_FRAMES = 6  # of the clip: some are given, and some are not
UNSEEN = 128  # grey level of frames that are not given
_BACKWARD = 3  # a step of the search against a rendered frame, in work


def prediction(studio: Studio) -> Plan:
    """From given frames: what comes after, what was before, what lies between."""
    clip = _Source(studio)
    count = clip.count
    if count < FEWEST_FRAMES:
        return Plan(f"Left out: the clip has {count} frames, and {FEWEST_FRAMES} are needed.")
    first, last = count // 4, count - 1 - count // 4
    middle = [i for i in range(count) if first <= i <= last]
    sparse = [i for i in range(count) if i % EVERY == 0 or i == count - 1]
    scenes = (
        _scene(
            _Search(studio, clip, middle),
            "Future and past",
            f"Given are {len(middle)} frames in the middle, {first} to {last} of 0 to {count - 1}.",
            "repeating the nearest given frame",
            repeat_frames,
            f"{first}-{last}",
        ),
        _scene(
            _Search(studio, clip, sparse),
            "In between",
            f"Given are {len(sparse)} frames, every {EVERY}rd and the last.",
            "blending the given frames",
            blend_frames,
            ",".join(map(str, sparse)),
        ),
    )
    return Plan(
        "Codes whose video agrees with the given frames are sought by gradient descent from the "
        f"average code, in {STEPS} steps from {STARTS} starts; the network then has frames at all "
        f"other times too. The clip is {clip.words}.",
        scenes,
    )


@dataclass(frozen=True)
class _Source:
    """The clip that is to be found again: a given one, or one that the network made."""

    studio: Studio

    @property
    def _seed(self) -> int:
        return max(self.studio.settings.seeds) + 1

    @cached_property
    def _read(self) -> Clip | None:
        video = self.studio.settings.video
        if video is None:
            return None
        info = self.studio.info
        return read_clip(video, info.generator.resolution, info.clip_frames)

    @property
    def count(self) -> int:
        """Its frames."""
        return self.studio.info.clip_frames if self._read is None else len(self._read)

    @property
    def words(self) -> str:
        """What it is."""
        if self.studio.settings.video is None:
            return f"one of the network's own, of seed {self._seed}, whose codes are not told"
        return f"{self.studio.settings.video.name}"

    def command(self, observed: str) -> str:
        """Lines that make the same."""
        video, network = self.studio.settings.video, self.studio.network
        lines = []
        name = f"out/seed{self._seed:04d}.mp4" if video is None else str(video)
        if video is None:
            words = ["digan", "generate", "--network", network, "--seeds", str(self._seed)]
            if self.studio.settings.trunc != 1:
                words += ["--trunc", f"{self.studio.settings.trunc:g}"]
            lines.append(shlex.join(words))
        words = ["digan", "invert", "--network", network, name, "--observe", observed]
        words += ["--steps", str(STEPS), "--starts", str(STARTS)]
        return "\n".join([*lines, shlex.join(words)])

    def clip(self, given: list[int]) -> Clip:
        """The clip, of which only some frames are observed."""
        observed = np.zeros(self.count, bool)
        observed[given] = True
        if self._read is not None:
            return replace(self._read, observed=observed)
        studio = self.studio
        shot = long_video(studio.codes([self._seed]), self.count, self.count)
        return Clip(_frames(studio, shot), shot.grid.t, observed, source=self.words)


@dataclass(frozen=True)
class _Search:
    """The search for a clip's codes, made once, when the first film that shows them is shot."""

    studio: Studio
    source: _Source
    given: list[int]

    @cached_property
    def clip(self) -> Clip:
        return self.source.clip(self.given)

    @cached_property
    def found(self) -> Inversion:
        return fit_clip(self.studio.generator, self.clip, self._settings)

    @cached_property
    def frames(self) -> Frames:
        """The model's frames at all times of the clip."""
        return _frames(self.studio, long_video(self.found.codes, self.clip_frames, len(self.clip)))

    @property
    def clip_frames(self) -> int:
        return self.studio.info.clip_frames

    @property
    def _settings(self) -> FitSettings:
        return FitSettings(steps=STEPS, starts=STARTS)

    @property
    def work(self) -> int:
        """Pixels of all steps, a step counting as much as some rendered frames."""
        side = self.studio.info.generator.resolution
        settings = self._settings
        return sum(
            phase.steps * phase.starts * settings.batch_frames * (side // phase.stride) ** 2
            for phase in plan(settings)
        ) * _BACKWARD  # fmt: skip


Guess = Callable[[Frames, NDArray[np.float64], NDArray[np.float64]], Frames]


def _scene(
    search: _Search, title: str, text: str, guess: str, make_guess: Guess, observed: str
) -> Scene:
    """The given frames, the whole clip, and what was found, side by side."""
    studio, count = search.studio, search.source.count
    hidden = np.ones(count, bool)
    hidden[search.given] = False
    size = studio.settings.size or studio.info.generator.resolution

    def film(caption: str, draw: Callable[[], Frames], work: int) -> Film:
        def frames() -> Iterator[Frames]:
            yield draw()

        return Film(caption, studio.settings.fps, count, frames, work, pixelated=True)

    def given() -> Frames:
        shown = search.clip.frames.copy()
        shown[hidden] = UNSEEN
        return resample(shown, size, "nearest")

    def found() -> Frames:
        return red_box(resample(search.frames, size, "nearest"), hidden)

    def measured() -> str:
        clip, t = search.clip, search.clip.t.numpy()
        guessed = make_guess(clip.frames[~hidden], t[~hidden], t)
        return (
            f"PSNR: given frames {psnr(search.frames[~hidden], clip.frames[~hidden]):.1f} dB; "
            f"frames that were not given {psnr(search.frames[hidden], clip.frames[hidden]):.1f} "
            f"dB, against {psnr(guessed[hidden], clip.frames[hidden]):.1f} dB by {guess}."
        )

    step = 1 / (search.clip_frames - 1)
    return Scene(
        title,
        f"{text} Predicted frames have a red box.",
        (
            film("Given, the rest grey", given, 0),
            film("The clip", lambda: resample(search.clip.frames, size, "nearest"), 0),
            film("Found by the model", found, search.work),
        ),
        search.source.command(observed),
        times=tuple(i * step for i in range(count)),
        columns=(3, 3),
        measured=measured,
    )


def _frames(studio: Studio, shot: Shot) -> Frames:
    """All frames of a shot's first video: [T, H, W, 3]."""
    return np.concatenate([piece[0].numpy() for piece in stream(studio.generator, shot)])
