"""Network files: an averaged generator and what is needed to use it, as safetensors.

One file holds the float32 tensors and, in its header, one JSON text under the key `digan`.
Reading one runs no code.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from digan.config import GeneratorConfig, from_dict, to_dict
from digan.errors import DiganError
from digan.files import atomic_path
from digan.nn.generator import Generator
from digan.ops import Impl

FORMAT_VERSION = 1
DEMO = "demo"


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
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in generator.state_dict().items()
    }
    values = {**dataclasses.asdict(info), "generator": to_dict(info.generator)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"digan": json.dumps(values)})
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
    device: torch.device | str = "cpu",
) -> tuple[Generator, NetworkInfo]:
    """Reads a network file: the generator, in evaluation mode, and what the file says.

    Args:
        name: a path, a run's folder (its newest snapshot), or `demo`.
        impl, dtype: as for `Generator`. device: where to put it.

    Raises:
        DiganError: no such file, truncated, not ours, or of a newer format.
    """
    path = network_path(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DiganError(f"{path} is damaged or no network file: {error}") from error
    info = _read_info(path, metadata)
    try:
        # First without memory: a header that lies about sizes must not allocate them.
        with torch.device("meta"):
            Generator(info.generator).load_state_dict(tensors, assign=True)
        generator = Generator(info.generator, impl=impl, dtype=dtype)
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"{path} does not hold the tensors it announces: {reason}") from error
    return generator.to(device).eval().requires_grad_(False), info


def _read_info(path: Path, metadata: dict[str, str]) -> NetworkInfo:
    if "digan" not in metadata:
        raise DiganError(f"{path} is no network file of digan: its header has no such entry")
    try:
        values: dict[str, Any] = json.loads(metadata["digan"])
        version = int(values["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DiganError(f"{path} has an unreadable header: {error}") from error
    if version > FORMAT_VERSION:
        raise DiganError(
            f"{path} has format version {version}, this program reads up to {FORMAT_VERSION}"
        )
    return from_dict(NetworkInfo, values)
