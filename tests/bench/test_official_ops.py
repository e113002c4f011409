"""Which path the original's ops take is observed, not concluded."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.utils.cpp_extension as extension_builder

from digan.bench import official_ops
from digan.bench.official import load_official, op_paths
from digan.bench.official_ops import first_error
from digan.errors import DiganError
from tests.bench.fake_checkout import small


def test_formulas_and_disabled_ops_are_told_apart(fake):
    paths = op_paths(load_official(fake), small())
    assert paths == {
        "bias_act": "its slow PyTorch fallback (its kernels are for CUDA, the tensors are on cpu)",
        "upfirdn2d": "its slow PyTorch fallback (its kernels are for CUDA, the tensors are on cpu)",
        "conv2d_gradfix": "disabled on this PyTorch (it says: not supported on this PyTorch. "
        "And more.)",
        "grid_sample_gradfix": "not called",
    }


def test_plugins_are_counted_where_they_run(fake, monkeypatch):
    """A plugin that PyTorch does not register under its name is found all the same."""
    built: list[str] = []

    def load(name, sources, **options):
        built.append(name)
        assert not Path(options["build_directory"]).is_relative_to(fake)
        return SimpleNamespace(bias_act=lambda x: x)

    monkeypatch.setattr(extension_builder, "load", load)
    code = load_official(fake)
    bias_act = code._ops["bias_act"]
    bias_act.wanted = True
    assert op_paths(code, small())["bias_act"] == "its CUDA plugin"
    plugin = bias_act._plugin
    assert isinstance(plugin, SimpleNamespace)  # unwrapped again
    with code.watch() as watch:
        bias_act.bias_act(torch.zeros(1))
        bias_act.wanted = False
        bias_act.bias_act(torch.zeros(1))
    assert watch.paths()["bias_act"].startswith("both: its slow PyTorch fallback")
    assert "its CUDA plugin, 1 calls" in watch.paths()["bias_act"]
    assert bias_act._plugin is plugin
    assert set(built) == {"bias_act_plugin"}
    assert "bias_act_plugin" not in sys.modules


def test_a_failed_build_is_tried_once_and_explained(fake, monkeypatch):
    tries = itertools.count()

    def load(name, sources, **options):
        next(tries)
        raise RuntimeError(
            "Error building extension 'upfirdn2d_plugin': [1/2] c++ -c x.cpp\n"
            "FAILED: x.o\nsome/folder/x.cpp:2:18: error: no such thing\nx.cpp:9:1: error: more"
        )

    monkeypatch.setattr(extension_builder, "load", load)
    monkeypatch.setattr(official_ops, "_device_of", lambda *_: "cuda")
    code = load_official(fake)
    op = code._ops["upfirdn2d"]
    op.wanted = True
    with code.watch() as watch:
        for _ in range(3):
            op.upfirdn2d(torch.zeros(1))
    assert next(tries) == 1
    assert watch.paths()["upfirdn2d"] == (
        "its slow PyTorch fallback (its plugin did not build: x.cpp:2:18: error: no such thing)"
    )


def test_switched_off_op(fake):
    code = load_official(fake)
    assert code._ops["conv2d_gradfix"].enabled
    code._ops["conv2d_gradfix"].enabled = False
    assert "its switch `enabled` is off" in op_paths(code, small())["conv2d_gradfix"]


def test_a_watch_is_entered_once_and_puts_everything_back(fake):
    code = load_official(fake)
    before = {name: dict(vars(op)) for name, op in code._ops.items()}
    with code.watch() as watch:
        with pytest.raises(DiganError, match="must be left before"):
            watch.__enter__()
        assert before != {name: dict(vars(op)) for name, op in code._ops.items()}
    assert before == {name: dict(vars(op)) for name, op in code._ops.items()}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nvcc fatal   : Unsupported gpu architecture", "nvcc fatal   : Unsupported gpu archi"),
        ("a\nb/x.cu(3): error #20: y", "x.cu(3): error #20: y"),
        ("CUDA_HOME is not set\nmore", "CUDA_HOME is not set"),
        ("", "no reason given"),
    ],
)
def test_first_error(text, line):
    assert first_error(text).startswith(line)
