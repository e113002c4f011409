"""The state of a run: everything that a bit-exact continuation needs.

Plain tensors, numbers and strings, so that it loads with `weights_only=True`. There is no
state of random generators: every draw is a function of the seed and of the number of samples
seen. The newest two states are kept; a damaged newest one is named and the other is used.
"""

from __future__ import annotations

import dataclasses
import reprlib
import zipfile
from pathlib import Path
from typing import Any

import torch

from digan import __version__, ops
from digan.config import TrainConfig, to_dict
from digan.errors import DiganError
from digan.execution import wished_impl
from digan.files import atomic_path, check_archive
from digan.training.step import Trainer, load_moments

LATEST = "training-state-latest.pt"
PREVIOUS = "training-state-previous.pt"
FORMAT_VERSION = 1

# What may change between a run and its continuation: nothing of this enters the weights.
# Threads, processes and recomputation enter by rounding only, of which `surroundings` takes care.
FREE_SETTINGS = {
    "kimg", "tick", "snap", "workers", "threads", "recompute", "metrics", "i3d", "c3d",
    "max_nonfinite", "preset", "cuda_graphs",
}  # fmt: skip
_ENTRIES: dict[str, type] = {
    "format_version": int, "config": dict, "data": str, "surroundings": dict, "seen": int,
    "generator": dict, "discriminator": dict, "average": dict, "g_optimizer": dict,
    "d_optimizer": dict,
}  # fmt: skip
_MOST_DIFFERENCES = 8  # named in an error
_DEEPEST = 2  # settings within settings
# What a bit-identical continuation needs beside the settings.
_SURROUNDINGS = (
    "torch", "threads", "device", "digan", "kernels", "recompute", "batch_gpu", "processes",
)  # fmt: skip


class DamagedStateError(DiganError):
    """No state of a run can be read."""


def surroundings(trainer: Trainer) -> dict[str, Any]:
    """What rounding depends on: versions, threads, device, the ops' paths, how passes are cut."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": trainer.device.type,
        "digan": __version__,
        "kernels": ", ".join(fused_ops(trainer)) or "none",
        "recompute": trainer.config.recompute,
        "batch_gpu": trainer.config.batch_gpu,
        "processes": trainer.world.size,
    }


def fused_ops(trainer: Trainer) -> list[str]:
    """The ops that run on native kernels in this run."""
    if trainer.device.type != "cuda" or wished_impl(trainer.config.kernels) == "reference":
        return []
    return [name for name, path in ops.status().items() if path == "fused"]


def state_of(trainer: Trainer, data: str) -> dict[str, Any]:
    """Everything that a continuation needs; `data` is the store's fingerprint."""
    return {
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


def save_state(run: Path, trainer: Trainer, data: str) -> None:
    """Writes the run's state atomically, keeping the one before.

    Raises:
        DiganError: it cannot be written; the states that were there are untouched.
    """
    state = state_of(trainer, data)
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
        DamagedStateError: there are states, and none can be read.
        DiganError: no state, or one of a newer program.
    """
    complaint = ""
    for name in (LATEST, PREVIOUS):
        path = run / name
        if not path.is_file():
            continue
        try:
            _check_whole(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise almost anything: KeyError, IndexError
            reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
            complaint = f"{path} is damaged ({reason[:120]})"
            continue
        if not isinstance(state, dict) or state.get("format") != "digan-training-state":
            complaint = f"{path} is no training state of digan"
            continue
        wrong = [n for n, kind in sorted(_ENTRIES.items()) if not isinstance(state.get(n), kind)]
        if wrong:
            complaint = f"{path} is damaged (it has no {wrong[0]})"
            continue
        if state["format_version"] > FORMAT_VERSION:
            raise DiganError(
                f"{path} has format version {state['format_version']}, "
                f"this program reads up to {FORMAT_VERSION}"
            )
        return state, f"{complaint}; continuing from {name}" if complaint else ""
    if complaint:
        raise DamagedStateError(complaint)
    raise DiganError(f"the run {run} has no training state to resume from")


def _check_whole(path: Path) -> None:
    """Raises unless a state is a whole archive, as `save_state` writes it."""
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("it is no archive")
    check_archive(path)


def check_same_settings(state: dict[str, Any], config: TrainConfig, data: str, run: Path) -> None:
    """Refuses to continue a run with other settings or other data.

    Raises:
        DiganError: names every setting that differs, with both values.
    """
    asked = _flat(to_dict(config))
    try:
        # A state from before a setting was made has its default.
        saved = _flat(to_dict(TrainConfig())) | _flat(state["config"])
        if _same_groups(saved, asked):
            asked["batch_gpu"] = saved["batch_gpu"]
        names = sorted((saved.keys() | asked.keys()) - FREE_SETTINGS)
    except TypeError as error:
        raise DiganError(
            f"the training state of {run} is damaged: its settings are none"
        ) from error
    differences = [
        f"{_short(name)} {_short(saved.get(name))} -> {_short(asked.get(name))}"
        for name in names
        if saved.get(name) != asked.get(name)
    ]
    if state["data"] != data:
        differences.append(f"data {_short(state['data'])} -> {data}")
    if len(differences) > _MOST_DIFFERENCES:
        others = len(differences) - _MOST_DIFFERENCES
        differences[_MOST_DIFFERENCES:] = [f"and {others} more"]
    if differences:
        raise DiganError(
            f"{run} was trained with other settings ({', '.join(differences)}): "
            "repeat them, or start anew with --resume none"
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else reprlib.repr(value)
    return " ".join(text.split())[:60]


def _same_groups(saved: dict[str, Any], asked: dict[str, Any]) -> bool:
    """True if passes of either size keep the minibatch statistic's groups whole, or for auto.

    Then what parts them is rounding, of which `surroundings` takes care.
    """
    group = asked["discriminator.group_size"]
    sizes = [values["batch_gpu"] or values["batch"] for values in (saved, asked)]
    return sizes[1] == "auto" or all(size % group == 0 for size in sizes)


def continued_batch_gpu(state: dict[str, Any], config: TrainConfig) -> tuple[TrainConfig, str]:
    """The settings of a continuation: for `auto` what the run has, and a sentence about it."""
    if config.batch_gpu != "auto":
        return config, ""
    saved = state["config"].get("batch_gpu")
    if saved is not None and type(saved) is not int:
        raise DiganError(f"the training state is damaged: its batch-gpu is {_short(saved)}")
    config = dataclasses.replace(config, batch_gpu=saved)
    group = config.discriminator.group_size
    return config, (
        f"batch-gpu auto: continues with {config.part} samples a pass, as before; on a smaller "
        f"device a smaller multiple of {group} gives the same result but for rounding"
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    if prefix.count(".") > _DEEPEST:
        raise TypeError("settings are not nested like that")
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
        load_moments(trainer.g_optimizer, state["g_optimizer"])
        load_moments(trainer.d_optimizer, state["d_optimizer"])
        trainer.seen = state["seen"]
    except Exception as error:  # PyTorch meets a value of another type with almost anything
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"the training state does not fit its own settings: {reason}") from error
    now, then = surroundings(trainer), state["surroundings"]
    # What a state of an older version does not say did not change.
    changed = [
        f"{k} {_short(then[k])} -> {now[k]}"
        for k in _SURROUNDINGS
        if k in then and then[k] != now[k]
    ]
    if not changed:
        return ""
    return f"the continuation is not bit-identical to an unbroken run: {', '.join(changed)}"


def share_state(trainer: Trainer) -> None:
    """Gives every process the first one's weights, moments and position."""
    world = trainer.world
    if world.size == 1:
        return
    trainer.seen = world.tell(trainer.seen)
    for network in (trainer.generator, trainer.discriminator, trainer.average):
        world.copy_(network.state_dict().values())
    for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
        state = optimizer.state_dict()
        shapes = {
            key: {name: list(value.shape) for name, value in moments.items()}
            for key, moments in state["state"].items()
        }
        shapes = world.tell(shapes)  # JSON makes the keys text
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if not world.is_first:
            state["state"] = {
                int(key): {
                    name: torch.zeros(shape, device=parameters[int(key)].device)
                    for name, shape in moments.items()
                }
                for key, moments in shapes.items()
            }
            optimizer.load_state_dict(state)
        world.copy_(value for p in parameters for value in optimizer.state.get(p, {}).values())
