"""How a run begins: its data, its folder, its state, and what a user should know first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from digan.config import TrainConfig, resolve
from digan.data.datasets import ClipPairs
from digan.data.store import Store
from digan.errors import DiganError
from digan.files import remove_unfinished, writable_folder
from digan.nn.snapshot import load_discriminators, load_network
from digan.processes import World
from digan.training import checkpoint, runs
from digan.training.batch_size import settle_batch_gpu
from digan.training.step import Trainer

State = tuple[str, dict[str, Any]]  # what is to be said of it, and its entries


def open_data(config: TrainConfig, store_path: Path) -> tuple[TrainConfig, Store, ClipPairs]:
    """Opens the store and fits the configuration to it.

    Raises:
        DiganError: no store, labels asked but missing, no clip long enough.
    """
    store = Store(store_path)
    config = resolve(config, resolution=store.resolution, num_classes=len(store.classes))
    pairs = ClipPairs(
        store,
        config.clip_frames,
        seed=config.seed,
        mirror=config.mirror,
        split=config.split,
        use_labels=config.cond,
    )
    return config, store, pairs


def describe(
    config: TrainConfig, store: Store, pairs: ClipPairs, world: World | None = None
) -> list[str]:
    """What a user should know before a run starts; unused labels are said loudly."""
    size = 1 if world is None else world.size
    lines = [
        f"data: {store.path}: {store.num_videos} videos, {store.num_frames} frames of "
        f"{store.resolution} x {store.resolution}, {pairs.num_windows} clips of "
        f"{config.clip_frames} frames"
    ]
    if store.splits:
        lines.append(f"data: split {config.split} of {', '.join(store.splits)}")
    if size > 1:
        lines.append(f"processes: {size}, each with {config.batch // size} samples of a batch")
    group, part = config.discriminator.group_size, min(config.part, config.batch // size)
    if part < min(group, config.batch):
        lines.append(
            f"micro-batches of {part}: the minibatch statistic has groups of {part}, not "
            f"{group}; results differ from those of whole groups"
        )
    if pairs.too_short:
        lines.append(f"data: {pairs.too_short} videos are shorter than the clip and left out")
    if store.lossy:
        lines.append("data: the store's frames are JPEG: metrics will show it")
    if store.classes and not config.cond:
        lines.append(
            f"WARNING: the store has labels of {len(store.classes)} classes and they are NOT "
            "used; --cond trains with them"
        )
    return lines


def same_everywhere(world: World, store: Store) -> None:
    """Raises DiganError unless all processes, on whatever machines, opened the same data."""
    prints = world.gather(store.fingerprint)
    if len(set(prints)) > 1:
        other = next(rank for rank, each in enumerate(prints) if each != prints[0])
        raise DiganError(f"{store.path} is not the same store for process 0 and process {other}")


def settle(
    config: TrainConfig,
    pairs: ClipPairs,
    world: World,
    device: torch.device,
    state: State | None,
) -> tuple[TrainConfig, str]:
    """The configuration with a number for `--batch-gpu auto`: a new one, or that of the state."""
    if not world.tell(state is not None):
        return settle_batch_gpu(config, device=device, labels=pairs.labels, world=world)
    settled = ""
    if state is not None:
        config, settled = checkpoint.continued_batch_gpu(state[1], config)
    return dataclasses.replace(config, batch_gpu=world.tell(config.batch_gpu)), settled


def begin_from(
    trainer: Trainer,
    outdir: Path,
    state: State | None,
    init: str | None,
    init_discriminators: str | None,
) -> list[str]:
    """Puts the trainer where the run is, or where it starts; what is to be said about that."""
    # Two states and a few snapshots, of networks, average and two moments each.
    size = sum(
        p.numel() * p.element_size()
        for net in (trainer.generator, trainer.discriminator)
        for p in net.parameters()
    )
    writable_folder(outdir, need_bytes=12 * size + (100 << 20))
    if state is not None:
        said, values = state
        return [s for s in (said, checkpoint.restore(trainer, values)) if s]
    notes = []
    if init is not None:
        notes.append(_start_from(trainer, init))
    if init_discriminators is not None:
        notes.append(_start_discriminators_from(trainer, init_discriminators))
    return notes


def find_run(
    config: TrainConfig, store: Store, outdir: Path, resume: str
) -> tuple[Path | None, State | None, list[str]]:
    """The folder to continue and its state, or nothing for a new run; what is to be said of that.

    Raises:
        DiganError: a folder that cannot be written, no such run, no readable state, other settings.
    """
    writable_folder(outdir)
    if resume == "none":
        return None, None, []
    if resume == "auto":
        run = runs.unfinished_run(outdir, runs.run_suffix(config, store.path.name))
        if run is None:
            return None, None, []
        if not (run / checkpoint.LATEST).exists() and not (run / checkpoint.PREVIOUS).exists():
            return None, None, []  # stopped before its first state: there is nothing to continue
    else:
        run = Path(resume)
        if not run.is_dir():
            raise DiganError(f"the run to resume, {run}, is no folder")
    writable_folder(run)
    remove_unfinished(run)
    try:
        values, said = checkpoint.read_state(run)
    except checkpoint.DamagedStateError as error:
        if resume != "auto" or (run / checkpoint.PREVIOUS).exists():
            raise
        # Little is lost with a run's first state, and a job that begins again by itself would
        # end here each time. Where there were two, somebody should know.
        return None, None, [f"WARNING: {error}; it was the run's first state: a new run starts"]
    checkpoint.check_same_settings(values, config, store.fingerprint, run)
    return run, (said, values), []


def _start_from(trainer: Trainer, init: str) -> str:
    """Copies a network file's generator into both generators."""
    source, info = load_network(init, device=trainer.device)
    try:
        for network in (trainer.generator, trainer.average):
            network.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise DiganError(
            f"the network {init} ({info.generator}) does not fit this run's generator "
            f"({trainer.config.generator})"
        ) from error
    return f"the generator starts from {init}"


def _start_discriminators_from(trainer: Trainer, init: str) -> str:
    """Copies a file's pair of discriminators into the run's."""
    source = load_discriminators(init, device=trainer.device)
    try:
        trainer.discriminator.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise DiganError(
            f"the discriminators {init} ({source.config}) do not fit this run's "
            f"({trainer.config.discriminator})"
        ) from error
    return f"the discriminators start from {init}"
