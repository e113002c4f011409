"""`digan import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from digan.cli import parse
from digan.errors import DiganError


@dataclass(frozen=True)
class ImportArgs:
    """Open an official checkpoint (.pkl) without running the code inside it.

    SOURCE becomes the network file OUT, with which digan generate, inspect and train --init work;
    what --discriminators writes is for train --init-discriminators. Only tensors, numbers, texts
    and plain containers are read; a file that asks for anything else is refused with the name of
    what it asks for.

    Examples:
        digan import network-snapshot-025000.pkl ucf.safetensors --fps 25
        digan import official.pkl sky.safetensors --which G --discriminators sky-d.safetensors
        digan import stylegan2-ada.pkl d.safetensors --stylegan2   # both discriminators from its D
        digan import sky.safetensors official-names.pt --export    # the way back
    """

    source: Annotated[Path, tyro.conf.Positional]
    """An official snapshot; for --export a network file or a run's folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """The file to write."""
    which: Literal["G_ema", "G"] = "G_ema"
    """The averaged generator, of which published results are, or the one in training."""
    discriminators: Path | None = None
    """Where to write both discriminators, for train --init-discriminators."""
    clip_frames: int = 16
    """Frames of a training clip, which the snapshot does not tell; t = 1 is the last."""
    fps: float = 0.0
    """Frames per second of the training data; 0 if unknown."""
    class_names: str | None = None
    """Names of a conditional network's classes, separated by commas."""
    stylegan2: bool = False
    """SOURCE is of stylegan2-ada-pytorch, its snapshot (.pkl) or the state dict of its
    discriminator (.pt, .safetensors): write both discriminators, started from it."""
    export: bool = False
    """Write the generator of a network file as a state dict with official names (.pt,
    .safetensors)."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: ImportArgs = parse(ImportArgs, arguments, "import")
    if asked.stylegan2 and asked.export:
        raise DiganError("--stylegan2 and --export exclude one another")
    if not 0 <= asked.fps < float("inf"):
        raise DiganError(f"fps must be at least 0 and finite, got {asked.fps}")
    if asked.export:
        from digan.importer import export_file

        print(f"{asked.out}: {export_file(asked.source, asked.out)} tensors, official names")
        return 0
    if asked.stylegan2:
        from digan.importer import import_stylegan2_discriminator
        from digan.nn.snapshot import save_discriminators

        pair = import_stylegan2_discriminator(asked.source)
        save_discriminators(asked.out, pair, f"both started from D of {asked.source.name}")
        config = pair.config
        print(
            f"D: {config.resolution}x{config.resolution}, for a run with --discriminator."
            f"channel-base {config.channel_base} --discriminator.channel-max {config.channel_max}"
        )
        print(asked.out)
        return 0
    from digan.importer import import_file

    names = asked.class_names.split(",") if asked.class_names else []
    done = import_file(
        asked.source,
        asked.out,
        which=asked.which,
        discriminators=asked.discriminators,
        clip_frames=asked.clip_frames,
        fps=asked.fps,
        classes=tuple(name.strip() for name in names),
    )
    for line in [*done.lines, *done.files]:
        print(line)
    return 0
