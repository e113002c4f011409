"""The plan of an inversion: many starts on few pixels first, the best alone on all in the end.

Motion moves phases, and a clip whose clouds are half a wave off pulls its codes the wrong way:
fitted to all frames at once, most starts stay in such a place. At time 0 there is no motion. So
the content is fitted to the frame nearest to it first, then the times grow, each step being a
small move from what fits already; the starts that lag are dropped between the phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from digan.errors import DiganError

STARTS = 16
STEPS = 600


@dataclass(frozen=True)
class FitSettings:
    """How codes are sought. A code depends on these, the clip and the network alone.

    Attributes:
        space: w: one content code for all layers; w+: one per layer, from the last phase on.
        steps: of Adam, over all phases. starts: codes that begin together.
        lr: largest learning rate, in whitened coordinates.
        batch_frames: frames of a step.
        prior_content, prior_motion: weights of the mean squares of the codes, which pull them
            towards w_avg and 0; the pictures' mean square error counts 1, of colours in [-1, 1].
        prior_layers: of the layers' spread about their mean, in w+.
        patience: the last phase ends when so many steps gained less than 0.01 dB.
        stop_psnr: it ends when the observed frames are as good as this, in dB.
        seed: of everything drawn.

    Raises:
        DiganError: a number that cannot be.
    """

    space: Literal["w", "w+"] = "w"
    steps: int = STEPS
    starts: int = STARTS
    lr: float = 0.1
    batch_frames: int = 6
    prior_content: float = 1e-4
    prior_motion: float = 1e-4
    prior_layers: float = 1e-3
    patience: int = 100
    stop_psnr: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "starts", "batch_frames", "patience"):
            if getattr(self, name) < 1:
                raise DiganError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "stop_psnr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise DiganError(f"{_flag(name)} must be a positive number, got {value}")
        for name in ("prior_content", "prior_motion", "prior_layers"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DiganError(f"{_flag(name)} must be 0 or more, got {value}")
        if self.space not in ("w", "w+"):
            raise DiganError(f"space must be w or w+, got {self.space!r}")


def _flag(name: str) -> str:
    return name.replace("_", " ")


@dataclass(frozen=True)
class Phase:
    """A part of the plan.

    Attributes:
        name: in words. steps: of Adam.
        starts: codes that take part; the best of the phase before.
        stride: every how many-th cell of the 32x32 grid is seen, both ways, at a drawn place.
        horizon: share of the observed frames, nearest to time 0 first, at its begin and end.
        lr: factor of the learning rate at its begin and end; a cosine between.
        per_layer: a content code for every layer.
    """

    name: str
    steps: int
    starts: int
    stride: int
    horizon: tuple[float, float]
    lr: tuple[float, float]
    per_layer: bool = False

    def rate(self, step: int) -> float:
        """Factor of the learning rate: warm-up over 10 steps, then a cosine."""
        first, last = self.lr
        share = step / max(self.steps - 1, 1)
        cosine = last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * share))
        return cosine * min(1.0, (step + 1) / 10)

    def frames(self, step: int, observed: int) -> int:
        """How many of the observed frames may be drawn."""
        first, last = self.horizon
        share = step / max(self.steps - 1, 1)
        return min(observed, max(1, round(observed * (first + (last - first) * share))))


def plan(settings: FitSettings) -> list[Phase]:
    """The phases of an inversion; their steps add up to the settings'."""
    starts = settings.starts
    half, few = -(-starts // 2), -(-starts // 5)
    shares = [0.2, 0.3, 0.25]
    counts = [round(settings.steps * share) for share in shares]
    counts.append(settings.steps - sum(counts))
    per_layer = settings.space == "w+"
    phases = [
        Phase("first frame", counts[0], starts, 4, (0.0, 0.0), (1.0, 0.5)),
        Phase("motion", counts[1], half, 4, (0.2, 1.0), (1.0, 0.5)),
        Phase("detail", counts[2], few, 2, (1.0, 1.0), (0.6, 0.3)),
        Phase("polish", counts[3], 1, 1, (1.0, 1.0), (0.3, 0.02), per_layer),
    ]
    return [phase for phase in phases if phase.steps]
