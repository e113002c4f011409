"""How networks are run: the path of their ops and the dtype of their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from digan import ops
from digan.config import GeneratorPrecision, Kernels, Precision
from digan.errors import DiganError

COMPUTE_DTYPES: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Arithmetic:
    """Of the generator's coordinate layers, as `Generator` takes it.

    Attributes:
        dtype: of activations and matrices; None for that of the parameters.
        tf32: whether products of float32 round their operands; None for PyTorch's setting.
    """

    dtype: torch.dtype | None
    tf32: bool | None = None


def generator_arithmetic(precision: GeneratorPrecision) -> Arithmetic:
    """What a setting means for the generator."""
    if precision == "tf32":
        return Arithmetic(None, tf32=True)
    return Arithmetic(COMPUTE_DTYPES[precision])


def discriminator_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Arithmetic of the discriminators; None for that of their parameters.

    bf16 means float16 on a GPU: as fast and as small as bfloat16, with three bits more, which
    their gradients need (docs/performance.md); the clamp bounds activations, and the scale of
    losses lifts gradients into its range. On a CPU, where float16 is slow, it means bfloat16 in
    the backward pass alone.
    """
    if precision == "bf16" and device.type != "cpu":
        return torch.float16
    return COMPUTE_DTYPES[precision]


def wished_impl(kernels: Kernels) -> str:
    """What a setting asks of the ops: its own path, or for `auto` that of DIGAN_OPS.

    Raises:
        ValueError: DIGAN_OPS holds no such path.
    """
    return ops.default_impl() if kernels == "auto" else kernels


def choose_impl(kernels: Kernels, device: torch.device | None = None) -> ops.Impl | None:
    """The ops' path for a setting; None leaves it to DIGAN_OPS, whose default is auto.

    Kernels that are demanded, by the setting or by DIGAN_OPS=fused, must run for every op.

    Args:
        kernels: the setting.
        device: of the networks, where it is known.

    Raises:
        DiganError: kernels are demanded and cannot run; with the reason and the cure. Or DIGAN_OPS
            holds no such path.
    """
    try:
        wish = wished_impl(kernels)
    except ValueError as error:
        raise DiganError(str(error)) from error
    if wish != "fused":
        return None if kernels == "auto" else kernels
    flag = "DIGAN_OPS=fused" if kernels == "auto" else "--fused-kernels"
    for name in ops.status():
        if reason := ops.unavailable(name):
            raise DiganError(f"{flag} cannot be kept: {name}: {reason}")
    if device is not None and device.type != "cuda":
        raise DiganError(f"{flag} cannot be kept: it needs device cuda, got {device}")
    return "fused"


def choose_device(device: str | None) -> torch.device:
    """The device that was asked for, or the GPU where there is one.

    Raises:
        DiganError: no such device here.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DiganError(f"device must be cpu or cuda, got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DiganError(f"device must be cpu or cuda, got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DiganError("device cuda was asked for and no CUDA device is visible")
    return chosen
