"""Back to the original's names: plain state dicts that its own classes load."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from digan.errors import DiganError
from digan.files import atomic_path
from digan.nn import Generator, PairDiscriminator
from digan.nn.official import official_discriminator_state, official_generator_state
from digan.nn.snapshot import load_network

SUFFIXES = (".pt", ".pth", ".safetensors")


def export_state_dict(network: Generator | PairDiscriminator) -> dict[str, Tensor]:
    """The complete state dict under the original's names, in its shapes, on the CPU.

    The values are the network's own, bit by bit; filters, which are constants here, are added,
    so the original's class of the same sizes loads it with `strict=True`.
    """
    state = network.state_dict()
    if isinstance(network, PairDiscriminator):
        return official_discriminator_state(state, network.config)
    return official_generator_state(state, network.config)


def export_file(source: str | Path, out: Path) -> int:
    """Writes a network file's generator as a plain state dict; returns how many tensors.

    Args:
        source: as for `load_network`. out: `.pt` or `.pth`, which `torch.load` opens with
            `weights_only=True`, or `.safetensors`.

    Raises:
        DiganError: the source cannot be read, or `out` not be written.
    """
    if out.suffix not in SUFFIXES:
        raise DiganError(f"an export must end in one of {', '.join(SUFFIXES)}, got {out.name}")
    state = export_state_dict(load_network(source)[0])
    with atomic_path(out) as temporary:
        try:
            if out.suffix == ".safetensors":
                save_file({k: v.contiguous() for k, v in state.items()}, temporary)
            else:
                torch.save(state, temporary)
        except (SafetensorError, RuntimeError) as error:  # how they report a full disk
            raise OSError(" ".join(str(error).split())[:120]) from error
    return len(state)
