"""Names in archives, stores, folders and networks never lead out of where digan writes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from digan.cli import main
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.errors import DiganError
from digan.metrics.clip_sets import open_videos
from digan.nn.snapshot import load_network
from digan.training.checkpoint import LATEST, read_state, save_state
from digan.training.step import Trainer
from tests.conftest import ROOT
from tests.tiny_runs import network_file, settings_file, tiny_config, tiny_network, tiny_store

NAMES = ("../escaped", "../../escaped", "{root}/escaped", "sub/../../../escaped", "..\\escaped",
         "\0escaped", "a\0/../escaped", "escaped\n", "C:\\escaped", "~/escaped")  # fmt: skip


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, links not followed, with what the files hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else None
        for path in sorted(folder.rglob("*"))
    }


def zipped(*entries: tuple[str, bytes], link: str = "") -> bytes:
    """A zip of entries with any names; the last may be a link to somewhere."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in entries:
            about = zipfile.ZipInfo("placeholder")
            about.filename = name  # as it is: the constructor would cut it at a NUL
            archive.writestr(about, content)
        if link:
            about = zipfile.ZipInfo("link")
            about.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(about, link)
    return packed.getvalue()


def tarred(name: str, content: bytes, link: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        about = tarfile.TarInfo(name.replace("\0", ""))
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
        about = tarfile.TarInfo("link")
        about.type, about.linkname = tarfile.SYMTYPE, link
        archive.addfile(about)
    return packed.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_archives_of_videos_are_not_unpacked(tmp_path, name):
    """They are refused, or passed over where other videos lie beside them."""
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    name = name.format(root=tmp_path)
    for suffix, content in ((".zip", zipped((name, b"evil"), link="/etc/passwd")),
                            (".tar", tarred(name, b"evil", "/etc/passwd")),
                            (".tgz", tarred(name, b"evil", "..")), (".7z", b"7z"),
                            (".mp4", zipped((name, b"evil")))):  # fmt: skip
        (inside / f"a{suffix}").write_bytes(content)
    before = tree(tmp_path)
    for path in sorted(inside.iterdir()):
        with pytest.raises(DiganError, match="is an archive|none of the|no video|cannot be"):
            prepare(path, tmp_path / "store", resolution=32, workers=1, progress=False)
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_any_name_stay_in_memory(tmp_path, name):
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    array = io.BytesIO()
    np.save(array, np.zeros((3, 8, 8, 3), np.uint8))
    content = zipped((name.format(root=tmp_path), array.getvalue()), link="/etc/passwd")
    (inside / "a.npz").write_bytes(content)
    before = tree(tmp_path)
    assert open_videos(inside).read(0, [0, 2]).shape == (2, 8, 8, 3)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_entries_of_a_state_stay_in_memory(tmp_path, name):
    """A state is a zip, as PyTorch writes it; here with more in it than PyTorch put there."""
    run = tmp_path / "in" / "side"
    run.mkdir(parents=True)
    save_state(run, Trainer(tiny_config(resolution=32)), "data")
    with zipfile.ZipFile(run / LATEST, "a") as archive:
        about = zipfile.ZipInfo("placeholder")
        about.filename = name.format(root=tmp_path)
        archive.writestr(about, b"evil")
    before = tree(tmp_path)
    with contextlib.suppress(DiganError):  # of a name that is no name
        read_state(run)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "\0"])
def test_tensors_of_any_name(tmp_path, name):
    from safetensors.torch import save_file

    path = tmp_path / "in" / "net.safetensors"
    path.parent.mkdir()
    save_file({name: torch.zeros(1)}, path, metadata={"digan": "{}"})
    before = tree(tmp_path)
    with pytest.raises(DiganError):
        load_network(path)
    assert tree(tmp_path) == before


CLASSES = ["../../escaped", "<script>alert(1)</script>"]


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose names of classes, splits and videos are paths that lead elsewhere."""
    store = tiny_store(tmp_path_factory.mktemp("misnamed") / "in" / "side")
    info = json.loads((store / "store.json").read_text())
    info["classes"] = CLASSES
    info["splits"] = ["/escaped", ".."]
    info["source"]["name"] = "../../escaped"
    (store / "store.json").write_text(json.dumps(info))
    names = [f"{name}{number}" for number, name in enumerate(("../" * 5 + "escaped", "/escaped",
             "..\\escaped", "a\0b", "\x1b[31m", "~/escaped"))]  # fmt: skip
    (store / "names.json").write_text(json.dumps(names))
    return store


def test_names_of_a_store_lead_nowhere(misnamed, tmp_path):
    """It is checked, trained on by class, and what that gives makes videos of every class."""
    work = tmp_path / "in" / "side"
    work.mkdir(parents=True)
    around = [misnamed.parents[2], tmp_path]
    assert main(["data", "check", str(misnamed), "--sheet", str(work / "sheet.png")]) == 0
    settings = tiny_config(cond=True, kimg=0.008, tick=0.004, snap=0.008)
    config = settings_file(work / "config.yaml", settings)
    assert main(["train", str(misnamed), "--config", str(config), "--outdir", str(work)]) == 0
    (run,) = [path for path in work.iterdir() if path.is_dir()]
    assert load_network(run)[1].classes == tuple(CLASSES)
    assert main(["generate", "--network", str(run), "--seeds", "0", "--class", "all", "--frames",
                 "2", "--outdir", str(work / "made")]) == 0  # fmt: skip
    files = sorted(path.name for path in (work / "made").iterdir())
    assert files == ["seed0000-class0.mp4", "seed0000-class1.mp4"]
    outside = [p for folder in around for p in folder.rglob("*") if "escaped" in p.name]
    assert outside == []


def test_folders_of_any_name_become_a_store(tmp_path):
    """Names that a file system allows, and that mean something to shells, pages and terminals."""
    source = tmp_path / "in" / "videos"
    names = [
        "...",
        "-rf",
        "<script>",
        "a\nb",
        "\x1b[31m",
        "$(touch escaped)",
        "%2e%2e%2f",
        "\udcff",
    ]
    real = tiny_store(tmp_path / "real").parent / "videos" / "dusk" / "0.mp4"
    for name in names:
        folder = source / name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        folder.mkdir(parents=True)
        shutil.copy(real, folder / f"{name[:1] if name[0].isprintable() else 'x'}.mp4")
    prepare(source, tmp_path / "in" / "store", resolution=32, workers=1, progress=False)
    store = Store(tmp_path / "in" / "store")
    # Names that begin with a dot are hidden, whatever follows.
    assert set(store.classes) == set(names) - {"..."}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "real"]


def test_links_that_run_in_a_circle_or_nowhere(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    real = tiny_store(tmp_path / "real").parent / "videos" / "dusk" / "0.mp4"
    shutil.copy(real, source / "a.mp4")
    (source / "itself.mp4").symlink_to("itself.mp4")
    (source / "nowhere.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (source / "above").symlink_to(source)
    (source / "device.mp4").symlink_to("/dev/zero")
    report = prepare(source, tmp_path / "store", resolution=32, workers=1, progress=False)
    assert (report.ok, report.videos) == (1, 1)


def test_a_network_of_misnamed_classes_makes_videos(tmp_path):
    path = network_file(tmp_path / "net.safetensors", tiny_network(num_classes=2),
                        classes=("../escaped", "/escaped"))  # fmt: skip
    made = tmp_path / "in" / "made"
    assert main(["generate", "--network", str(path), "--seeds", "0", "--class", "../escaped",
                 "--frames", "2", "--outdir", str(made)]) == 0  # fmt: skip
    assert [p.name for p in made.iterdir()] == ["seed0000-class0.mp4"]
    assert not list(tmp_path.rglob("*escaped*"))


UNSAFE = (
    r"import pickle\b|pickle\.(load|dump)|cPickle|dill\b|allow_pickle=True",
    r"torch\.load\((?!.*weights_only=True)",
    r"\.(extractall|unpack_archive)\(|archive\.extract\(",
    r"yaml\.(load|unsafe_load|full_load)\(",
)


def unsafe(code: str) -> bool:
    return any(re.search(pattern, code.partition("#")[0]) for pattern in UNSAFE)


def test_nothing_is_unpickled_or_unpacked():
    """Networks are safetensors, states load with weights_only, archives stay archives."""
    found = [
        f"{path.name}:{number}"
        for path in sorted((ROOT / "digan").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unsafe(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "torch.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text)",
     "archive.extractall(folder)", "state = pickle.loads(data)"],
)  # fmt: skip
def test_the_rule_finds_what_it_forbids(line):
    assert unsafe(line)
    assert not unsafe("torch.load(path, weights_only=True)  # not pickle.load")
