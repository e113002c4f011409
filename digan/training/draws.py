"""The random numbers of training: sample i of a run is a function of (seed, i) alone.

So the number of workers, of micro-batches and of processes cannot matter, and a resumed run
needs no generator state: its position is a count of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digan.randomness import sample_rng
from digan.training.augment import AugmentDraws


@dataclass(frozen=True)
class FakeDraws:
    """What a batch of generated pairs is made from.

    Attributes:
        z, z_motion: latents [B, D]. t: times of the two frames, ascending, [B, 2], float64.
        label: classes [B], or None. augment: or None.
    """

    z: Tensor
    z_motion: Tensor
    t: Tensor
    label: Tensor | None
    augment: AugmentDraws | None

    def take(self, index: Tensor) -> FakeDraws:
        """The draws of some samples of the batch."""
        return FakeDraws(
            self.z[index],
            self.z_motion[index],
            self.t[index],
            None if self.label is None else self.label[index],
            None if self.augment is None else self.augment.take(index),
        )

    @property
    def dt(self) -> Tensor:
        """t2 - t1, [B], float64."""
        return self.t[:, 1] - self.t[:, 0]


def sort_times(first: Tensor, second: Tensor) -> Tensor:
    """[B, 2] from a draw of Beta(2, 1) and one of Beta(1, 2), the earlier first."""
    return torch.stack([torch.minimum(first, second), torch.maximum(first, second)], dim=1)


def sample_fakes(
    seed: int,
    phase: str,
    indices: Sequence[int],
    *,
    latent_dim: int,
    size: int,
    labels: np.ndarray | None,
    augment: bool,
    device: torch.device,
) -> FakeDraws:
    """Draws of the samples with the given numbers.

    Args:
        seed: the run's. phase: names the stream, so that G and D phases differ.
        indices: numbers of the samples in the run.
        latent_dim: D. size: side of the frames.
        labels: classes of the data's clips, one of which is drawn; None if unconditional.
        augment: whether to draw augmentations.
        device: of the result.
    """
    count = len(indices)
    z = np.empty((count, latent_dim), dtype=np.float32)
    z_motion = np.empty_like(z)
    times = np.empty((count, 2))
    label = np.empty(count, dtype=np.int64)
    for row, index in enumerate(indices):
        rng = sample_rng(seed, f"{phase}/fake", index)
        z[row] = rng.standard_normal(latent_dim)
        z_motion[row] = rng.standard_normal(latent_dim)
        # Beta(2, 1) is the larger of two uniforms and Beta(1, 2) the smaller.
        u = rng.random(4)
        times[row] = max(u[0], u[1]), min(u[2], u[3])
        if labels is not None:
            label[row] = labels[rng.integers(len(labels))]
    t = torch.from_numpy(times)
    return FakeDraws(
        z=torch.from_numpy(z).to(device),
        z_motion=torch.from_numpy(z_motion).to(device),
        t=sort_times(t[:, 0], t[:, 1]).to(device),
        label=None if labels is None else torch.from_numpy(label).to(device),
        augment=AugmentDraws.sample(seed, f"{phase}/fake/augment", indices, size, device)
        if augment
        else None,
    )
