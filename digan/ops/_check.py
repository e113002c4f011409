"""Argument checks of the ops: the message names the argument, the rule, and what came."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Of the numbers behind an activation: PyTorch's own functions take no larger ones for float32.
_LARGEST = torch.finfo(torch.float32).max
_MOST = 1 << 20  # what no layer has, and no product of two of which is beyond 64 bits


def described(value: Any) -> str:
    """A value of any type for a message: on one line, and short."""
    if value is None or isinstance(value, (bool, float, complex)):
        return str(value)
    if isinstance(value, int):
        return str(value) if -(2**64) < value < 2**64 else "an integer beyond 64 bits"
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    if isinstance(value, (list, tuple)) and len(value) <= 4:
        return f"[{', '.join(described(v) for v in value)}]"
    return f"a {type(value).__name__}"


def check_tensor(name: str, tensor: Any) -> None:
    """Checks for a dense tensor. Raises TypeError."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {described(tensor)}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {tensor.layout}")


def check_number(name: str, value: Any) -> float:
    """A finite real number of float32's range as a float.

    Raises TypeError for what is no number, ValueError for others.
    """
    number = value if type(value) is float else math.nan
    if type(value) is not float:
        if isinstance(value, str) or not hasattr(type(value), "__float__"):
            raise TypeError(f"{name} must be a number, got {described(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError, RuntimeError):  # a tensor of several numbers, or of none
            raise TypeError(f"{name} must be a number, got {described(value)}") from None
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{name} must be finite and in float32's range, got {described(value)}")
    return number


def check_integer(name: str, value: Any) -> int:
    """An integer of any type. Raises TypeError."""
    if isinstance(value, int):
        return int(value) if isinstance(value, bool) else value
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {described(value)}") from None


def check_count(name: str, value: Any, least: int) -> int:
    """An integer from `least` to a million, as sizes are. Raises TypeError, ValueError."""
    count = check_integer(name, value)
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {described(count)}")
    if count > _MOST:
        raise ValueError(f"{name} must be at most {_MOST}, got {described(count)}")
    return count


def check_flag(name: str, value: Any) -> None:
    """Checks for True or False. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {described(value)}")


def check_shape(
    dims: dict[str, int], name: str, tensor: Tensor, pattern: tuple[str | int, ...]
) -> None:
    """Checks a tensor's shape against a pattern of letters and numbers, binding the letters.

    `dims` carries the letters from one argument to the next; `"*"` stands for any number of
    axes. Raises ValueError: "freq must be [B, F, 2], got [4, 128]"; TypeError for no tensor.
    """
    check_tensor(name, tensor)
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
    """Checks what is given for floating point (TypeError) and for one device (ValueError)."""
    first: tuple[str, torch.device] | None = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        check_tensor(name, tensor)
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"{name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}"
            )
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
