"""`digan train`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from digan.cli import parse
from digan.config import PRESETS, TrainConfig, from_dict, to_dict
from digan.errors import DiganError
from digan.formats import from_yaml


@dataclass(frozen=True)
class TrainArgs:
    """Train a model on a store made by digan prepare, or continue a run.

    Settings come from the preset, then from --config, then from the flags. A run writes
    OUTDIR/00000-NAME-...: config.yaml, log.txt, stats.jsonl, TensorBoard events, reals.mp4,
    fakesNNNNNN.mp4, network-snapshot-NNNNNN.safetensors, training-state-latest.pt and
    report.html.

    Examples:
        digan train store/ --preset tiny --kimg 20
        digan train ucf128/ --clip-frames 128 --cond --precision bf16 --resume auto
        digan train store/ --batch 64 --batch-gpu 16 --dry-run
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A store made by digan prepare."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    config: Path | None = None
    """A YAML file of settings, as config.yaml of a run."""
    outdir: Path = Path("runs")
    """Where run folders are made."""
    resume: str = "none"
    """none: a new run; auto: continue the newest unfinished run of this name, or start one;
    otherwise the folder of a run."""
    init: str | None = None
    """Network file that the generator of a new run starts from."""
    init_discriminators: str | None = None
    """File of digan import that the discriminators of a new run start from."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""
    sigterm_exit_code: int = 0
    """Exit status after SIGTERM, which saves and stops; schedulers may want another."""
    dry_run: bool = False
    """Print the resolved settings and stop."""


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """The value that a flag has on a command line, before that is parsed in full."""
    found = None
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if word == flag:
            found = following
        elif word.startswith(flag + "="):
            found = word.partition("=")[2]
    return found


def _read_settings(path: Path, base: TrainConfig) -> TrainConfig:
    """The base with what a YAML file sets; raises DiganError for unknown or bad entries."""
    try:
        values = from_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DiganError(f"{path} is no YAML: {str(error)[:300]}") from error
    if not isinstance(values, dict):
        raise DiganError(f"{path} must hold settings by name, got {type(values).__name__}")
    return from_dict(TrainConfig, _merge(to_dict(base), values))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        merged[key] = value
    return merged


def defaults(arguments: list[str]) -> TrainConfig:
    """What the flags of a command line start from: its preset, then its --config file."""
    config = _value_of("--config", arguments)
    preset = _value_of("--preset", arguments)
    if config is None:
        return PRESETS.get(preset or "official", PRESETS["official"])
    if preset is None:
        try:
            values = from_yaml(Path(config).read_text(encoding="utf-8"))
            preset = values.get("preset") if isinstance(values, dict) else None
        except (OSError, ValueError):
            preset = None  # _read_settings says what is wrong
    return _read_settings(Path(config), PRESETS.get(str(preset), PRESETS["official"]))


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    default = TrainArgs(data=tyro.MISSING, settings=defaults(arguments))
    asked: TrainArgs = parse(TrainArgs, arguments, "train", default)
    if asked.dry_run:
        return _dry_run(asked)
    from digan.training.loop import train

    outcome = train(
        asked.settings,
        asked.data,
        asked.outdir,
        resume=asked.resume,
        init=asked.init,
        init_discriminators=asked.init_discriminators,
        device=asked.device,
    )
    print(outcome.run)
    return 0 if outcome.finished else asked.sigterm_exit_code


def _dry_run(asked: TrainArgs) -> int:
    """Prints what a run would do."""
    import torch
    import yaml

    from digan.execution import choose_device, choose_impl
    from digan.nn import Generator, PairDiscriminator
    from digan.training.batch_size import settle_batch_gpu
    from digan.training.opening import describe, open_data

    config, store, pairs = open_data(asked.settings, asked.data)
    device = choose_device(asked.device)
    choose_impl(config.kernels, device)
    config, settled = settle_batch_gpu(config, device=device, labels=pairs.labels)
    print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
    with torch.device("meta"):
        networks = {
            "generator": Generator(config.generator),
            "discriminators": PairDiscriminator(config.discriminator),
        }
    for name, network in networks.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"# {name}: {count / 1e6:.2f} M parameters")
    for line in [*describe(config, store, pairs), *([settled] if settled else [])]:
        print(f"# {line}")
    config = dataclasses.replace(config, batch_gpu=asked.settings.batch_gpu)
    if config != asked.settings:
        print("# resolution and classes were taken from the store")
    return 0
