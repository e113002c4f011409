"""Stores, settings and networks so small that a training run takes a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig, to_dict
from digan.data.prepare import prepare
from digan.nn import Generator
from digan.nn.snapshot import NetworkInfo, save_network
from tests.data.clips import write_clip
from tests.nn.tiny import randomised

CLASSES = ("dusk", "noon")


def tiny_config(**changes: Any) -> TrainConfig:
    """A run of 6 iterations of 4 pairs, with a state after 4 of them; one thread, no workers.

    R1 is due at iterations 0, 2 and 4.
    """
    base = TrainConfig(
        preset="tiny",
        clip_frames=4,
        batch=4,
        kimg=0.024,
        tick=0.008,
        snap=0.016,
        d_reg_interval=2,
        ema_kimg=0.02,
        ema_rampup=None,
        workers=0,
        threads=1,
        generator=GeneratorConfig(
            resolution=32, latent_dim=16, channel_base=512, channel_max=8, frequencies=8, rank=3
        ),
        discriminator=DiscriminatorConfig(resolution=32, channel_base=512, channel_max=8),
    )
    return replace(base, **changes)


def tiny_store(folder: Path, name: str = "skies") -> Path:
    """A prepared store of 32 pixels a side: two classes of three videos of 8 or 9 frames."""
    for n in range(6):
        write_clip(folder / "videos" / CLASSES[n // 3] / f"{n}.mp4", 8 + n % 2, shade=n)
    prepare(folder / "videos", folder / name, resolution=32, workers=1, progress=False)
    return folder / name


def settings_file(path: Path, config: TrainConfig) -> Path:
    """The settings as a file for --config, without what a store decides."""
    path.write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")
    return path


def tiny_network(resolution: int = 32, num_classes: int = 0, seed: int = 0) -> Generator:
    """A generator whose every parameter is random, in evaluation mode."""
    config = GeneratorConfig(
        resolution=resolution, num_classes=num_classes, latent_dim=16, channel_base=512,
        channel_max=8, frequencies=8, rank=3,
    )  # fmt: skip
    network = randomised(Generator(config), seed)
    assert isinstance(network, Generator)
    with torch.no_grad():  # frames that use most of the range and leave it in few places
        for name, value in network.named_parameters():
            if "to_rgb" in name:
                value.mul_(0.3)
    return network.eval().requires_grad_(False)


def network_file(path: Path, generator: Generator, **info: Any) -> Path:
    """Saves a network as if it had been trained on clips of 5 frames at 10 fps."""
    known = {"clip_frames": 5, "fps": 10.0, "kimg": 1.0, **info}
    save_network(path, generator, NetworkInfo(generator=generator.config, **known))
    return path
