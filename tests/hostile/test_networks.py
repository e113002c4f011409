"""Damage to files of networks, codes, features, states and sections: what digan itself wrote."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from digan.errors import DiganError
from digan.grid import frame_times
from digan.importer.stylegan2 import import_stylegan2_discriminator
from digan.inversion import load_codes, save_codes
from digan.metrics.detectors import is_torchscript, load_detector, load_i3d_weights
from digan.metrics.feature_cache import read_features, write_features
from digan.nn import PairDiscriminator
from digan.nn.snapshot import load_discriminators, load_network, save_discriminators
from digan.showcase.media import Clip, Group, Section, read_section
from digan.showcase.page import Page
from digan.synthesis import clips, seed_codes
from digan.training.checkpoint import (
    LATEST,
    PREVIOUS,
    check_same_settings,
    continued_batch_gpu,
    read_state,
    restore,
    save_state,
)
from digan.training.step import Trainer
from tests.hostile.strategies import any_values, changed, damages, deep_texts, rounds
from tests.hostile.verdict import in_memory, refused_or_read
from tests.metrics.networks import StandInC3D, scripted
from tests.tiny_runs import network_file, tiny_config, tiny_network

NETWORK = tiny_network()
INFO = {
    "generator": dataclasses.asdict(NETWORK.config), "clip_frames": 5, "fps": 10.0, "classes": [],
    "kimg": 1.0, "description": "", "format_version": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    network_file(folder / "net.safetensors", NETWORK)
    config = tiny_config().discriminator
    save_discriminators(folder / "pair.safetensors", PairDiscriminator(config))
    save_codes(folder / "codes.safetensors", seed_codes(NETWORK, [0, 1]), NETWORK, {"clip": "a"})
    write_features(folder / "features.safetensors", torch.randn(6, 4), "these")
    return folder


def header_damaged(content: bytes, damage: Any, honest: bool) -> bytes:
    """Damage to the header of a .safetensors file; honest: with the length that it then has."""
    length = int.from_bytes(content[:8], "little")
    if not honest:
        return damage(content[: 8 + length]) + content[8 + length :]
    body = damage(content[8 : 8 + length])
    return len(body).to_bytes(8, "little") + body + content[8 + length :]


def use_network(path: Path) -> None:
    """Reads a network and makes a video of it, as `digan generate` would."""
    generator, info = load_network(path)
    if generator.config.resolution > 64:  # whole, and large
        return
    times = frame_times(min(info.clip_frames, 4), info.clip_frames)
    labels = [0] if generator.config.num_classes else None
    list(clips(generator, range(1), times, labels))


def use_codes(path: Path) -> None:
    codes = load_codes(path).codes
    assert codes.ws.dtype == codes.z_motion.dtype == torch.float32
    load_codes(path, NETWORK)


READERS = {
    "net": use_network,
    "pair": load_discriminators,
    "codes": use_codes,
    "features": lambda path: read_features(path, "these", 6),
}


@rounds(200)
@given(name=st.sampled_from(sorted(READERS)), damage=damages, honest=st.booleans())
def test_headers_of_safetensors(folder, name, damage, honest):
    content = (folder / f"{name}.safetensors").read_bytes()
    path = folder / "damaged.safetensors"
    path.write_bytes(header_damaged(content, damage, honest))
    refused_or_read(lambda: READERS[name](path))


@rounds(60)
@given(name=st.sampled_from(sorted(READERS)), damage=damages)
def test_all_of_safetensors(folder, name, damage):
    path = folder / "damaged.safetensors"
    path.write_bytes(damage((folder / f"{name}.safetensors").read_bytes()))
    refused_or_read(lambda: READERS[name](path))


@rounds(80)
@given(text=st.one_of(changed(INFO).map(json.dumps), any_values.map(json.dumps), deep_texts))
def test_what_a_network_says_of_itself(folder, text):
    """Any values in the JSON of a header whose tensors are whole."""
    with safe_open(folder / "net.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, folder / "said.safetensors", metadata={"digan": text})
    refused_or_read(lambda: use_network(folder / "said.safetensors"))


KINDS = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@rounds(40)
@given(name=st.sampled_from(["ws", "z_motion"]), kind=st.sampled_from(KINDS),
       shape=st.lists(st.integers(0, 4), max_size=4), nan=st.booleans())  # fmt: skip
def test_codes_of_another_kind(folder, name, kind, shape, nan):
    path = folder / "other.safetensors"
    with safe_open(folder / "codes.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in ("ws", "z_motion")}
        metadata = file.metadata()
    tensors[name] = torch.full_like(tensors[name], float("nan")) if nan else torch.ones(
        shape, dtype=kind)  # fmt: skip
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(DiganError, match="is damaged or no codes file"):
        load_codes(path)


def test_a_flipped_bit_in_features_is_noticed(folder, tmp_path):
    path = tmp_path / "features.safetensors"
    content = bytearray((folder / "features.safetensors").read_bytes())
    path.write_bytes(content)
    assert read_features(path, "these", 6) is not None
    assert read_features(path, "others", 6) is None
    assert read_features(path, "these", 7) is None
    content[-3] ^= 1
    path.write_bytes(content)
    assert read_features(path, "these", 6) is None


# ---------------------------------------------------------------- states


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trainer]:
    run = tmp_path_factory.mktemp("trained")
    trainer = Trainer(tiny_config(resolution=32))
    save_state(run, trainer, "data")
    return run, trainer


@rounds(30)
@given(damage=damages)
def test_state(tmp_path_factory, trained, damage):
    run = tmp_path_factory.mktemp("state")
    content = (trained[0] / LATEST).read_bytes()
    (run / LATEST).write_bytes(damage(content))
    refused_or_read(lambda: read_state(run))
    (run / PREVIOUS).write_bytes(content)  # the other one is used
    assert read_state(run)[0]["data"] == "data"
    shutil.rmtree(run)


def continue_with(run: Path, trainer: Trainer) -> None:
    """What a resumed run does with a state."""
    state, _ = read_state(run)
    check_same_settings(state, trainer.config, "data", run)
    continued_batch_gpu(state, dataclasses.replace(trainer.config, batch_gpu="auto"))
    restore(trainer, state)


@rounds(25)
@given(data=st.data())
def test_whole_states_of_something_else(tmp_path_factory, trained, data):
    """Values of any type at any place of a state that is otherwise as it should be."""
    run, trainer = tmp_path_factory.mktemp("state"), trained[1]
    state = torch.load(trained[0] / LATEST, weights_only=True)
    name = data.draw(st.sampled_from(sorted(state)))
    value = state[name]
    if isinstance(value, dict) and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        state[name] = {**value, key: data.draw(any_values)}
    else:
        state[name] = data.draw(any_values)
    torch.save(state, run / LATEST)
    refused_or_read(lambda: continue_with(run, trainer))
    torch.save(torch.load(trained[0] / LATEST, weights_only=True), run / LATEST)
    continue_with(run, trainer)  # a refusal leaves a trainer that can go on
    shutil.rmtree(run)


# ---------------------------------------------------------------- weights from elsewhere


def old_tar(member: str) -> bytes:
    """A file as PyTorch 0.1 wrote it: a tar that would be unpacked."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", member):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"evil"))
    return packed.getvalue()


def state_bytes(value: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(value, packed)
    return packed.getvalue()


WEIGHTS = state_bytes({"Conv3d_1a_7x7.conv3d.weight": torch.ones(2, 3), "b": torch.ones(1)})


@rounds(60)
@given(
    content=st.one_of(
        damages.map(lambda damage: damage(WEIGHTS)),
        any_values.map(lambda value: state_bytes({"a": value})),
        st.binary(max_size=200),
    ),
    suffix=st.sampled_from([".pt", ".pth", ".safetensors", ".pkl"]),
)
def test_weights_from_elsewhere(folder, content, suffix):
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    for read in (load_i3d_weights, import_stylegan2_discriminator, is_torchscript):
        refused_or_read(lambda read=read: read(path))


@pytest.fixture(scope="module")
def program(folder: Path) -> bytes:
    """A detector as TorchScript, which PyTorch reads in C++."""
    return scripted(folder / "c3d.pt", StandInC3D()).read_bytes()


@rounds(60)
@given(damage=damages)
def test_programs(folder, program, damage):
    (folder / "damaged.pt").write_bytes(damage(program))
    refused_or_read(lambda: load_detector("c3d", folder / "damaged.pt"))


def repacked(content: bytes, change: Callable[[str, bytes], bytes], kind: int) -> bytes:
    """An archive with other entries, packed or not, whose checksums are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def test_archives_that_unpack_to_much(folder, program, tmp_path):
    """Small ones may be packed, as PyTorch packs the text of programs."""
    path = tmp_path / "a.pt"
    path.write_bytes(repacked(program, lambda _, data: data, zipfile.ZIP_DEFLATED))
    assert load_detector("c3d", path).kind == "c3d"
    large = repacked(WEIGHTS, lambda name, data: data + bytes(300 << 20) * name.endswith("data/0"),
                     zipfile.ZIP_DEFLATED)  # fmt: skip
    path.write_bytes(large)
    assert len(large) < 1 << 20
    with in_memory(100):
        for read in (load_i3d_weights, import_stylegan2_discriminator):
            with pytest.raises(DiganError, match="unpacks to more than 256 MB"):
                read(path)


def test_a_directory_that_states_sizes_which_cannot_be(program, tmp_path):
    """PyTorch would ask for the memory, and for some damage end the process."""
    path, at = tmp_path / "a.pt", program.find(b"PK\1\2")
    while at >= 0:
        claim = program[: at + 20] + b"\xff\xff\xff\x7f" * 2 + program[at + 28 :]
        path.write_bytes(claim)
        with in_memory(100), pytest.raises(DiganError, match="is no TorchScript file"):
            load_detector("c3d", path)
        at = program.find(b"PK\1\2", at + 1)


@pytest.mark.parametrize("member", ["../escaped", "/escaped", "sub/../../escaped"])
def test_archives_of_old_are_not_unpacked(tmp_path, member):
    """`torch.load` once unpacked a tar; a name in it must not lead anywhere."""
    inner = tmp_path / "inner"
    inner.mkdir()
    member = member if member.startswith("..") else f"{tmp_path}{member}"
    for name in ("a.pt", LATEST):
        (inner / name).write_bytes(old_tar(member))
    with pytest.raises(DiganError, match="is no state dict"):
        load_i3d_weights(inner / "a.pt")
    with pytest.raises(DiganError, match="is no plain state dict"):
        import_stylegan2_discriminator(inner / "a.pt")
    with pytest.raises(DiganError, match="is damaged"):
        read_state(inner)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.pt", "inner", LATEST]


# ---------------------------------------------------------------- sections of a showcase


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a section with one video."""
    folder = tmp_path_factory.mktemp("media") / "plain"
    folder.mkdir()
    for name in ("plain-1-1.mp4", "plain-1-1.webp"):
        (folder / name).write_bytes(b"bytes")
    (folder.parent / "outside.mp4").write_bytes(b"secret")
    (folder.parent / "outside.webp").write_bytes(b"secret")
    return folder


CLIP = Clip("plain-1-1.mp4", "A caption", 32, 32, 5, 10.0)
SECTION = dataclasses.asdict(
    Section("plain", "A title", "Text.", (Group("g", "t", (CLIP,), "digan generate"),), Path())
)
del SECTION["folder"]


def read_record(folder: Path, text: str) -> Section | None:
    (folder / "section.json").write_text(text)
    found = read_section(folder)
    if found is None:
        return None
    page = Page("title")
    page.section(found[0])
    page.html()
    return found[0]


@rounds(80)
@given(text=st.one_of(changed({"key": {"sha256": "0"}, "section": SECTION}).map(json.dumps),
                      any_values.map(json.dumps), deep_texts))  # fmt: skip
def test_records_of_sections(section, text):
    refused_or_read(lambda: read_record(section, text))


@pytest.mark.parametrize(
    "file",
    ["../outside.mp4", "{folder}/../outside.mp4", "link.mp4", "..", ".", "", "a\0.mp4",
     "plain-1-1.webp", "x" * 300 + ".mp4", 3, None, ["plain-1-1.mp4"]],
)  # fmt: skip
def test_videos_of_a_section_lie_in_its_folder(section, file):
    for suffix in (".mp4", ".webp"):
        (section / f"link{suffix}").unlink(missing_ok=True)
        (section / f"link{suffix}").symlink_to(section.parent / f"outside{suffix}")
    name = file.format(folder=section) if isinstance(file, str) else file
    values = json.loads(json.dumps(SECTION))
    assert read_record(section, json.dumps({"key": {}, "section": values})) is not None
    values["groups"][0]["clips"][0]["file"] = name
    assert read_record(section, json.dumps({"key": {}, "section": values})) is None


@pytest.mark.parametrize("name", ["width", "height", "frames", "fps"])
def test_numbers_of_a_section_are_numbers(section, name):
    """They stand in the page as they are."""
    values = json.loads(json.dumps(SECTION))
    values["groups"][0]["clips"][0][name] = '1"><script>alert(1)</script>'
    assert read_record(section, json.dumps({"key": {}, "section": values})) is None
