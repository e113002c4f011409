"""`digan evaluate`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digan.cli import UsageError, parse
from digan.config import GeneratorPrecision, Kernels
from digan.errors import DiganError

if TYPE_CHECKING:
    import torch

    from digan.metrics.clip_sets import VideoSet
    from digan.metrics.evaluate import Evaluator
    from digan.metrics.fakes import Fakes
    from digan.processes import World


@dataclass(frozen=True)
class EvaluateArgs:
    """Measure a network, or a folder of videos, against data, by protocols with a name.

    digan-fvd and digan-kvd are the original DIGAN script's; fvd2048_16f, fvd2048_128f,
    fvd2048_128f_subsample8f and kvd2048_16f follow StyleGAN-V, with any other numbers likewise;
    isv2048_ucf is the inception score of C3D; cdfvd2048_16f is FVD of VideoMAE features;
    fd-random3d needs no file. Every result stands beside its floor (real against real), and is
    appended with its whole protocol to metric-NAME.jsonl.

    FVD and IS need the files of pretrained networks, which digan never fetches. A TorchScript
    file is a program that loading runs: take it from a source you trust, and give its sha256.

    Examples:
        digan evaluate --network RUN --data ucf128/ --metrics fvd2048_16f --i3d i3d_torchscript.pt
        digan evaluate --network F --data sky/ --metrics digan-fvd,digan-kvd --i3d i3d_400.pt
        digan evaluate --fakes out/ --data videos/ --metrics fvd512_16f --resolution 128
        digan evaluate --network F --data ucf128/ --metrics isv2048_ucf --c3d c3d_ucf101.pt
        digan evaluate --network F --data ucf128/ --metrics fvd256_16f --per-class
        digan evaluate --network demo --data store/ --metrics fd-random3d
    """

    data: Path | None = None
    """Real videos: a store made by digan prepare, or a folder of videos."""
    network: str | None = None
    """Network file, a run's folder (its newest snapshot), or demo."""
    fakes: Path | None = None
    """Videos to judge in place of a network's: a folder (mp4, frame folders, npz) or a store."""
    metrics: str = "digan-fvd,digan-kvd"
    """Names of protocols, separated by commas."""
    i3d: Path | None = None
    """File of the I3D network, TorchScript or state dict; DIGAN_I3D_PATH by default."""
    c3d: Path | None = None
    """File of the C3D network, TorchScript; DIGAN_C3D_PATH by default."""
    videomae: Path | None = None
    """Folder of a VideoMAE model for transformers; DIGAN_VIDEOMAE_PATH by default."""
    i3d_sha256: str | None = None
    """What the sha256 of the I3D file must be."""
    c3d_sha256: str | None = None
    """What the sha256 of the C3D file must be."""
    split: str | None = None
    """Real videos of this split only, as the data have them, or all."""
    videos: int | None = None
    """Videos on each side in place of the protocol's number; the result says so."""
    repeats: int | None = None
    """Repeats in place of the protocol's number; the result says so."""
    seed: int | None = None
    """Of the choice of clips, and the first seed of the fakes; the protocol's by default."""
    per_class: bool = False
    """Also every class against its own, of data with classes."""
    resolution: int | None = None
    """Bring videos of folders to this size: centre square, Lanczos."""
    cache: Path | None = None
    """Folder for the features of real videos; beside the data by default."""
    recompute: bool = False
    """Compute the features of real videos anew, and keep none."""
    outdir: Path | None = None
    """Where results are appended; the network's folder, or out, by default."""
    batch: int | None = None
    """Clips in a detector at once; by default 128 frames' worth."""
    workers: int = 2
    """Processes that read real videos; 0 reads between batches."""
    precision: GeneratorPrecision = "fp32"
    """Arithmetic of the network's coordinate layers."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none.
    --fused-kernels and --no-fused-kernels stand for fused and reference."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one by default."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    asked: EvaluateArgs = parse(EvaluateArgs, arguments, "evaluate")
    if (asked.network is None) == (asked.fakes is None):
        raise UsageError("digan evaluate needs either --network or --fakes")
    for name, least in (("batch", 1), ("workers", 0)):
        value = getattr(asked, name)
        if value is not None and value < least:
            raise DiganError(f"{name} must be at least {least}, got {value}")
    from digan.execution import choose_device
    from digan.metrics.protocols import parse_metrics, parse_protocol
    from digan.processes import joined

    names = parse_metrics(asked.metrics)
    kinds = {parse_protocol(name).kind for name in names if name != "fd-random3d"}
    if asked.data is None and (kinds != {"isv"} or "fd-random3d" in names):
        raise UsageError("digan evaluate needs --data, unless all metrics are inception scores")
    with joined(choose_device(asked.device)) as (world, device):
        _evaluate(asked, names, world, device)
    return 0


def _evaluate(
    asked: EvaluateArgs, names: Sequence[str], world: World, device: torch.device
) -> None:
    """All metrics; of several processes the first one talks and writes."""
    from digan.files import writable_folder
    from digan.metrics.clip_sets import open_videos
    from digan.metrics.evaluate import DetectorFile, Evaluator
    from digan.metrics.protocols import parse_protocol

    outdir = asked.outdir or _default_outdir(asked.network)
    if world.is_first:
        writable_folder(outdir)
    evaluator = Evaluator(
        None,
        detectors={
            "i3d": DetectorFile(asked.i3d, asked.i3d_sha256),
            "c3d": DetectorFile(asked.c3d, asked.c3d_sha256),
            "videomae": DetectorFile(asked.videomae),
        },
        cache=_cache_folder(asked),
        device=device,
        workers=asked.workers,
        batch=asked.batch,
        world=world,
    )
    for name in names:  # a missing file is said before any work
        if name != "fd-random3d":
            evaluator.detector(parse_protocol(name).detector)
    real = None
    if asked.data is not None:
        real = evaluator.real = open_videos(asked.data, asked.resolution, progress=world.is_first)
    fakes = _open_fakes(asked, world, device)
    for name in names:
        _measure(asked, name, evaluator, fakes, real, outdir)


def _default_outdir(network: str | None) -> Path:
    if network is None or network == "demo":
        return Path("out")
    path = Path(network)
    return path if path.is_dir() else path.parent


def _cache_folder(asked: EvaluateArgs) -> Path | None:
    if asked.recompute or asked.data is None:
        return None
    data = asked.data.resolve()
    return asked.cache or data.with_name(f"{data.name}.features")


def _open_fakes(asked: EvaluateArgs, world: World, device: torch.device) -> Fakes:
    from digan.files import file_sha256
    from digan.metrics.clip_sets import open_videos
    from digan.metrics.fakes import FileFakes, NetworkFakes

    if asked.fakes is not None:
        videos = open_videos(asked.fakes, asked.resolution, progress=world.is_first)
        return FileFakes(videos, asked.workers)
    from digan.generate import open_network
    from digan.nn.snapshot import network_path

    assert asked.network is not None
    generator, info = open_network(
        asked.network, precision=asked.precision, kernels=asked.kernels, device=str(device)
    )
    path = network_path(asked.network)
    facts = {"file": path.name, "sha256": file_sha256(path), "precision": asked.precision}
    return NetworkFakes(generator, info, facts)


def _measure(
    asked: EvaluateArgs,
    name: str,
    evaluator: Evaluator,
    fakes: Fakes,
    real: VideoSet | None,
    outdir: Path,
) -> None:
    from digan.metrics.protocols import parse_protocol, random3d_protocol

    about = random3d_protocol() if name == "fd-random3d" else parse_protocol(name)
    protocol = about.change(
        videos=asked.videos, repeats=asked.repeats, split=asked.split, seed=asked.seed
    )
    if name == "fd-random3d":
        if asked.per_class:
            raise DiganError("fd-random3d has no --per-class: choose a metric with a detector")
        line = evaluator.random3d(fakes, protocol)
        table = line.pop("table")
        if not evaluator.world.is_first:
            return
        print("\n".join([table, *(f"  note: {note}" for note in line["notes"])]))
        _append(outdir, name, line)
        return
    labels: list[int | None] = [None]
    if asked.per_class:
        if real is None or not real.classes:
            raise DiganError("--per-class needs data with classes")
        labels += range(len(real.classes))
    for label in labels:
        try:
            result = evaluator.evaluate(fakes, protocol, label)
        except DiganError as error:
            # One small class must not cost the others. Several processes would lose step.
            if label is None or real is None or evaluator.world.size > 1:
                raise
            print(f"digan: {name} [{real.classes[label]}]: {error}", file=sys.stderr)
            continue
        if evaluator.world.is_first:
            print(result.format(), flush=True)
            _append(outdir, name, result.to_json())


def _append(outdir: Path, name: str, line: dict[str, Any]) -> None:
    """Appends a result to metric-NAME.jsonl."""
    path = outdir / f"metric-{name}.jsonl"
    kimg = line["fakes"].get("kimg")
    if kimg is not None:  # as the rows of a run, which goes by it when it resumes
        line = {**line, "kimg": kimg, "snapshot": line["fakes"].get("file")}
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
    except OSError as error:
        raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
