"""A snapshot with the original's own tensors: what is read, and what the networks compute."""

from __future__ import annotations

import json
import pickletools

import numpy as np
import pytest
import torch
from torch import Tensor

from digan.grid import SpaceTimeGrid
from digan.importer import import_discriminators, import_generator, read_snapshot
from digan.importer.pickles import Budget
from digan.importer.values import snapshot_names
from digan.nn import Generator
from tests.golden_numbers import Numbers, load, relative
from tests.importer.official_file import module, snapshot_bytes
from tests.nn.original import EXACT, FLOAT32

NETWORKS = ("G", "D", "G_ema")


def tensors_of(numbers: Numbers, name: str) -> dict[str, Tensor]:
    names = numbers.names(f"{name}/")
    return {n: torch.from_numpy(np.array(numbers[f"{name}/{n}"])) for n in names}


@pytest.fixture(scope="module")
def numbers() -> Numbers:
    return load("i_snapshot_expected", "full")


@pytest.fixture(scope="module")
def content(numbers) -> bytes:
    kwargs = {n: json.loads(str(numbers[f"{n[0]}_kwargs_json"])) for n in NETWORKS}
    classes = {"G": "Generator", "D": "DualDiscriminator", "G_ema": "Generator"}
    networks = {n: module(classes[n], tensors_of(numbers, n), kwargs[n]) for n in NETWORKS}
    return snapshot_bytes(networks, json.loads(str(numbers["training_set_kwargs_json"])))


@pytest.fixture(scope="module")
def snapshot(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "network-snapshot-000000.pkl"
    path.write_bytes(content)
    return read_snapshot(path)


def globals_of(content: bytes) -> set[str]:
    """What the instructions of a protocol 4 pickle name."""
    texts: list[str] = []
    memo: list[str] = []
    found = set()
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "STACK_GLOBAL":
            found.add(".".join(texts[-2:]))
        if opcode.name == "MEMOIZE":
            memo.append(texts[-1] if texts else "")
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            texts.append(memo[argument])
        elif "UNICODE" in opcode.name:
            texts.append(argument)
    return found


def test_the_written_file_names_what_the_original_names(numbers, content):
    """Our file of this form asks for the very globals of the original's file."""
    wanted = set(numbers["pickle_globals"].tolist())
    extra = {"numpy.core.multiarray.scalar": "numpy._core.multiarray.scalar"}
    assert {extra.get(n, n) for n in globals_of(content)} == {extra.get(n, n) for n in wanted}


def test_every_global_of_the_original_is_known(numbers):
    assert set(numbers["pickle_globals"].tolist()) <= set(snapshot_names(Budget()))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_is_read_bit_by_bit(numbers, snapshot, name):
    wanted, found = tensors_of(numbers, name), snapshot.module(name).tensors
    assert set(found) == set(wanted)
    for key, tensor in wanted.items():
        assert torch.equal(found[key].read(), tensor), key


def test_arguments_are_read(numbers, snapshot):
    assert snapshot.module("G").arguments == json.loads(str(numbers["G_kwargs_json"]))
    assert snapshot.module("D").arguments == json.loads(str(numbers["D_kwargs_json"]))
    assert snapshot.data == json.loads(str(numbers["training_set_kwargs_json"]))
    config = import_generator(snapshot).config
    assert (config.resolution, config.channel_base, config.channel_max) == (64, 256, 4)
    assert (config.frequencies, config.rank, config.mapping_layers) == (4, 10, 2)
    assert (config.motion_scale, config.clamp, config.latent_dim) == (0.25, None, 16)
    pair = import_discriminators(snapshot).config
    assert (pair.clamp, pair.group_size, pair.channel_base, pair.channel_max) == (256, 4, 256, 4)


def frames(network: Generator, numbers: Numbers, count: int, dtype: torch.dtype) -> Tensor:
    z, motion, times = (
        torch.from_numpy(np.array(numbers[f"in/{n}"])).to(dtype) for n in ("z", "z_motion", "Ts")
    )
    grid = SpaceTimeGrid(times.view(2, -1))
    with torch.no_grad():
        video = network.to(dtype).write(network.map(z), motion).render(grid)
    return video.permute(0, 1, 4, 2, 3).flatten(0, 1)[:count]


@pytest.mark.parametrize(
    ("which", "name", "count", "dtype", "bound"),
    [
        ("G", "out_f32/G/img", 1, torch.float32, FLOAT32),
        ("G_ema", "out_f32/G_ema/img", 4, torch.float32, FLOAT32),
        ("G_ema", "out_f64/G_ema/img", 2, torch.float64, EXACT),
    ],
)
def test_pictures(numbers, snapshot, which, name, count, dtype, bound):
    ours = frames(import_generator(snapshot, which), numbers, count, dtype)
    error = relative(ours, numbers[name])
    print(f"{name}: {error:.1e}")
    assert error < bound


@pytest.mark.parametrize(
    ("kind", "dtype", "bound"),
    [("f32", torch.float32, FLOAT32), ("f64", torch.float64, EXACT)],
)
def test_logits(numbers, snapshot, kind, dtype, bound):
    pair = import_discriminators(snapshot).to(dtype)
    seen = torch.from_numpy(np.array(numbers["in/vid"])).to(dtype)
    with torch.no_grad():
        video, image = pair(seen[:, :6].unflatten(1, (2, 3)), seen[:, 6:7])
    for name, ours in (("video", video), ("image", image)):
        error = relative(ours[:, None], numbers[f"out_{kind}/D/{name}_logits"])
        print(f"out_{kind}/D/{name}: {error:.1e}")
        assert error < bound
