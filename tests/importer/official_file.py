"""Files of the official form, written from state dicts: persistence pickles without its source.

Nothing of the original is here: stand-ins pickle to the same globals in the same structure.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

BUFFERS = ("resample_filter", "w_avg")
CONTAINERS = {"motion_mlp": nn.Sequential, "extra_convs": nn.ModuleList}
SOURCE = "raise SystemExit('the code of the file was run')"


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("the pickle was loaded by Python")


def scalar(dtype: Any, content: bytes) -> Any:
    raise AssertionError("the pickle was loaded by Python")


class EasyDict(dict):
    """A dictionary; the original's has attributes too."""


class ContainerMetadata:
    """What OmegaConf knows about a container."""

    def __init__(self) -> None:
        self.ref_type: Any = Any
        self.object_type: Any = dict
        self.optional = True
        self.flags: dict[str, bool] = {}


class Metadata:
    """What OmegaConf knows about a value."""

    def __init__(self) -> None:
        self.ref_type: Any = Any
        self.object_type = None
        self.optional = True
        self.flags: dict[str, bool] = {}


class AnyNode:
    """A value of OmegaConf."""

    def __init__(self, value: Any, parent: Any) -> None:
        self._metadata = Metadata()
        self._parent = parent
        self._val = value


class DictConfig:
    """A container of OmegaConf, with its way up."""

    def __init__(self, content: Mapping[str, Any], parent: Any = None) -> None:
        self._metadata = ContainerMetadata()
        self._parent = parent
        self._content = {
            key: DictConfig(value, self) if isinstance(value, dict) else AnyNode(value, self)
            for key, value in content.items()
        }


class OldScalar:
    """A number of numpy as numpy 1 wrote it."""

    def __init__(self, value: np.generic) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return scalar, (self.value.dtype, self.value.tobytes())


class Persistent:
    """A module whose class was decorated by the original's persistence."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.meta = EasyDict(
            type="class", version=6, module_src=SOURCE, class_name=class_name, state=state
        )

    def __reduce__(self) -> Any:
        return _reconstruct_persistent_obj, (self.meta,), None


_PLACES: dict[str, list[Any]] = {
    "torch_utils.persistence": [_reconstruct_persistent_obj],
    "dnnlib.util": [EasyDict],
    "omegaconf.base": [ContainerMetadata, Metadata],
    "omegaconf.nodes": [AnyNode],
    "omegaconf.dictconfig": [DictConfig],
    "numpy.core.multiarray": [scalar],
}


@contextmanager
def pretended_modules() -> Iterator[None]:
    """The modules under whose names the stand-ins pickle."""
    modules: dict[str, types.ModuleType] = {}
    for name, things in _PLACES.items():
        for i in range(1, len(name.split(".")) + 1):
            part = ".".join(name.split(".")[:i])
            if not part.startswith("numpy") or part == name:
                modules.setdefault(part, types.ModuleType(part))
        for thing in things:
            thing.__module__ = name
            setattr(modules[name], thing.__name__, thing)
    with mock.patch.dict(sys.modules, modules):
        yield


def _state(tensors: Mapping[str, Tensor], arguments: Any) -> dict[str, Any]:
    """A module's state: its own tensors, and modules for the names with dots."""
    own: dict[str, OrderedDict[str, Any]] = {
        group: OrderedDict() for group in ("_parameters", "_buffers", "_modules")
    }
    inner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = tensor
        elif name in BUFFERS:
            own["_buffers"][name] = tensor.clone()
        else:
            own["_parameters"][name] = nn.Parameter(tensor.clone())
    own["_parameters"]["nothing"] = None
    for name, parts in inner.items():
        if name in CONTAINERS:
            kind = CONTAINERS[name]
            module = kind.__new__(kind)
            module.__dict__.update(_state(parts, None))
            own["_modules"][name] = module
        else:
            own["_modules"][name] = Persistent("Layer", _state(parts, EasyDict()))
    state = {
        "training": False,
        **own,
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_forward_hooks": OrderedDict(),
    }
    if arguments is not None:
        state |= {"_init_args": (), "_init_kwargs": arguments, "gain": OldScalar(np.float64(0.5))}
    return state


def module(
    class_name: str, tensors: Mapping[str, Tensor], arguments: dict[str, Any] | None = None
) -> Persistent:
    """A network with these tensors by official names."""
    given = EasyDict(arguments or {})
    if "cfg" in given:
        given["cfg"] = DictConfig(given["cfg"])
    state = _state(tensors, given)
    state["times"] = torch.distributions.Beta(torch.tensor(2.0), torch.tensor(1.0))
    state["shape"] = torch.Size([3, 4])
    state["counts"] = defaultdict(dict, a={})
    return Persistent(class_name, state)


def pickled(value: Any, protocol: int = 4) -> bytes:
    """The bytes of a file."""
    with pretended_modules():
        return pickle.dumps(value, protocol)


def snapshot_bytes(
    networks: Mapping[str, Persistent],
    data: dict[str, Any] | None = None,
    protocol: int = 4,
) -> bytes:
    """A whole snapshot."""
    content = {"training_set_kwargs": EasyDict(data or {}), "augment_pipe": None, **networks}
    return pickled(content, protocol)


def write(path: Path, networks: Mapping[str, Persistent], **options: Any) -> Path:
    """A whole snapshot as a file."""
    path.write_bytes(snapshot_bytes(networks, **options))
    return path
