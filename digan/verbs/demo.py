"""`digan demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from digan.cli import parse


@dataclass(frozen=True)
class DemoArgs:
    """Train a small model on a small video set, without any data or GPU, and show the result.

    Makes real .mp4 files of drifting clouds, prepares a store, trains the tiny preset for a
    few minutes, and writes OUTDIR/index.html with the generated videos. Run again after an
    interruption, it continues.

    Examples:
        digan demo
        digan demo --outdir runs/demo --kimg 30      # longer and better
    """

    outdir: Path = Path("runs/demo")
    """Where everything goes."""
    kimg: float | None = None
    """Thousands of training samples."""
    seed: int = 0
    """Of the videos and of the run."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: DemoArgs = parse(DemoArgs, arguments, "demo")
    from digan.demo import DemoSettings, demo

    settings = DemoSettings(seed=asked.seed)
    if asked.kimg is not None:
        settings = DemoSettings(kimg=asked.kimg, seed=asked.seed)
    print(demo(asked.outdir, settings))
    return 0
