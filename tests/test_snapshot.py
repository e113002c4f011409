"""Network files: what goes in comes out, and what is wrong is said without running anything."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.nn.snapshot import load_network, network_path
from tests.tiny_runs import CLASSES, network_file, tiny_network


@pytest.fixture
def path(tmp_path) -> Path:
    return network_file(tmp_path / "net.safetensors", tiny_network())


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and what follows it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Changes what the file says about itself, and leaves the tensors."""
    header, rest = header_of(path)
    values = json.loads(header["__metadata__"]["digan"])
    change(values)
    header["__metadata__"]["digan"] = json.dumps(values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
    return path


def test_round_trip(tmp_path):
    network = tiny_network(num_classes=2)
    about = {"classes": CLASSES, "fps": 12.5, "clip_frames": 7, "kimg": 3.25, "description": "née"}
    path = network_file(tmp_path / "net.safetensors", network, **about)
    loaded, info = load_network(path)
    assert info.generator == network.config
    assert {name: getattr(info, name) for name in about} == about
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
        assert value.dtype == torch.float32
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_wider_parameters_are_stored_as_float32(tmp_path):
    network = tiny_network().double()
    loaded, _ = load_network(network_file(tmp_path / "net.safetensors", network))
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[name].float()), name


def test_loading_does_not_touch_the_global_generator_or_warn(path, recwarn):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with torch.random.fork_rng():
        load_network(path)
    assert torch.equal(torch.rand(1), expected)
    assert [str(w.message) for w in recwarn] == []


def test_reading_uses_no_pickle(path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was opened")

    for module in (pickle, torch):
        for name in ("load", "loads", "Unpickler"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    load_network(path)
    assert path.read_bytes()[8:9] == b"{"


def test_a_pickle_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Trap()))
    torch.save(tiny_network().state_dict(), tmp_path / "b.safetensors")
    for name in ("a", "b"):
        with pytest.raises(DiganError, match="is damaged or no network file"):
            load_network(tmp_path / f"{name}.safetensors")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.2, 0.5, 0.999])
def test_truncated_files(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DiganError, match="net.safetensors is damaged or no network file"):
        load_network(path)


def test_bytes_of_all_kinds_never_crash(path):
    """Damage in the header is an error or harmless; nothing else may come out."""
    content = path.read_bytes()
    length = len(content) - len(header_of(path)[1])
    source = np.random.default_rng(0)
    said = []
    for _ in range(150):
        changed = bytearray(content)
        changed[int(source.integers(length))] = int(source.integers(256))
        path.write_bytes(changed)
        try:
            load_network(path)
        except DiganError as error:
            said.append(str(error))
    assert len(said) > 75
    rules = (str(path), "must be", "does not fit")
    assert [text for text in said if not any(rule in text for rule in rules)] == []


def test_files_of_others(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(DiganError, match="is no network file of digan"):
        load_network(path)
    save_file({"x": torch.zeros(2)}, path, metadata={"digan": "]"})
    with pytest.raises(DiganError, match="has an unreadable header"):
        load_network(path)
    save_file({"x": torch.zeros(2)}, path, metadata={"digan": "[" * 100_000})
    with pytest.raises(DiganError, match="has an unreadable header"):
        load_network(path)
    for values in ("[]", "3", "{}", '{"format_version": null}', '{"format_version": 1e999}'):
        save_file({"x": torch.zeros(2)}, path, metadata={"digan": values})
        with pytest.raises(DiganError, match="has an unreadable header"):
            load_network(path)


def test_a_newer_format_is_not_guessed_at(path):
    rewrite(path, lambda values: values.update(format_version=2, generator={"unheard": "of"}))
    with pytest.raises(DiganError, match="has format version 2, this program reads up to 1"):
        load_network(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unheard": 1}, "unheard"),
        ({"rank": "three"}, "generator.rank"),
        ({"rank": True}, "generator.rank"),
        ({"rank": 2.5}, "generator.rank"),
        ({"rank": 4}, "does not hold the tensors it announces"),
        ({"resolution": 64}, "does not hold the tensors it announces"),
        ({"num_classes": 3}, "does not hold the tensors it announces"),
        ({"resolution": 2**70}, "resolution must be a power of two"),
        ({"resolution": 33}, "resolution must be a power of two"),
        ({"latent_dim": 10**12}, "latent-dim must be from 1 to 65536"),
        ({"latent_dim": -5}, "latent-dim must be from 1 to 65536"),
        ({"rank": 10**40}, "rank must be from 1 to 65536"),
        ({"channel_max": 0}, "channel-max must be from 1 to 65536"),
        ({"channel_base": 1}, "channel-base must be at least the resolution of 4"),
        ({"frequencies": -1}, "frequencies must be from 1 to 65536"),
        ({"num_classes": -1}, "num-classes must be from 0 to 65536"),
        ({"mapping_layers": 10**9}, "mapping-layers must be from 0 to 64"),
    ],
)
def test_tampered_sizes(path, change, sentence):
    rewrite(path, lambda values: values["generator"].update(change))
    with pytest.raises(DiganError, match=sentence):
        load_network(path)


def test_sizes_that_lie_cost_no_memory(path):
    """65,536 is within bounds, and a network of it would take hundreds of gigabytes."""
    import resource

    sizes = {"latent_dim": 65536, "channel_max": 65536, "channel_base": 65536, "rank": 65536}
    rewrite(path, lambda values: values["generator"].update(sizes))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        with pytest.raises(DiganError, match="does not hold the tensors it announces"):
            load_network(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unheard": 1}, "unheard"),
        ({"fps": "fast"}, "fps"),
        ({"clip_frames": None}, "clip_frames"),
        ({"classes": [1, 2]}, "classes"),
        ({"generator": 3}, "generator"),
    ],
)
def test_tampered_facts(path, change, sentence):
    rewrite(path, lambda values: values.update(change))
    with pytest.raises(DiganError, match=sentence):
        load_network(path)


def test_missing_fields_are_named(path):
    rewrite(path, lambda values: values.pop("clip_frames"))
    with pytest.raises(DiganError, match="clip_frames"):
        load_network(path)


def test_names_that_users_give(tmp_path, path):
    assert network_path(path) == path
    assert network_path(str(path)) == path
    (run := tmp_path / "run").mkdir()
    with pytest.raises(DiganError, match="run has no network-snapshot-"):
        network_path(run)
    for number in ("000000", "000400", "000080"):
        (run / f"network-snapshot-{number}.safetensors").write_text("")
    assert network_path(run).name == "network-snapshot-000400.safetensors"
    with pytest.raises(DiganError, match="gone does not exist"):
        network_path(tmp_path / "gone")


def test_demo_means_the_packaged_network_unless_there_is_such_a_file(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert network_path("demo").name == "demo.safetensors"
    path.rename(tmp_path / "demo")
    assert network_path("demo") == Path("demo")


def test_saving_is_atomic(path, monkeypatch):
    from safetensors import SafetensorError

    before = path.read_bytes()

    def full(tensors: object, name: Path, **_: object) -> None:
        name.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("digan.nn.snapshot.save_file", full)
    with pytest.raises(DiganError, match="net.safetensors cannot be written: .*No space left"):
        network_file(path, tiny_network(seed=1))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
