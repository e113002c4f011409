"""The arithmetic of a training step, counted on tensors without memory.

The losses of a real iteration run on PyTorch's meta device, forward and backward: every
operation is dispatched and counted, none is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from digan.config import TrainConfig
from digan.training.live_memory import PhaseWork


def training_phases(config: TrainConfig) -> dict[str, Callable[[], None]]:
    """Each phase's losses and gradients, on the meta device, for a batch of the configuration.

    In float32, whatever the configuration's precision: the operations are the same.
    """
    work = PhaseWork.on_meta(dataclasses.replace(config, precision="fp32"))
    return {phase: partial(work.run, phase, config.batch) for phase in work.PHASES}
