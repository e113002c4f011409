"""A whole inspection: all numbers, their pictures, a JSON file and a few lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digan.config import to_dict
from digan.errors import DiganError
from digan.files import writable_folder, write_json
from digan.inspection.blocks import added_by_block, block_pictures
from digan.inspection.figures import (
    MOST_LINES,
    draw_blocks,
    draw_change,
    draw_frequencies,
    draw_phases,
    draw_weights,
    grey_rms,
)
from digan.inspection.frames import FrameChange, frame_change
from digan.inspection.frequencies import Frequencies, spatial_frequencies
from digan.inspection.phases import Phases, inspection_times, phase_trajectories, translation
from digan.inspection.weights import weight_shares
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo
from digan.plotting import pyplot
from digan.synthesis import write_videos

BLOCK_VIDEOS = 3  # whose blocks are drawn


@dataclass(frozen=True)
class InspectSettings:
    """What to look at.

    Attributes:
        seeds: content seeds, at least 2.
        motion_seeds: motions of the first content.
        labels: classes, one a content seed; None for an unconditional network.
        before, after: clip lengths before the training clip and after it.
    """

    seeds: Sequence[int] = tuple(range(16))
    motion_seeds: Sequence[int] = tuple(range(6))
    labels: Sequence[int] | None = None
    before: float = 0.5
    after: float = 1.0


@dataclass(frozen=True)
class Inspection:
    """What was found, and the files that show it."""

    values: dict[str, Any]
    """What inspect.json holds."""
    files: list[Path]
    """The pictures, then the JSON file."""

    def format(self) -> str:
        """A few lines for a terminal."""
        values = self.values
        network = values["network"]
        size = network["generator"]["resolution"]
        lines = [f"network of {size}x{size}, clips of {network['clip_frames']} frames"]
        for name, one in values["embeddings"].items():
            cycles, speed = one["cycles_per_image"], one["radians_per_frame"]
            lines += [
                f"{name}, grid of {one['grid']}",
                f"  frequencies      median {cycles['median']:.2f}, largest {cycles['largest']:.2f}"
                f" cycles per image; limit of the grid {one['nyquist']:g},"
                f" {100 * one['beyond_nyquist']:.1f} % beyond it",
                f"  by content       {100 * one['content_share']:.0f} % of their size",
                f"  phases           {_ranges(speed, '.3f')} radians per frame",
                f"  as a shift       {100 * one['shift_explains']:.0f} % of the phase changes"
                " within a clip, mean over motions",
            ]
        change = _ranges(values["change"]["mean"], ".2f")
        lines.append(f"change per frame   {change} of 255")
        added = ", ".join(f"{k} {v['rms']:.0f}" for k, v in values["blocks"].items())
        lines.append(f"added by blocks    rms {added} of 255")
        return "\n".join(lines)


def _ranges(found: dict[str, float | None], form: str) -> str:
    words = {"before": "before", "within": "within the clip", "after": "after"}
    parts = [f"{found[k]:{form}} {text}" for k, text in words.items() if found[k] is not None]
    return ", ".join(parts)


def inspect(
    generator: Generator,
    info: NetworkInfo,
    outdir: Path,
    settings: InspectSettings | None = None,
    *,
    progress: bool = True,
) -> Inspection:
    """Looks at a network; writes frequencies.png, phases.png, change.png, blocks.png, weights.png
    and inspect.json.

    Args:
        generator: the network. info: what its file says.
        outdir: where to write.
        settings: what to look at.
        progress: a bar on standard error.

    Raises:
        DiganError: fewer than 2 contents or no motion, times or weights that are not finite, a
            place that cannot be written, no matplotlib.
    """
    settings = settings or InspectSettings()
    seeds, motion_seeds = list(settings.seeds), list(settings.motion_seeds)
    if len(set(seeds)) < 2:
        raise DiganError(f"seeds must be at least 2, to be compared, got {len(set(seeds))}")
    if not motion_seeds:
        raise DiganError("motion seeds must be at least 1, got 0")
    t = inspection_times(info.clip_frames, settings.before, settings.after)
    for name, parameter in generator.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise DiganError(f"the network's {name} must be finite, got numbers that are not")
    pyplot()  # or an error now, before anything is computed
    writable_folder(outdir)
    labels = settings.labels
    contents = write_videos(generator, seeds, labels=labels)
    first_label = None if labels is None else [labels[0]] * len(motion_seeds)
    motions = write_videos(generator, seeds[:1] * len(motion_seeds), motion_seeds, first_label)

    def few(count: int) -> Any:
        return write_videos(generator, seeds[:count], labels=labels and labels[:count])

    frequencies = spatial_frequencies(contents)
    own_frequencies = spatial_frequencies(motions)
    phases = phase_trajectories(motions, t)
    change = frame_change(few(MOST_LINES), t, progress=progress)
    clip = t[(t >= -1e-9) & (t <= 1 + 1e-9)]
    middle = (len(clip) - 1) // 2
    pictures = block_pictures(few(BLOCK_VIDEOS), clip[middle : middle + 2])
    added = added_by_block(pictures)
    shares = weight_shares(contents)
    values = {
        "network": {
            "generator": to_dict(info.generator), "clip_frames": info.clip_frames,
            "fps": info.fps, "classes": list(info.classes), "kimg": info.kimg,
            "description": info.description,
        },
        "seeds": seeds, "motion_seeds": motion_seeds,
        "labels": None if labels is None else list(labels),
        "t": change.t.tolist(),
        "embeddings": {
            one.block: _embedding(one, own, found)
            for one, own, found in zip(frequencies, own_frequencies, phases, strict=True)
        },
        "change": _change(change),
        "blocks": {
            name: {
                "rms": grey_rms(values),
                "change_per_frame": 127.5 * float(np.abs(np.diff(values, axis=1)).mean()),
            }
            for name, values in added.items()
        },
        "weights_content_share": shares,
    }  # fmt: skip
    files = [
        draw_frequencies(frequencies, seeds, outdir / "frequencies.png"),
        draw_phases(phases, own_frequencies, seeds[0], motion_seeds, outdir / "phases.png"),
        draw_change(change, seeds[:MOST_LINES], outdir / "change.png"),
        draw_blocks(pictures, added, float(clip[middle]), seeds, outdir / "blocks.png"),
        draw_weights(frequencies, shares, len(seeds), outdir / "weights.png"),
    ]
    write_json(outdir / "inspect.json", values)
    return Inspection(values, [*files, outdir / "inspect.json"])


def _means(
    values: NDArray[np.float64], t: NDArray[np.float64]
) -> dict[str, float | None]:  # values [B, T - 1]
    """The means of steps before, within and after the training clip; None where there is none."""
    early, late = t[1:] <= 1e-9, t[:-1] >= 1 - 1e-9
    ranges = {"before": early, "within": ~(early | late), "after": late}
    return {k: float(values[:, some].mean()) if some.any() else None for k, some in ranges.items()}


def _embedding(one: Frequencies, own: Frequencies, phases: Phases) -> dict[str, Any]:
    """Numbers of an embedding: `one` of all contents, `own` and `phases` of all motions."""
    lengths = one.length
    start, end = (int(np.abs(phases.t - at).argmin()) for at in (0.0, 1.0))
    shifts = [
        translation(cycles, moved[end] - moved[start], one.grid)
        for cycles, moved in zip(own.cycles, phases.moved, strict=True)
    ]
    return {
        "grid": one.grid,
        "nyquist": one.nyquist,
        "cycles_per_image": {
            "p10": float(np.quantile(lengths, 0.1)),
            "median": float(np.median(lengths)),
            "p90": float(np.quantile(lengths, 0.9)),
            "largest": float(lengths.max()),
        },
        "beyond_nyquist": one.beyond,
        "content_share": one.share,
        "mean_deviation_cycles": float(one.deviation.mean()),
        "radians_per_frame": _means(phases.speed, phases.t),
        "radians_per_frame_by_motion": phases.speed.tolist(),
        "steps_above_half_a_turn": phases.too_fast,
        "shift_pixels_per_clip_by_motion": [shift.tolist() for shift, _ in shifts],
        "shift_explains": float(np.mean([share for _, share in shifts])),
    }


def _change(change: FrameChange) -> dict[str, Any]:
    return {
        "mean": _means(change.change, change.t),
        "by_content": change.change.tolist(),
    }
