"""Our networks from the tensors of official ones.

Sizes are read from the shapes of the tensors; only what no shape shows (clamps, the group of
the minibatch statistic, the scale of motion) is taken from the constructor's arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from digan.config import RESOLUTIONS, DiscriminatorConfig, GeneratorConfig
from digan.errors import DiganError
from digan.importer.pickles import printable
from digan.importer.snapshot import OfficialModule, OfficialSnapshot
from digan.importer.values import StoredTensor
from digan.nn import Generator, PairDiscriminator
from digan.nn.official import (
    RESAMPLE_FILTER,
    discriminator_name,
    discriminator_names,
    discriminator_state,
    generator_name,
    generator_names,
    generator_state,
)

# What this package's generator does, where the original's configuration has a choice.
_CHOICES = {
    ("upsampling_mode",): "nearest",
    ("use_noise",): False,
    ("fmm", "enabled"): True,
    ("fmm", "activation"): "demod",
    ("coords", "enabled"): True,
    ("coords", "fallback"): False,
    ("coords", "global_motion"): False,
    ("input", "type"): "coords",
    ("input", "resolution"): 32,
}
Shapes = Mapping[str, tuple[int, ...]]


def import_generator(snapshot: OfficialSnapshot, which: str = "G_ema") -> Generator:
    """Our generator with an official one's weights, in evaluation mode.

    Args:
        snapshot: of `read_snapshot`.
        which: `G_ema`, the average that the published results are of, or `G`.

    Raises:
        DiganError: tensors are missing, unknown, of shapes that do not fit, or not finite.
    """
    module = snapshot.module(which)
    _check_choices(snapshot, module)
    config = generator_config(_shapes(module), module.arguments, _where(snapshot, module))
    names = {name: generator_name(name) for name in own_names(generator_names(config))}
    tensors = official_tensors(snapshot, module, names, lambda: Generator(config))
    network = Generator(config)
    network.load_state_dict(generator_state(tensors))
    return network.eval().requires_grad_(False)


def import_discriminators(snapshot: OfficialSnapshot, which: str = "D") -> PairDiscriminator:
    """Our pair of discriminators with the official one's weights, in evaluation mode.

    Raises:
        DiganError: as for `import_generator`.
    """
    module = snapshot.module(which)
    where = _where(snapshot, module)
    config = discriminator_config(_shapes(module), module.arguments, where, prefix="videoD.")
    names = {
        name: discriminator_name(name, config.resolution)
        for name in own_names(discriminator_names(config))
    }
    tensors = official_tensors(snapshot, module, names, lambda: PairDiscriminator(config))
    network = PairDiscriminator(config)
    network.load_state_dict(discriminator_state(tensors, config.resolution))
    return network.eval().requires_grad_(False)


def own_names(names: Iterable[str]) -> list[str]:
    """The official names without those of constants."""
    return [name for name in names if not name.endswith("resample_filter")]


def official_tensors(
    snapshot: OfficialSnapshot,
    module: OfficialModule,
    names: Mapping[str, str],
    make: Callable[[], nn.Module],
) -> dict[str, Tensor]:
    """The float32 tensors of a module under their official names, after they were checked.

    Args:
        snapshot, module: what is imported.
        names: our name of every official one that there must be.
        make: our network; it is made without memory.

    Raises:
        DiganError: one line that names the first tensor that is wrong.
    """
    where = _where(snapshot, module)
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in make().state_dict().items()}
    missing = [name for name in names if name not in module.tensors]
    if missing:
        raise DiganError(
            f"{where} has no tensor {missing[0]}"
            + (f", nor {len(missing) - 1} others" if len(missing) > 1 else "")
        )
    for name, stored in module.tensors.items():
        if name.endswith("resample_filter"):
            _check_filter(where, name, stored)
        elif name not in names:
            raise DiganError(f"{where} has a tensor {printable(name)} that digan has no place for")
    for name, ours in names.items():
        stored, shape = module.tensors[name], wanted[ours]
        pointwise = len(shape) == 2 and len(stored.shape) == 4
        came = stored.shape[:2] if pointwise and stored.shape[2:] == (1, 1) else stored.shape
        if came != shape or not stored.is_floating:
            raise DiganError(
                f"{where}: {name} must be {list(shape) + [1, 1] * pointwise} of floating point, "
                f"got {list(stored.shape)}"
            )
    # Tensors of a true snapshot never share memory, so they cannot be more than the file.
    if 2 * sum(module.tensors[name].count for name in names) > snapshot.size:
        raise DiganError(f"{where} announces more numbers than the file has bytes for")
    tensors = {name: module.tensors[name].read().to(torch.float32) for name in names}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DiganError(f"{where}: {name} has values that are not finite")
    return tensors


def _where(snapshot: OfficialSnapshot, module: OfficialModule) -> str:
    return f"the network {module.name} of {snapshot.path}"


def _shapes(module: OfficialModule) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in module.tensors.items()}


def _check_filter(where: str, name: str, stored: StoredTensor) -> None:
    same = stored.shape == (4, 4) and stored.is_floating
    if not same or not torch.allclose(stored.read().float(), RESAMPLE_FILTER):
        raise DiganError(f"{where}: {printable(name)} must be the filter of [1, 3, 3, 1]")


def _entry(values: Any, *path: str) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _check_choices(snapshot: OfficialSnapshot, module: OfficialModule) -> None:
    """Refuses variants of the original whose outputs would differ with the same tensors."""
    for path, wanted in _CHOICES.items():
        came = _entry(module.arguments, "cfg", *path)
        if came is not None and came != wanted:
            raise DiganError(
                f"{_where(snapshot, module)}: its setting {'.'.join(path)} must be {wanted}, "
                f"got {printable(str(came))}"
            )


# ---------------------------------------------------------------- sizes from shapes


class _Sizes:
    """Sizes read from shapes, with one line for what is missing or impossible."""

    def __init__(self, shapes: Shapes, where: str) -> None:
        self.shapes = shapes
        self.where = where

    def of(self, name: str, axis: int) -> int:
        shape = self.shapes.get(name)
        if shape is None:
            raise DiganError(f"{self.where} has no tensor {name}")
        if not -len(shape) <= axis < len(shape) or shape[axis] < 1:
            raise DiganError(f"{self.where}: {name} must not be of shape {list(shape)}")
        return shape[axis]

    def blocks(self, pattern: str) -> int:
        """The largest resolution that a block is named after."""
        found = [re.fullmatch(pattern, name) for name in self.shapes]
        sizes = {int(match[1]) for match in found if match}
        largest = max(sizes & set(RESOLUTIONS), default=0)
        if not largest:
            raise DiganError(
                f"{self.where} has no block of {RESOLUTIONS[0]} to {RESOLUTIONS[-1]} pixels"
            )
        return largest

    def layers(self, prefix: str) -> int:
        """Layers of a mapping network."""
        count = 0
        while f"{prefix}mapping.fc{count}.weight" in self.shapes:
            count += 1
        return count

    def classes(self, prefix: str) -> int:
        name = f"{prefix}mapping.embed.weight"
        return self.of(name, 1) if name in self.shapes else 0


def channel_rule(channels: Mapping[int, int], base: Any, where: str) -> tuple[int, int]:
    """channel_base and channel_max, of which min(base / r, max) are the channels at r.

    Args:
        channels: of every resolution. base: what the arguments say; used if it fits.

    Raises:
        DiganError: no such pair of numbers.
    """
    most = max(channels.values())
    narrow = [r * c for r, c in channels.items() if c < most]
    guesses = [base] if type(base) is int and 0 < base < 1 << 31 else []
    guesses.append(max(narrow) if narrow else most * max(channels))
    for guess in guesses:
        if all(min(guess // r, most) == c for r, c in channels.items()):
            return guess, most
    raise DiganError(f"{where} has channels {dict(channels)}, which are not min(base / r, max)")


def _number(value: Any, default: float | None) -> float | None:
    return float(value) if type(value) in (int, float) else default


def generator_config(
    shapes: Shapes, arguments: dict[str, Any], where: str = "the generator"
) -> GeneratorConfig:
    """The sizes of an official generator.

    Args:
        shapes: of its tensors, by official names. arguments: of its constructor, may be empty.
        where: how errors call it.

    Raises:
        DiganError: a tensor is missing, or no sizes of ours give its shapes.
    """
    sizes = _Sizes(shapes, where)
    resolution = sizes.blocks(r"synthesis\.b(\d{1,4})\.torgb\.weight")
    resolutions = [4 << i for i in range((resolution // 4).bit_length())]
    channels = {r: sizes.of(f"synthesis.b{r}.torgb.weight", 1) for r in resolutions}
    base = _entry(arguments, "synthesis_kwargs", "channel_base")
    channel_base, channel_max = channel_rule(channels, base, where)
    fuser = "synthesis.b4.input.input.coord_fuser"
    first = "synthesis.b4.conv1"
    ends = sizes.of(f"{first}.weight", 0) + sizes.of(f"{first}.weight", 1)
    scale = _number(_entry(arguments, "cfg", "coords", "motion_sigma"), 0.25)
    assert scale is not None
    return GeneratorConfig(
        resolution=resolution,
        num_classes=sizes.classes(""),
        latent_dim=sizes.of("mapping.w_avg", 0),
        channel_base=channel_base,
        channel_max=channel_max,
        frequencies=sizes.of(f"{fuser}.xyaffine.weight", 0) // 3,
        rank=sizes.of(f"{first}.affine.weight", 0) // ends,
        mapping_layers=sizes.layers(""),
        motion_scale=scale,
        clamp=_number(_entry(arguments, "synthesis_kwargs", "conv_clamp"), None),
    )


def discriminator_config(
    shapes: Shapes,
    arguments: dict[str, Any],
    where: str = "the discriminator",
    *,
    prefix: str = "",
) -> DiscriminatorConfig:
    """The sizes of an official discriminator, whose tensors' names begin with `prefix`.

    Raises:
        DiganError: as for `generator_config`.
    """
    sizes = _Sizes(shapes, where)
    resolution = sizes.blocks(rf"{re.escape(prefix)}b(\d{{1,4}})\.conv0\.weight")
    channels = {resolution: sizes.of(f"{prefix}b{resolution}.fromrgb.weight", 0)}
    while min(channels) > 4:
        r = min(channels)
        channels[r // 2] = sizes.of(f"{prefix}b{r}.skip.weight", 0)
    channel_base, channel_max = channel_rule(channels, arguments.get("channel_base"), where)
    classes = sizes.classes(prefix)
    group = _entry(arguments, "epilogue_kwargs", "mbstd_group_size")
    return DiscriminatorConfig(
        resolution=resolution,
        num_classes=classes,
        channel_base=channel_base,
        channel_max=channel_max,
        mapping_layers=sizes.layers(prefix) if classes else 8,
        group_size=group if type(group) is int else 4,
        clamp=_number(arguments.get("conv_clamp"), None if arguments else 256.0),
    )
