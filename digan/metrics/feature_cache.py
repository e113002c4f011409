"""Features of the real side in files, each with what it was made of and with its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from digan.errors import DiganError
from digan.files import atomic_path


def write_features(file: Path, features: Tensor, about: str) -> None:
    """Writes features float32 [N, D] and a text that says what they are of, atomically.

    Raises:
        DiganError: they cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiganError(f"{file.parent} cannot be written: {error.strerror or error}") from error
    features = features.contiguous()
    metadata = {"about": about, "sha256": _digest(features)}
    with atomic_path(file) as temporary:
        try:
            save_file({"features": features}, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_features(file: Path, about: str, count: int) -> Tensor | None:
    """Features float32 [count, D] of a file; None where it is absent, damaged or another's.

    What is damaged is computed anew, so that a flipped bit does not become a published number.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            features: Tensor = opened.get_tensor("features")
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return None
    whole = features.dtype == torch.float32 and features.dim() == 2 and len(features) == count
    if not whole or metadata.get("about") != about:
        return None
    return features if metadata.get("sha256") == _digest(features) else None


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.cpu().numpy().tobytes()).hexdigest()
