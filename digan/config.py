"""Every setting and its default, as one tree of frozen dataclasses.

The command line and `config.yaml` of a run fill the same tree; a snapshot carries it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from digan.errors import DiganError

Precision = Literal["fp32", "bf16", "fp16"]
GeneratorPrecision = Literal["fp32", "tf32", "bf16", "fp16"]
Preset = Literal["official", "fast", "tiny"]
Kernels = Literal["auto", "fused", "reference"]
Switch = Literal["auto", "on", "off"]
T = TypeVar("T")
FP16_CLAMP = 256.0
RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
MOST_SIZE = 1 << 16
# What the names of metrics look like; digan.metrics.protocols says what they mean.
METRIC_NAME = re.compile(
    r"fd-random3d|digan-fvd|digan-kvd|(fvd|kvd|cdfvd)\d{1,7}_\d{1,5}f(_subsample\d{1,5}f)?"
    r"|isv\d{1,7}_ucf"
)
MOST_LAYERS = 64


def _check_resolution(resolution: int) -> None:
    if resolution not in RESOLUTIONS:
        raise DiganError(
            f"resolution must be a power of two from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, "
            f"got {resolution}"
        )


def _check_sizes(config: GeneratorConfig | DiscriminatorConfig, **least: int) -> None:
    """Sizes from a least to 65,536: one beyond is a slip, or a file that was tampered with."""
    for name, low in least.items():
        most = MOST_LAYERS if name == "mapping_layers" else MOST_SIZE
        if not low <= getattr(config, name) <= most:
            raise DiganError(
                f"{name.replace('_', '-')} must be from {low} to {most}, "
                f"got {getattr(config, name)}"
            )


def _channels(config: GeneratorConfig | DiscriminatorConfig, resolution: int) -> int:
    channels = min(config.channel_base // resolution, config.channel_max)
    if channels < 1:
        raise DiganError(
            f"channel-base must be at least the resolution of {resolution}, "
            f"got {config.channel_base}"
        )
    return channels


@dataclass(frozen=True)
class GeneratorConfig:
    """The network that writes a video's coordinate network."""

    resolution: int = 128
    """Side of a training frame in pixels, a power of two from 32."""
    num_classes: int = 0
    """Classes of a conditional model; 0 for none."""
    latent_dim: int = 512
    """D: size of z, of z_motion and of w."""
    channel_base: int = 32768
    """Channels of the block at resolution r are min(channel_base / r, channel_max)."""
    channel_max: int = 512
    """Most channels of a layer."""
    frequencies: int = 128
    """F: frequencies of each Fourier embedding; it has 2F channels."""
    rank: int = 10
    """R: rank of a layer's modulation."""
    mapping_layers: int = 2
    """Layers of the mapping network."""
    motion_scale: float = 0.25
    """Factor of time before the motion network; larger starts from faster motion."""
    clamp: float | None = None
    """Bound on activations; a run in fp16 without one sets 256."""

    def __post_init__(self) -> None:
        _check_resolution(self.resolution)
        _check_sizes(
            self, num_classes=0, latent_dim=1, channel_base=1, channel_max=1, frequencies=1,
            rank=1, mapping_layers=0,
        )  # fmt: skip

    def channels(self, resolution: int) -> int:
        """Channels of the block that is named after a resolution."""
        return _channels(self, resolution)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The two networks that judge frames and pairs of frames."""

    resolution: int = 128
    """Side of a frame in pixels, a power of two from 32."""
    num_classes: int = 0
    """Classes of a conditional model; 0 for none."""
    channel_base: int = 32768
    """Channels at resolution r are min(channel_base / r, channel_max)."""
    channel_max: int = 512
    """Most channels of a layer."""
    mapping_layers: int = 8
    """Layers of the label's mapping network, conditional models only."""
    group_size: int = 4
    """Samples a group of the minibatch standard deviation."""
    clamp: float | None = 256.0
    """Bound on activations."""

    def __post_init__(self) -> None:
        _check_resolution(self.resolution)
        _check_sizes(
            self, num_classes=0, channel_base=1, channel_max=1, mapping_layers=0, group_size=1
        )

    def channels(self, resolution: int) -> int:
        """Channels of the block that is named after a resolution."""
        return _channels(self, resolution)


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    preset: Preset = "official"
    """official: as published; fast: half the discriminator width; tiny: minutes on a CPU."""
    resolution: int | None = None
    """Side of a frame in pixels; the store's, which it must equal."""
    clip_frames: int = 16
    """N: frames of a training clip; a sample is a pair of them."""
    split: str = "all"
    """Videos to train on: train, test or val, as the store has them, or all."""
    cond: bool = False
    """Train class-conditionally on the store's labels."""
    batch: int = 64
    """Samples of an iteration, over all processes."""
    batch_gpu: int | str | None = None
    """Samples of a pass through the networks; smaller than the batch accumulates gradients.
    auto: as many as fit into memory."""
    kimg: float = 25000.0
    """Length of the run in thousands of real samples."""
    precision: Precision = "fp32"
    """Arithmetic of the networks; statistics, losses and optimisers stay in fp32."""
    generator_precision: GeneratorPrecision | None = None
    """Arithmetic of the generator's coordinate layers, if not that of precision; tf32 without
    a GPU rounds operands by hand, in fp32. Coordinates and phases stay in fp32 in all."""
    recompute: bool = False
    """Make activations again in the backward pass instead of keeping them: a third more
    arithmetic, and memory that hardly grows with the samples of a pass."""
    kernels: Kernels = "auto"
    """Native kernels: where they can run, for every op (or an error), none.
    --fused-kernels and --no-fused-kernels stand for fused and reference."""
    cuda_graphs: Switch = "auto"
    """Phases of an iteration as CUDA graphs: where they can be, always (or an error), never."""
    compile: bool = False
    """torch.compile for the discriminators, except in R1; pays on a GPU if at all."""
    mirror: bool = True
    """Flip clips horizontally with probability 1/2."""
    augment: bool = True
    """DiffAugment: colour and translation, one draw for both frames of a pair."""
    gamma: float = 1.0
    """Weight of the R1 penalty."""
    lr: float = 0.0025
    """Adam's learning rate, before the factor of lazy regularisation."""
    beta2: float = 0.99
    """Adam's second beta, before the power of lazy regularisation."""
    d_reg_interval: int = 16
    """Iterations between two R1 penalties."""
    g_reg_interval: int = 4
    """Enters the generator's learning rate only; DIGAN has no generator penalty."""
    ema_kimg: float = 20.0
    """Half-life of the averaged generator, in thousands of samples."""
    ema_rampup: float | None = 0.05
    """Half-life is at most this share of the samples seen so far; None for no ramp."""
    w_avg_beta: float = 0.995
    """Decay of the running mean of w."""
    seed: int = 0
    """Sample i of a run is a function of the seed and i alone."""
    tick: float = 4.0
    """Thousands of samples between two lines of statistics."""
    snap: float = 200.0
    """Thousands of samples between two snapshots, whose names count whole thousands."""
    max_nonfinite: int = 10
    """Iterations in a row with non-finite gradients before the run stops."""
    deterministic: bool = True
    """Bit-identical repeats on one machine; off lets libraries choose faster algorithms."""
    workers: int = 2
    """Processes that decode frames; 0 decodes between iterations."""
    threads: int | None = None
    """CPU threads of PyTorch; its own choice by default."""
    metrics: tuple[str, ...] = ()
    """Metrics at every snapshot, of the averaged generator: fd-random3d, fvd2048_16f, or none."""
    i3d: str | None = None
    """File of the I3D network for fvd and kvd metrics; DIGAN_I3D_PATH by default."""
    c3d: str | None = None
    """File of the C3D network for isv metrics; DIGAN_C3D_PATH by default."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    @property
    def precision_of_generator(self) -> GeneratorPrecision:
        """That of the generator: its own, or that of both networks."""
        return self.generator_precision or self.precision

    def __post_init__(self) -> None:
        if self.resolution is not None:
            _check_resolution(self.resolution)
        if self.clip_frames < 2:
            raise DiganError(f"clip-frames must be at least 2, got {self.clip_frames}")
        for name in ("batch", "kimg", "lr", "tick", "snap", "d_reg_interval", "g_reg_interval"):
            if not 0 < getattr(self, name) < math.inf:
                flag = name.replace("_", "-")
                raise DiganError(f"{flag} must be positive and finite, got {getattr(self, name)}")
        if self.workers < 0:
            raise DiganError(f"workers must be at least 0, got {self.workers}")
        if self.threads is not None and self.threads < 1:
            raise DiganError(f"threads must be at least 1, got {self.threads}")
        if not 0 <= self.seed < 1 << 63:
            raise DiganError(f"seed must be from 0 to 2^63 - 1, got {self.seed}")
        if isinstance(self.batch_gpu, str) and self.batch_gpu != "auto":
            raise DiganError(f"batch-gpu must be a number or auto, got {self.batch_gpu}")
        part = self.batch if self.batch_gpu == "auto" else self.part
        if part < 1 or self.batch % part:
            raise DiganError(
                f"batch-gpu must divide the batch of {self.batch}, got {self.batch_gpu}"
            )
        group = self.discriminator.group_size
        if 2 * part % min(group, 2 * part) or part % min(group, part):
            name = "batch" if self.batch_gpu is None else "batch-gpu"
            raise DiganError(
                f"{name} must be a multiple of {group}, the group of the minibatch statistic, "
                f"got {part}"
            )
        unknown = [name for name in self.metrics if not METRIC_NAME.fullmatch(name)]
        if unknown:
            raise DiganError(
                "metrics must be of fd-random3d, digan-fvd, fvd2048_16f and the like, "
                f"got {', '.join(sorted(unknown))}"
            )

    @property
    def part(self) -> int:
        """Samples of a pass through the networks.

        Raises:
            DiganError: `batch_gpu` is auto, which `digan.training.batch_size` makes a number.
        """
        if isinstance(self.batch_gpu, str):
            raise DiganError(f"batch-gpu must be a number by now, got {self.batch_gpu}")
        return self.batch if self.batch_gpu is None else self.batch_gpu


PRESETS: dict[str, TrainConfig] = {
    "official": TrainConfig(),
    "fast": TrainConfig(
        preset="fast",
        discriminator=DiscriminatorConfig(channel_base=16384, channel_max=256),
    ),
    "tiny": TrainConfig(
        preset="tiny",
        batch=8,
        kimg=50.0,
        ema_kimg=1.0,
        tick=0.5,
        snap=10.0,
        workers=0,
        gamma=0.1,
        generator=GeneratorConfig(
            latent_dim=64, channel_base=4096, channel_max=64, frequencies=32, motion_scale=4.0
        ),
        discriminator=DiscriminatorConfig(channel_base=512, channel_max=64),
    ),
}


def resolve(config: TrainConfig, *, resolution: int, num_classes: int) -> TrainConfig:
    """The configuration with its networks fitted to a data set's resolution and classes.

    A generator in fp16 gets its clamp, unless it has one.

    Raises:
        DiganError: another resolution was asked for.
    """
    if config.resolution not in (None, resolution):
        raise DiganError(
            f"resolution must be the store's {resolution}, got {config.resolution}: prepare a "
            "store of that resolution"
        )
    classes = num_classes if config.cond else 0
    clamp = config.generator.clamp
    if clamp is None and config.precision_of_generator == "fp16":
        clamp = FP16_CLAMP  # here, so that snapshots carry it
    return dataclasses.replace(
        config,
        resolution=resolution,
        generator=dataclasses.replace(
            config.generator, resolution=resolution, num_classes=classes, clamp=clamp
        ),
        discriminator=dataclasses.replace(
            config.discriminator, resolution=resolution, num_classes=classes
        ),
    )


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain dicts, lists, numbers and strings."""
    values = dataclasses.asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """The inverse of `to_dict`; unknown or ill-typed fields are errors.

    Raises:
        DiganError: names the field.
    """
    import dacite  # here, so that the benchmark runs without it

    try:
        return dacite.from_dict(
            kind,
            values,
            dacite.Config(strict=True, cast=[tuple], type_hooks={float: _to_float, int: _to_int}),
        )
    except (dacite.DaciteError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DiganError(f"the configuration does not fit {kind.__name__}: {reason}") from error


# True is an int to Python and an int is a float to dacite. A value that is no number leaves
# here as one that dacite refuses, for then the message names the field.
def _to_int(value: Any) -> Any:
    return str(value) if isinstance(value, bool) else value


def _to_float(value: Any) -> Any:
    return float(value) if type(value) is int else _to_int(value)
