"""Argument checks of the ops: the message names the argument, the rule, and what came."""

from __future__ import annotations

import torch
from torch import Tensor


def check_shape(
    dims: dict[str, int], name: str, tensor: Tensor, pattern: tuple[str | int, ...]
) -> None:
    """Checks a tensor's shape against a pattern of letters and numbers, binding the letters.

    `dims` carries the letters from one argument to the next; `"*"` stands for any number of
    axes. Raises ValueError: "freq must be [B, F, 2], got [4, 128]".
    """
    shape = tuple(tensor.shape)
    fixed = [p for p in pattern if p != "*"]
    ok = len(shape) >= len(fixed) if "*" in pattern else len(shape) == len(pattern)
    if ok:
        star = pattern.index("*") if "*" in pattern else len(pattern)
        tail = len(pattern) - star - 1
        pairs = list(zip(pattern[:star], shape[:star], strict=True))
        if tail > 0:
            pairs += list(zip(pattern[-tail:], shape[-tail:], strict=True))
        for letter, size in pairs:
            wanted = letter if isinstance(letter, int) else dims.setdefault(letter, size)
            ok = ok and size == wanted
    if not ok:
        text = ", ".join("..." if p == "*" else str(p) for p in pattern)
        known = ", ".join(f"{k} = {v}" for k, v in dims.items() if k in pattern)
        where = f" with {known}" if known else ""
        raise ValueError(f"{name} must be [{text}]{where}, got {list(shape)}")


def check_floating(**tensors: Tensor | None) -> None:
    """Checks for floating point (TypeError) and for one device (ValueError)."""
    first: tuple[str, torch.device] | None = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
        if first is None:
            first = (name, tensor.device)
        elif tensor.device != first[1]:
            raise ValueError(
                f"{name} must be on the device of {first[0]} ({first[1]}), got {tensor.device}"
            )


def check_same_dtype(**tensors: Tensor | None) -> None:
    """Checks that all given tensors share one dtype. Raises TypeError."""
    named = [(n, t) for n, t in tensors.items() if t is not None]
    for name, tensor in named[1:]:
        if tensor.dtype != named[0][1].dtype:
            raise TypeError(
                f"{name} must have the dtype of {named[0][0]} ({named[0][1].dtype}), "
                f"got {tensor.dtype}"
            )


def check_wide(**tensors: Tensor) -> None:
    """Checks for float64 or float32: eight bits of a phase or of a weight to be are too few.

    Raises TypeError.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float64, torch.float32):
            raise TypeError(f"{name} must be float64 or float32, got {tensor.dtype}")
