"""Time as a rotation of the weights that act on a Fourier embedding.

W [sin(a+p); cos(a+p)] = (W R(p)) [sin a; cos a], where R(p) turns the pair of columns of each
frequency by its phase. All frames of a video can then share one embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(
    weight: Tensor,  # [B, O, 2F]
    phase: Tensor,  # [B, T, F]
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """scale * W R(phase), [B, T, O, 2F] in weight's dtype; also sin and cos of the phase."""
    angle = phase.double()[:, :, None]
    wide = torch.promote_types(weight.dtype, phase.dtype)
    sin, cos = (torch.sin(angle) * scale).to(wide), (torch.cos(angle) * scale).to(wide)
    ws, wc = weight[:, None].to(wide).chunk(2, dim=-1)
    rotated = torch.cat([ws * cos - wc * sin, ws * sin + wc * cos], dim=-1)
    return rotated.to(weight.dtype), sin, cos


def rotate_weights(weight: Tensor, phase: Tensor) -> Tensor:
    """W R(phase) as `rotate` has it, in half as many passes over memory; not differentiable."""
    angle = phase.double()[:, :, None]
    wide = torch.promote_types(weight.dtype, phase.dtype)
    sin, cos = torch.sin(angle).to(wide), torch.cos(angle).to(wide)
    ws, wc = weight[:, None].to(wide).chunk(2, dim=-1)
    count = phase.shape[2]
    out = weight.new_empty(*phase.shape[:2], *weight.shape[1:], dtype=wide)
    torch.mul(ws, cos, out=out[..., :count]).addcmul_(wc, sin, value=-1)
    torch.mul(ws, sin, out=out[..., count:]).addcmul_(wc, cos)
    return out.to(weight.dtype)


def unrotate(dv: Tensor, v: Tensor, sin: Tensor, cos: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by weight [B, O, 2F] and phase [B, T, F] from the rotated weights' dv."""
    ds, dc = dv.chunk(2, dim=-1)
    vs, vc = v.to(dv.dtype).chunk(2, dim=-1)
    dweight = torch.cat([ds * cos + dc * sin, dc * cos - ds * sin], dim=-1).sum(1)
    return dweight, (dc * vs - ds * vc).sum(2)


def cells(z: Tensor) -> Tensor:
    """[..., H, W, O] seen as 2x2 cells, [..., H/2, 2, W/2, 2, O]."""
    *lead, h, w, o = z.shape
    return z.view(*lead, h // 2, 2, w // 2, 2, o)
