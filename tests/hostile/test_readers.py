"""Random damage to everything that digan reads back: it is read, or refused in one line.

A seed is drawn for every run and shown by a failure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from digan.cli import main
from digan.config import PRESETS, TrainConfig, from_dict, to_dict
from digan.data.datasets import ClipPairs
from digan.data.store import Store
from digan.errors import DiganError
from digan.nn.snapshot import load_network
from digan.training.checkpoint import LATEST, read_state, save_state
from digan.training.step import Trainer
from digan.verbs.train import defaults
from tests.conftest import ROOT
from tests.tiny_runs import network_file, tiny_config, tiny_network, tiny_store

SEED = int.from_bytes(os.urandom(4), "little")


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Cut, changed, doubled, or with bytes put in."""
    kind = int(random.integers(5))
    at = int(random.integers(max(len(content), 1)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed = bytearray(content)
        for place in random.integers(max(len(content), 1), size=int(random.integers(1, 9))):
            changed[int(place) :][:1] and changed.__setitem__(int(place), int(random.integers(256)))
        return bytes(changed)
    if kind == 2:  # words that mean something to parsers
        words = (b"NaN", b"1e999", b"-1", b"null", b"[[[[", b'"', b"\0", b"99999999999999999999")
        return content[:at] + words[int(random.integers(len(words)))] + content[at + 3 :]
    if kind == 3:
        return content + content[at:]
    return content[:at] + random.bytes(int(random.integers(1, 40))) + content[at:]


def trials(count: int, soak: int | None) -> int:
    """How often; thirty times as often in `make soak`."""
    return count * 30 if soak else count


def refused_or_read(read: Callable[[], Any], about: str) -> None:
    """Errors are DiganErrors of one line; nothing else is raised."""
    complaint = ""
    try:
        read()
    except DiganError as error:
        said = str(error).removesuffix(getattr(error, "detail", ""))
        complaint = f"more than a line: {said}" if "\n" in said else ""
    except Exception as error:
        complaint = f"{type(error).__name__}: {error}"
    assert complaint == "", f"{about}, seed {SEED}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tiny_store(folder)
    network_file(folder / "net.safetensors", tiny_network())
    return folder


def read_store(path: Path) -> None:
    store = Store(path)
    pairs = ClipPairs(store, 4, seed=0, use_labels=bool(store.classes))
    for number in range(4):
        _ = pairs[number]
    _ = pairs.labels, store.names, store.fingerprint


def test_store(tmp_path, whole, soak):
    random = np.random.default_rng(SEED)
    names = [path.name for path in (whole / "skies").iterdir() if path.is_file()]
    shutil.copytree(whole / "skies", tmp_path / "store")
    for number in range(trials(120, soak)):
        name = names[number % len(names)]
        path = tmp_path / "store" / name
        content = path.read_bytes()
        path.write_bytes(damaged(content, random))
        refused_or_read(lambda: read_store(tmp_path / "store"), f"{name}, trial {number}")
        path.write_bytes(content)
    read_store(tmp_path / "store")


def test_store_files_that_are_missing_or_folders(tmp_path, whole):
    for name in [path.name for path in (whole / "skies").iterdir()]:
        shutil.copytree(whole / "skies", tmp_path / name)
        (tmp_path / name / name).unlink()
        refused_or_read(lambda name=name: read_store(tmp_path / name), f"without {name}")
        (tmp_path / name / name).mkdir()
        refused_or_read(lambda name=name: read_store(tmp_path / name), f"a folder {name}")


def test_snapshot(tmp_path, whole, soak):
    random = np.random.default_rng(SEED)
    content = (whole / "net.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    path = tmp_path / "net.safetensors"
    for number in range(trials(120, soak)):
        head = content[: 8 + length]
        if number % 2:  # with the length that the header then has: the parser sees the damage
            body = damaged(content[8 : 8 + length], random)
            head = len(body).to_bytes(8, "little") + body
        else:
            head = damaged(head, random)
        path.write_bytes(head + content[8 + length :])
        refused_or_read(lambda: load_network(path), f"trial {number}")


def test_state(tmp_path, soak):
    random = np.random.default_rng(SEED)
    save_state(tmp_path, Trainer(tiny_config(resolution=32)), "data")
    content = (tmp_path / LATEST).read_bytes()
    for number in range(trials(20, soak)):
        (tmp_path / LATEST).write_bytes(damaged(content, random))
        refused_or_read(lambda: read_state(tmp_path), f"trial {number}")


def any_value(random: np.random.Generator, depth: int = 0) -> Any:
    """Anything that YAML can hold."""
    kind = int(random.integers(9 if depth < 3 else 7))
    numbers = (0, 1, -1, 3.5, 1e308, float("inf"), float("nan"), 1 << 70, True)
    if kind < 3:
        return numbers[int(random.integers(len(numbers)))]
    if kind < 5:
        return "".join(random.choice(list(string.printable), int(random.integers(8))))
    if kind == 5:
        return None
    if kind == 6:
        return ["fp32", "tiny", "auto", "../x", "all"][int(random.integers(5))]
    if kind == 7:
        return [any_value(random, depth + 1) for _ in range(int(random.integers(4)))]
    return {str(any_value(random, 3)): any_value(random, depth + 1) for _ in range(2)}


def test_configuration(tmp_path, soak):
    random = np.random.default_rng(SEED)
    base = to_dict(PRESETS["tiny"])
    for number in range(trials(300, soak)):
        values = json.loads(json.dumps(base))
        for _ in range(int(random.integers(1, 4))):
            place = values
            if random.integers(3) == 0:
                place = values[("generator", "discriminator")[int(random.integers(2))]]
            if not isinstance(place, dict):
                continue
            name = str(random.choice([*place, "unknown"]))
            place[name] = any_value(random)
        refused_or_read(lambda v=values: from_dict(TrainConfig, v), f"trial {number}: {values}")
        path = tmp_path / "config.yaml"
        text = yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")
        path.write_bytes(damaged(text, random) if number % 2 else text)
        words = ["--config", str(path)]
        refused_or_read(lambda words=words: defaults(words), f"trial {number}")


WORDS = ("prepare", "train", "generate", "evaluate", "inspect", "invert", "showcase", "import",
         "data", "check", "info", "watch", "--network", "--seeds", "--frames", "--size", "--grid",
         "--kimg", "--batch", "--preset", "--resume", "--dry-run", "--debug=0", "--outdir", "--",
         "--help=1", "-h1", "0", "-1", "1e9", "nan", "0-", "5-2", "a b", "é\u0301",
         "\x00", "", "*", "..",
         "demo", "tiny", "fp32", "--metrics", "fvd2048_16f", "--class", "all", "--format",
         "exe", "--t-end", "--zoom", "--trunc", "--codes", "--data", "--fakes", "--page",
         "--every")  # fmt: skip


def test_command_lines(tmp_path, monkeypatch, capfd, soak):
    """Random words end with a status of 1 or 2 and a message without a traceback."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(SEED)
    for number in range(trials(60, soak)):
        words = [str(word) for word in random.choice(WORDS, int(random.integers(1, 7)))]
        if words[0] in ("info", "demo", "--debug=0"):
            continue  # they work without more
        try:
            status: Any = main(words)
        except SystemExit as error:
            status = error.code
        except Exception as error:
            raise AssertionError(f"{words}, seed {SEED}: {error!r}") from error
        said = capfd.readouterr()
        about = f"trial {number}, seed {SEED}: {words}: {said.err}"
        assert "Traceback" not in said.err + said.out, about
        assert status in (1, 2), about
        assert said.err, about


def test_nothing_outside_the_run_is_written_by_names_of_classes(tmp_path):
    """Class names come from folders and end in file names and pages."""
    store = tiny_store(tmp_path)
    info = json.loads((store / "store.json").read_text())
    info["classes"] = ["../../escape", "<script>alert(1)</script>"]
    (store / "store.json").write_text(json.dumps(info))
    assert main(["data", "check", str(store), "--sheet", str(tmp_path / "sheet.png")]) in (0, 1, 2)
    assert not (tmp_path.parent / "escape").exists()


def test_no_pickle_is_read_or_written():
    """Networks are safetensors, states load with weights_only; nothing else is torch.load'ed."""
    found = []
    for path in sorted((ROOT / "digan").rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            if "torch.load(" in code and "weights_only=True" not in code:
                found.append(f"{path.name}:{number}")
            if re.search(r"import pickle\b|pickle\.(load|dump)|cPickle|dill\b", code):
                found.append(f"{path.name}:{number}")
    assert found == []
