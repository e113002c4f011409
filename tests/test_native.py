"""Which cards a library is built for and serves, and what is said where it cannot run."""

from __future__ import annotations

import pytest
import torch

import digan
import digan.native as native
from digan import ops
from digan.info import format_info
from digan.toolkit import DEFAULT_ARCHITECTURES, architectures, left_out, serves

DEFAULT = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_80", "compute_120"]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, DEFAULT),
        ("  ", DEFAULT),
        ("8.0", ["sm_80"]),
        ("8.0;9.0a", ["sm_80", "sm_90a"]),
        ("8.6, 8.0+PTX", ["sm_86", "sm_80", "compute_80"]),
        ("8.0 8.0", ["sm_80"]),
        ("7.0 7.5 12.1+PTX", ["sm_121", "compute_121"]),
    ],
)
def test_architectures_of_a_list(listed, expected):
    environ = {} if listed is None else {"TORCH_CUDA_ARCH_LIST": listed}
    assert architectures(environ) == expected


@pytest.mark.parametrize("listed", ["Ampere", "8", "8.0+ptx", "sm_80", "90", "8.0 native"])
def test_a_name_that_is_no_number_is_refused(listed):
    with pytest.raises(ValueError, match=r"^TORCH_CUDA_ARCH_LIST must hold numbers such as 8\.0"):
        architectures({"TORCH_CUDA_ARCH_LIST": listed})


def test_old_cards_alone_are_refused():
    with pytest.raises(ValueError, match=r"a card of 8\.0 or newer, got '7\.0 7\.5'"):
        architectures({"TORCH_CUDA_ARCH_LIST": "7.0 7.5"})


def test_what_a_short_list_leaves_out():
    assert left_out(["sm_80", "sm_90a"]) == [n for n in DEFAULT if n not in ("sm_80", "sm_90a")]
    assert left_out(architectures({"TORCH_CUDA_ARCH_LIST": DEFAULT_ARCHITECTURES})) == []


@pytest.mark.parametrize(
    ("built", "card", "expected"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),  # code runs on later cards of its generation
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("compute_80", (9, 0), True),  # PTX on all later cards
        ("compute_80", (7, 5), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("compute_90a", (10, 0), False),  # 90a is never forward-compatible
        ("sm_100", (10, 3), True),
        ("sm_100", (12, 0), False),
        ("sm_80 sm_90a", (9, 0), True),
    ],
)
def test_which_cards_a_library_serves(built, card, expected):
    assert serves(built.split(), *card) is expected


@pytest.mark.parametrize("card", [(8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0),
                                  (12, 0), (12, 1), (13, 0)])  # fmt: skip
def test_the_default_list_serves_every_card_since_8_0(card):
    assert serves(DEFAULT, *card)


def test_a_card_without_code_is_named_with_its_cure():
    said = native._unserved(("sm_80",), [(8, 6), (9, 0)])
    assert said == (
        "GPU 1 is sm_90, and the kernels were built for sm_80; "
        "reinstall with TORCH_CUDA_ARCH_LIST=9.0"
    )
    assert native._unserved(("sm_80",), [(8, 0)]) == ""
    assert "cards of 8.0 and newer" in native._unserved(tuple(DEFAULT), [(7, 5)])


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (12080, "the NVIDIA driver serves CUDA 12.8 and the kernels need CUDA 13; "
                "install driver 580 or newer"),
        (13000, ""),
        (13020, ""),
        (14000, ""),
        (0, ""),  # no driver, so no card either
    ],
)  # fmt: skip
def test_an_old_driver_is_named_with_its_cure(driver, expected):
    assert native._old_driver(13000, driver) == expected


@pytest.fixture
def state(monkeypatch):
    """The module's state as if a library for sm_80 had been loaded."""
    library = native._Library("0", ("sm_80",), 13000)
    monkeypatch.setattr(native, "_state", native._State(library, ""))
    return native._state


def test_the_cards_are_asked_late_and_once(state, monkeypatch):
    asked = []

    def capability(card):
        asked.append(card)
        return (9, 0)

    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: False)
    assert native.reason() == ""
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(native.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(native.torch.cuda, "get_device_capability", capability)
    assert native.reason().startswith("GPU 0 is sm_90, and the kernels were built for sm_80; ")
    assert native.reason().startswith("GPU 0 is sm_90")
    assert asked == [0]
    assert native.architectures() == ("sm_80",)


def stand_in(path, version, cards="sm_80"):
    """What a library says of itself, in a file that passes for a whole one and cannot be loaded."""
    text = f"digan native library: version {version}; for {cards}; cuda 13000;"
    path.write_bytes(b"\x7fELF" + bytes(60) + text.encode())
    return path


def refusal(name):
    """What a caller of `fused` gets: one line."""
    with pytest.raises(ops.OpUnavailableError) as raised:
        ops.bias_act(torch.randn(2, 3), impl="fused")
    assert "\n" not in str(raised.value)
    prefix = f"{name}: impl='fused' cannot run: "
    assert str(raised.value).startswith(prefix)
    return str(raised.value).removeprefix(prefix)


@pytest.mark.parametrize("registered", [True, False])
def test_fused_on_a_card_without_code_is_one_line(state, monkeypatch, registered):
    """With kernels in the dispatcher, which must not be launched, and without any."""
    monkeypatch.setattr(ops._registry, "_has_kernel", lambda name: registered)
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(native.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        native.torch.cuda, "get_device_capability", lambda card: [(8, 0), (9, 0)][card]
    )
    said = refusal("bias_act")
    assert said.startswith(
        "GPU 1 is sm_90, and the kernels were built for sm_80; "
        "reinstall with TORCH_CUDA_ARCH_LIST=9.0; or "
    )
    assert ops.status()["bias_act"] == f"reference ({said})"


@pytest.mark.parametrize("version", ["0.0.9", f"{digan.__version__}.dev1"])
def test_a_library_of_another_version_is_named_and_not_loaded(tmp_path, monkeypatch, version):
    old = stand_in(tmp_path / "_native.so", version)
    monkeypatch.setattr(native, "_state", native._State())
    monkeypatch.setenv("DIGAN_NATIVE_LIBRARY", str(old))
    loaded = []
    monkeypatch.setattr(native.torch.ops, "load_library", loaded.append)
    native.load()
    assert loaded == []
    said = (
        f"{old} is a library of digan {version}, and the package is {digan.__version__}; "
        "reinstall digan"
    )
    assert native.reason() == said
    assert native.architectures() == ()
    monkeypatch.setattr(ops._registry, "_has_kernel", lambda name: False)
    assert refusal("bias_act").startswith(f"{said}; or ")


def test_a_library_of_this_version_is_loaded(tmp_path, monkeypatch):
    """So that the test above can fail; what cannot be loaded is one line too."""
    file = stand_in(tmp_path / "_native.so", digan.__version__, "sm_80 sm_90a")
    assert native.describe(file) == native._Library(digan.__version__, ("sm_80", "sm_90a"), 13000)
    monkeypatch.setattr(native, "_state", native._State())
    monkeypatch.setenv("DIGAN_NATIVE_LIBRARY", str(file))
    native.load()
    assert native.reason().startswith(f"{file} does not load: ")
    assert "\n" not in native.reason()


def test_fused_without_a_card_is_one_line(state, monkeypatch):
    """Also where the environment asks for it, and no call does."""
    monkeypatch.setattr(ops._registry, "_has_kernel", lambda name: True)
    monkeypatch.setattr(native.torch.cuda, "is_available", lambda: False)
    assert refusal("bias_act") == (
        "no CUDA device is visible; run where one is, or pass impl='auto'"
    )
    monkeypatch.setenv("DIGAN_OPS", "fused")
    with pytest.raises(ops.OpUnavailableError, match="no CUDA device is visible"):
        ops.bias_act(torch.randn(2, 3))


def test_no_library_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_state", native._State())
    monkeypatch.delenv("DIGAN_NATIVE_LIBRARY", raising=False)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    native.load()
    assert native.reason() == (
        "the native kernels are not in this installation; install with nvcc by "
        "pip install --no-build-isolation ."
    )
    assert native.architectures() == ()


@pytest.mark.parametrize(
    ("kernels", "line"),
    [
        ({"architectures": [], "left_out": [], "reason": "no library"}, "none: no library"),
        ({"architectures": ["sm_80"], "left_out": [], "reason": ""}, "sm_80"),
        (
            {"architectures": ["sm_80"], "left_out": ["sm_86"], "reason": "old driver"},
            "sm_80 (TORCH_CUDA_ARCH_LIST left out sm_86); not used: old driver",
        ),
    ],
)
def test_info_says_what_is_built_and_why_it_is_not_used(kernels, line):
    from digan.info import collect_info

    info = collect_info()
    report = format_info({**info, "kernels": {**info["kernels"], **kernels}}).splitlines()
    (found,) = [row for row in report if row.startswith("kernels ")]
    assert found.split(None, 1)[1] == line
