"""How many bytes some work holds at once, told without doing it.

The work runs on PyTorch's meta device, whose tensors have shapes and lifetimes but no numbers.
Every storage is counted from the operation that makes it to its end, so activations kept for the
backward pass, gradients and the tensors between two operations are all in the peak. What a library
takes inside one operation is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from digan.config import TrainConfig
from digan.nn import Generator, PairDiscriminator
from digan.training.augment import AugmentDraws
from digan.training.draws import sample_fakes
from digan.training.losses import (
    RealPairs,
    discriminator_fake_loss,
    discriminator_real_loss,
    generator_loss,
    r1_penalty,
)
from digan.training.networks import make_networks


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that were made inside and still live.

    Attributes:
        now, peak: of them, at this moment and at most.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {s._cdata for s in _storages((args, kwargs))}
        out = func(*args, **dict(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in given and storage._cdata not in self._known:
                self._add(storage)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def end(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, end)
        self.now += size
        self.peak = max(self.peak, self.now)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    dense = (t for t in tree_leaves(tree) if isinstance(t, Tensor) and t.layout == torch.strided)
    return [t.untyped_storage() for t in dense]


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes that some work holds at once beyond what was there before."""
    with LiveBytes() as live:
        work()
    return int(live.peak)


class PhaseWork:
    """The phases of an iteration as throw-away work: real shapes, made-up data, no step.

    Nothing of the networks changes but `.grad`, which `clear` removes, and `requires_grad`, which
    ends off as the trainer leaves it.

    Args:
        generator, discriminator: the networks, on any device.
        config: resolved settings.
    """

    PHASES = ("G", "D", "R1")

    def __init__(
        self, generator: Generator, discriminator: PairDiscriminator, config: TrainConfig
    ) -> None:
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.device = generator.w_avg.device

    @staticmethod
    def on_meta(config: TrainConfig) -> PhaseWork:
        """With networks that have no numbers, and the arithmetic of a CPU."""
        with torch.device("meta"):
            generator, discriminator = make_networks(config, torch.device("cpu"))
        return PhaseWork(
            generator.requires_grad_(False), discriminator.requires_grad_(False), config
        )

    def run(self, phase: str, samples: int) -> None:
        """Losses and gradients of a phase on a pass of so many samples.

        D is a pass of fakes and one of reals, one after the other.
        """
        network: nn.Module = self.generator if phase == "G" else self.discriminator
        network.requires_grad_(True)
        try:
            for loss in self._losses(phase, samples):
                torch.autograd.backward(loss())
        finally:
            network.requires_grad_(False)

    def clear(self) -> None:
        """Throws the gradients away."""
        for network in (self.generator, self.discriminator):
            for parameter in network.parameters():
                parameter.grad = None

    def _losses(self, phase: str, samples: int) -> list[Callable[[], Tensor]]:
        config, batch = self.config, self.config.batch
        nets = (self.generator, self.discriminator)
        if phase == "G":
            return [lambda: generator_loss(*nets, self._fakes(samples), batch)[0]]
        if phase == "D":
            return [
                lambda: discriminator_fake_loss(*nets, self._fakes(samples), batch)[0],
                lambda: discriminator_real_loss(nets[1], self._reals(samples), batch)[0],
            ]
        return [lambda: r1_penalty(nets[1], self._reals(samples), config.gamma, batch)[0]]

    def _fakes(self, samples: int) -> Any:
        config = self.config
        return sample_fakes(
            config.seed,
            "memory",
            range(samples),
            latent_dim=config.generator.latent_dim,
            size=config.generator.resolution,
            labels=np.zeros(1, dtype=np.int64) if config.generator.num_classes else None,
            augment=config.augment,
            device=self.device,
        )

    def _reals(self, samples: int) -> RealPairs:
        config, size = self.config, self.config.generator.resolution
        like = self.generator.w_avg
        indices = range(samples)
        augment = (
            AugmentDraws.sample(config.seed, "memory/augment", indices, size, self.device)
            if config.augment
            else None
        )
        classes = self.config.discriminator.num_classes
        return RealPairs(
            # No draw of a global generator; the numbers move no byte.
            torch.linspace(-1, 1, samples * 2 * 3 * size * size, device=self.device)
            .to(like.dtype)
            .view(samples, 2, 3, size, size),
            torch.full((samples,), 0.5, dtype=like.dtype, device=self.device),
            torch.zeros(samples, dtype=torch.int64, device=self.device) if classes else None,
            augment,
        )
