"""Folders that others can use: weights, settings and a model card; and model hubs.

Saving and loading folders needs nothing beside this package. Only a hub's `OWNER/NAME` needs
`huggingface_hub` (the extra `hub`).
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from digan.config import to_dict
from digan.errors import DiganError
from digan.files import writable_folder, write_text
from digan.nn.generator import Generator
from digan.nn.model_card import ModelCard
from digan.nn.snapshot import SHARED_NAME, NetworkInfo, load_network, save_network
from digan.ops import Impl

CARD, SETTINGS = "README.md", "config.json"
_HUB_NAME = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}")


def save_pretrained(
    generator: Generator,
    folder: str | Path,
    *,
    info: NetworkInfo | None = None,
    card: ModelCard | None = None,
) -> Path:
    """Writes model.safetensors, config.json and README.md (the card) into a folder.

    Args:
        generator: the network. folder: made if it is not there.
        info: clip length, frame rate and classes; by default what the network was loaded with.
        card: training data, metrics and licence; without one the card says they are not stated.

    Raises:
        DiganError: the folder cannot be written; info is of another network.
    """
    folder = writable_folder(Path(folder))
    info = info or generator.info or NetworkInfo(generator.config, clip_frames=16, fps=0.0)
    if info.generator != generator.config:
        raise DiganError(f"info must be of {generator.config}, got {info.generator}")
    save_network(folder / SHARED_NAME, generator, info)
    values = {**dataclasses.asdict(info), "generator": to_dict(info.generator)}
    settings = json.dumps({"library_name": "digan", **values}, indent=2, allow_nan=False)
    write_text(folder / SETTINGS, settings + "\n")
    write_text(folder / CARD, (card or ModelCard()).render(info))
    return folder


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    impl: Impl | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Generator:
    """Loads a generator from a folder or network file, or from a hub by `OWNER/NAME`.

    Args:
        name: what is there as a file or folder is taken; else it must be a hub's name.
        revision, token: of the hub. impl, dtype, device: as for `load_network`.

    Raises:
        DiganError: nothing of this name, not ours, or no huggingface_hub to ask a hub with.
    """
    path = Path(name)
    if not path.exists() and str(name) != "demo":
        if not _HUB_NAME.fullmatch(str(name)):
            raise DiganError(f"{name} is neither a file nor a folder nor a hub's OWNER/NAME")
        hub = _hub()
        try:
            path = Path(hub.hf_hub_download(str(name), SHARED_NAME, revision=revision, token=token))
        except Exception as error:  # whatever the client, the network or the hub raise
            raise DiganError(f"{name} cannot be fetched: {_line(error)}") from error
    generator, _ = load_network(
        path if path.exists() else str(name), impl=impl, dtype=dtype, device=device
    )
    return generator


def push_to_hub(
    generator: Generator,
    name: str,
    *,
    info: NetworkInfo | None = None,
    card: ModelCard | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload a generator of digan",
) -> str:
    """Uploads what `save_pretrained` writes to a hub; returns what the hub answers.

    Args:
        generator, info, card: as for `save_pretrained`.
        name: OWNER/NAME, made if it is not there. private: of a new one.
        token: of the hub; by default that of its own log-in. message: of the commit.

    Raises:
        DiganError: no huggingface_hub, a malformed name, or the hub refuses.
    """
    if not _HUB_NAME.fullmatch(name):
        raise DiganError(f"a hub's name must be OWNER/NAME, got {name!r}")
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(generator, folder, info=info, card=card)
        try:
            api = hub.HfApi(token=token)
            api.create_repo(name, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
        except Exception as error:  # whatever the client, the network or the hub raise
            raise DiganError(f"{name} cannot be uploaded: {_line(error)}") from error
    return str(done)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise DiganError(
            "a model hub needs huggingface_hub: pip install 'digan[hub]'; folders work without"
        ) from error
    return huggingface_hub
