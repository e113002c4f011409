"""Random pickles: mutated snapshots, instructions in any order, and sentences of instructions."""

from __future__ import annotations

import contextlib
import pickletools
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from digan.errors import DiganError
from digan.importer import import_discriminators, import_file, import_generator, read_snapshot
from digan.importer.export import export_state_dict
from digan.importer.stylegan2 import import_stylegan2_discriminator
from tests.hostile.strategies import rounds
from tests.hostile.verdict import in_memory, in_time
from tests.importer.official_file import module, snapshot_bytes
from tests.nn.tiny import tiny_generator

PROTO = b"\x80\x04"


def small_snapshot() -> bytes:
    layer = module("Layer", {"weight": torch.ones(3, 2), "w_avg": torch.zeros(2)}, {"n": 3})
    return snapshot_bytes({"G": layer, "G_ema": layer}, {"path": "data/tiny", "n": 5})


SMALL = small_snapshot()
WHOLE = snapshot_bytes({"G_ema": module("Generator", export_state_dict(tiny_generator()), {})})
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
NAMES = [
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch.storage\n_load_from_bytes\n", b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n", b"ctorch\nSize\n",
    b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n", b"X\x01\x00\x00\x00G",
    b"\x8c\x05state", b"\x8c\x0b_parameters", b"\x8c\x08_modules", b"K\x03", b"J\xff\xff\xff\xff",
    b"C\x08" + bytes(8), b"\x8a\x02\xff\xff", b"q\x01", b"h\x01", b"\x94",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content) - 1))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "insert", "copy"]))
        if kind == "flip":
            content[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[max(place, 1) :]
        elif kind == "drop":
            del content[place : place + draw(st.integers(1, 20))]
        elif kind == "insert":
            content[place:place] = draw(st.sampled_from(NAMES + OPCODES))
        else:
            content[place:place] = content[place : place + draw(st.integers(1, 200))]
        if not content:
            content = bytearray(b".")
    return bytes(content)


words = st.lists(
    st.one_of(st.sampled_from(NAMES), st.sampled_from(OPCODES), st.binary(max_size=4)),
    max_size=60,
).map(lambda parts: PROTO + b"".join(parts) + b".")

_lines = st.sampled_from(
    ["1", "-1", "01", "00", "1L", "1.5", "nan", "'a'", "os", "system", "é", ""]
)
_counted = st.binary(max_size=9)


def _with_length(form: str) -> SearchStrategy[bytes]:
    """Bytes behind their number, which now and then is another."""
    most = (1 << 8 * struct.calcsize(form)) // (2 if form == "<i" else 1) - 1
    lying = st.sampled_from([0, 1, most // 2, most])
    return st.one_of(
        _counted.map(lambda data: struct.pack(form, len(data)) + data),
        st.tuples(lying, _counted).map(lambda pair: struct.pack(form, pair[0]) + pair[1]),
    )


def _packed(form: str, *extremes: int) -> SearchStrategy[bytes]:
    return st.one_of(st.integers(0, 4), st.sampled_from(extremes)).map(
        lambda number: struct.pack(form, number)
    )


# What stands behind an instruction, by pickletools' name for it.
ARGUMENTS: dict[str, SearchStrategy[bytes]] = {
    "uint1": _packed("<B", 255),
    "uint2": _packed("<H", 65535),
    "int4": _packed("<i", -1, -(1 << 31), (1 << 31) - 1),
    "uint4": _packed("<I", (1 << 32) - 1),
    "uint8": _packed("<Q", (1 << 64) - 1, 1 << 63),
    "float8": st.floats().map(lambda value: struct.pack(">d", value)),
    **dict.fromkeys(["string1", "bytes1", "unicodestring1", "long1"], _with_length("<B")),
    **dict.fromkeys(["string4", "long4"], _with_length("<i")),
    **dict.fromkeys(["bytes4", "unicodestring4"], _with_length("<I")),
    **dict.fromkeys(["bytes8", "unicodestring8", "bytearray8"], _with_length("<Q")),
    "stringnl_noescape_pair": st.tuples(_lines, _lines).map(
        lambda pair: f"{pair[0]}\n{pair[1]}\n".encode()
    ),
}


def sentence(opcode: Any) -> SearchStrategy[bytes]:
    """An instruction with an argument of its kind."""
    code = opcode.code.encode("latin-1")
    if opcode.arg is None:
        return st.just(code)
    argument = ARGUMENTS.get(opcode.arg.name, _lines.map(lambda line: f"{line}\n".encode()))
    return argument.map(lambda data: code + data)


sentences = st.lists(
    st.one_of(st.sampled_from(NAMES), *map(sentence, pickletools.opcodes)), max_size=40
).map(lambda parts: PROTO + b"".join(parts) + b".")


def test_every_kind_of_argument_is_known():
    """A kind that this file does not know would be written as a line."""
    by_line = {"decimalnl_short", "decimalnl_long", "floatnl", "stringnl", "stringnl_noescape",
               "unicodestringnl"}  # fmt: skip
    kinds = {opcode.arg.name for opcode in pickletools.opcodes if opcode.arg is not None}
    assert kinds == {*ARGUMENTS, *by_line}


class Forbidden(Exception):
    """Something ran that must not."""


def forbid(*_: Any, **__: Any) -> Any:
    raise Forbidden


def complaint(make: Any, *arguments: Any) -> tuple[Any, str]:
    """What a function makes, and its DiganError; any other exception comes out."""
    try:
        return make(*arguments), ""
    except DiganError as error:
        return None, str(error)


def read_all(path: Path, content: bytes) -> bool:
    """True if the file was accepted; only DiganError may come out otherwise."""
    path.write_bytes(content)
    out = path.with_name("out.safetensors")
    with contextlib.ExitStack() as guards:
        guards.enter_context(in_time())
        for name in ("os.system", "pickle.loads", "pickle.load", "torch.load", "builtins.exec"):
            guards.enter_context(mock.patch(name, forbid))
        snapshot, said = complaint(read_snapshot, path)
        for network in [] if snapshot is None else snapshot.modules.values():
            for stored in network.tensors.values():
                if stored.count < 1 << 20:
                    stored.read()
        for make in (import_generator, import_discriminators):
            said += "" if snapshot is None else complaint(make, snapshot)[1]
        if snapshot is not None:
            said += complaint(import_stylegan2_discriminator, path)[1]
            said += complaint(import_file, path, out)[1]
    assert "\n" not in said
    assert len(said) < 2000
    return snapshot is not None


@pytest.fixture(scope="module")
def fuzz_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file is written; what PyTorch imports on its first use is imported before."""
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.pkl"
    path.write_bytes(WHOLE)
    assert import_file(path, path.with_name("whole.safetensors")).files
    return path


@rounds(300)
@given(content=mutated(SMALL))
def test_mutated_snapshots_are_read_or_refused(fuzz_path, content):
    with in_memory():
        read_all(fuzz_path, content)


@rounds(200)
@given(content=words)
def test_random_instructions_are_read_or_refused(fuzz_path, content):
    with in_memory():
        read_all(fuzz_path, content)


@rounds(200)
@given(content=sentences)
def test_instructions_with_arguments_are_read_or_refused(fuzz_path, content):
    with in_memory():
        read_all(fuzz_path, content)


@rounds(10)
@given(content=mutated(WHOLE))
def test_mutated_generators_are_read_or_refused(fuzz_path, content):
    """As `digan import` reads them, to a file of ours."""
    with in_memory():
        read_all(fuzz_path, content)


def test_whole_snapshots_are_accepted(fuzz_path):
    assert read_all(fuzz_path, SMALL)
    assert "SystemExit" in SMALL.decode("latin-1")
    assert read_all(fuzz_path, WHOLE)


@pytest.mark.parametrize("end", range(0, len(SMALL), 41))
def test_every_cut_is_refused(fuzz_path, end):
    assert not read_all(fuzz_path, SMALL[:end])


def test_reading_imports_nothing(tmp_path):
    """In a fresh process: no module of the file's is imported, none of its code runs."""
    path = tmp_path / "a.pkl"
    path.write_bytes(SMALL)
    code = (
        "import sys\nfrom pathlib import Path\nfrom digan.importer import read_snapshot\n"
        "before = set(sys.modules)\n"
        f"s = read_snapshot(Path({str(path)!r}))\n"
        "s.module('G').tensors['weight'].read()\n"
        "print(sorted(set(sys.modules) - before), 'omegaconf' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
