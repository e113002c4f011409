"""frames_to_uint8: pictures in [-1, 1] to bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from digan.ops import _registry
from digan.ops._check import check_floating, check_tensor


def frames_to_uint8(
    frames: Tensor,  # any shape, [B, T, H, W, 3] where a generator makes them
    *,
    impl: _registry.Impl | None = None,
) -> Tensor:
    """Turns [-1, 1] into the bytes 0 to 255 that encoders take.

        levels = (frames + 1) * 127.5, rounded half to even, at least 0, at most 255; 0 for NaN

    Sum and product are rounded one after the other, never fused, in float32 for float32, bfloat16
    and float16, in float64 for float64: every path gives the same bytes.

    Args:
        frames: any shape, float64, float32, bfloat16 or float16, any strides.
        impl: `auto`, `fused` or `reference`, see `digan.ops`.

    Returns:
        uint8 of the same shape, contiguous. No gradient goes through it.

    Raises:
        TypeError: frames are no floating-point numbers.
        OpUnavailableError: `impl="fused"` without kernels.
    """
    check_tensor("frames", frames)
    check_floating(frames=frames)
    if _registry.takes_formula("frames_to_uint8", impl, frames):
        return frames_to_uint8_reference(frames)
    out: Tensor = torch.ops.digan.frames_to_uint8(frames)
    return out


@_registry.outside_autocast
@torch.no_grad()
def frames_to_uint8_reference(frames: Tensor) -> Tensor:
    """The formula in PyTorch operations."""
    wide = torch.float64 if frames.dtype == torch.float64 else torch.float32
    levels = frames.to(wide) + 1  # the one copy: frames of 2048x2048 are large
    levels = levels.mul_(127.5).round_().nan_to_num_(nan=0.0, posinf=255.0, neginf=0.0)
    return levels.clamp_(0, 255).to(torch.uint8, memory_format=torch.contiguous_format)


def _fake(frames: Tensor) -> Tensor:
    return frames.new_empty(frames.shape, dtype=torch.uint8)


_registry.define("frames_to_uint8", "(Tensor frames) -> Tensor", frames_to_uint8_reference, _fake)
