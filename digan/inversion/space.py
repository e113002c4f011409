"""The space of content codes in which the optimisation walks: W, whitened.

The mapping network sends normal draws to a cloud of codes that is long in a few directions and
thin in most. In coordinates u with w = w_avg + basis @ u the cloud is round and of size 1, so
that one learning rate suits all directions, and |u|^2 says how unlikely a code is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digan.nn import Generator
from digan.randomness import sample_rng

SAMPLES = 4096
FLOOR = 1e-4  # least variance of a direction, of the largest: none is out of reach


@dataclass(frozen=True)
class CodeSpace:
    """Whitened coordinates of W.

    Attributes:
        mean: w_avg, [D].
        basis: the symmetric root of the codes' covariance about it, [D, D].
    """

    mean: Tensor
    basis: Tensor

    def codes(self, u: Tensor) -> Tensor:  # [..., D] -> [..., D]
        """w = mean + basis @ u."""
        return self.mean + u @ self.basis


@torch.no_grad()
def measure_space(generator: Generator, seed: int = 0, samples: int = SAMPLES) -> CodeSpace:
    """The cloud of a network's codes, all classes alike.

    Args:
        generator: the network. seed: of the draws. samples: how many.
    """
    dim, classes = generator.config.latent_dim, generator.config.num_classes
    like = generator.w_avg
    draws = sample_rng(seed, "inversion/space", 0).standard_normal((samples, dim))
    z = torch.from_numpy(draws.astype(np.float32)).to(like)
    labels = torch.arange(samples, device=like.device) % classes if classes else None
    away = (generator.mapping(z, labels) - like).double()
    values, vectors = torch.linalg.eigh(away.T @ away / samples)
    values = values.clamp_min(FLOOR * float(values[-1].clamp_min(1e-12)))
    root = (vectors * values.sqrt()) @ vectors.T
    return CodeSpace(like.clone(), root.to(like))
