"""Files of small networks that stand for pretrained ones, and weights by name for I3D."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

WIDTH = 20


class StandInI3D(nn.Module):
    """Called as TorchScript I3Ds are; colours and their change, mixed and bent."""

    def __init__(self) -> None:
        super().__init__()
        values = torch.randn(3 * 2 * 8, WIDTH, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", values / 4)

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        if not (resize and return_features):
            raise RuntimeError("resize and return_features are wanted")
        if rescale:
            x = x / 127.5 - 1.0
        pooled = torch.nn.functional.adaptive_avg_pool3d(x, [2, 2, 4]).flatten(1)
        return torch.tanh(pooled @ self.weight)


class BrokenI3D(nn.Module):
    """Gives NaN for a video that is black in its first frame."""

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        mean = x[:, :, 0].mean(dim=[1, 2, 3])
        return (mean / mean)[:, None].expand(-1, 4)


class StandInC3D(nn.Module):
    """Called as TorchScript C3Ds are: probabilities of 12 classes."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool3d(x / 24.0, [1, 2, 2])
        return torch.softmax(pooled.flatten(1), 1)


class NotCalledLikeThat(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def scripted(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(str(path))
    return path


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in [0, 1) that are a function of the name."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)


def named_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights under which activations neither vanish nor explode, float32."""
    found = {}
    for name, shape in shapes.items():
        u = numbers(name, shape)
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(1)
            continue
        if name.endswith(("running_var", "bn.weight")):
            value = 0.5 + u
        elif name.endswith("conv3d.weight"):
            value = (u - 0.5) * (12 / np.prod(shape[1:])) ** 0.5 * 1.5
        else:
            value = (u - 0.5) * 0.4
        found[name] = torch.from_numpy(value).float()
    return found


def made_clips(count: int, frames: int = 16, size: int = 16, seed: int = 0) -> np.ndarray:
    """Coloured noise, uint8 [count, frames, size, size, 3]; every clip has its own colour."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(40, 200, size=(count, 1, 1, 1, 3))
    return (colour + rng.integers(-40, 40, (count, frames, size, size, 3))).astype(np.uint8)
