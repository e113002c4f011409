"""How the ops' PyTorch kernels run on a CPU: tile by tile, each staying in cache.

A layer's rows are cut into tiles of a few megabytes. A tile goes through its matrix product,
epilogue and store while it is in cache, so that a whole activation crosses memory once where
PyTorch's operations, one after the other, would move it four or five times; and the small
scratch tensors are reused by the allocator, where a large one is fresh pages from the system
every time. Measured in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from digan.ops._activation import activate_

# Half of the last-level cache of a small server core pair: a tile, its product and the weights
# fit. Twice or half as much measures the same.
TILE_BYTES = 1 << 22

_SMALL = 16  # fewer output columns than a register block: oneDNN is slower than BLAS there

# Activations that oneDNN applies before it stores a product.
_ONEDNN_NAMES = {"linear": "none", "relu": "relu", "lrelu": "leaky_relu"}
_onednn = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)


def on_cpu(tensor: Tensor) -> bool:
    """True where the tiled kernels serve."""
    return tensor.device.type == "cpu"


def tiles(rows: int, row_bytes: int, multiple: int = 64) -> Iterator[slice]:
    """Slices of about TILE_BYTES that cover the rows; a multiple of `multiple`, but the last."""
    step = max(1, TILE_BYTES // max(row_bytes * multiple, 1)) * multiple
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _onednn_serves(x: Tensor, weight: Tensor) -> bool:
    if _onednn is None or not torch.backends.mkldnn.is_available() or x.shape[1] == 0:
        return False
    if x.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return x.dtype == torch.float32 and weight.shape[0] >= _SMALL


def _dense(matrix: Tensor) -> Tensor:
    """The matrix, copied if it is a part of a wider one: oneDNN has only slow loops for those."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def product(
    x: Tensor,  # [P, I]
    weight: Tensor,  # [O, I]
    bias: Tensor | None = None,  # [O]
    activation: str = "linear",
    alpha: float = 0.0,
) -> Tensor:  # [P, O]
    """act(x @ weight^T + bias), any strides, by the faster of two libraries. Not differentiable.

    PyTorch sends float32 products to BLAS, which on some CPUs reaches half the rate of oneDNN,
    the library that it uses for bfloat16 and for convolutions.
    """
    if _onednn is not None and _onednn_serves(x, weight):
        if bias is not None:
            # It reads a strided bias as dense, and knows no third dtype.
            own = bias.dtype in (x.dtype, torch.float32)
            bias = (bias if own else bias.to(x.dtype)).contiguous()
        fused = _ONEDNN_NAMES.get(activation)
        slope = [alpha] if activation == "lrelu" else []
        out: Tensor = _onednn(_dense(x), _dense(weight), bias, fused or "none", slope, "")
        return out if fused else activate_(out, activation, alpha, 1.0, None)
    if bias is None:
        out = torch.mm(x, weight.t())
    else:
        out = torch.addmm(bias.to(x.dtype), x, weight.t())
    return activate_(out, activation, alpha, 1.0, None)


def store_activated(
    out: Tensor, z: Tensor, name: str, alpha: float, gain: float, clamp: float | None
) -> None:
    """out = clamp(gain * act(z)); z is scratch."""
    if name == "lrelu" and gain == 1 and clamp is None:
        torch.ops.aten.leaky_relu.out(z, alpha, out=out)
    else:
        out.copy_(activate_(z, name, alpha, gain, clamp))


def has_blocks(tensor: Tensor, dim: int) -> bool:
    """True if `channel_blocks` can cut the tensor: dense, with the channels last or outermost."""
    dense = tensor.movedim(dim, -1).is_contiguous() or tensor.is_contiguous()
    return dense and tensor.numel() > 0


def channel_blocks(
    dim: int, *tensors: Tensor
) -> Iterator[tuple[list[Tensor], Callable[[Tensor], Tensor], int]]:
    """Tensors of one shape and one memory layout, cut alike into tiles that fit in cache.

    Yields:
        The tensors' tiles, two-dimensional; the part of a vector [C] along `dim` that belongs
        to them, shaped to be broadcast; and the axis of a tile that is not the channels'.
    """
    first = tensors[0]
    channels, size = first.shape[dim], first.element_size()
    if first.movedim(dim, -1).is_contiguous():
        views = [t.movedim(dim, -1).reshape(-1, channels) for t in tensors]
        for rows in tiles(views[0].shape[0], channels * size):
            yield [view[rows] for view in views], lambda vector: vector, 0
        return
    outer, inner = first.shape[:dim].numel(), first.shape[dim + 1 :].numel()
    views = [t.view(outer, channels, inner) for t in tensors]
    for index in range(outer):
        for own in tiles(channels, inner * size, multiple=1):
            yield [view[index, own] for view in views], _column(own), 1


def _column(own: slice) -> Callable[[Tensor], Tensor]:
    return lambda vector: vector[own, None]
