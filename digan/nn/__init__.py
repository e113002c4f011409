"""The networks of DIGAN, built on `digan.ops`."""

from digan.nn.discriminator import Discriminator, PairDiscriminator, pair_input
from digan.nn.generator import Generator, VideoINR

__all__ = ["Discriminator", "Generator", "PairDiscriminator", "VideoINR", "pair_input"]
