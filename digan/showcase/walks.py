"""The last section: between seeds, walks through the codes, and time along a curve."""

from __future__ import annotations

import torch

from digan.grid import SpaceTimeGrid
from digan.showcase.media import Plan, Scene
from digan.showcase.studio import Studio, seed_text
from digan.synthesis import (
    Shot,
    content_walk,
    curve_times,
    interpolate_codes,
    motion_walk,
    slow_middle,
    slow_motion,
    swing,
)

BETWEEN = 5  # videos from one seed to another, both among them
STOPS = 4
WALK_SECONDS = 4
WALK_FPS = 24.0
SLOWER = 4


def beyond(studio: Studio) -> Plan:
    """What can be done with codes and times beside drawing them."""
    return Plan(
        "Codes and times are numbers: one can go from one to another, and through them.",
        (*_between(studio), _walks(studio), _slow_motion(studio)),
    )


def _between(studio: Studio) -> tuple[Scene, Scene]:
    """Content, and motion, from one seed to another in equal steps."""
    first, last = studio.some(2)
    label = studio.labels([first])
    a, b = studio.codes([first], labels=label), studio.codes([last], labels=label)
    steps = torch.linspace(0, 1, BETWEEN, dtype=torch.float64)
    scenes = []
    for content, title, how in (
        (
            True,
            "Content interpolation",
            "The motion stays; the content goes straight from left to right, in W.",
        ),
        (
            False,
            "Motion interpolation",
            "The content stays; the motion code goes along a great circle from left to right.",
        ),
    ):
        codes = interpolate_codes(a, b, steps, content=content, motion=not content)
        shot = studio.large(Shot(codes, SpaceTimeGrid(studio.times())))
        fps = studio.settings.fps
        film = studio.film(f"From seed {first} to seed {last}", shot, fps, columns=BETWEEN)
        scenes.append(
            Scene(
                title, how, (film,), _in_python(first, last, label, content),
                times=tuple(shot.grid.t.tolist()), columns=(1, 1),
            )
        )  # fmt: skip
    return scenes[0], scenes[1]


def _in_python(first: int, last: int, label: list[int] | None, content: bool) -> str:
    """The call that makes codes between two seeds, for which there is no flag."""
    labels = "" if label is None else f", labels={label}"
    a, b = (f"seed_codes(generator, [{seed}]{labels})" for seed in (first, last))
    still = "motion=False" if content else "content=False"
    return (
        f"digan.synthesis.interpolate_codes(\n    {a}, {b},\n"
        f"    torch.linspace(0, 1, {BETWEEN}), {still},\n)"
    )


def _walks(studio: Studio) -> Scene:
    """Videos that walk through the codes of some seeds and back to the first."""
    seeds = studio.some(STOPS)
    label = studio.labels(seeds[:1])
    stops = studio.codes(seeds, labels=None if label is None else label * len(seeds))
    frames = round(WALK_FPS * WALK_SECONDS)
    # Time swings to the end of the clip and back, so that the loop has no seam.
    t = curve_times(swing, frames, closed=True)
    films = tuple(
        studio.film(caption, studio.large(walk(stops, t, closed=True)), WALK_FPS)
        for walk, caption in (
            (content_walk, "Through contents, with the motion of the first"),
            (motion_walk, "Through motions, with the content of the first"),
        )
    )
    return Scene(
        "Latent walks",
        f"While a video plays, its code goes through those of seeds {seed_text(seeds)} and back to "
        "the first, and time swings there and back: loops without a seam.",
        films,
        "\n".join(
            studio.command(
                seeds,
                *(() if label is None else ("--class", label[0])),
                "--walk",
                what,
                "--loop",
                "--frames",
                frames,
                "--t-end",
                1,
                "--fps",
                f"{WALK_FPS:g}",
            )
            for what in ("content", "motion")
        ),
        times=tuple(t.tolist()),
        columns=(2, 2),
    )


def _slow_motion(studio: Studio) -> Scene:
    """Time at constant speed, and along a curve that lingers in the middle."""
    seeds = studio.some(2)
    codes, clip = studio.codes(seeds), studio.info.clip_frames
    even = studio.large(Shot(codes, SpaceTimeGrid(studio.times(density=SLOWER))))
    curved = studio.large(slow_motion(codes, clip, studio.frames, slow_middle, factor=SLOWER))
    fps = 2 * studio.settings.fps
    return Scene(
        "Slow motion along a time curve",
        f"{curved.frames} frames over the same time. Left, at constant speed; right, fast at both "
        "ends and slow in the middle.",
        (
            studio.film("Constant speed", even, fps, columns=2),
            studio.film("Slow in the middle", curved, fps, columns=2),
        ),
        studio.command(
            seeds,
            *(() if studio.frames == clip else ("--frames", studio.frames)),
            "--time-density",
            SLOWER,
            "--time-curve",
            "slow-middle",
            "--fps",
            f"{fps:g}",
            "--grid",
            "2x1",
        ),
        times=tuple(curved.grid.t.tolist()),
        columns=(2, 1),
    )
