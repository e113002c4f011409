"""From a clip to a folder of files: codes, curve, results, and a report of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digan.errors import DiganError
from digan.files import writable_folder, write_json
from digan.inversion.clip import Clip
from digan.inversion.codes import network_hash, save_codes
from digan.inversion.fit import Inversion, fit_clip
from digan.inversion.phases import FitSettings
from digan.inversion.plot import plot_curve, write_curve
from digan.inversion.results import (
    RESULTS,
    Result,
    ResultSettings,
    check_speed,
    make_results,
    parse_results,
    write_results,
)
from digan.nn import Generator


@dataclass(frozen=True)
class Written:
    """What `invert_to_files` did.

    Attributes:
        inversion: the codes and how they were found. results: what they give.
        paths: the files, in the order of their making.
        lines: the figures in words. notes: what could not be done.
    """

    inversion: Inversion
    results: list[Result]
    paths: list[Path]
    lines: list[str]
    notes: list[str]


def invert_to_files(
    generator: Generator,
    clip: Clip,
    settings: FitSettings,
    outdir: Path,
    *,
    shown: ResultSettings | None = None,
    names: Sequence[str] = tuple(RESULTS),
    progress: bool = False,
) -> Written:
    """Inverts a clip and writes all there is to know and to see.

    `codes.safetensors` comes first, as it cost most; then `loss.csv`, `loss.png` (without
    matplotlib there is a note in its place), the results, and `report.json`.

    Args:
        generator: the network. clip: what to invert. settings: how.
        outdir: a folder; made if it is not there.
        shown, names: see `make_results`. progress: a bar on standard error.

    Raises:
        DiganError: a place that cannot be written, a result that is not known.
    """
    shown = shown or ResultSettings()
    check_speed(clip, shown)
    parse_results(",".join(names))
    writable_folder(outdir)
    inversion = fit_clip(generator, clip, settings, progress=progress)
    about = _about(generator, clip, settings, inversion)
    codes = outdir / "codes.safetensors"
    save_codes(codes, inversion.codes, generator, about)
    curve, picture = outdir / "loss.csv", outdir / "loss.png"
    write_curve(curve, inversion)
    paths, notes = [codes, curve], []
    try:
        plot_curve(picture, inversion)
        paths.append(picture)
    except DiganError as error:
        notes.append(f"no {picture.name}: {error}")
    results = make_results(generator, inversion.codes, clip, shown, names)
    paths += write_results(outdir, results)
    report = outdir / "report.json"
    measures = {result.name: {**_finite(result.measures), "frames": result.frames}
                for result in results}  # fmt: skip
    write_json(report, {**about, "results": measures})
    lines = [
        f"{inversion.psnr:.2f} dB over {len(clip.indices)} observed frames: start "
        f"{inversion.start + 1} of {settings.starts}, {inversion.steps} steps in "
        f"{inversion.seconds:.0f} s, {inversion.ended}"
    ]
    lines += [result.format() for result in results]
    return Written(inversion, results, [*paths, report], lines, notes)


def _about(
    generator: Generator, clip: Clip, settings: FitSettings, inversion: Inversion
) -> dict[str, Any]:
    """How the codes were found, as JSON can hold it; nothing that differs from run to run."""
    return {
        "clip": clip.source,
        "t": clip.t.tolist(),
        "observed": clip.indices,
        "fps": clip.fps,
        "network": network_hash(generator),
        "settings": dataclasses.asdict(settings),
        "psnr": round(inversion.psnr, 4),
        "start": inversion.start,
        "steps": inversion.steps,
        "ended": inversion.ended,
    }


def _finite(measures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: equal frames are None."""
    return {
        name: round(value, 4) if math.isfinite(value) else None for name, value in measures.items()
    }
