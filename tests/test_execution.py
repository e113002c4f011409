"""Which path of the ops a setting means, and when kernels that are demanded cannot be had."""

from __future__ import annotations

import pytest
import torch

from digan import ops
from digan.errors import DiganError
from digan.execution import choose_impl

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Sets what this machine can run: why ops cannot, by name."""
    monkeypatch.delenv("DIGAN_OPS", raising=False)

    def serves(reasons: dict[str, str]) -> None:
        monkeypatch.setattr(ops, "unavailable", lambda name: reasons.get(name, ""))

    return serves


def test_settings_that_demand_nothing(machine, monkeypatch):
    machine(dict.fromkeys(ops.status(), "no driver"))
    assert choose_impl("reference", CPU) == "reference"
    assert choose_impl("auto", CPU) is None
    monkeypatch.setenv("DIGAN_OPS", "reference")
    assert choose_impl("auto", CUDA) is None


@pytest.mark.parametrize("device", [CUDA, torch.device("cuda:1"), None])
def test_every_op_is_fused(machine, device):
    machine({})
    assert choose_impl("fused", device) == "fused"


def test_one_op_without_kernels_is_an_error(machine):
    """Also the last of them: no op may fall back to its formula without a word."""
    for name in ops.status():
        machine({name: "there is no kernel"})
        with pytest.raises(DiganError) as said:
            choose_impl("fused", CUDA)
        sentence = f"--fused-kernels cannot be kept: {name}: there is no kernel"
        assert str(said.value) == sentence


@pytest.mark.parametrize(
    ("setting", "variable", "demand"),
    [("fused", "auto", "--fused-kernels"), ("auto", "fused", "DIGAN_OPS=fused")],
)
def test_kernels_need_a_gpu(machine, monkeypatch, setting, variable, demand):
    machine({})
    monkeypatch.setenv("DIGAN_OPS", variable)
    with pytest.raises(DiganError) as said:
        choose_impl(setting, CPU)
    assert str(said.value) == f"{demand} cannot be kept: it needs device cuda, got cpu"
