"""Distances between two sets of feature vectors: Fréchet (FVD) and polynomial MMD (KVD).

Both are free of any network: they take features [N, D] from wherever they come. All
arithmetic is float64. `torch.linalg` and not scipy does the linear algebra: torch and
scipy each bring a thread pool, and the two pools fighting for the same cores cost far more
than the decompositions themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from digan.errors import DiganError

Features: TypeAlias = "Tensor | np.ndarray"
"""Feature vectors [N, D], any floating dtype, a row per sample."""

_KERNEL_ROWS = 2048
"""Rows of the kernel matrix held at once by `polynomial_mmd`."""


def as_float64(features: Features, name: str) -> Tensor:
    """Features as finite float64 [N, D] on the CPU; DiganError names what is wrong."""
    rows = torch.as_tensor(features).detach()
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DiganError(f"{name} must be [N, D], got {list(rows.shape)}")
    if rows.is_complex():
        raise DiganError(f"{name} must be real numbers, got {rows.dtype}")
    rows = rows.to(device="cpu", dtype=torch.float64)
    finite = torch.isfinite(rows).all(dim=1)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        first = int((~finite).nonzero()[0, 0])
        raise DiganError(
            f"{name} must be finite, got NaN or infinity in {bad} of {len(rows)} rows,"
            f" the first of them row {first}"
        )
    return rows


class FeatureStatistics:
    """Count, mean and covariance of feature vectors that arrive in batches.

    Batches are merged by the update of Chan, Golub and LeVeque (1979): with sizes n and m,
    means u and v and centred scatter matrices P and Q,

        mean = u + (v - u) m / (n + m)
        scatter = P + Q + (v - u)(v - u)^T n m / (n + m)

    which subtracts no large numbers from each other, so that many small batches agree with
    one big batch to rounding, whatever the offset of the features.

    Attributes:
        count: number of rows seen.
        mean: float64 [D].
        scatter: float64 [D, D], sum of outer products of the centred rows.

    Raises:
        DiganError: features that are not [N, D], not finite, or of another D than before.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.mean: Tensor = torch.zeros(0, dtype=torch.float64)
        self.scatter: Tensor = torch.zeros(0, 0, dtype=torch.float64)

    @classmethod
    def from_features(cls, features: Features) -> FeatureStatistics:
        """Statistics of one batch [N, D]."""
        return cls().update(features)

    @property
    def dim(self) -> int:
        """D, or 0 while no row has been seen."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, scatter / (count - 1), float64 [D, D]; needs 2 samples."""
        if self.count < 2:
            raise DiganError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)

    def update(self, features: Features) -> FeatureStatistics:
        """Adds a batch [N, D] (N may be 0) and returns self."""
        rows = as_float64(features, "features")
        batch = FeatureStatistics()
        batch.count = len(rows)
        if batch.count:
            batch.mean = rows.mean(dim=0)
            centred = rows - batch.mean
            batch.scatter = centred.T @ centred
        return self.merge(batch)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Adds all samples that `other` has seen and returns self; `other` is unchanged."""
        if other.count == 0:
            return self
        if self.count == 0:
            self.count, self.mean = other.count, other.mean.clone()
            self.scatter = other.scatter.clone()
            return self
        if self.dim != other.dim:
            raise DiganError(f"features must keep their width, got {other.dim} after {self.dim}")
        total = self.count + other.count
        delta = other.mean - self.mean
        weight = self.count * (other.count / total)
        self.mean = self.mean + delta * (other.count / total)
        self.scatter = self.scatter + other.scatter + torch.outer(delta, delta) * weight
        self.count = total
        return self


@dataclass(frozen=True)
class FrechetParts:
    """The terms of a Fréchet distance; `distance` = max(0, mean + trace_a + trace_b - 2 cross).

    Attributes:
        mean: squared distance of the means.
        trace_a: total variance of the first set.
        trace_b: total variance of the second set.
        cross: tr((Sa^1/2 Sb Sa^1/2)^1/2).
    """

    mean: float
    trace_a: float
    trace_b: float
    cross: float

    @property
    def distance(self) -> float:
        """The Fréchet distance; rounding below zero, as for equal sets, reads as 0."""
        return max(0.0, self.mean + self.trace_a + self.trace_b - 2.0 * self.cross)


def _positive_eigenvalues(values: Tensor) -> Tensor:
    """Eigenvalues of a covariance with those that are rounding error set to 0.

    What lies below D * eps times the largest is the noise of the decomposition, of either
    sign. It must go before the square root, which would raise 1e-16 to 1e-8 in each of the
    many null directions of a covariance of few samples.
    """
    limit = values.max() * len(values) * torch.finfo(values.dtype).eps
    return torch.where(values > limit, values, torch.zeros_like(values))


def frechet_parts(
    a: FeatureStatistics,
    b: FeatureStatistics,
    *,
    population: bool = False,
) -> FrechetParts:
    """The terms of the Fréchet distance of two sets, see `frechet_distance`."""
    if a.count < 2 or b.count < 2:
        raise DiganError(
            f"a Fréchet distance needs at least 2 samples on each side, got {a.count} and {b.count}"
        )
    if a.dim != b.dim:
        raise DiganError(f"a Fréchet distance needs features of one width, got {a.dim} and {b.dim}")
    cov_a, cov_b = a.covariance, b.covariance
    if population:
        cov_a, cov_b = cov_a * ((a.count - 1) / a.count), cov_b * ((b.count - 1) / b.count)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * _positive_eigenvalues(values).sqrt()  # [D, D], root root^T = cov_a
    # root^T cov_b root has the spectrum of Sa^1/2 Sb Sa^1/2, of which it is a rotation.
    product = root.T @ cov_b @ root
    spectrum = torch.linalg.eigvalsh((product + product.T) / 2)
    return FrechetParts(
        mean=float((a.mean - b.mean).square().sum()),
        trace_a=float(cov_a.trace()),
        trace_b=float(cov_b.trace()),
        cross=float(_positive_eigenvalues(spectrum).sqrt().sum()),
    )


def frechet_distance(
    a: FeatureStatistics | Features,
    b: FeatureStatistics | Features,
    *,
    population: bool = False,
) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians fitted to two sets.

        |ma - mb|^2 + tr(Sa + Sb - 2 (Sa^1/2 Sb Sa^1/2)^1/2)

    with unbiased covariances S. The root is taken by two symmetric eigendecompositions in
    float64: Sa = V diag(l) V^T, then the eigenvalues of diag(l)^1/2 V^T Sb V diag(l)^1/2.
    Covariances may be singular, as they are with fewer samples than dimensions.

    The estimate is biased upwards: two halves of one set are at a positive distance, about
    in proportion to 1 / N. Compare only numbers made with the same N.

    Args:
        a: features [N, D], N >= 2, or their statistics.
        b: features [M, D], M >= 2, or their statistics.
        population: covariances with divisor N, as StyleGAN-V has them, in place of N - 1.

    Returns:
        The distance, >= 0, in squared units of the features.

    Raises:
        DiganError: fewer than 2 samples, different widths, values that are not finite.

    Source: Dowson and Landau (1982); as FID, Heusel et al. (2017); as FVD, Unterthiner et
    al. (2018).
    """
    left = a if isinstance(a, FeatureStatistics) else FeatureStatistics.from_features(a)
    right = b if isinstance(b, FeatureStatistics) else FeatureStatistics.from_features(b)
    return frechet_parts(left, right, population=population).distance


def _kernel_sum(
    x: Tensor,  # [N, D]
    y: Tensor,  # [M, D]
    degree: int,
    gamma: float,
    coef0: float,
) -> float:
    """Sum of (gamma x_i.y_j + coef0)^degree over all i, j, a block of rows at a time."""
    total = 0.0
    for rows in torch.split(x, _KERNEL_ROWS):
        total += float((gamma * (rows @ y.T) + coef0).pow(degree).sum())
    return total


def polynomial_mmd(
    x: Features,
    y: Features,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
) -> float:
    """Unbiased squared maximum mean discrepancy with a polynomial kernel (KVD, KID).

        k(u, v) = (gamma u.v + coef0)^degree
        sum_{i != j} k(x_i, x_j) / (N (N - 1)) + sum_{i != j} k(y_i, y_j) / (M (M - 1))
            - 2 sum_{i, j} k(x_i, y_j) / (N M)

    over all samples at once, without blocks and without a scale factor.

    Args:
        x: features [N, D], N >= 2.
        y: features [M, D], M >= 2.
        degree: of the polynomial, 3 in KVD.
        gamma: factor of the inner product, 1 / D when None.
        coef0: constant of the kernel.

    Returns:
        The estimate; as it is unbiased it falls below 0 for sets that are alike.

    Raises:
        DiganError: fewer than 2 samples, different widths, values that are not finite.

    Source: Gretton et al. (2012), Binkowski et al. (2018).
    """
    first, second = as_float64(x, "x"), as_float64(y, "y")
    n, m = len(first), len(second)
    if n < 2 or m < 2:
        raise DiganError(
            f"a maximum mean discrepancy needs at least 2 samples on each side, got {n} and {m}"
        )
    if first.shape[1] != second.shape[1]:
        raise DiganError(
            "a maximum mean discrepancy needs features of one width,"
            f" got {first.shape[1]} and {second.shape[1]}"
        )
    scale = 1.0 / first.shape[1] if gamma is None else gamma

    def within(rows: Tensor) -> float:
        diagonal = (scale * rows.square().sum(dim=1) + coef0).pow(degree).sum()
        return _kernel_sum(rows, rows, degree, scale, coef0) - float(diagonal)

    cross = _kernel_sum(first, second, degree, scale, coef0) / (n * m)
    return within(first) / (n * (n - 1)) + within(second) / (m * (m - 1)) - 2.0 * cross
