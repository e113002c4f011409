"""The networks of DIGAN, built on `digan.ops`."""

from digan.nn.dense import loss_over_time
from digan.nn.discriminator import Discriminator, PairDiscriminator, pair_input
from digan.nn.generator import Generator, VideoINR

__all__ = [
    "Discriminator", "Generator", "PairDiscriminator", "VideoINR", "loss_over_time", "pair_input",
]  # fmt: skip
