"""Which path of the ops a setting means, and when kernels that are demanded cannot be had."""

from __future__ import annotations

import pytest
import torch

from digan import ops
from digan.errors import DiganError
from digan.execution import choose_impl

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
FORMULAS = {"modulated_linear", "coord_linear"}


@pytest.fixture
def machine(monkeypatch):
    """Sets what this machine can run: why ops cannot, by name, and which have only a formula."""
    monkeypatch.delenv("DIGAN_OPS", raising=False)

    def serves(reasons: dict[str, str], formulas: frozenset[str] | set[str] = frozenset()) -> None:
        reasons = {**dict.fromkeys(formulas, "there is no kernel"), **reasons}
        monkeypatch.setattr(ops, "unavailable", lambda name: reasons.get(name, ""))
        monkeypatch.setattr(ops, "has_only_a_formula", formulas.__contains__)

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


def test_an_op_without_kernels_runs_its_formula(machine, monkeypatch):
    """`auto` is then what runs the kernels of the others, whatever DIGAN_OPS demands of each op."""
    machine({}, FORMULAS)
    assert choose_impl("fused", CUDA) == "auto"
    monkeypatch.setenv("DIGAN_OPS", "fused")
    assert choose_impl("auto", CUDA) == "auto"


def test_one_kernel_that_cannot_run_is_an_error(machine):
    machine({"bias_act": "the driver is too old; update it"}, FORMULAS)
    with pytest.raises(DiganError) as said:
        choose_impl("fused", CUDA)
    sentence = "--fused-kernels cannot be kept: bias_act: the driver is too old; update it"
    assert str(said.value) == sentence


@pytest.mark.parametrize(
    ("setting", "variable", "demand"),
    [("fused", "auto", "--fused-kernels"), ("auto", "fused", "DIGAN_OPS=fused")],
)
def test_kernels_need_a_gpu(machine, monkeypatch, setting, variable, demand):
    machine({}, FORMULAS)
    monkeypatch.setenv("DIGAN_OPS", variable)
    with pytest.raises(DiganError) as said:
        choose_impl(setting, CPU)
    assert str(said.value) == f"{demand} cannot be kept: it needs device cuda, got cpu"


def test_only_a_library_that_can_run_leaves_an_op_without_kernels(monkeypatch):
    """Without one the reason is the library's, and a demand fails for every op."""
    monkeypatch.setattr(ops.native, "reason", lambda: "no library was built")
    assert not any(map(ops.has_only_a_formula, ops.status()))
    monkeypatch.setattr(ops.native, "reason", lambda: "")
    assert set(filter(ops.has_only_a_formula, ops.status())) >= FORMULAS
