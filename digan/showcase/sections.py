"""The sections of the page, each a pure function from a studio to a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from digan.showcase.media import Film, Frames, Plan, Scene
from digan.showcase.prediction import prediction
from digan.showcase.settings import LONG_FPS
from digan.showcase.studio import Studio, pieces, seed_text
from digan.showcase.walks import beyond
from digan.synthesis import (
    Shot,
    denser,
    difference,
    extrapolate_time,
    extrapolated,
    interpolate_time,
    long_video,
    red_box,
    resample,
    seed_codes,
    square_box,
    two_motions,
    wider,
)

SAMPLES, COLUMNS = 8, 4  # of a film of the main results
TIME_FACTOR = 8
LONGER = 4  # times a clip, when time is extrapolated
SPACE_FACTORS = (4, 8)
ZOOM = 1.5
ROW = 5  # seeds of a class
MOST_CLASSES = 24
GAIN = 4.0  # contrast of differences, as of digan generate --difference


def main_results(studio: Studio) -> Plan:
    """Random samples."""
    seeds = studio.settings.seeds
    groups = [seeds[i : i + SAMPLES] for i in range(0, len(seeds), SAMPLES)]
    films = []
    for group in groups:
        shot = studio.large(_plain(studio, group))
        caption = f"Seeds {seed_text(group)}"
        films.append(studio.film(caption, shot, studio.settings.fps, columns=COLUMNS))
    lines = [
        studio.command(group, *_length(studio), "--grid", _grid_word(len(group)), *_fps(studio))
        for group in groups
    ]
    turns = ", classes in turn" if studio.info.generator.num_classes else ""
    scene = Scene(
        "",
        f"{len(seeds)} random samples{turns}, not chosen: {studio.frames} frames each.",
        tuple(films),
        "\n".join(lines),
        times=_times(_plain(studio, seeds[:1])),
        columns=(min(len(films), 2), 1),
    )
    return Plan(
        "Every video is a small network of its own, (x, y, t) to colour, written by the generator "
        "from a content code and a motion code." + _shown_at(studio),
        (scene,),
    )


def long_videos(studio: Studio) -> Plan:
    """Videos of many frames."""
    scenes = []
    for place, frames in enumerate(studio.settings.long):
        seeds = studio.some(4, 4 * place)
        shot = studio.large(long_video(studio.codes(seeds), studio.info.clip_frames, frames))
        scenes.append(
            Scene(
                f"{frames} frames",
                f"Four videos of {frames} frames at {LONG_FPS:g} fps: "
                f"{frames / LONG_FPS:.1f} s, "
                f"{(frames - 1) / (studio.info.clip_frames - 1):.1f} times as long as a "
                "training clip.",
                (studio.film(f"Seeds {seed_text(seeds)}", shot, LONG_FPS, columns=4),),
                studio.command(
                    seeds, "--frames", frames, "--fps", f"{LONG_FPS:g}", "--grid", "4x1"
                ),
                times=_times(shot),
                columns=(1, 1),
            )
        )
    return Plan(
        f"Time continues at training speed for as long as one likes; a training clip has "
        f"{studio.info.clip_frames} frames. Frames are computed in pieces, so memory does not "
        "grow with the length.",
        tuple(scenes),
    )


def time_interpolation(studio: Studio) -> Plan:
    """The same video at training speed and at 8 times as many frames per second."""
    seeds, n, fps = studio.some(2), studio.frames, studio.settings.fps
    codes = studio.codes(seeds)
    plain = studio.large(_plain(studio, seeds))
    smooth = studio.large(interpolate_time(codes, studio.info.clip_frames, n, TIME_FACTOR))
    scene = Scene(
        "",
        f"Left, the {n} frames as trained. Right, {TIME_FACTOR} times as many in the same time: "
        f"{TIME_FACTOR} × ({n} − 1) + 1 = {smooth.frames} frames, none of them blended; every "
        f"{TIME_FACTOR}th is one of those on the left.",
        (
            studio.film(f"{fps:g} fps, as trained", plain, fps, columns=2),
            studio.film(f"{fps * TIME_FACTOR:g} fps", smooth, fps * TIME_FACTOR, columns=2),
        ),
        studio.command(
            seeds, *_length(studio), "--time-density", TIME_FACTOR,
            "--fps", f"{fps * TIME_FACTOR:g}", "--grid", "2x1",
        ),
        times=_times(smooth),
        columns=(2, 1),
    )  # fmt: skip
    return Plan(
        "A video has a value at any time, also between the frames of training: the same network "
        "is asked at smaller steps of time.",
        (scene,),
    )


def time_extrapolation(studio: Studio) -> Plan:
    """Before and after the training clip; frames outside it in a red box."""
    seeds, fps, clip = studio.some(4), studio.settings.fps, studio.info.clip_frames
    codes = studio.codes(seeds)
    # As in the paper, 4 times as many frames as a clip: 3N more after t = 1.
    after = studio.large(long_video(codes, clip, LONGER * clip))
    both = studio.large(extrapolate_time(codes, clip, 1.5, 1.5))
    scenes = []
    for title, shot, text, flags in (
        (
            f"{LONGER} times longer",
            after,
            f"{after.frames} frames instead of the {clip} of a training clip.",
            ("--frames", after.frames, "--mark"),
        ),
        (
            "Past and future",
            both,
            "One and a half clip lengths before the first frame of a training clip, and as much "
            "after the last.",
            (
                "--frames", both.frames, f"--t-start={float(both.grid.t[0]):.6g}", "--mark",
            ),
        ),
    ):  # fmt: skip
        outside = extrapolated(shot.grid).numpy()

        def boxed(frames: Frames, place: slice, outside: NDArray[np.bool_] = outside) -> Frames:
            return red_box(frames, outside[place])

        scenes.append(
            Scene(
                title,
                f"{text} Extrapolated frames have a red box.",
                (studio.film(f"Seeds {seed_text(seeds)}", shot, fps, columns=4, draw=boxed),),
                studio.command(seeds, *flags, "--grid", "4x1", *_fps(studio)),
                times=_times(shot),
                columns=(1, 1),
            )
        )
    return Plan(
        "The network is asked for times at which no training video had a frame: t is 0 at the "
        "first frame of a training clip and 1 at its last.",
        tuple(scenes),
    )


def diverse_motion(studio: Studio) -> Plan:
    """Two motion codes for one content, and the difference."""
    scenes = []
    fps = studio.settings.fps
    for content in studio.some(2):
        motions = studio.some(2, studio.settings.seeds.index(content) + 1)
        labels = studio.labels([content])
        label = None if labels is None else labels[0]
        shot = studio.large(
            two_motions(
                studio.generator, content, motions, studio.times(), label,
                truncation=studio.settings.trunc,
            )
        )  # fmt: skip
        one, two = (replace(shot, codes=shot.codes.take(slice(i, i + 1))) for i in range(2))
        scenes.append(
            Scene(
                f"Content of seed {content}",
                "",
                (
                    studio.film(f"Video 1: motion seed {motions[0]}", one, fps),
                    studio.film(f"Video 2: motion seed {motions[1]}", two, fps),
                    _difference_film(studio, shot, fps),
                ),
                studio.command(
                    [content], "--motion-seeds", seed_text(motions), *_length(studio),
                    *(() if label is None else ("--class", label)), "--difference", *_fps(studio),
                ),
                times=_times(shot),
                columns=(3, 3),
            )
        )  # fmt: skip
    return Plan(
        "Content and motion are separate codes: the same scene moves in different ways. At t = 0 "
        "the videos are equal: the motion code enters multiplied by time.",
        tuple(scenes),
    )


def _difference_film(studio: Studio, shot: Shot, fps: float) -> Film:
    """Where the two videos of a shot differ."""

    def draw() -> Iterator[Frames]:
        for _, videos in pieces(studio.generator, shot):
            yield difference(videos[0], videos[1], gain=GAIN)

    caption = f"Difference, {GAIN:g} times amplified"
    return Film(caption, fps, shot.frames, draw, studio.work(shot))


def space_interpolation(studio: Studio) -> Plan:
    """More pixels over the same extent: enlarged in three ways, and computed."""
    resolution, fps = studio.info.generator.resolution, studio.settings.fps
    seed = studio.some(1)
    plain = _plain(studio, seed)
    factor, more = SPACE_FACTORS
    size, finest_size = resolution * factor, resolution * more

    def enlarged(how: str, side: int = size) -> Callable[[Frames, slice], Frames]:
        return lambda frames, _: resample(frames, side, how)

    fine, finest = denser(plain, factor), denser(plain, more)
    films = [
        studio.film(name.capitalize(), plain, fps, draw=enlarged(name), pixelated=True)
        for name in ("nearest", "bilinear", "bicubic")
    ]
    films.append(studio.film("By the model", fine, fps, pixelated=True))
    scenes = (
        Scene(
            f"{factor}x: {resolution} to {size} pixels",
            f"The {resolution}×{resolution} frames enlarged by filters, and the same network "
            f"asked at {size}×{size} points.",
            tuple(films),
            studio.command(seed, *_length(studio), "--size", size, "--compare", *_fps(studio)),
            times=_times(plain),
            columns=(4 if size < 256 else 2, 2),
        ),
        Scene(
            f"{more}x: {resolution} to {finest_size} pixels",
            f"Every frame has {more * more} times as many pixels as in training.",
            (
                studio.film(
                    "As trained", plain, fps, draw=enlarged("nearest", finest_size), pixelated=True
                ),
                studio.film("By the model", finest, fps, pixelated=True),
            ),
            studio.command(seed, *_length(studio), "--size", finest_size, *_fps(studio)),
            times=_times(plain),
            columns=(2, 2),
        ),
    )
    return Plan(
        "A denser grid of points over the same extent gives more pixels, without training and "
        "without any filter.",
        scenes,
    )


def space_extrapolation(studio: Studio) -> Plan:
    """A wider extent at the same spacing; a red box round the training square."""
    seeds, fps = studio.some(4), studio.settings.fps
    plain = studio.large(_plain(studio, seeds))
    wide = wider(plain, ZOOM)
    inner = plain.grid.frame_size(studio.info.generator.resolution)

    def boxed(frames: Frames, _: slice) -> Frames:
        return square_box(frames, inner)

    scene = Scene(
        "",
        f"Left, the training square. Right, {ZOOM:g} times as wide: inside the red box is "
        "the left video, pixel by pixel; no training video had a pixel outside it.",
        (
            studio.film(f"Seeds {seed_text(seeds)}, as trained", plain, fps, columns=2),
            studio.film(f"{ZOOM:g} times as wide", wide, fps, columns=2, draw=boxed),
        ),
        studio.command(
            seeds, *_length(studio), "--zoom", f"{ZOOM:g}", "--mark", "--grid", "2x2", *_fps(studio)
        ),
        times=_times(plain),
        columns=(2, 1),
        to_scale=True,
    )
    return Plan("The network is asked for points outside the square it was trained on.", (scene,))


def classes(studio: Studio) -> Plan:
    """A row for every class."""
    known = studio.info.generator.num_classes
    if not known:
        return Plan("Left out: this network is not class-conditional.")
    names = studio.info.classes or tuple(str(number) for number in range(known))
    shown = min(known, MOST_CLASSES)
    seeds = studio.some(min(ROW, len(studio.settings.seeds)))
    films = []
    for label in range(shown):
        codes = seed_codes(
            studio.generator, seeds, labels=[label] * len(seeds), truncation=studio.settings.trunc
        )
        shot = studio.large(replace(_plain(studio, seeds), codes=codes))
        films.append(
            studio.film(
                f"Class {label}: {names[label]}", shot, studio.settings.fps, columns=len(seeds)
            )
        )
    scene = Scene(
        "",
        f"Seeds {seed_text(seeds)} from left to right, a row for each class"
        + (f", the first {shown} of {known}." if shown < known else "."),
        tuple(films),
        studio.command(
            seeds, "--class", "all" if shown == known else f"0-{shown - 1}", *_length(studio),
            "--grid",
            f"{len(seeds)}x{shown}", *_fps(studio),
        ),
        times=_times(_plain(studio, seeds[:1])),
        columns=(1, 1),
    )  # fmt: skip
    return Plan(
        "The class goes into the content code beside the seed: the same seed in every class.",
        (scene,),
    )


@dataclass(frozen=True)
class Kind:
    """A section that a page may have.

    Attributes:
        title: its heading. plan: the function that plans it.
        reads: the settings that it depends on; a change of others leaves it as it is.
    """

    title: str
    plan: Callable[[Studio], Plan]
    reads: tuple[str, ...]


_ALWAYS = ("seeds", "size", "trunc")
SECTIONS: dict[str, Kind] = {
    "main": Kind("Main results", main_results, (*_ALWAYS, "frames", "fps")),
    "long": Kind("Long video", long_videos, (*_ALWAYS, "long")),
    "time-interpolation": Kind(
        "Time interpolation", time_interpolation, (*_ALWAYS, "frames", "fps")
    ),
    "time-extrapolation": Kind("Time extrapolation", time_extrapolation, (*_ALWAYS, "fps")),
    "diverse-motion": Kind("Diverse motion", diverse_motion, (*_ALWAYS, "frames", "fps")),
    "space-interpolation": Kind(
        "Space interpolation", space_interpolation, (*_ALWAYS, "frames", "fps")
    ),
    "space-extrapolation": Kind(
        "Space extrapolation", space_extrapolation, (*_ALWAYS, "frames", "fps")
    ),
    "classes": Kind("Class-conditional", classes, (*_ALWAYS, "frames", "fps")),
    "prediction": Kind("Prediction", prediction, (*_ALWAYS, "fps", "video")),
    "beyond": Kind("Beyond", beyond, (*_ALWAYS, "frames", "fps")),
}


def _plain(studio: Studio, seeds: tuple[int, ...] | list[int]) -> Shot:
    """A clip at training speed on the training grid."""
    return long_video(studio.codes(seeds), studio.info.clip_frames, studio.frames)


def _times(shot: Shot) -> tuple[float, ...]:
    return tuple(shot.grid.t.tolist())


def _length(studio: Studio) -> tuple[object, ...]:
    return () if studio.frames == studio.info.clip_frames else ("--frames", studio.frames)


def _fps(studio: Studio) -> tuple[object, ...]:
    fps = studio.settings.fps
    return () if fps == studio.info.fps else ("--fps", f"{fps:g}")


def _grid_word(count: int) -> str:
    return f"{COLUMNS}x{-(-count // COLUMNS)}"


def _shown_at(studio: Studio) -> str:
    if studio.density == 1:
        return ""
    resolution = studio.info.generator.resolution
    return (
        f" Trained at {resolution}×{resolution}, it is shown here on a grid {studio.density} times "
        f"denser."
    )
