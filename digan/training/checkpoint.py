"""The state of a run: everything that a bit-exact continuation needs.

Plain tensors, numbers and strings, so that it loads with `weights_only=True`. There is no
state of random generators: every draw is a function of the seed and of the number of samples
seen. The newest two states are kept; a damaged newest one is named and the other is used.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from digan import __version__, ops
from digan.config import TrainConfig, to_dict
from digan.errors import DiganError
from digan.execution import wished_impl
from digan.files import atomic_path
from digan.training.step import Trainer

LATEST = "training-state-latest.pt"
PREVIOUS = "training-state-previous.pt"
FORMAT_VERSION = 1

# What may change between a run and its continuation: nothing of this enters the weights.
# Threads enter by rounding only, of which `surroundings` takes care.
FREE_SETTINGS = {
    "kimg", "tick", "snap", "workers", "threads", "metrics", "i3d", "c3d", "max_nonfinite",
    "preset",
}  # fmt: skip
_ENTRIES = {
    "format_version", "config", "data", "surroundings", "seen", "generator", "discriminator",
    "average", "g_optimizer", "d_optimizer",
}  # fmt: skip
# What a bit-identical continuation needs beside the settings.
_SURROUNDINGS = ("torch", "threads", "device", "digan", "kernels")


def surroundings(trainer: Trainer) -> dict[str, Any]:
    """Library versions, threads, device and the ops' paths, on which rounding depends."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": trainer.device.type,
        "digan": __version__,
        "kernels": ", ".join(fused_ops(trainer)) or "none",
    }


def fused_ops(trainer: Trainer) -> list[str]:
    """The ops that run on native kernels in this run."""
    if trainer.device.type != "cuda" or wished_impl(trainer.config.kernels) == "reference":
        return []
    return [name for name, path in ops.status().items() if path == "fused"]


def save_state(run: Path, trainer: Trainer, data: str) -> None:
    """Writes the run's state atomically, keeping the one before.

    Raises:
        DiganError: it cannot be written; the states that were there are untouched.
    """
    state = {
        "format": "digan-training-state",
        "format_version": FORMAT_VERSION,
        "config": to_dict(trainer.config),
        "data": data,
        "surroundings": surroundings(trainer),
        "seen": trainer.seen,
        "generator": trainer.generator.state_dict(),
        "discriminator": trainer.discriminator.state_dict(),
        "average": trainer.average.state_dict(),
        "g_optimizer": trainer.g_optimizer.state_dict(),
        "d_optimizer": trainer.d_optimizer.state_dict(),
    }
    latest = run / LATEST
    with atomic_path(latest) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch reports a full disk
            reason = str(error).splitlines()[0][:120]
            raise OSError(f"the disk may be full ({reason})") from error
        if latest.exists():
            _keep(latest, run / PREVIOUS)


def _keep(latest: Path, previous: Path) -> None:
    """Gives the newest state its second name without a moment in which it has none."""
    previous.unlink(missing_ok=True)
    try:
        previous.hardlink_to(latest)
    except OSError:  # a file system without hard links
        latest.replace(previous)


def read_state(run: Path) -> tuple[dict[str, Any], str]:
    """The run's newest readable state, and a sentence if a newer one was damaged.

    Raises:
        DiganError: no state, or none that can be read.
    """
    complaint = ""
    for name in (LATEST, PREVIOUS):
        path = run / name
        if not path.is_file():
            continue
        try:
            _check_sums(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise almost anything: KeyError, IndexError
            reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
            complaint = f"{path} is damaged ({reason[:120]})"
            continue
        if not isinstance(state, dict) or state.get("format") != "digan-training-state":
            complaint = f"{path} is no training state of digan"
            continue
        if missing := sorted(_ENTRIES - state.keys()):
            complaint = f"{path} is damaged (it has no {missing[0]})"
            continue
        if state["format_version"] > FORMAT_VERSION:
            raise DiganError(
                f"{path} has format version {state['format_version']}, "
                f"this program reads up to {FORMAT_VERSION}"
            )
        return state, f"{complaint}; continuing from {name}" if complaint else ""
    raise DiganError(complaint or f"the run {run} has no training state to resume from")


def _check_sums(path: Path) -> None:
    """Compares every entry with its checksum, which torch.load does not.

    Raises:
        ValueError: an entry differs. zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        if name := archive.testzip():
            raise ValueError(f"the checksum of {name} is wrong")


def check_same_settings(state: dict[str, Any], config: TrainConfig, data: str, run: Path) -> None:
    """Refuses to continue a run with other settings or other data.

    Raises:
        DiganError: names every setting that differs, with both values.
    """
    # A state from before a setting was made has its default.
    saved = _flat(to_dict(TrainConfig())) | _flat(state["config"])
    asked = _flat(to_dict(config))
    names = sorted((saved.keys() | asked.keys()) - FREE_SETTINGS)
    differences = [
        f"{name} {saved.get(name)} -> {asked.get(name)}"
        for name in names
        if saved.get(name) != asked.get(name)
    ]
    if state["data"] != data:
        differences.append(f"data {state['data']} -> {data}")
    if differences:
        raise DiganError(
            f"{run} was trained with other settings ({', '.join(differences)}): "
            "repeat them, or start anew with --resume none"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def restore(trainer: Trainer, state: dict[str, Any]) -> str:
    """Puts a state into a trainer; returns a sentence if the surroundings changed.

    Raises:
        DiganError: the tensors do not fit.
    """
    try:
        trainer.generator.load_state_dict(state["generator"])
        trainer.discriminator.load_state_dict(state["discriminator"])
        trainer.average.load_state_dict(state["average"])
        trainer.g_optimizer.load_state_dict(state["g_optimizer"])
        trainer.d_optimizer.load_state_dict(state["d_optimizer"])
        trainer.seen = int(state["seen"])
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"the training state does not fit its own settings: {reason}") from error
    now, then = surroundings(trainer), state["surroundings"]
    # What a state of an older version does not say did not change.
    changed = [
        f"{k} {then[k]} -> {now[k]}" for k in _SURROUNDINGS if k in then and then[k] != now[k]
    ]
    if not changed:
        return ""
    return f"the continuation is not bit-identical to an unbroken run: {', '.join(changed)}"
