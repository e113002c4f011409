"""Pickles that were made to do harm: nothing runs, nothing grows, one line says what was asked."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import resource
import struct
import subprocess
import time
from typing import Any

import pytest
import torch

from digan.errors import DiganError
from digan.importer import import_generator, read_snapshot
from digan.importer.export import export_state_dict
from digan.importer.pickles import Budget, Machine, RefusedError
from digan.importer.values import snapshot_names
from tests.importer.official_file import Persistent, module, pickled, snapshot_bytes
from tests.nn.tiny import tiny_generator

PROTO = b"\x80\x04"


def run(content: bytes) -> Any:
    budget = Budget()
    return Machine(io.BytesIO(content), snapshot_names(budget), budget).run()


def refused(content: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        run(content)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (__import__, "builtins.__import__"),
        (subprocess.Popen, "subprocess.Popen"),
        (torch.load, "torch.serialization.load"),
        (pickle.loads, "_pickle.loads"),
        (bytearray, "builtins.bytearray"),
    ],
)
def test_calls_outside_the_list_are_named(protocol, function, name):
    said = refused(pickle.dumps({"G": Calls(function, "touch pwned")}, protocol))
    if protocol < 3:
        name = name.replace("builtins", "__builtin__")
    assert said.startswith("it asks for ")
    assert name.rpartition(".")[2] in said
    assert protocol < 3 or name in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no pickle or truncated"),
        (b"hello, this is text", "never stored"),
        (b"\x89PNG\r\n\x1a\n", "instruction"),
        (PROTO, "no pickle or truncated"),
        (PROTO + b".", "leaves no single value"),
        (PROTO + b"N", "truncated"),
        (b"\x80\x09N.", "protocol 9"),
        (b"cos\nsystem\n.", "asks for os.system"),
        (b"(S'touch pwned'\nios\nsystem\n.", "the instruction STRING"),
        (b"(V1\nios\nsystem\n.", "asks for os.system"),
        (b"(cos\nsystem\no.", "asks for os.system"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"P1\n.", "the instruction PERSID"),
        (PROTO + b"NQ.", "the instruction BINPERSID"),
        (PROTO + b"\x97.", "the instruction NEXT_BUFFER"),
        (PROTO + b"NN\x93.", "by something that is not text"),
        (PROTO + b"0.", "an empty stack"),
        (PROTO + b"t.", "mark"),
        (PROTO + b"h\x07.", "never stored"),
        (PROTO + b"Na.", "empty stack"),
        (PROTO + b"NNb.", "has none"),
        (PROTO + b"(NNt}NR.", "calls something that is no global"),
        (PROTO + b"ctyping\nAny\n)R.", "calls typing.Any"),
        (PROTO + b"ctorch\nfloat32\n)\x81.", "calls torch.float32"),
        (PROTO + b"cnumpy\ndtype\n\x8c\x01O\x85R.", "no number's"),
        (PROTO + b"cnumpy\ndtype\n\x8c\x01V\x85R.", "no number's"),
        (PROTO + b"}(\x8c\x01au.", "a key without a value"),
        (PROTO + b"})Ns.", "no text and no small integer"),
        (PROTO + b"\x8f(]\x90.", "no text and no small integer"),
        (b"L" + b"9" * 20000 + b"L\n.", "no pickle or truncated"),
        (PROTO + b"\x8a\x40" + b"\xff" * 63 + b"\x01.", "more than 128 bits"),
        (PROTO + b"\x8e" + struct.pack("<Q", 1 << 60) + b"ab.", "no pickle or truncated"),
        (PROTO + b"\x8d" + struct.pack("<Q", (1 << 63) - 1) + b"ab.", "no pickle or truncated"),
        (PROTO + b"B" + struct.pack("<I", 0xFFFFFFFF) + b"ab.", "no pickle or truncated"),
        (PROTO + b"\x8b" + struct.pack("<i", -1) + b".", "no pickle or truncated"),
        (PROTO + b"\x8c\x07\x1b[31mos\x8c\x08sy\xc3\xa9stem\x93.", "for \\x1b[31mos.sy\\xe9stem"),
        (PROTO + b"}\x8a\x0a" + bytes(9) + b"\x01Ns.", "no text and no small integer"),
        (PROTO + b"}G" + bytes(8) + b"Ns.", "no text and no small integer"),
        (PROTO + b"Np99999999999999999999\n.", "an impossible number"),
        (PROTO + b"ccollections\nOrderedDict\n(" + b"N" * 17 + b"tR.", "with 17 arguments"),
        (PROTO + b"cbuiltins\nset\n](" + b"N" * 9 + b"e\x85R.", "no short list"),
        (PROTO + b"c\x1b[31mos\nsy\xc3\xa9stem\n.", "no pickle or truncated"),
        (PROTO + b"c" + b"o" * 10000 + b"\nsystem\n.", "..."),
    ],
)  # fmt: skip
def test_broken_and_hostile_streams(content, sentence):
    assert sentence in refused(content)


def storage(
    count: int = 4,
    *,
    announced: int | None = None,
    values: bytes = bytes(16),
    kind: str = "FloatStorage",
    little: bool = True,
    key: bytes = b"X\x01\x00\x00\x000",
    view: bytes = b"N",
) -> bytes:
    """A stored tensor's bytes, honest by default."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    system = pickle.dumps({"protocol_version": 1001, "little_endian": little}, 2)
    number = pickle.dumps(count, 2)[2:-1]
    name = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\n"
    body = b"\x80\x02" + name + key + b"X\x03\x00\x00\x00cpu" + number + view + b"tQ."
    keys = b"\x80\x02]" + b"X\x01\x00\x00\x000" + b"a."
    size = struct.pack("<q", count if announced is None else announced)
    return magic + pickle.dumps(1001, 2) + system + body + keys + size + values


def tensor(content: bytes, shape: tuple, strides: tuple, offset: Any = 0) -> bytes:
    load = PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
    parts = [pickle.dumps(part, 2)[2:-1] for part in (offset, shape, strides)]
    stored = pickle.dumps(content, 4)[2:-1]
    if stored[:1] == b"\x95":
        stored = stored[9:]
    memo = b"".join(parts)
    return load + stored.replace(b"\x94", b"") + b"\x85R" + memo + b"\x89}tR."


def test_an_honest_tensor_is_read():
    values = struct.pack("<4f", 1, 2, 3, 4)
    assert run(tensor(storage(values=values), (2, 2), (1, 2))).read().tolist() == [[1, 3], [2, 4]]
    assert run(tensor(storage(values=values), (0, 2), (2, 1), 4)).read().shape == (0, 2)
    assert run(tensor(storage(values=values), (), (), 3)).read().item() == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (tensor(storage(), (5,), (1,)), "does not fit its storage"),
        (tensor(storage(), (4,), (1,), 1), "does not fit its storage"),
        (tensor(storage(), (2, 2), (3, 1)), "does not fit its storage"),
        (tensor(storage(), (1 << 40,), (0,)), "does not fit its storage"),
        (tensor(storage(), (1 << 40, 1 << 40, 0), (0, 0, 0)), "an impossible shape"),
        (tensor(storage(), (-1,), (1,)), "no small tuple of counts"),
        (tensor(storage(), (2,), (-1,)), "no small tuple of counts"),
        (tensor(storage(), (1,) * 9, (1,) * 9), "no small tuple of counts"),
        (tensor(storage(), (2.0,), (1,)), "no small tuple of counts"),
        (tensor(storage(), (2, 2), (1,)), "do not fit its shape"),
        (tensor(storage(), (2,), (1,), -1), "do not fit its shape"),
        (tensor(storage(), (2,), (1,), True), "do not fit its shape"),
        (tensor(storage(1 << 40), (2,), (1,)), "announces"),
        (tensor(storage(1 << 50), (2,), (1,)), "malformed storage"),
        (tensor(storage(-4), (2,), (1,)), "malformed storage"),
        (tensor(storage(4, announced=5), (2,), (1,)), "announces"),
        (tensor(storage(values=bytes(15)), (2,), (1,)), "announces"),
        (tensor(storage(values=bytes(17)), (2,), (1,)), "announces"),
        (tensor(storage(little=False), (2,), (1,)), "big-endian"),
        (tensor(storage(key=b"X\xe9\x03\x00\x00" + b"0" * 1001), (2,), (1,)), "of more than 1000"),
        (tensor(storage(key=b"N"), (2,), (1,)), "malformed storage"),
        (tensor(storage(view=b"(NNNt"), (2,), (1,)), "a view of another"),
        (tensor(storage(kind="load"), (2,), (1,)), "asks for torch.load"),
        (tensor(b"PK\x03\x04", (2,), (1,)), "no pickle"),
        (tensor(pickle.dumps(Calls(os.system, "touch pwned"), 2), (2,), (1,)), "system"),
        (PROTO + b"ctorch.storage\n_load_from_bytes\nN\x85R.", "no bytes"),
        (PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.", "without a storage"),
        (PROTO + b"ctorch._utils\n_rebuild_parameter\n(NNNtR.", "no tensor"),
    ],
)  # fmt: skip
def test_lying_tensors(content, sentence):
    assert sentence in refused(content)


def hostile_structures() -> dict[str, bytes]:
    tuples = PROTO + b")" + b"\x94" + b"h\x00h\x00\x86\x94"
    for i in range(1, 200):
        tuples += b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94"
    lists = (
        PROTO
        + b"]\x94"
        + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(200))
    )
    return {
        "nested lists": PROTO + b"]" * 400_000 + b"a" * 399_999 + b".",
        "nested tuples": PROTO + b")" + b"\x85" * 400_000 + b".",
        "tuples of tuples as a key": tuples + b"}" + b"h\xc0" + b"Ns.",
        "lists of lists": lists + b".",
        "endless nothing": PROTO + b"N0" * 3_000_000 + b"N.",
        "marks": PROTO + b"(" * 1_000_000 + b".",
        "itself": PROTO + b"]\x94h\x00a.",
        "dictionary in itself": PROTO + b"}\x94\x8c\x01Gh\x00s.",
        "one dictionary many times": (
            PROTO
            + b"}(\x8c\x13training_set_kwargs](}\x94("
            + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(60_000))
            + b"u"
            + b"h\x00" * 30_000
            + b"eu."
        ),
        "copies": PROTO + b"N" + b"2" * 1_000_000 + b".",
    }


@pytest.mark.parametrize("name", sorted(hostile_structures()))
def test_structures_that_grow(name, tmp_path):
    """Each ends in seconds and in little memory, as a refusal."""
    path = tmp_path / "hostile.pkl"
    path.write_bytes(hostile_structures()[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        modules = read_snapshot(path).modules
    except DiganError as error:
        said, modules = str(error), {}
    else:
        said = ""
    assert modules == {}
    assert "\n" not in said
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000


def complaint(make: Any, argument: Any) -> tuple[Any, str]:
    """What a function makes, and its DiganError; any other exception comes out."""
    try:
        return make(argument), ""
    except DiganError as error:
        return None, str(error)


def state(**groups: Any) -> dict[str, Any]:
    return {"_parameters": {}, "_buffers": {}, "_modules": {}, **groups}


def test_modules_that_multiply(tmp_path):
    """One module under two names, 30 times over; a module in itself; 100 levels."""
    inner = Persistent("Layer", state(_parameters={"weight": torch.nn.Parameter(torch.zeros(1))}))
    for _ in range(30):
        inner = Persistent("Layer", state(_modules={"a": inner, "b": inner}))
    deep = Persistent("Layer", state())
    for _ in range(100):
        deep = Persistent("Layer", state(_modules={"a": deep}))
    for name, wrong, sentence in (
        ("many", inner, "more than 20000 members"),
        ("deep", deep, "more than 32 modules deep"),
        ("odd", Persistent("Layer", state(_parameters={"w": 3})), "w is no tensor"),
        ("odder", Persistent("Layer", state(_modules={"w": 3})), "w is no module"),
        ("list", Persistent("Layer", state(_buffers=[1])), "a _buffers that is no dictionary"),
        ("none", Persistent("Layer", None), "without a state"),
    ):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickled({"G": wrong}))
        with pytest.raises(DiganError, match=sentence):
            read_snapshot(path)
    within = Persistent("Layer", state())
    within.meta["state"]["_modules"]["again"] = torch.nn.Sequential()
    within.meta["state"]["_modules"]["again"].__dict__["_modules"]["and again"] = within
    path.write_bytes(pickled({"G": Persistent("Layer", {"_modules": {"a": 1}, "b": within})}))
    assert complaint(read_snapshot, path)[1]


def test_more_numbers_than_the_file_has_are_refused(tmp_path):
    """Views of one storage could announce any number of tensors: memory for nothing."""
    path = tmp_path / "shared.pkl"
    path.write_bytes(
        snapshot_bytes({"G_ema": module("Generator", export_state_dict(tiny_generator()), {})})
    )
    snapshot = read_snapshot(path)
    tensors = snapshot.module("G_ema").tensors
    largest = max((tensor.storage for tensor in tensors.values()), key=lambda held: held.count)
    for name, stored in tensors.items():
        if not name.endswith("resample_filter"):
            tensors[name] = dataclasses.replace(stored, storage=largest)
    assert import_generator(snapshot).config.resolution == 64
    size = 2 * sum(stored.count for name, stored in tensors.items() if "resample" not in name)
    with pytest.raises(DiganError, match="announces more numbers than the file has bytes for"):
        import_generator(dataclasses.replace(snapshot, size=size - 1))
