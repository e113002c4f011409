"""The report of `digan info`."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys

import pytest

import digan
from digan import native
from digan.info import ENCODERS, collect_info, format_info


@pytest.fixture(scope="module")
def info():
    return collect_info()


def test_is_plain_json(info):
    assert json.loads(json.dumps(info)) == info


def test_names_what_runs_here(info):
    import torch

    assert info["versions"]["digan"] == digan.__version__
    assert info["versions"]["torch"] == torch.__version__
    assert info["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["versions"]["av"] is not None
    assert len(info["gpus"]) == torch.cuda.device_count()
    assert info["system"]["cores"] >= 1
    assert info["system"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert info["disk"]["free_gib"] > 0


def test_says_for_every_op_what_it_runs_on(info):
    import digan.ops

    assert info["ops"] == digan.ops.status()
    assert info["ops"], "no op is registered"
    for name, status in info["ops"].items():
        fused = status == "fused"
        reasoned = status.startswith("reference (") and status.endswith(")")
        assert fused or (reasoned and len(status) > len("reference ()")), (name, status)


def test_no_op_is_fused_without_kernels(info):
    if not info["kernels"]["architectures"]:
        assert "fused" not in info["ops"].values()


def test_encoders_can_be_opened(info):
    import av

    assert tuple(info["video_encoders"]) == ENCODERS
    for name, there in info["video_encoders"].items():
        assert there == (name in av.codecs_available), name


def test_toolkit_is_home_or_reason(info):
    toolkit = info["toolkit"]
    if toolkit["reason"] is None:
        assert toolkit["home"]
        assert toolkit["nvcc"]
        assert toolkit["version"][0].isdigit()
    else:
        assert "\n" not in toolkit["reason"]


def test_report_holds_every_fact(info):
    lines = format_info(info).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in [*info["versions"], "system", "cpu", "toolkit", "kernels", "encoders", "disk"]:
        assert name in starts, name
    rows = [line.split(None, 2)[1:] for line in lines if line.startswith("op ")]
    assert [name for name, _ in rows] == list(info["ops"])
    assert all(status.startswith(info["ops"][name].split()[0]) for name, status in rows)
    statuses = list(info["ops"].values())
    for status in statuses:  # a reason stands once, however many ops have it
        times = 1 if "(" in status else statuses.count(status)
        assert [told for _, told in rows].count(status) == times


def test_every_op_has_its_reason_or_says_whose(info):
    ops = {"a": "reference (no)", "b": "fused", "c": "reference (old)", "d": "reference (no)"}
    ops["e"] = "fused"
    said = [line for line in format_info({**info, "ops": ops}).splitlines() if "op " in line[:3]]
    assert [line.split(None, 2)[2] for line in said] == [
        "reference (no)", "fused", "reference (old)", "reference (as a)", "fused"
    ]  # fmt: skip


def test_report_of_another_machine(info):
    other = copy.deepcopy(info)
    other["versions"]["scipy"] = None
    other["gpus"] = [
        {"name": "NVIDIA H200", "capability": "9.0", "memory_gib": 139.8, "driver": "580.65"}
    ]
    other["toolkit"] = {"home": None, "nvcc": None, "version": None, "reason": "no nvcc was found"}
    other["kernels"]["architectures"] = ["sm_80", "sm_90a"]
    other["video_encoders"]["libx264"] = False
    report = format_info(other)
    assert "NVIDIA H200, sm_90, 140 GiB, driver 580.65" in report
    assert "none: no nvcc was found" in report
    assert "sm_80, sm_90a" in report
    assert "(missing: libx264)" in report
    assert "not installed" in report


def test_the_path_for_cards_of_9_0(monkeypatch):
    monkeypatch.setattr(native, "architectures", lambda: ("sm_80", "sm_90a"))
    monkeypatch.delenv("DIGAN_HOPPER", raising=False)
    assert native.hopper() == "off (DIGAN_HOPPER=1 turns it on)"
    monkeypatch.setenv("DIGAN_HOPPER", "0")
    assert native.hopper().startswith("off")
    monkeypatch.setenv("DIGAN_HOPPER", "1")
    assert native.hopper() == "on (DIGAN_HOPPER=1)"
    report = format_info(collect_info())
    assert re.search(r"^hopper path +on \(DIGAN_HOPPER=1\)$", report, re.M)
    monkeypatch.setattr(native, "architectures", lambda: ("sm_80",))
    assert native.hopper() == "none (this library has no code for sm_90a)"


def test_import_is_light():
    code = (
        "import sys, digan.info; print([m for m in ('torch', 'numpy', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
