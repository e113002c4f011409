"""`digan import`: an official snapshot to network files of ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from digan.errors import DiganError
from digan.importer.networks import import_discriminators, import_generator
from digan.importer.pickles import printable
from digan.importer.snapshot import OfficialSnapshot, read_snapshot
from digan.nn.snapshot import NetworkInfo, save_discriminators, save_network


@dataclass(frozen=True)
class Imported:
    """What was imported, in words."""

    lines: list[str]
    files: list[Path]


def import_file(
    source: Path,
    out: Path,
    *,
    which: Literal["G_ema", "G"] = "G_ema",
    discriminators: Path | None = None,
    clip_frames: int = 16,
    fps: float = 0.0,
    classes: tuple[str, ...] = (),
) -> Imported:
    """Imports an official snapshot as a network file.

    Args:
        source: the snapshot (.pkl). out: the network file to write.
        which: the averaged generator, or the one in training.
        discriminators: where to write both discriminators; None for not.
        clip_frames, fps: of the training clips, which a snapshot does not tell.
        classes: names of the classes of a conditional network.

    Raises:
        DiganError: the snapshot is refused or does not fit, or a file cannot be written.
    """
    if clip_frames < 2:
        raise DiganError(f"clip-frames must be at least 2, got {clip_frames}")
    for path in (out, discriminators):
        if path is not None and path.exists() and source.exists() and path.samefile(source):
            raise DiganError(f"the import must not overwrite its source {source}")
        if path is not None and not path.parent.is_dir():
            raise DiganError(f"{path} cannot be written: its folder does not exist")
    snapshot = read_snapshot(source)
    generator = import_generator(snapshot, which)
    config = generator.config
    if classes and len(classes) != config.num_classes:
        raise DiganError(
            f"class-names must be {config.num_classes} names, as the network has classes, "
            f"got {len(classes)}"
        )
    pair = import_discriminators(snapshot) if discriminators else None
    said = describe(snapshot)
    save_network(
        out,
        generator,
        NetworkInfo(config, clip_frames, fps, classes, _kimg(source), f"{which} of {said}"),
    )
    count = sum(tensor.numel() for tensor in generator.state_dict().values())
    lines = [
        f"{which}: {config.resolution}x{config.resolution}, {config.num_classes} classes, "
        f"{count / 1e6:.2f} M numbers",
    ]
    files = [out]
    if discriminators is not None and pair is not None:
        save_discriminators(discriminators, pair, f"D of {said}")
        count = sum(tensor.numel() for tensor in pair.state_dict().values())
        lines.append(f"D: both discriminators, {count / 1e6:.2f} M numbers")
        files.append(discriminators)
    return Imported(lines, files)


def describe(snapshot: OfficialSnapshot) -> str:
    """Where a network comes from, for the file's header."""
    data = snapshot.data.get("path")
    trained = f", trained on {printable(Path(data).name)}" if isinstance(data, str) else ""
    return f"the official snapshot {snapshot.path.name}{trained}"


def _kimg(path: Path) -> float:
    """Training so far, which only the name of a snapshot tells."""
    match = re.fullmatch(r"network-snapshot-(\d{1,9})", path.stem)
    return float(match[1]) if match else 0.0
