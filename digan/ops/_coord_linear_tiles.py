"""coord_linear on a CPU: a tile's embedding is made in cache, once for all frames."""

from __future__ import annotations

import torch
from torch import Tensor

from digan.ops._activation import apply_slope
from digan.ops._rotation import cells, rotate, rotate_weights, unrotate
from digan.ops._tf32 import operand
from digan.ops._tiles import product, store_activated, tiles
from digan.ops.fourier_features import angle_gradients, fourier_features_kernel


def _grid_rows(height: int, width: int, row_bytes: int) -> list[slice]:
    """Tiles of whole rows of a grid, an even number of them for the 2x2 cells of skip."""
    return list(tiles(height, width * row_bytes, multiple=2))


def _tile_features(freq: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """One video's embedding at phase 0 on some rows of the grid, [1, 1, h, W, 2F]."""
    still = freq.new_zeros(1, 1, freq.shape[1])
    return fourier_features_kernel(freq, still, y, x, freq.dtype)


def _as_rows(features: Tensor, dtype: torch.dtype) -> Tensor:
    """[1, n, h, W, 2F] as [n*h*W, 2F]."""
    _, n, h, w, channels = features.shape
    return features.view(n * h * w, channels).to(dtype)


def coord_linear_tiled(
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    keep: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    """Output, and the pre-activation if `keep`."""
    (b, t), (h, w), o = phase.shape[:2], (y.shape[0], x.shape[0]), weight.shape[1]
    out = weight.new_empty(b, t, h, w, o)
    kept = torch.empty_like(out) if keep else out.new_empty(0)
    size = out.element_size()

    def finish(z: Tensor, video: int, frames: slice, rows: slice) -> None:
        """The epilogue of z [n*h*W, O] and its store."""
        z = z.view(frames.stop - frames.start, rows.stop - rows.start, w, o)
        if skip is not None:
            low = skip[video, frames, rows.start // 2 : rows.stop // 2]
            cells(z).add_(low[:, :, None, :, None])
        if keep:
            kept[video, frames, rows] = z
        store_activated(out[video, frames, rows], z, activation, alpha, gain, clamp)

    if h * w <= o:
        # A frame's embedding is smaller than its rotated weights: one product for all frames.
        for video in range(b):
            own = slice(video, video + 1)
            for frames in tiles(t, h * w * max(o, weight.shape[2]) * size, multiple=1):
                features = fourier_features_kernel(
                    freq[own], phase[own, frames], y, x, weight.dtype
                )
                embedding = operand(_as_rows(features, weight.dtype), tf32)
                z = product(embedding, operand(weight[video], tf32), bias)
                finish(z, video, frames, slice(0, h))
        return out, kept
    rotated = operand(rotate_weights(weight, phase), tf32)
    for video in range(b):
        for rows in _grid_rows(h, w, o * size):
            features = _tile_features(freq[video : video + 1], y[rows], x)
            embedding = operand(_as_rows(features, weight.dtype), tf32)
            for time in range(t):
                z = product(embedding, rotated[video, time], bias)
                finish(z, video, slice(time, time + 1), rows)
    return out, kept


def coord_linear_gradients_tiled(
    grad: Tensor,
    freq: Tensor,
    phase: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    z: Tensor | None,
    out: Tensor | None,
    activation: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    tf32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All gradients in one pass over grad and `out` (or z); embeddings are made tile by tile."""
    b, t, _, w, o = grad.shape
    rotated, sin, cos = rotate(weight, phase)
    matrices = operand(rotated, tf32)
    wide = sin.dtype
    dfreq, dy, dx = (v.new_zeros(v.shape) for v in (freq, y, x))
    drotated = rotated.new_zeros(rotated.shape, dtype=wide)
    dbias = grad.new_zeros(o, dtype=wide)
    dskip = grad.new_zeros(0) if skip is None else grad.new_empty(skip.shape)
    for video in range(b):
        own = freq[video : video + 1]
        for rows in _grid_rows(y.shape[0], w, o * grad.element_size()):
            features = _tile_features(own, y[rows], x)
            embedding = operand(_as_rows(features, weight.dtype), tf32)
            dembedding = torch.zeros_like(embedding, dtype=wide)
            for time in range(t):
                at = (video, time, rows)
                da = apply_slope(
                    grad[at],
                    None if z is None else z[at],
                    None if out is None else out[at],
                    activation,
                    alpha,
                    gain,
                    clamp,
                )
                if skip is not None:
                    half = slice(rows.start // 2, rows.stop // 2)
                    dskip[video, time, half] = cells(da).sum((1, 3))
                da = da.flatten(0, -2)
                if bias is not None:
                    dbias += da.sum(0, dtype=wide)
                da = operand(da, tf32)
                drotated[video, time] += da.t() @ embedding
                dembedding += product(da, matrices[video, time].t())
            found = angle_gradients(dembedding.view(features.shape), features, own, y[rows], x)
            dfreq[video] += found[0][0]
            dy[rows] += found[2]
            dx += found[3]
    dweight, dphase = unrotate(drotated, rotated, sin, cos)
    return (
        dfreq,
        dphase.to(phase.dtype),
        dy,
        dx,
        dweight.to(weight.dtype),
        grad.new_zeros(0) if bias is None else dbias.to(bias.dtype),
        dskip,
    )
