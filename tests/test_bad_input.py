"""Bad input at the command line: each is one line that names the thing, and loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command_line import Digan, command
from tests.tiny_runs import (
    CLASSES,
    network_file,
    settings_file,
    tiny_config,
    tiny_network,
    tiny_store,
)


@pytest.fixture
def digan(capsys: pytest.CaptureFixture[str]) -> Digan:
    return command(capsys)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def settings(tmp_path) -> Path:
    return settings_file(tmp_path / "settings.yaml", tiny_config(kimg=0.004))


@pytest.fixture
def network(tmp_path) -> Path:
    return network_file(tmp_path / "net.safetensors", tiny_network())


def test_data_that_is_not_there(digan, tmp_path, store):
    (empty := tmp_path / "empty").mkdir()
    (text := tmp_path / "text.mp4").write_text("This is no video.\n" * 100)
    videos = store.parent / "videos"
    for words, sentence in (
        (("train", tmp_path / "gone"), "gone does not exist"),
        (("train", empty), "empty is no prepared store"),
        (("train", videos), f"`digan prepare {videos} STORE` makes one"),
        (("train", text), "text.mp4 is a file, not a prepared store"),
        (("prepare", tmp_path / "gone", tmp_path / "s"), "gone does not exist"),
        (("prepare", empty, tmp_path / "s"), "empty/ (empty)"),
        (("prepare", text, tmp_path / "s"), "none of the 1 files can be used (text.mp4"),
        (("prepare", videos, text), "text.mp4 cannot be the store"),
        (("data", "check", tmp_path / "gone"), "gone does not exist"),
    ):
        said = digan(*words)
        assert said.status == 1, words
        assert sentence in said.error, words


def test_videos_shorter_than_the_clip(digan, store):
    said = digan("train", store, "--clip-frames", "16", "--dry-run")
    assert said.status == 1
    assert "no video of 16 frames" in said.error
    assert "its 6 videos have 8 to 9 frames" in said.error


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--resolution 100", "resolution must be a power of two from 32 to 1024, got 100"),
        ("--resolution 64", "resolution must be the store's 32, got 64"),
        ("--generator.resolution 48", "resolution must be a power of two"),
        ("--clip-frames 1", "clip-frames must be at least 2, got 1"),
        ("--batch 0", "batch must be positive and finite, got 0"),
        ("--batch 6", "batch must be a multiple of 4, the group"),
        ("--batch-gpu 3", "batch-gpu must divide the batch of 4, got 3"),
        ("--batch-gpu banana", "batch-gpu must be a number or auto, got banana"),
        ("--kimg nan", "kimg must be positive and finite, got nan"),
        ("--kimg inf", "kimg must be positive and finite, got inf"),
        ("--workers -1", "workers must be at least 0, got -1"),
        ("--threads 0", "threads must be at least 1, got 0"),
        ("--seed -1", "seed must be from 0 to 2^63 - 1, got -1"),
        ("--seed 99999999999999999999", "seed must be from 0 to 2^63 - 1"),
        ("--generator.rank 0", "rank must be from 1 to 65536, got 0"),
        ("--generator.mapping-layers 1000", "mapping-layers must be from 0 to 64, got 1000"),
        ("--discriminator.channel-base 16", "channel-base must be at least the resolution of 32"),
        ("--metrics fvd", "fvd2048_16f and the like, got fvd"),
        ("--device quantum", "device must be cpu or cuda, got 'quantum'"),
        ("--device meta", "device must be cpu or cuda, got 'meta'"),
        ("--fused-kernels", "--fused-kernels cannot be kept"),
        ("--fused-kernels --dry-run", "--fused-kernels cannot be kept"),
        ("--resume NOWHERE", "the run to resume, NOWHERE, is no folder"),
        ("--init NOWHERE", "the network file NOWHERE does not exist"),
    ],
)
def test_settings_that_cannot_be(digan, store, settings, tmp_path, monkeypatch, flags, sentence):
    monkeypatch.chdir(tmp_path)
    said = digan("train", store, "--config", settings, *flags.split())
    assert said.status == 1
    assert sentence in said.error
    assert list(tmp_path.glob("runs/*")) == []  # nothing was begun


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("fused", "DIGAN_OPS=fused cannot be kept: "),
        ("quick", "DIGAN_OPS must be one of auto, fused, reference, got 'quick'"),
    ],
)
def test_paths_of_the_ops_that_cannot_be(
    digan, store, settings, network, tmp_path, monkeypatch, value, sentence
):
    monkeypatch.setenv("DIGAN_OPS", value)
    out = tmp_path / "out"
    for words in (("train", store, "--config", settings), ("generate", "--network", network)):
        said = digan(*words, "--outdir", out)
        assert said.status == 1
        assert said.error.startswith(sentence)
        assert list(out.glob("*")) == []  # nothing was begun


def test_places_that_cannot_be_written(digan, store, settings, network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for words in (
        ("train", store, "--config", settings, "--outdir", tmp_path / "file"),
        ("train", store, "--config", settings, "--outdir", tmp_path / "file" / "runs"),
        ("generate", "--network", network, "--outdir", tmp_path / "file"),
    ):
        said = digan(*words)
        assert said.status == 1
        assert "cannot be written" in said.error
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0, total=1))
    said = digan("train", store, "--config", settings, "--outdir", tmp_path / "runs")
    assert said.status == 1
    assert "it has 0.00 GB" in said.error
    assert list((tmp_path / "runs").iterdir()) == []


def test_labels_that_are_not_used_and_classes_that_are_not_there(digan, store, settings, tmp_path):
    said = digan("train", store, "--config", settings, "--dry-run")
    assert said.status == 0
    assert "WARNING: the store has labels of 2 classes and they are NOT used" in said.out
    assert "WARNING" not in digan("train", store, "--config", settings, "--dry-run", "--cond").out
    flat = tmp_path / "flat"
    assert digan("prepare", store.parent / "videos" / CLASSES[0], flat, "--resolution", 32,
                 "--workers", 1).status == 0  # fmt: skip
    said = digan("train", flat, "--config", settings, "--cond")
    assert said.status == 1
    assert "has no classes" in said.error


def test_classes_out_of_range(digan, tmp_path):
    path = network_file(tmp_path / "cond.safetensors", tiny_network(num_classes=2), classes=CLASSES)
    for value, sentence in (
        ("2", "class must be in 0 to 1, got 2"),
        ("0-5", "class must be in 0 to 1, got 2"),
        ("midnight", "class must be a number or one of dusk, noon, got 'midnight'"),
    ):
        said = digan("generate", "--network", path, "--class", value, "--outdir", tmp_path / "out")
        assert (said.status, said.error) == (1, sentence)
    assert not (tmp_path / "out").exists()


def test_networks_that_cannot_be_read(digan, network, tmp_path):
    half = tmp_path / "half.safetensors"
    half.write_bytes(network.read_bytes()[:-100])
    (text := tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "runs").mkdir()
    for name, sentence in (
        (tmp_path / "gone", "gone does not exist"),
        (half, "half.safetensors is damaged or no network file"),
        (text, "text.safetensors is damaged or no network file"),
        (tmp_path / "runs", "has no network-snapshot-*.safetensors"),
    ):
        said = digan("generate", "--network", name)
        assert said.status == 1
        assert sentence in said.error


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--seeds 5-2", "seeds must not be reversed, got '5-2'"),
        ("--seeds x", "seeds must look like 0-35 or 0,1,4-6, got 'x'"),
        ("--seeds 0-2 --motion-seeds 0-1", "must be equally many, or one of either, got 3 and 2"),
        ("--class 0", "the network is not class-conditional"),
        ("--frames 0", "the number of frames must be at least 1, got 0"),
        ("--t-end -1", "the time range must not be reversed"),
        ("--t-start nan", "the time range must be finite"),
        ("--time-density 0", "the time density must be at least 1, got 0"),
        ("--fps 0", "fps must be positive, got 0.0"),
        ("--fps 5000", "fps must be above 0 and at most 1000, got 5000"),
        ("--size 100", "size must be a multiple of the network's resolution of 32, got 100"),
        ("--size 32000", "frames must be at most 16384 pixels a side, got 32000"),
        ("--zoom 0", "the zoom must be a positive number, got 0.0"),
        ("--zoom 1e9", "frames must be at most 16384 pixels a side"),
        ("--trunc nan", "trunc must be finite, got nan"),
        ("--grid 2", "grid must be COLUMNSxROWS, as 6x4, got '2'"),
        ("--grid 1x1 --seeds 0-3", "a grid of 1x1 holds 1 videos, got 4"),
        ("--format avi", "format must be of mp4, gif, png, npz, sheet, got 'avi'"),
        ("--chunk 0", "chunk must be at least 1, got 0"),
        ("--fused-kernels", "--fused-kernels cannot be kept"),
    ],
)
def test_requests_that_cannot_be(digan, network, tmp_path, flags, sentence):
    said = digan("generate", "--network", network, "--outdir", tmp_path / "o", *flags.split())
    assert said.status == 1
    assert sentence in said.error
    assert list(tmp_path.glob("o/*")) == []
