"""Loading the original's code: wrong checkouts are named, and nothing of it leaks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.utils.cpp_extension  # brings setuptools, which adds to the search path itself

from digan.bench.official import load_official
from digan.bench.official_code import FILES, SOURCE, rearrange, settings_of
from digan.errors import DiganError
from tests.bench.fake_checkout import files_of, small

# ------------------------------------------------------------------------ wrong checkouts


def complaint(path: Path) -> str:
    with pytest.raises(DiganError) as caught:
        load_official(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_missing_folder(tmp_path):
    message = complaint(tmp_path / "nowhere")
    assert f"git clone {SOURCE}" in message
    assert "there is no folder" in message


def test_folder_of_something_else(tmp_path):
    message = complaint(tmp_path)
    assert "is no checkout of the original" in message
    assert f"git clone {SOURCE}" in message


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(fake, name):
    (fake / name).unlink()
    message = complaint(fake)
    assert f"{name} is missing" in message
    assert f"git clone {SOURCE}" in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("src/training/loss.py", "x = 1\ndef broken(:\n", "loss.py:2: SyntaxError"),
        ("src/training/loss.py", "import training.absent", "loss.py:1: there is no module"),
        ("src/training/loss.py", "x = 1", "training/loss.py has no OurStyleGAN2Loss"),
        ("src/training/loss.py", "raise SystemExit(3)", "loss.py:1: SystemExit: 3"),
        ("src/training/loss.py", "1 / 0", "loss.py:1: ZeroDivisionError: division by zero"),
        ("configs/digan.yml", "generator: [", "configs/digan.yml cannot be read"),
        ("configs/digan.yml", "generator: {}", "configs/digan.yml has no entry loss_kwargs"),
        ("configs/main.yml", "3", "configs/main.yml has no entry train_args"),
    ],
)
def test_broken_file_is_named(fake, name, content, said):
    (fake / name).write_text(content)
    before = dict(sys.modules), sys.path[:], sys.dont_write_bytecode
    assert said in complaint(fake)
    assert {name for name in sys.modules if name.split(".")[0] in ("training", "src")} == set()
    assert before[1:] == (sys.path, sys.dont_write_bytecode)
    assert not hasattr(np, "float")


# ----------------------------------------------------------------------------- no traces


def test_loading_leaves_no_trace(fake, monkeypatch):
    """The original's names are common ones, and a user's own modules may have them."""
    mine = {name: ModuleType(name) for name in ("training", "training.loss", "dnnlib", "src")}
    for name, module in mine.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    names, path, files = set(sys.modules), sys.path[:], files_of(fake)
    code = load_official(fake)
    code.generator(small().generator, 0, "cpu")
    assert all(sys.modules[name] is module for name, module in mine.items())
    assert set(sys.modules) - names == set()
    assert sys.path == path
    assert not sys.dont_write_bytecode
    assert not any(str(fake) in entry for entry in sys.path_importer_cache)
    assert not hasattr(np, "float")
    assert files_of(fake) == files


def test_a_failure_inside_leaves_no_trace_either(fake):
    code = load_official(fake)
    names, path = set(sys.modules), sys.path[:]
    broken = dataclasses.replace(small().generator, resolution=64, latent_dim=512)
    object.__setattr__(broken, "latent_dim", "no size")
    with pytest.raises(DiganError, match=r"src/training/networks.py:\d+: TypeError"):
        code.generator(broken, 0, "cpu")
    assert (set(sys.modules), sys.path) == (names, path)
    assert not hasattr(np, "float")


def test_functions_keep_the_numpy_of_their_time(fake):
    networks = load_official(fake)._checkout.module("training.networks")
    assert networks.older() == 1.5
    assert float("inf") == networks.MOST
    assert networks.np.sqrt(4) == 2


def test_a_missing_package_is_named_when_it_is_used(fake):
    generator = load_official(fake).generator(small().generator, 0, "cpu")
    with pytest.raises(DiganError, match=r"calls nobody_has_this.get.*nobody_has_this is not in"):
        generator.use()


def test_a_folder_without_history_is_named_by_its_sources(fake):
    before = load_official(fake).commit
    assert before.startswith("sha256:")
    assert load_official(fake).commit == before
    with (fake / "src/training/loss.py").open("a") as file:
        file.write("\n")
    assert load_official(fake).commit != before


# ----------------------------------------------------------------- stand-ins of packages


def test_rearrange():
    x = torch.arange(2 * 6 * 4 * 5).view(2, 6, 4, 5)
    frames = x.view(2, 2, 3, 4, 5).flatten(0, 1)
    assert torch.equal(rearrange(x, "b (t c) h w -> (b t) c h w", t=2), frames)
    assert torch.equal(rearrange(frames, "(b t) c h w -> b (t c) h w", t=2), x)
    assert torch.equal(rearrange(x, "b c h w -> w (h b) c"), x.permute(3, 2, 0, 1).flatten(1, 2))
    assert rearrange(torch.zeros(3, 2, 0), "b t c -> (b t) c").shape == (6, 0)
    with pytest.raises(ValueError, match="argument"):
        rearrange(x, "b c h -> c b h")


def test_settings_follow_references():
    settings = settings_of({"a": {"b": "${c}"}, "c": {"5": "${d.e}"}, "d": {"e": [1, {"f": 2}]}})
    assert settings.a.b["5"][1].f == 2
    assert settings.a.get("nothing", {}).get("more", 0) == 0
    with pytest.raises(AttributeError):
        _ = settings.nothing
