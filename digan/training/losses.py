"""The losses of DIGAN: non-saturating logistic, and R1, on pairs and on single frames.

Video and image terms have equal weight, each being the mean over its own batch (B and 2B).
Every function returns a sum over its micro-batch divided by the size of the whole batch, so
that micro-batches and processes add up to the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from digan.grid import SpaceTimeGrid
from digan.nn import Generator, PairDiscriminator, pair_input
from digan.training.augment import AugmentDraws, diff_augment
from digan.training.draws import FakeDraws


@dataclass(frozen=True)
class RealPairs:
    """A batch of real pairs.

    Attributes:
        frames: [B, 2, 3, H, W], float, x/127.5 - 1. dt: time differences [B].
        label: classes [B], or None. augment: draws, or None.
    """

    frames: Tensor
    dt: Tensor
    label: Tensor | None
    augment: AugmentDraws | None

    def take(self, index: Tensor) -> RealPairs:
        """Some samples of the batch."""
        return RealPairs(
            self.frames[index],
            self.dt[index],
            None if self.label is None else self.label[index],
            None if self.augment is None else self.augment.take(index),
        )


@dataclass(frozen=True)
class Logits:
    """What the discriminators said: pairs [B] and frames [2B]."""

    video: Tensor
    image: Tensor

    def loss(self, sign: float, batch: int) -> Tensor:
        """sum softplus(sign * logit), divided by the whole batch's number of pairs and frames."""
        video = softplus(sign * self.video).sum() / batch
        return video + softplus(sign * self.image).sum() / (2 * batch)


def generate_pairs(
    generator: Generator, draws: FakeDraws, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Generated pairs [B, 2, 3, H, W], and the codes w [B, D] they come from.

    `dtype` is that of the coordinate layers' arithmetic, the generator's own if None.
    """
    ws = generator.map(draws.z.to(generator.w_avg.dtype), draws.label)
    z_motion = draws.z_motion.to(generator.w_avg.dtype)
    frames = generator.write(ws, z_motion, dtype=dtype).render(SpaceTimeGrid(draws.t))
    return frames.permute(0, 1, 4, 2, 3), ws[:, 0]


def judge_fakes(discriminator: PairDiscriminator, frames: Tensor, draws: FakeDraws) -> Logits:
    """Logits of augmented generated pairs."""
    frames = diff_augment(frames, draws.augment)
    return Logits(*discriminator(frames, draws.dt.to(frames.dtype), draws.label))


def judge_reals(discriminator: PairDiscriminator, real: RealPairs) -> Logits:
    """Logits of augmented real pairs."""
    frames = diff_augment(real.frames, real.augment)
    return Logits(*discriminator(frames, real.dt.to(frames.dtype), real.label))


def generator_loss(
    generator: Generator, discriminator: PairDiscriminator, draws: FakeDraws, batch: int
) -> tuple[Tensor, Logits, Tensor]:
    """Mean softplus(-D(fake)); also the logits and the detached codes w."""
    frames, w = generate_pairs(generator, draws)
    logits = judge_fakes(discriminator, frames, draws)
    return logits.loss(-1.0, batch), logits, w.detach()


def discriminator_fake_loss(
    generator: Generator, discriminator: PairDiscriminator, draws: FakeDraws, batch: int
) -> tuple[Tensor, Logits, Tensor]:
    """Mean softplus(D(fake)); no gradient reaches the generator."""
    # Fakes and reals pull the discriminators in opposite directions, so that little is left of
    # either and a rounding of the fakes weighs much. A generator in bfloat16 makes them in full
    # precision (a hundredth of an iteration's arithmetic), or on a GPU, where that would be a
    # quarter of its time, with the three bits more of float16.
    dtype = None
    if generator.compute_dtype == torch.bfloat16:
        full = generator.w_avg
        dtype = full.dtype if full.device.type == "cpu" else torch.float16
    with torch.no_grad():
        frames, w = generate_pairs(generator, draws, dtype)
    logits = judge_fakes(discriminator, frames, draws)
    return logits.loss(1.0, batch), logits, w


def discriminator_real_loss(
    discriminator: PairDiscriminator, real: RealPairs, batch: int
) -> tuple[Tensor, Logits]:
    """Mean softplus(-D(real))."""
    logits = judge_reals(discriminator, real)
    return logits.loss(-1.0, batch), logits


def r1_penalty(
    discriminator: PairDiscriminator,
    real: RealPairs,
    gamma: float,
    batch: int,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """gamma/2 times the mean squared input gradient, of both discriminators.

    The video gradient is taken by the input before augmentation and over all 7 channels, the
    image gradient by the augmented frames. Logits are differentiated times `scale`, a power of
    two that keeps gradients in the range of float16; the result does not depend on it.

    Returns:
        The penalty, and the squared norms of the pairs [B] and of the frames [2B].
    """
    pair = pair_input(real.frames, real.dt).detach().requires_grad_()
    frames = diff_augment(pair[:, :6].view(len(pair), 2, 3, *pair.shape[2:]), real.augment)
    images = frames.detach().requires_grad_()
    video = discriminator.video(pair_input(frames, pair[:, 6:]), real.label)
    image = discriminator.judge_images(images, real.label)
    by_pair = _input_gradient(video, pair, scale)
    by_image = _input_gradient(image, images, scale).flatten(0, 1)
    video_norm = by_pair.square().sum(dim=(1, 2, 3))
    image_norm = by_image.square().sum(dim=(1, 2, 3))
    penalty = gamma / 2 * (video_norm.sum() / batch + image_norm.sum() / (2 * batch))
    return penalty, video_norm.detach(), image_norm.detach()


def _input_gradient(logits: Tensor, x: Tensor, scale: float) -> Tensor:
    total = logits.sum()
    if scale == 1:
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
        return gradient
    (gradient,) = torch.autograd.grad(total * scale, x, create_graph=True)
    return gradient / scale
