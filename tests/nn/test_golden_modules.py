"""Single modules against numbers of the original implementation, and the map of names.

Every test runs on the full golden set, where it is at hand, and on the committed subset.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from digan.grid import SpaceTimeGrid
from digan.nn.discriminator import minibatch_std
from digan.nn.layers import (
    LRELU_GAIN,
    Convolution,
    FullyConnected,
    ModulatedLayer,
    MotionEmbedding,
    ToRGB,
)
from digan.nn.mapping import Mapping
from digan.ops import fourier_features, modulated_linear
from tests.golden_numbers import Numbers, load
from tests.nn.original import EXACT, FLOAT32, tensor

EMBEDDING = {"xyaffine": "xy_affine", "affine": "motion_affine"}


@pytest.fixture(params=["full", "subset"])
def numbers(request) -> Numbers:
    return load("c_modules_f64", request.param)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def bound(dtype) -> float:
    return EXACT if dtype == torch.float64 else FLOAT32


class Checked:
    """One module of the file: its parameters, inputs, and comparisons with its results."""

    def __init__(self, numbers: Numbers, name: str, module: nn.Module, dtype: torch.dtype):
        self.numbers, self.name, self.dtype = numbers, name, dtype
        self.module = module.to(dtype)
        self.named = dict(self.module.named_parameters())
        self.leaves: dict[str, Tensor] = {}

    def fill(self, ours=lambda name: name) -> None:
        """Copies the parameters; `ours` maps the original's name to ours."""
        prefix = f"{self.name}/param/"
        names = {name: ours(name) for name in self.numbers.names(prefix)}
        assert sorted(names.values()) == sorted(self.named)
        self.ours = names
        with torch.no_grad():
            for name, mine in names.items():
                value = tensor(self.numbers, prefix + name, self.dtype)
                self.named[mine].copy_(value.reshape(self.named[mine].shape))

    def input(self, name: str) -> Tensor:
        self.leaves[name] = tensor(self.numbers, f"{self.name}/in/{name}", self.dtype)
        return self.leaves[name]

    def error(self, entry: str, value: Tensor) -> float:
        return self.numbers.error(f"{self.name}/{entry}", value)

    def check(self, out: Tensor, bound: float) -> None:
        """Output, loss, and the gradient of every parameter and input that was used."""
        weight = tensor(self.numbers, f"{self.name}/in/loss_w", self.dtype)
        loss = (out * weight).sum()
        loss.backward()
        # Its terms cancel: an inner product is exact to its factors' norms, not to itself.
        scale = float(out.detach().double().norm() * weight.double().norm())
        off = abs(float(loss) - float(self.numbers[f"{self.name}/loss"]))
        found = {"out": self.error("out", out), "loss": off / scale}
        for name, leaf in self.leaves.items():
            found[name] = self.error(f"grad_in/{name}", leaf.grad)
        assert set(self.leaves) == set(self.numbers.names(f"{self.name}/grad_in/"))
        for name, mine in self.ours.items():
            entry = f"grad/{name}"
            shape = self.numbers.shape(f"{self.name}/{entry}")
            found[entry] = self.error(entry, self.named[mine].grad.reshape(shape))
        assert max(found.values()) < bound, found


def rows(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N, 1, H, W, C]: every frame a video of its own."""
    return x.permute(0, 2, 3, 1)[:, None]


def planes(x: Tensor) -> Tensor:
    """[N, 1, H, W, C] as [N, C, H, W]."""
    return x[:, 0].permute(0, 3, 1, 2)


def embedding_name(name: str) -> str:
    first, rest = name.removeprefix("input.coord_fuser.").split(".", 1)
    return f"{EMBEDDING.get(first, first)}.{rest}"


def embedded(checked: Checked, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The Fourier embedding [N, 2F, size, size] and what it is made of."""
    w, times, z_motion = (checked.input(name) for name in ("w", "Ts", "z_motion"))
    assert isinstance(checked.module, MotionEmbedding)
    per_frame = z_motion.repeat_interleave(len(w) // len(z_motion), dim=0)
    freq, constant, motion = checked.module.write(w, per_frame)
    phase = checked.module.phase(constant, motion, times.view(-1, 1))
    y, x = SpaceTimeGrid(torch.zeros(1)).axes(size, w)
    out = planes(fourier_features(freq, phase, y, x))
    still = planes(fourier_features(freq, constant[:, None], y, x))
    parts = {
        "freq": freq, "constant": constant, "motion": motion, "phase": phase, "still": still,
        "y": y, "x": x,
    }  # fmt: skip
    return out, parts


def test_coordinate_embedding(numbers, dtype, bound):
    """Frequencies, phases, motion network and features; then x in front, as a block has it."""
    checked = Checked(numbers, "coord_fuser", MotionEmbedding(6, 10), dtype)
    checked.fill(embedding_name)
    out, parts = embedded(checked, 12)
    freq, phase = parts["freq"], parts["phase"]

    raw = torch.cat([freq.flatten(1) / MotionEmbedding.FOURIER_SCALE, parts["constant"]], dim=1)
    assert checked.error("mid/xyaffine", raw) < bound
    assert checked.error("mid/motion_affine", parts["motion"]) < bound
    assert checked.error("mid/motion_mlp", phase[:, 0] - parts["constant"]) < bound
    plane = torch.einsum("nf,w->nfw", freq[..., 0], parts["x"])[:, :, None]
    plane = plane + torch.einsum("nf,h->nfh", freq[..., 1], parts["y"])[..., None]
    assert checked.error("mid/raw_phase", plane + phase[:, 0, :, None, None]) < bound
    x = checked.input("x")
    assert checked.error("out_no_time", torch.cat([x, parts["still"]], dim=1)) < bound
    checked.check(torch.cat([x, out], dim=1), bound)


def test_the_motion_network_starts_with_its_own_slope(numbers):
    """leaky_relu(m * t / 4) has slope 0.01 and no gain, unlike every other activation."""
    motion, t = numbers["coord_fuser/mid/motion_affine"], numbers["coord_fuser/in/Ts"]
    m = torch.from_numpy(motion * t.reshape(-1, 1) * 0.25)
    m = torch.where(m < 0, 0.01 * m, m)
    assert numbers.error("coord_fuser/mid/motion_after_time_and_lrelu", m) < EXACT


def test_first_embedding(numbers, dtype, bound):
    """The input of block 4 is the embedding alone."""
    checked = Checked(numbers, "gen_input", MotionEmbedding(6, 10), dtype)
    checked.fill(embedding_name)
    out, _ = embedded(checked, 16)
    checked.check(out, bound)


def test_modulated_layer(numbers, dtype, bound):
    """Affine, modulation, row norms, product and lrelu; gain and clamp of a call."""
    checked = Checked(numbers, "synthesis_layer", ModulatedLayer(9, 7, 10, 10, "auto"), dtype)
    checked.fill()
    layer = checked.module
    x, w = checked.input("x"), checked.input("w")
    styles = layer.affine(w)
    assert checked.error("mid/styles", styles) < bound
    left = styles[:, :70].view(-1, 7, 10)
    modulation = left @ styles[:, 70:].view(-1, 10, 9) / math.sqrt(10)
    assert checked.error("mid/modulation", modulation) < bound
    weight = layer.write(w)
    assert checked.error("mid/modulated_weight", weight) < bound
    clamped = modulated_linear(
        rows(x), weight, layer.bias, "lrelu", gain=LRELU_GAIN * 0.5, clamp=0.75 * 0.5
    )
    assert float(clamped.detach().abs().max()) == 0.375
    assert checked.error("out_gain0.5_clamp0.75", planes(clamped)) < bound
    out = modulated_linear(rows(x), weight, layer.bias, "lrelu", gain=LRELU_GAIN)
    checked.check(planes(out), bound)


def test_layer_to_rgb(numbers, dtype, bound):
    """Style times weight without demodulation or activation."""
    checked = Checked(numbers, "torgb", ToRGB(9, 10), dtype)
    checked.fill()
    x, w = checked.input("x"), checked.input("w")
    out = modulated_linear(rows(x), checked.module.write(w), checked.module.bias)
    checked.check(planes(out), bound)


def mapping_name(name: str) -> str:
    return name.replace("fc", "layers.")


def test_mapping_with_classes(numbers, dtype, bound):
    """The generator's mapping, label in front of two layers, and its gradient by the label."""
    checked = Checked(numbers, "mapping", Mapping(10, 5, 10, 2), dtype)
    checked.fill(mapping_name)
    w = checked.module(checked.input("z"), checked.input("c"))
    checked.check(w[:, None].expand(-1, 4, -1), bound)


def test_mapping_of_a_discriminator(numbers, dtype, bound):
    """Eight layers that start from the label alone."""
    checked = Checked(numbers, "mapping_D", Mapping(0, 5, 6, 8), dtype)
    checked.fill(mapping_name)
    checked.check(checked.module(None, checked.input("c")), bound)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("fc_linear", lambda: FullyConnected(7, 5, lr_multiplier=0.01)),
        ("fc_lrelu", lambda: FullyConnected(7, 5, "lrelu", lr_multiplier=0.01)),
    ],
    ids=["linear", "lrelu"],
)
def test_fully_connected(numbers, dtype, bound, name, layer):
    """The equalised layer with a learning-rate multiplier, which scales the bias too."""
    checked = Checked(numbers, name, layer(), dtype)
    checked.fill()
    checked.check(checked.module(checked.input("x")), bound)


CONVOLUTIONS = {
    "conv_fromrgb": lambda: Convolution(7, 6, 1, "auto", clamp=1.5),
    "conv_conv0": lambda: Convolution(6, 6, 3, "auto", clamp=1.5),
    "conv_conv1_down": lambda: Convolution(6, 8, 3, "auto", down=True, clamp=1.5),
    "conv_skip_down": lambda: Convolution(
        6, 8, 1, "auto", activation="linear", bias=False, down=True
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(numbers, dtype, bound, name):
    """Every convolution of a discriminator, some with active clamps; FIR before decimation."""
    checked = Checked(numbers, name, CONVOLUTIONS[name](), dtype)
    checked.fill()
    gain = float(numbers[f"{name}/gain"])
    out = checked.module(checked.input("x"), gain=gain)
    if name in ("conv_fromrgb", "conv_conv0"):
        assert 0.01 < float((out.detach().abs() == 1.5).double().mean()) < 0.9
    checked.check(out, bound)


@pytest.mark.parametrize(("group", "size"), [("4", 4), ("2", 2), ("None", 8), ("16", 16)])
def test_minibatch_statistic(numbers, dtype, bound, group, size):
    """Strided groups of 4 and 2, one group of all, and a group size above the batch.

    Only one appended channel exists here, as in every published model; the file's variant
    with two channels has no counterpart.
    """
    x = tensor(numbers, "mbstd/in/x", dtype)
    out = minibatch_std(x, size)
    assert torch.equal(out[:, :6], x)
    assert numbers.error(f"mbstd/out_group{group}_channels1", out[:, 6:]) < bound


def test_coordinates(numbers):
    """The axes, bit by bit, and the order (x, y) of a coordinate."""
    like = torch.zeros(1, dtype=torch.float64)
    grid = SpaceTimeGrid(torch.zeros(1))
    for size in (32, 64, 128):
        y, x = grid.axes(size, like)
        assert torch.equal(x, torch.from_numpy(numbers[f"coords/x_axis_{size}"].copy()))
        assert torch.equal(y, torch.from_numpy(numbers[f"coords/y_axis_{size}"].copy()))
    for size in (8, 5):
        y, x = grid.axes(size, like)
        plane = torch.stack(torch.meshgrid(x, y, indexing="xy"))
        golden = numbers[f"coords/generate_coords_{size}"]
        for found in golden:
            assert float((plane - torch.from_numpy(found.copy())).abs().max()) < 1e-15
