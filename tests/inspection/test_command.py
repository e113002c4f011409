"""`digan inspect`: the pictures, the numbers beside them, and bad input."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digan.inspection.report import InspectSettings, inspect
from digan.nn.snapshot import load_network
from digan.synthesis import clips
from tests.command_line import Digan, command
from tests.tiny_runs import CLASSES, network_file, tiny_network

PICTURES = ("frequencies", "phases", "change", "blocks", "weights")


@pytest.fixture
def digan(capsys: pytest.CaptureFixture[str]) -> Digan:
    return command(capsys)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return network_file(tmp_path_factory.mktemp("net") / "net.safetensors", tiny_network())


def strict_json(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise ValueError(name)  # NaN and infinities are no JSON

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def check_files(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*(f"{name}.png" for name in PICTURES), "inspect.json"]
    )
    for name in PICTURES:
        with Image.open(folder / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 150, name
        assert max(pixels.shape[:2]) < 4000, name
        assert (pixels < 128).any(axis=2).sum() > 1000, f"{name} is nearly empty"


def test_everything_is_written_and_said(digan, network, tmp_path):
    said = digan("inspect", "--network", network, "--outdir", tmp_path / "look", "--seeds", "3-6")
    assert said.status == 0, said.err
    check_files(tmp_path / "look")
    values = strict_json(tmp_path / "look" / "inspect.json")
    assert values["seeds"] == [3, 4, 5, 6]
    assert values["labels"] is None
    assert values["network"]["clip_frames"] == 5
    assert list(values["embeddings"]) == ["b4"]
    assert values["t"][0] == -0.5
    assert values["t"][-1] == 2
    # The change within the clip, as the training's own figure has it.
    generator, _ = load_network(network)
    inside = np.isclose(values["t"][:-1], np.clip(values["t"][:-1], 0, 0.75))
    change = np.array(values["change"]["by_content"])[:, inside].mean()
    frames = np.concatenate(list(clips(generator, range(3, 7), torch.linspace(0, 1, 5).double())))
    wanted = np.abs(np.diff(frames.astype(int), axis=1)).mean()
    assert change == pytest.approx(wanted, abs=0.02)
    assert values["change"]["mean"]["within"] == pytest.approx(wanted, abs=0.02)
    assert "network of 32x32, clips of 5 frames" in said.out
    assert f"{values['change']['mean']['within']:.2f} within the clip" in said.out
    for name in PICTURES:
        assert str(tmp_path / "look" / f"{name}.png") in said.out.splitlines()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("resolution", "classes"), [(64, 0), (128, 2), (256, 2)])
def test_any_network(resolution, classes, tmp_path):
    generator = tiny_network(resolution, classes)
    path = network_file(
        tmp_path / "net.safetensors", generator, clip_frames=2, classes=CLASSES[:classes]
    )
    generator, info = load_network(path)
    labels = [0, 1] if classes else None
    settings = InspectSettings([0, 1], [5], labels, before=0, after=0)
    found = inspect(generator, info, tmp_path / "look", settings, progress=False)
    check_files(tmp_path / "look")
    grids = [one["grid"] for one in found.values["embeddings"].values()]
    assert grids == [size for size in (32, 64, 128, 256) if size <= resolution]
    assert found.values["change"]["mean"]["before"] is None
    assert "before" not in found.format()
    assert strict_json(tmp_path / "look" / "inspect.json") == found.values


def test_classes_are_taken_in_turn_or_chosen(digan, tmp_path):
    path = network_file(tmp_path / "net.safetensors", tiny_network(num_classes=2), classes=CLASSES)
    flags = ("--network", path, "--seeds", "0-2", "--motion-seeds", 1, "--after", 0)
    for extra, labels in (((), [0, 1, 0]), (("--class", "noon"), [1, 1, 1])):
        assert digan("inspect", *flags, *extra, "--outdir", tmp_path / "look").status == 0
        assert strict_json(tmp_path / "look" / "inspect.json")["labels"] == labels
    said = digan("inspect", *flags, "--class", "0-1", "--outdir", tmp_path / "look")
    assert said.error == "class must be one class, got 2"


def test_bad_input_is_one_line(digan, network, tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    for flags, sentence in (
        (("--seeds", "4"), "seeds must be at least 2, to be compared, got 1"),
        (("--seeds", "4,4"), "seeds must be at least 2, to be compared, got 1"),
        (("--seeds", "x"), "seeds must look like"),
        (("--motion-seeds", "3-1"), "motion seeds must not be reversed"),
        (("--before", "-1"), "before must be finite and at least 0, got -1.0"),
        (("--after", "nan"), "after must be finite and at least 0, got nan"),
        (("--after", "1e9"), "must leave at most 100000 frames"),
        (("--class", "0"), "the network is not class-conditional"),
        (("--outdir", file / "x"), f"the folder {file / 'x'} cannot be written"),
        (("--network", tmp_path / "gone"), "gone does not exist"),
    ):
        words = {"--network": network, "--outdir": tmp_path / "look"} | dict([flags])
        said = digan("inspect", *(word for pair in words.items() for word in pair))
        assert said.status == 1, flags
        assert sentence in said.error, flags
    assert not (tmp_path / "look").exists()


def test_a_diverged_network_is_named(digan, tmp_path):
    generator = tiny_network()
    with torch.no_grad():
        generator.get_parameter("blocks.2.layers.1.weight")[3, 1] = math.nan
    path = network_file(tmp_path / "net.safetensors", generator)
    said = digan("inspect", "--network", path, "--outdir", tmp_path / "look")
    assert said.error == (
        "the network's blocks.2.layers.1.weight must be finite, got numbers that are not"
    )


@pytest.mark.filterwarnings("error")
def test_a_network_without_frequencies_is_drawn(tmp_path):
    generator = tiny_network()
    with torch.no_grad():
        for name, value in generator.named_parameters():
            if "xy_affine" in name or "motion" in name:
                value.zero_()
    path = network_file(tmp_path / "net.safetensors", generator)
    settings = InspectSettings([0, 1], [0], before=0, after=0)
    found = inspect(*load_network(path), tmp_path / "look", settings, progress=False)
    assert found.values["embeddings"]["b4"]["cycles_per_image"]["largest"] == 0
    assert found.values["embeddings"]["b4"]["shift_explains"] == 0
    assert found.values["change"]["mean"]["within"] == 0
    check_files(tmp_path / "look")


def test_without_matplotlib_nothing_is_made(digan, network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = digan("inspect", "--network", network, "--outdir", tmp_path / "look")
    assert said.error == "plots need matplotlib: pip install 'digan[plot]'"
    assert not (tmp_path / "look").exists()
