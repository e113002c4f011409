"""Network files: an averaged generator and what is needed to use it, as safetensors.

One file holds the float32 tensors and, in its header, one JSON text under the key `digan`.
Reading one runs no code. A pair of discriminators has a file of its own, of the same kind.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from digan.config import DiscriminatorConfig, GeneratorConfig, from_dict, to_dict
from digan.errors import DiganError
from digan.files import atomic_path
from digan.formats import from_json
from digan.nn.discriminator import PairDiscriminator
from digan.nn.generator import Generator
from digan.ops import Impl

FORMAT_VERSION = 1
DEMO = "demo"
SHARED_NAME = "model.safetensors"
"""The network file of a folder made by `Generator.save_pretrained`."""
_NETWORK, _DISCRIMINATORS = "digan", "digan-discriminators"


@dataclass(frozen=True)
class NetworkInfo:
    """What a network file says beside its tensors."""

    generator: GeneratorConfig
    clip_frames: int
    """N: frames of a training clip; t = 1 is its last frame."""
    fps: float
    """Frames per second of the training data; 0 if unknown."""
    classes: tuple[str, ...] = ()
    """Names of the classes, conditional networks only."""
    kimg: float = 0.0
    """Thousands of samples of training."""
    description: str = ""
    """Where it comes from."""
    format_version: int = FORMAT_VERSION


def save_network(path: Path, generator: Generator, info: NetworkInfo) -> None:
    """Writes a network file atomically. Raises DiganError if it cannot be written."""
    values = {**dataclasses.asdict(info), "generator": to_dict(info.generator)}
    _save(path, generator, {_NETWORK: json.dumps(values)})


def save_discriminators(path: Path, network: PairDiscriminator, description: str = "") -> None:
    """Writes a pair of discriminators to a file of its own, atomically.

    Raises:
        DiganError: it cannot be written.
    """
    values = {
        "discriminator": to_dict(network.config),
        "description": description,
        "format_version": FORMAT_VERSION,
    }
    _save(path, network, {_DISCRIMINATORS: json.dumps(values)})


def _save(path: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def network_path(name: str | Path) -> Path:
    """The file that a user's --network means: a path, or `demo` for the packaged network.

    Raises:
        DiganError: there is no such file.
    """
    path = Path(name)
    if str(name) == DEMO and not path.exists():
        return Path(str(files("digan") / "assets" / "demo.safetensors"))
    if path.is_dir():
        snapshots = sorted(path.glob("network-snapshot-*.safetensors"))
        if not snapshots and (path / SHARED_NAME).is_file():
            return path / SHARED_NAME
        if not snapshots:
            raise DiganError(f"the folder {path} has no network-snapshot-*.safetensors")
        return snapshots[-1]
    if not path.is_file():
        raise DiganError(f"the network file {path} does not exist")
    return path


def load_network(
    name: str | Path,
    *,
    impl: Impl | None = None,
    dtype: torch.dtype | None = None,
    tf32: bool | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Generator, NetworkInfo]:
    """Reads a network file: the generator, in evaluation mode, and what the file says.

    Args:
        name: a path, a run's folder (its newest snapshot), a folder made by
            `Generator.save_pretrained`, or `demo`.
        impl, dtype, tf32: as for `Generator`. device: where to put it.

    Raises:
        DiganError: no such file, truncated, not ours, or of a newer format.
    """
    path = network_path(name)
    metadata, tensors = _load(path)
    info = _read_info(path, metadata)
    generator = _filled(
        path, tensors, lambda: Generator(info.generator, impl=impl, dtype=dtype, tf32=tf32)
    )
    generator.info = info
    return generator.to(device).eval().requires_grad_(False), info


def load_discriminators(
    path: str | Path, *, device: torch.device | str = "cpu"
) -> PairDiscriminator:
    """Reads a pair of discriminators, as `digan import --discriminators` writes it.

    Raises:
        DiganError: no such file, truncated, not ours, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise DiganError(f"the file of discriminators {path} does not exist")
    metadata, tensors = _load(path)
    values = _read_header(path, metadata, _DISCRIMINATORS, "file of discriminators")
    config = from_dict(DiscriminatorConfig, values.get("discriminator") or {})
    network = _filled(path, tensors, lambda: PairDiscriminator(config))
    return network.to(device).eval().requires_grad_(False)


def _load(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DiganError(f"{path} is damaged or no network file: {error}") from error


Network = TypeVar("Network", Generator, PairDiscriminator)


def _filled(path: Path, tensors: dict[str, Tensor], make: Callable[[], Network]) -> Network:
    try:
        # First without memory: a header that lies about sizes must not allocate them.
        with torch.device("meta"):
            make().load_state_dict(tensors, assign=True)
        network = make()
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"{path} does not hold the tensors it announces: {reason}") from error
    return network


def _read_info(path: Path, metadata: dict[str, str]) -> NetworkInfo:
    return from_dict(NetworkInfo, _read_header(path, metadata, _NETWORK, "network file"))


def _read_header(path: Path, metadata: dict[str, str], key: str, kind: str) -> dict[str, Any]:
    if key not in metadata:
        raise DiganError(f"{path} is no {kind} of digan: its header has no such entry")
    try:
        values: dict[str, Any] = from_json(metadata[key])
        version = int(values["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"{path} has an unreadable header: {reason}") from error
    if version > FORMAT_VERSION:
        raise DiganError(
            f"{path} has format version {version}, this program reads up to {FORMAT_VERSION}"
        )
    return values
