"""The generator's own precision: what its layers read in a run, and what a run keeps of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from digan.config import GeneratorConfig, TrainConfig, resolve
from digan.execution import generator_arithmetic
from digan.generate.files import open_network
from digan.grid import SpaceTimeGrid
from digan.nn.snapshot import load_network, network_path
from digan.ops._tf32 import round_to_tf32
from digan.training.loop import train
from digan.training.step import Trainer
from tests.nn.tiny import noise, randomised
from tests.op_cases import relative_error
from tests.tiny_runs import tiny_config

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
DTYPES = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
}  # fmt: skip
ARGUMENTS = {  # places of what is always wide, of the arithmetic's operands, and of the bias
    "digan::coord_linear": ((0, 1, 2, 3), (4, 6), 5),
    "digan::coord_linear_backward": ((1, 2, 3, 4), (0, 5, 7), 6),
    "digan::modulated_linear": ((), (0, 1), 2),
    "digan::modulated_linear_backward": ((), (0, 1, 2), 3),
}


class Arguments(TorchDispatchMode):
    """Takes down what the linear ops of the generator are given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func._schema.name in ARGUMENTS:
            self.calls.append((func._schema.name, args))
        return func(*args, **(kwargs or {}))


def trainer(precision: Any) -> Trainer:
    """A generator in a precision, of 64 pixels, so that a layer has an upsampled part."""
    small = tiny_config()
    config = replace(
        small,
        generator=replace(small.generator, resolution=64),
        discriminator=replace(small.discriminator, resolution=64),
        generator_precision=precision,
    )
    made = Trainer(resolve(config, resolution=64, num_classes=0))
    randomised(made.generator, 1)
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_coordinates_and_phases_are_in_float32(precision):
    """Not only in name: their numbers have more bits than tf32 keeps. The operands are narrow."""
    made = trainer(precision)
    with Arguments() as arguments:
        made.train_generator(made._fakes("G", range(made.config.batch)))
    assert {name for name, _ in arguments.calls} == set(ARGUMENTS)
    for name, given in arguments.calls:
        wide, operands, bias = ARGUMENTS[name]
        for place in wide:
            assert given[place].dtype == torch.float32, (name, place)
        for place in operands:
            tensor = given[place]
            assert tensor is None or tensor.dtype == DTYPES[precision], (name, place)
        assert given[bias] is None or given[bias].dtype == torch.float32
        assert given[-1] is (precision == "tf32"), name
        if name == "digan::coord_linear":
            for place in (0, 1):  # frequencies and phases
                values: Tensor = given[place]
                assert (values != round_to_tf32(values)).float().mean() > 0.9
                assert (values != values.to(torch.bfloat16)).float().mean() > 0.9
    # The other networks and all parameters are as in float32.
    assert {p.dtype for p in made.discriminator.parameters()} == {torch.float32}
    assert {p.dtype for p in made.generator.parameters()} == {torch.float32}


def test_both_networks_by_default():
    """None is that of `precision`; a setting of its own leaves the discriminators alone."""
    for precision in ("fp32", "bf16", "fp16"):
        assert TrainConfig(precision=precision).precision_of_generator == precision
    config = TrainConfig(precision="bf16", generator_precision="fp32")
    assert config.precision_of_generator == "fp32"
    assert generator_arithmetic("tf32").tf32 is True
    assert [generator_arithmetic(p).tf32 for p in ("fp32", "bf16", "fp16")] == [None] * 3
    made = trainer("bf16")
    assert made.generator.compute_dtype == torch.bfloat16
    for module in made.discriminator.modules():
        assert getattr(module, "backward_dtype", None) is None


def test_fp16_has_a_clamp():
    """256 unless the network has one; no other precision gets any."""
    for config, clamp in (
        (TrainConfig(generator_precision="fp16"), 256.0),
        (TrainConfig(precision="fp16"), 256.0),
        (TrainConfig(generator_precision="fp16", generator=GeneratorConfig(clamp=100.0)), 100.0),
        (TrainConfig(precision="fp16", generator_precision="tf32"), None),
        (TrainConfig(precision="bf16"), None),
        (TrainConfig(), None),
    ):
        assert resolve(config, resolution=64, num_classes=0).generator.clamp == clamp


def test_a_run_keeps_it(store, tmp_path, few_samples):
    """config.yaml and the snapshot say what was trained, and a snapshot is used with its clamp."""
    config = tiny_config(generator_precision="fp16", kimg=0.004)
    run = train(config, store, tmp_path, progress=False).run
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["precision"], kept["generator_precision"]) == ("fp32", "fp16")
    assert kept["generator"]["clamp"] == 256.0
    generator, info = load_network(network_path(run))
    assert info.generator.clamp == 256.0
    assert {block.clamp for block in generator.synthesis_blocks()} == {256.0}
    assert "non-finite" not in (run / "log.txt").read_text()
    # Used in tf32, by the word that `digan generate --precision` takes.
    rounded, _ = open_network(str(network_path(run)), precision="tf32", device="cpu")
    grid = SpaceTimeGrid(torch.tensor([0.2, 0.9], dtype=torch.float64))
    z, z_motion = noise(2, 16, seed=0), noise(2, 16, seed=1)
    exact = generator.double()(z.double(), z_motion.double(), grid)
    assert 1e-5 < relative_error(rounded(z, z_motion, grid), exact) < 3e-3
