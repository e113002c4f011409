"""Runs from the command line, and what their training states hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from digan.cli import main
from digan.config import TrainConfig
from digan.training.checkpoint import LATEST
from tests.tiny_runs import settings_file, tiny_config

PARTS = ("seen", "generator", "discriminator", "average", "g_optimizer", "d_optimizer")
KIMG = 0.048  # 12 iterations; states after 4, 8 and 12
CONFIG = tiny_config(kimg=KIMG)


def command(store: Path, outdir: Path, config: TrainConfig, *flags: str) -> list[str]:
    """The words after `digan` of a run with these settings."""
    outdir.parent.mkdir(parents=True, exist_ok=True)
    settings = settings_file(outdir.with_suffix(".yaml"), config)
    return ["train", str(store), "--config", str(settings), "--outdir", str(outdir), *flags]


def run_in(outdir: Path) -> Path:
    """The only run of a folder."""
    (run,) = (path for path in outdir.iterdir() if path.is_dir())
    return run


def complete(store: Path, outdir: Path, config: TrainConfig, *flags: str) -> Path:
    """A run from the command line, in this process, to its end."""
    assert main(command(store, outdir, config, *flags)) == 0
    return run_in(outdir)


def state_of(run: Path, name: str = LATEST) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / name, weights_only=True)
    return state


def differences(ours: Any, expected: Any, path: str = "") -> list[str]:
    """Where two states are not equal to the bit."""
    if isinstance(expected, torch.Tensor):
        same = (
            isinstance(ours, torch.Tensor)
            and ours.dtype == expected.dtype
            and torch.equal(ours, expected)
        )
        return [] if same else [path]
    if type(ours) is not type(expected):
        return [path]
    if isinstance(expected, dict):
        if ours.keys() != expected.keys():
            return [path]
        return [d for k in expected for d in differences(ours[k], expected[k], f"{path}/{k}")]
    if isinstance(expected, (list, tuple)):
        if len(ours) != len(expected):
            return [path]
        pairs = zip(ours, expected, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in differences(a, b, f"{path}/{i}")]
    return [] if ours == expected else [path]


def state_differences(run: Path, expected: Path) -> list[str]:
    """The tensors and counters in which the newest states of two runs differ."""
    ours, theirs = state_of(run), state_of(expected)
    assert len(theirs["g_optimizer"]["state"]) == len(theirs["generator"]) - 1  # but for w_avg
    return [d for part in PARTS for d in differences(ours[part], theirs[part], part)]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
