"""What a section measures: cases, each done by several providers on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from digan import ops
from digan.config import PRESETS, Preset, TrainConfig, resolve

Subject = tuple[str, str]  # provider, precision

# The module of every section: what it times (`cases`), and what else it finds (`tables`).
MODULES = {
    "ops": "digan.bench.op_section",
    "generator": "digan.bench.generator_section",
    "sampling": "digan.bench.sampling_section",
    "showcase": "digan.bench.showcase_section",
    "training": "digan.bench.training_section",
    "profile": "digan.bench.profile_section",
    "gradients": "digan.bench.memory_section",
    "loader": "digan.bench.loader_section",
    "processes": "digan.bench.processes_section",
}
SECTIONS = tuple(MODULES)
ON_REQUEST = ("processes",)  # takes minutes, and every core or GPU that there is
DEFAULT = tuple(name for name in SECTIONS if name not in ON_REQUEST)


@dataclass(frozen=True)
class Options:
    """What was asked of the benchmark; all of it is kept in the result file."""

    sections: tuple[str, ...] = DEFAULT
    preset: Preset = "official"
    resolution: int = 128
    frames: int = 128
    batch: int = 2
    precisions: tuple[str, ...] = ("fp32", "bf16")
    device: str = "cpu"
    repeats: int = 7
    processes: int = 3
    budget: float = 60.0
    threads: int | None = None
    allocators: tuple[str, ...] = ("default", "tuned")
    providers: tuple[str, ...] = ("reference", "compiled", "fused", "original")
    official: str | None = None
    seconds: float | None = None
    memory: bool = True
    vary: tuple[str, ...] = ()
    trace: str | None = None
    scale_to: int | None = None

    def config(self, precision: Any = "fp32") -> TrainConfig:
        """The preset's configuration for the benchmark's clips and batch."""
        import dataclasses

        preset = resolve(PRESETS[self.preset], resolution=self.resolution, num_classes=0)
        return dataclasses.replace(
            preset, clip_frames=self.frames, batch=self.batch, precision=precision, workers=0
        )

    def wants(self, provider: str) -> bool:
        """True if the provider was asked for and can run."""
        return provider in self.providers and (provider != "fused" or fused_is_active())


def fused_is_active() -> bool:
    """True if every op has its native kernels here."""
    return all(status == "fused" for status in ops.status().values())


def formulas_stand_in(device: torch.device) -> bool:
    """True if the provider `reference` must ask for the formulas.

    On a GPU with native kernels the ops' own choice would be these.
    """
    return device.type == "cuda" and fused_is_active()


@dataclass
class Case:
    """One piece of work.

    Attributes:
        name: with the sizes that matter.
        providers: the work, by provider and precision; made late, since it takes memory.
        unit, items: what one call makes, and how many.
        work: parts of (flops, bytes), one after the other, by precision: the floor.
        floor_by: of a subject, who does only what that one cannot leave out: its floor.
        notes: what to know about a provider, or why it is not among `providers`.
    """

    name: str
    providers: dict[Subject, Callable[[], Any]]
    unit: str = "calls"
    items: float = 1.0
    work: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: dict[Subject, str] = field(default_factory=dict)
    floor_by: dict[Subject, Subject] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a section is given.

    Attributes:
        options, device: what was asked. folder: scratch, gone after the run.
        original: the original implementation's code, or None.
    """

    options: Options
    device: torch.device
    folder: Path
    original: Any = None
