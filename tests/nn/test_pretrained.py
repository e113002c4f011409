"""Shared folders and model hubs, without a network and without huggingface_hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from digan.errors import DiganError
from digan.nn import Generator
from digan.nn.model_card import Metric, ModelCard
from digan.nn.snapshot import NetworkInfo, load_network
from tests.command_line import command
from tests.tiny_runs import CLASSES, network_file, tiny_network

CARD = ModelCard(
    title="Small skies",
    training_data="Sky Time-lapse, train split, 32x32: clips of 5 frames.",
    licence="cc-by-4.0",
    metrics=(
        Metric("FVD", 114.6123456, "2048 fakes, 16 frames, stride 1 | I3D, seed 0"),
        Metric("KVD", 9.5, "kvd2048_16f"),
    ),
    limitations="Knows nothing but skies.",
)


class PretendedHub(types.ModuleType):
    """Keeps uploads in a folder; records what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder
        self.asked: list[tuple[str, Any]] = []
        self.broken = False

    def HfApi(self, token: str | None = None) -> PretendedHub:
        self.asked.append(("token", token))
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.asked.append(("create", (repo_id, private, exist_ok)))
        if self.broken:
            raise PermissionError("403:\nnot yours")

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)
        self.asked.append(("upload", commit_message))
        return f"commit of {repo_id}"

    def hf_hub_download(
        self, repo_id: str, filename: str, *, revision: str | None, token: str | None
    ) -> str:
        self.asked.append(("download", (repo_id, filename, revision, token)))
        path = self.folder / repo_id / filename
        if not path.is_file():
            raise FileNotFoundError(f"404: {repo_id}")
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> PretendedHub:
    made = PretendedHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


@pytest.fixture
def no_hub(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def equal(network: Generator, other: Generator) -> bool:
    pairs = zip(network.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("classes", [0, 2])
def test_folder_round_trip(no_hub, tmp_path, classes):
    """Weights, sizes and what the file said; without huggingface_hub."""
    network = tiny_network(num_classes=classes, seed=7)
    info = NetworkInfo(network.config, 5, 12.5, CLASSES[:classes], 30.0, "a test")
    folder = network.save_pretrained(tmp_path / "a" / "b", info=info, card=CARD)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors"
    ]  # fmt: skip
    for name in (folder, str(folder), folder / "model.safetensors"):
        found = Generator.from_pretrained(name)
        assert equal(found, network)
        assert (found.config, found.info, found.training) == (network.config, info, False)
    again = Generator.from_pretrained(folder, dtype=torch.bfloat16)
    assert again.compute_dtype == torch.bfloat16
    assert equal(Generator.from_pretrained(again.save_pretrained(tmp_path / "c")), network)
    assert Generator.from_pretrained(tmp_path / "c").info == info
    values = json.loads((folder / "config.json").read_text())
    assert values["generator"]["resolution"] == 32
    assert values["library_name"] == "digan"


def test_generate_takes_the_folder(tmp_path, capsys):
    folder = tiny_network().save_pretrained(tmp_path / "shared")
    digan = command(capsys)
    out = tmp_path / "out"
    said = digan("generate", "--network", folder, "--outdir", out, "--format", "npz")
    assert said.status == 0, said.err
    assert equal(load_network(folder)[0], tiny_network())


def test_demo_can_be_shared(no_hub, tmp_path):
    demo = Generator.from_pretrained("demo")
    assert equal(Generator.from_pretrained(demo.save_pretrained(tmp_path / "d")), demo)


def front_matter(text: str) -> dict[str, Any]:
    _, header, _ = text.split("---\n", 2)
    values = yaml.safe_load(header)
    assert isinstance(values, dict)
    return values


def test_card_says_what_was_given(tmp_path):
    network = tiny_network(num_classes=2)
    info = NetworkInfo(network.config, 5, 12.5, CLASSES, 30.0, "run 7 | a test")
    text = (network.save_pretrained(tmp_path, info=info, card=CARD) / "README.md").read_text()
    header = front_matter(text)
    assert header["license"] == "cc-by-4.0"
    assert header["library_name"] == "digan"
    assert "digan" in header["tags"]
    for words in (
        "# Small skies",
        "Sky Time-lapse, train split",
        "| FVD | 114.612 | 2048 fakes, 16 frames, stride 1 \\| I3D, seed 0 |",
        "| KVD | 9.5 | kvd2048_16f |",
        "| training clip | 5 frames at 12.5 frames per second |",
        "| classes | dusk, noon |",
        "| training | 30 thousand samples |",
        "run 7 \\| a test",
        "## Limitations\n\nKnows nothing but skies.",
        "from_pretrained",
    ):
        assert words in text


def test_card_without_anything_says_so(tmp_path):
    text = (tiny_network().save_pretrained(tmp_path) / "README.md").read_text()
    assert "license" not in front_matter(text)
    assert "## Training data\n\nnot stated" in text
    assert "## Licence\n\nnot stated" in text
    assert "None measured." in text
    assert "Limitations" not in text


@pytest.mark.parametrize(
    "licence", ["MIT: see below", "# none", "[x]", "'quoted' \"twice\"", "Größe", "{a: b}"]
)
def test_any_licence_is_one_text_of_the_header(licence):
    info = NetworkInfo(tiny_network().config, 5, 0.0)
    assert front_matter(ModelCard(licence=licence).render(info))["license"] == licence


def test_bad_cards():
    with pytest.raises(DiganError, match="licence must be one line"):
        ModelCard(licence="a\nb: c")
    with pytest.raises(DiganError, match="title must be one line"):
        ModelCard(title=" ")
    with pytest.raises(DiganError, match="needs a name and a protocol"):
        ModelCard(metrics=(Metric("FVD", 1.0, ""),))


def test_hub_round_trip(hub, tmp_path):
    network = tiny_network(seed=9)
    answer = network.push_to_hub(
        "someone/small-skies", card=CARD, private=True, token="t", message="first"
    )
    assert answer == "commit of someone/small-skies"
    assert hub.asked == [
        ("token", "t"),
        ("create", ("someone/small-skies", True, True)),
        ("upload", "first"),
    ]
    kept = hub.folder / "someone" / "small-skies"
    assert "# Small skies" in (kept / "README.md").read_text()
    found = Generator.from_pretrained("someone/small-skies", revision="main")
    assert equal(found, network)
    asked = ("someone/small-skies", "model.safetensors", "main", None)
    assert hub.asked[-1] == ("download", asked)


def test_hub_errors_are_one_line(hub, tmp_path):
    with pytest.raises(DiganError, match="no/thing cannot be fetched: FileNotFoundError: 404"):
        Generator.from_pretrained("no/thing")
    hub.broken = True
    with pytest.raises(DiganError, match="cannot be uploaded: PermissionError: 403: not yours"):
        tiny_network().push_to_hub("a/b")
    for name in ("small", "a/b/c", "", "a b/c", "https://x/y"):
        with pytest.raises(DiganError, match="must be OWNER/NAME"):
            tiny_network().push_to_hub(name)
    with pytest.raises(DiganError, match="neither a file nor a folder nor"):
        Generator.from_pretrained("gone.safetensors")


def test_without_huggingface_hub(no_hub, tmp_path):
    for act in (
        lambda: Generator.from_pretrained("a/b"),
        lambda: tiny_network().push_to_hub("a/b"),
    ):
        with pytest.raises(DiganError, match=r"pip install 'digan\[hub\]'; folders work without"):
            act()


def test_folders_that_do_not_serve(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DiganError, match="has no network-snapshot"):
        Generator.from_pretrained(tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(DiganError, match="cannot be written"):
        tiny_network().save_pretrained(tmp_path / "file" / "x")
    other = NetworkInfo(tiny_network(64).config, 5, 0.0)
    with pytest.raises(DiganError, match="info must be of"):
        tiny_network().save_pretrained(tmp_path, info=other)


def test_snapshots_of_a_run_come_first(tmp_path):
    network_file(tmp_path / "model.safetensors", tiny_network(seed=1))
    network_file(tmp_path / "network-snapshot-000001.safetensors", tiny_network(seed=2))
    assert equal(load_network(tmp_path)[0], tiny_network(seed=2))


def test_networks_import_no_hub():
    code = "import sys, digan.nn.pretrained; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
