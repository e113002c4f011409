"""Codes files: what an inversion found, as safetensors, with how it was found.

One file holds `ws` [B, num_ws, D] and `z_motion` [B, D] in float32 and, in its header, one JSON
text under the key `digan_codes`. Reading one runs no code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from digan.errors import DiganError
from digan.files import atomic_path
from digan.formats import from_json
from digan.nn import Generator
from digan.synthesis import Codes

CODES_VERSION = 1
_KEY = "digan_codes"


@dataclass(frozen=True)
class SavedCodes:
    """Codes from a file.

    Attributes:
        codes: of B videos. network: `network_hash` of the network they are for.
        about: how they were found: clip, settings, PSNR, and what else the writer knew.
    """

    codes: Codes
    network: str
    about: dict[str, Any] = field(default_factory=dict)


def network_hash(generator: Generator) -> str:
    """A fingerprint of a network's tensors, the same wherever they lie: 16 hex digits."""
    digest = blake2b(digest_size=8)
    for name, tensor in sorted(generator.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name} {list(values.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def save_codes(path: Path, codes: Codes, generator: Generator, about: dict[str, Any]) -> None:
    """Writes codes atomically.

    Args:
        path: usually `codes.safetensors`. codes: of any number of videos.
        generator: the network they are for. about: what JSON can hold.

    Raises:
        DiganError: it cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in (("ws", codes.ws), ("z_motion", codes.z_motion))
    }
    header = {"format_version": CODES_VERSION, "network": network_hash(generator), "about": about}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(header)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_codes(path: Path, generator: Generator | None = None) -> SavedCodes:
    """Reads a codes file.

    Args:
        path: the file.
        generator: the network to use them with; they come in its dtype, on its device.

    Raises:
        DiganError: no such file, damaged, of a newer format, or for another network.
    """
    if not path.is_file():
        raise DiganError(f"the codes file {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = from_json(metadata[_KEY])
        version, network = int(header["format_version"]), str(header["network"])
        codes = Codes(tensors["ws"], tensors["z_motion"])
        about = dict(header["about"])
        if not all(bool(t.isfinite().all()) for t in (codes.ws, codes.z_motion)):
            raise ValueError("codes that are not finite")
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, OverflowError,
            RuntimeError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"{path} is damaged or no codes file: {reason}") from error
    if version > CODES_VERSION:
        raise DiganError(
            f"{path} has format version {version}, this program reads up to {CODES_VERSION}"
        )
    if generator is not None:
        expected = [generator.num_ws, generator.config.latent_dim]
        if list(codes.ws.shape[1:]) != expected or network != network_hash(generator):
            raise DiganError(f"{path} holds codes of another network, {network}")
        like = generator.w_avg
        codes = Codes(codes.ws.to(like), codes.z_motion.to(like))
    return SavedCodes(codes, network, about)
