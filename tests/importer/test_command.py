"""`digan import`: files in, files out, and one line for everything that is wrong."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from digan.errors import DiganError
from digan.importer import export_state_dict
from digan.nn import PairDiscriminator
from digan.nn.snapshot import load_discriminators, load_network, save_discriminators
from digan.training.loop import train
from digan.training.step import Trainer
from tests.command_line import Digan, command
from tests.importer.official_file import module, write
from tests.nn.tiny import randomised
from tests.tiny_runs import network_file, tiny_config, tiny_network, tiny_store


@pytest.fixture
def digan(capsys: pytest.CaptureFixture[str]) -> Digan:
    return command(capsys)


def pair_of(seed: int = 3, **changes: object) -> PairDiscriminator:
    config = dataclasses.replace(tiny_config().discriminator, **changes)
    network = randomised(PairDiscriminator(config), seed)
    assert isinstance(network, PairDiscriminator)
    return network


@pytest.fixture
def official(tmp_path):
    """A snapshot of 32 pixels, with networks of the sizes of `tiny_config`."""
    networks = {
        "G": module("Generator", export_state_dict(tiny_network(seed=1)), {}),
        "D": module("DualDiscriminator", export_state_dict(pair_of()), {"conv_clamp": 256}),
        "G_ema": module("Generator", export_state_dict(tiny_network(seed=2)), {}),
    }
    return write(tmp_path / "network-snapshot-000600.pkl", networks, data={"path": "/data/sky"})


def equal(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(network.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_import_then_generate(digan, official, tmp_path):
    out = tmp_path / "sky.safetensors"
    said = digan("import", official, out, "--fps", "25", "--clip-frames", "8")
    assert said.status == 0, said.err
    assert said.out.splitlines()[-1] == str(out)
    assert said.out.startswith("G_ema: 32x32, 0 classes, ")
    generator, info = load_network(out)
    assert equal(generator, tiny_network(seed=2))
    assert (info.fps, info.clip_frames, info.kimg) == (25, 8, 600)
    assert info.description == (
        "G_ema of the official snapshot network-snapshot-000600.pkl, trained on sky"
    )
    videos = tmp_path / "videos"
    said = digan("generate", "--network", out, "--outdir", videos, "--format", "npz")
    assert said.status == 0, said.err
    assert len(list(videos.iterdir())) == 1
    assert digan("import", official, out, "--which", "G").status == 0
    assert equal(load_network(out)[0], tiny_network(seed=1))


def test_class_names(digan, tmp_path):
    state = export_state_dict(tiny_network(num_classes=2))
    source = write(tmp_path / "a.pkl", {"G_ema": module("Generator", state)})
    out = tmp_path / "a.safetensors"
    assert digan("import", source, out, "--class-names", "dusk, noon").status == 0
    assert load_network(out)[1].classes == ("dusk", "noon")
    said = digan("import", source, out, "--class-names", "dusk")
    assert "class-names must be 2 names" in said.error


def test_export_is_the_way_back(digan, tmp_path):
    network = tiny_network(seed=4)
    source = network_file(tmp_path / "net.safetensors", network)
    wanted = export_state_dict(network)
    for name in ("names.pt", "names.safetensors"):
        out = tmp_path / name
        assert digan("import", source, out, "--export").status == 0
        found = load_file(out) if out.suffix != ".pt" else torch.load(out, weights_only=True)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    said = digan("import", source, tmp_path / "names.npz", "--export")
    assert "must end in one of .pt, .pth, .safetensors, got names.npz" in said.error


def test_training_starts_from_imported_networks(digan, official, tmp_path, monkeypatch):
    """Generator, average and both discriminators; the first iteration sees them."""
    out, judges = tmp_path / "g.safetensors", tmp_path / "d.safetensors"
    said = digan("import", official, out, "--discriminators", judges)
    assert said.status == 0, said.err
    assert equal(load_discriminators(judges), pair_of())
    store = tiny_store(tmp_path)
    seen = {}
    first = Trainer.advance

    def look(self, *arguments):
        if not seen:
            seen["pair"] = {k: v.clone() for k, v in self.discriminator.state_dict().items()}
            seen["average"] = {k: v.clone() for k, v in self.average.state_dict().items()}
        return first(self, *arguments)

    monkeypatch.setattr(Trainer, "advance", look)
    config = tiny_config(kimg=0.004)
    done = train(
        config, store, tmp_path / "runs", init=str(out), init_discriminators=str(judges),
        progress=False,
    )  # fmt: skip
    assert done.finished
    assert all(torch.equal(seen["pair"][k], v) for k, v in pair_of().state_dict().items())
    wanted = tiny_network(seed=2).state_dict()
    assert all(torch.equal(seen["average"][k], v) for k, v in wanted.items())
    log = (done.run / "log.txt").read_text()
    assert f"the discriminators start from {judges}" in log
    wide = tmp_path / "wide.safetensors"
    save_discriminators(wide, pair_of(channel_max=16))
    with pytest.raises(DiganError, match="do not fit this run's"):
        train(config, store, tmp_path / "b", init_discriminators=str(wide), progress=False)


def test_stylegan2(digan, tmp_path):
    state = {
        name.removeprefix("imageD."): value
        for name, value in export_state_dict(pair_of()).items()
        if name.startswith("imageD.")
    }
    source = write(tmp_path / "s.pkl", {"D": module("Discriminator", state, {"conv_clamp": 256})})
    out = tmp_path / "d.safetensors"
    said = digan("import", source, out, "--stylegan2")
    assert said.status == 0, said.err
    assert "--discriminator.channel-base 256 --discriminator.channel-max 8" in said.out
    assert equal(load_discriminators(out).image, pair_of().image)
    torch.save(state, tmp_path / "s.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "s.safetensors")
    for name in ("s.pt", "s.safetensors"):
        other = tmp_path / "other.safetensors"
        assert digan("import", tmp_path / name, other, "--stylegan2").status == 0
        assert equal(load_discriminators(other), load_discriminators(out))
        other.unlink()
    torch.save({"D": [1]}, tmp_path / "odd.pt")
    (tmp_path / "bad.pt").write_bytes(b"cos\nsystem\n(Vtrue\ntR.")
    (tmp_path / "bad.safetensors").write_bytes(b"abc")
    for name, sentence in (
        ("odd.pt", "is no plain state dict of tensors by name"),
        ("bad.pt", "is no plain state dict"),
        ("bad.safetensors", "is no plain state dict"),
        ("gone.pt", "cannot be read"),
    ):
        said = digan("import", tmp_path / name, other, "--stylegan2")
        assert sentence in said.error, name
        assert not other.exists()


def test_files_of_one_kind_are_not_the_other(tmp_path):
    pair, net = tmp_path / "d.safetensors", tmp_path / "g.safetensors"
    save_discriminators(pair, pair_of())
    network_file(net, tiny_network())
    with pytest.raises(DiganError, match="is no network file of digan"):
        load_network(pair)
    with pytest.raises(DiganError, match="is no file of discriminators of digan"):
        load_discriminators(net)
    with pytest.raises(DiganError, match="does not exist"):
        load_discriminators(tmp_path / "gone")
    pair.write_bytes(pair.read_bytes()[:500])
    with pytest.raises(DiganError, match="is damaged or no network file"):
        load_discriminators(pair)


def test_bad_input_is_one_line(digan, official, tmp_path):
    out = tmp_path / "out.safetensors"
    (tmp_path / "text.pkl").write_text("no pickle at all")
    (tmp_path / "empty.pkl").touch()
    (tmp_path / "cut.pkl").write_bytes(official.read_bytes()[:-2000])
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "net.pkl").write_bytes(network_file(out, tiny_network()).read_bytes())
    out.unlink()
    locked = tmp_path / "file"
    locked.touch()
    for words, sentence in (
        (("text.pkl",), "text.pkl is refused: it is no pickle"),
        (("empty.pkl",), "empty.pkl is refused: it is empty"),
        (("cut.pkl",), "cut.pkl is refused: it is no pickle or truncated"),
        (("list.pkl",), "list.pkl is refused: it holds no dictionary of networks"),
        (("evil.pkl",), "evil.pkl is refused: it asks for os.system"),
        (("net.pkl",), "net.pkl is refused: "),
        (("gone.pkl",), "gone.pkl cannot be read: No such file or directory"),
        ((".",), "cannot be read: Is a directory"),
    ):
        said = digan("import", *[tmp_path / word for word in words], out)
        assert said.status == 1, words
        assert sentence in said.error, words
        assert not out.exists()
    for words, sentence in (
        ((official, tmp_path / "no" / "such" / "a"), "its folder does not exist"),
        ((official, locked / "a"), "its folder does not exist"),
        ((official, tmp_path), "cannot be written"),
        ((official, official), "must not overwrite its source"),
        ((official, out, "--discriminators", official), "must not overwrite its source"),
        ((official, out, "--clip-frames", "1"), "clip-frames must be at least 2, got 1"),
        ((official, out, "--fps", "-1"), "fps must be at least 0 and finite, got -1"),
        ((official, out, "--fps", "nan"), "fps must be at least 0 and finite, got nan"),
        ((official, out, "--export", "--stylegan2"), "exclude one another"),
        ((official, tmp_path / "a.pt", "--export"), "is damaged or no network file"),
        ((official, out, "--stylegan2"), "D of"),
    ):
        said = digan("import", *words)
        assert said.status == 1, words
        assert sentence in said.error, words
        assert not out.exists()
