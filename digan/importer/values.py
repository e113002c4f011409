"""The globals that an official snapshot may name, and what each of them becomes.

Tensors stay where they are in the file's bytes, as `StoredTensor`, until they are asked for.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan.importer.pickles import Budget, Inert, Machine, Name, RefusedError, inert, scalar

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
MOST_AXES = 8
MOST_ELEMENTS = 1 << 40
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
# Type of elements in the file, and the one that its bits are seen as afterwards.
_STORAGES: dict[str, tuple[str, torch.dtype | None]] = {
    "FloatStorage": ("<f4", None),
    "DoubleStorage": ("<f8", None),
    "HalfStorage": ("<f2", None),
    "BFloat16Storage": ("<i2", torch.bfloat16),
    "LongStorage": ("<i8", None),
    "IntStorage": ("<i4", None),
    "ShortStorage": ("<i2", None),
    "CharStorage": ("<i1", None),
    "ByteStorage": ("<u1", None),
    "BoolStorage": ("<u1", None),
}
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
# Classes of which a snapshot keeps objects that no network needs for its numbers.
_INERT = (
    PERSISTENT,
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.ModuleDict",
    "torch.nn.modules.linear.Identity",
    "torch.distributions.beta.Beta",
    "torch.distributions.dirichlet.Dirichlet",
    "torch.device",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
)
_NAMES_ONLY = ("typing.Any", "torch.float16", "torch.float32", "torch.float64", "torch.int64")


@dataclass(frozen=True, eq=False)
class StoredTensors:
    """Elements of one type in the bytes of a file."""

    content: bytes
    start: int
    count: int
    kind: str


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read yet; everything about it is proven to fit."""

    storage: StoredTensors
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.storage.kind in ("FloatStorage", "DoubleStorage", "HalfStorage") or (
            self.storage.kind == "BFloat16Storage"
        )

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def read(self) -> Tensor:
        """A contiguous copy."""
        code, seen_as = _STORAGES[self.storage.kind]
        dtype = np.dtype(code)
        flat = np.frombuffer(self.storage.content, dtype, self.storage.count, self.storage.start)
        strides = [step * dtype.itemsize for step in self.strides]
        # Of no elements the offset may lie at the end, where a view would be out of bounds.
        first = flat[self.offset :] if self.count else flat[:0]
        view = np.lib.stride_tricks.as_strided(first, self.shape, strides)
        tensor = torch.from_numpy(view.astype(dtype.newbyteorder("=")).copy(order="C"))
        return tensor if seen_as is None else tensor.view(seen_as)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_ELEMENTS


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > MOST_AXES or not all(map(_is_count, values)):
        raise RefusedError("it has a tensor whose shape or strides are no small tuple of counts")
    return values


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """`torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)`."""
    if len(arguments) < 4 or not isinstance(arguments[0], StoredTensors):
        raise RefusedError("it has a tensor without a storage")
    storage, offset = arguments[:2]
    shape, strides = _counts(arguments[2]), _counts(arguments[3])
    if len(shape) != len(strides) or not _is_count(offset):
        raise RefusedError("it has a tensor whose strides or offset do not fit its shape")
    if math.prod(max(n, 1) for n in shape) > MOST_ELEMENTS:
        raise RefusedError("it has a tensor of an impossible shape")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    # More elements than the storage has would be one element many times: memory for nothing.
    if count > storage.count or (count and last >= storage.count):
        raise RefusedError(
            f"it has a tensor that does not fit its storage of {storage.count} elements"
        )
    return StoredTensor(storage, offset, shape, strides)


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    """`torch._utils._rebuild_parameter(tensor, requires_grad, hooks)`."""
    if not arguments or not isinstance(arguments[0], StoredTensor):
        raise RefusedError("it has a parameter that is no tensor")
    return arguments[0]


def _dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An empty dictionary of whatever class; its entries follow by instructions."""
    if arguments and not all(isinstance(value, Name) for value in arguments):
        raise RefusedError("it makes a dictionary of arguments")
    return {}


def _set(arguments: tuple[Any, ...]) -> set[Any]:
    values = arguments[0] if arguments else []
    # A long list could be made a set again and again at the price of one instruction.
    if len(arguments) > 1 or not isinstance(values, list) or len(values) > MOST_AXES:
        raise RefusedError("it makes a set of something that is no short list")
    return {scalar(value) for value in values}


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    if len(arguments) != 1:
        raise RefusedError("it has a torch.Size of no shape")
    return _counts(arguments[0])


def _dtype(arguments: tuple[Any, ...]) -> Inert:
    """`numpy.dtype(code, ...)`: only codes of numbers."""
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or code not in _NUMBERS:
        raise RefusedError("it has a numpy.dtype that is no number's")
    return Inert("numpy.dtype", (code,))


def _number(arguments: tuple[Any, ...]) -> int | float | bool:
    """`numpy.core.multiarray.scalar(dtype, bytes)` as a number of Python."""
    if len(arguments) != 2 or not isinstance(arguments[0], Inert):
        raise RefusedError("it has a scalar of numpy without a type")
    kind, content = arguments
    if kind.name != "numpy.dtype" or not isinstance(content, bytes):
        raise RefusedError("it has a scalar of numpy whose content is no bytes")
    state = kind.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if not isinstance(order, str) or order not in ("<", ">", "|", "="):
        raise RefusedError("it has a scalar of numpy in no known byte order")
    dtype = np.dtype(kind.arguments[0]).newbyteorder("<" if order in "|=" else order)
    if len(content) != dtype.itemsize:
        raise RefusedError("it has a scalar of numpy of another size than its type")
    value: int | float | bool = np.frombuffer(content, dtype)[0].item()
    return value


def _read_storage(content: bytes, budget: Budget) -> StoredTensors:
    """The storage in PyTorch's legacy format: five pickles, then counts and elements."""
    source = io.BytesIO(content)

    def storage(key: Any) -> Inert:
        if not isinstance(key, tuple) or len(key) != 6 or key[0] != "storage":
            raise RefusedError("a stored tensor has a persistent id that is no storage's")
        _, kind, name, _, count, view = key
        if not isinstance(kind, Name) or not isinstance(name, str) or not _is_count(count):
            raise RefusedError("a stored tensor has a malformed storage")
        if view is not None:
            raise RefusedError("a stored tensor is a view of another storage")
        return Inert("storage", (kind.name, name, count))

    def part(persistent: Any = None) -> Any:
        return Machine(source, _STORAGE_NAMES, budget, persistent, 1000).run()

    magic, protocol, system = part(), part(), part()
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or not isinstance(system, dict):
        raise RefusedError("a stored tensor is not in the format of PyTorch")
    if system.get("little_endian") is not True:
        raise RefusedError("a stored tensor has its bytes in big-endian order")
    found, keys = part(storage), part()
    if not isinstance(found, Inert) or found.name != "storage":
        raise RefusedError("a stored tensor holds something else than a storage")
    name, key, count = found.arguments
    if not isinstance(keys, list) or len(keys) != 1 or keys[0] != key:
        raise RefusedError("a stored tensor does not hold one storage")
    kind = name.removeprefix("torch.")
    start = source.tell() + 8
    announced = int.from_bytes(content[start - 8 : start], "little")
    size = np.dtype(_STORAGES[kind][0]).itemsize * count
    if announced != count or start + size != len(content):
        raise RefusedError(
            f"a stored tensor announces {count} elements and holds {max(len(content) - start, 0)} "
            "bytes"
        )
    return StoredTensors(content, start, count, kind)


_STORAGE_NAMES = {f"torch.{kind}": Name(f"torch.{kind}") for kind in _STORAGES}


def snapshot_names(budget: Budget) -> dict[str, Name]:
    """The table for an official snapshot."""

    def load(arguments: tuple[Any, ...]) -> StoredTensors:
        if len(arguments) != 1 or not isinstance(arguments[0], bytes):
            raise RefusedError("it has a stored tensor that is no bytes")
        return _read_storage(arguments[0], budget)

    names = [
        Name("torch.storage._load_from_bytes", load),
        Name("torch._utils._rebuild_tensor_v2", _tensor),
        Name("torch._utils._rebuild_tensor", _tensor),
        Name("torch._utils._rebuild_parameter", _parameter),
        Name("torch.Size", _size),
        Name("numpy.dtype", _dtype),
        Name("numpy.core.multiarray.scalar", _number),
        Name("numpy._core.multiarray.scalar", _number),
        Name("collections.OrderedDict", _dictionary),
        Name("collections.defaultdict", _dictionary),
        Name("dnnlib.util.EasyDict", _dictionary),
        *[Name(f"{module}.dict", _dictionary) for module in ("builtins", "__builtin__")],
        *[Name(f"{module}.set", _set) for module in ("builtins", "__builtin__")],
        *map(inert, _INERT),
        *map(Name, _NAMES_ONLY),
    ]
    return {name.name: name for name in names}
