"""The inception score, of class probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.metrics.frechet import Features, as_float64

_SHUFFLE_SEED = 42  # StyleGAN-V's


@dataclass(frozen=True)
class InceptionScore:
    """A score.

    Attributes:
        mean: over the splits. deviation: of the splits, with divisor n.
        splits: the score of every split.
    """

    mean: float
    deviation: float
    splits: tuple[float, ...]


def inception_score(probabilities: Features, splits: int = 10) -> InceptionScore:
    """exp(mean over videos of KL(p(y | x) || p(y))), in splits.

    The videos are shuffled once by numpy's legacy generator of seed 42, as in StyleGAN-V, and
    dealt into runs of equal size (to within one); p(y) is the mean of the split.

    Args:
        probabilities: [N, K], rows of non-negative numbers that sum to 1.
        splits: how many, at most N.

    Raises:
        DiganError: rows that are no probabilities, more splits than videos.

    Source: Salimans et al. (2016); for video with C3D, Saito et al. (2017).
    """
    rows = as_float64(probabilities, "probabilities")
    count = len(rows)
    if not 1 <= splits <= count:
        raise DiganError(f"splits must be from 1 to the number of videos, {count}, got {splits}")
    wrong = (rows < 0).any(dim=1) | ((rows.sum(dim=1) - 1).abs() > 1e-3)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0, 0])
        raise DiganError(
            "probabilities must be at least 0 and sum to 1 in every row, "
            f"row {first} sums to {float(rows[first].sum()):.4g}"
        )
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(count)
    mixed = rows[torch.from_numpy(order)]
    scores = []
    for i in range(splits):
        scores.append(_score(mixed[i * count // splits : (i + 1) * count // splits]))
    values = np.array(scores)
    return InceptionScore(float(values.mean()), float(values.std()), tuple(scores))


def _score(rows: Tensor) -> float:
    """The score of one split [n, K]; a probability of 0 counts nothing, as its limit does."""
    marginal = rows.mean(dim=0)
    entropy = torch.special.xlogy(rows, rows) - torch.special.xlogy(rows, marginal)
    return float(entropy.sum(dim=1).mean().exp())
