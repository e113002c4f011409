"""Official snapshots: what is in the file, as names, stored tensors and plain arguments.

A snapshot is a pickled dictionary of modules. Each is a call of
`torch_utils.persistence._reconstruct_persistent_obj` on a dictionary with the module's source
code, which is never looked at, and its state, from which the tensors are taken.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from digan.errors import DiganError
from digan.importer.pickles import Budget, Inert, Machine, RefusedError, printable
from digan.importer.values import PERSISTENT, StoredTensor, snapshot_names

MOST_MEMBERS = 20_000
MOST_DEPTH = 32


@dataclass(frozen=True, eq=False)
class OfficialModule:
    """A network of a snapshot."""

    name: str
    """Its entry in the snapshot, as G_ema."""
    class_name: str
    arguments: dict[str, Any]
    """What its constructor was given, as plain values; what is not plain is None."""
    tensors: dict[str, StoredTensor]
    """Parameters and buffers by their official names."""


@dataclass(frozen=True, eq=False)
class OfficialSnapshot:
    """An official snapshot that was read without running its code."""

    path: Path
    size: int
    """Bytes of the file."""
    modules: dict[str, OfficialModule]
    data: dict[str, Any]
    """The arguments of its training set."""

    def module(self, name: str) -> OfficialModule:
        """One of its networks. Raises DiganError if it has none of this name."""
        if name not in self.modules:
            have = ", ".join(map(printable, sorted(self.modules)[:8])) or "none"
            raise DiganError(f"{self.path} has no network {name}, it has {have}")
        return self.modules[name]


def read_snapshot(path: Path) -> OfficialSnapshot:
    """Reads an official snapshot (.pkl). No code of the file runs, whatever the file holds.

    Only tensors, numbers, texts and plain containers are ever built; work and memory are
    bounded by the size of the file.

    Raises:
        DiganError: the file cannot be read, is no such pickle, is truncated, or asks for a
            global that no snapshot needs, which is named.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            budget = Budget()
            value = Machine(view, snapshot_names(budget), budget).run()
            return _snapshot(path, len(view), value)
    except RefusedError as error:
        raise DiganError(f"{path} is refused: {error}") from error
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # of mmap
        raise DiganError(f"{path} is refused: it is empty") from error


def _snapshot(path: Path, size: int, value: Any) -> OfficialSnapshot:
    if not isinstance(value, dict):
        raise RefusedError("it holds no dictionary of networks")
    members = _Count()
    modules = {}
    for name, entry in value.items():
        if isinstance(name, str) and isinstance(entry, Inert) and entry.name == PERSISTENT:
            class_name, state = _persistent(entry)
            # An augmentation pipe is persistent too, but no module of ours.
            tensors = dict(_tensors(state, "", 0, members))
            arguments = plain(state.get("_init_kwargs"))
            modules[name] = OfficialModule(
                printable(name), class_name, arguments if isinstance(arguments, dict) else {},
                tensors,
            )  # fmt: skip
    data = plain(value.get("training_set_kwargs"))
    return OfficialSnapshot(path, size, modules, data if isinstance(data, dict) else {})


class _Count:
    """Members seen: one module under many names would otherwise multiply without end."""

    def __init__(self) -> None:
        self.left = MOST_MEMBERS

    def one(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RefusedError(f"its networks have more than {MOST_MEMBERS} members")


def _persistent(entry: Inert) -> tuple[str, dict[Any, Any]]:
    """Class and state of a call of `_reconstruct_persistent_obj`."""
    meta = entry.arguments[0] if len(entry.arguments) == 1 else None
    state = meta.get("state") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(state, dict):
        raise RefusedError("it has a persistent object without a state")
    name = meta.get("class_name")
    return printable(name) if isinstance(name, str) else "", state


def _state_of(module: Any) -> dict[Any, Any] | None:
    """The state of a submodule, a persistent one or one of PyTorch's."""
    if not isinstance(module, Inert):
        return None
    state = _persistent(module)[1] if module.name == PERSISTENT else module.state
    return state if isinstance(state, dict) else None


def _tensors(
    state: dict[Any, Any], prefix: str, depth: int, members: _Count
) -> Iterator[tuple[str, StoredTensor]]:
    """Names and tensors of a module's state, its submodules included."""
    if depth > MOST_DEPTH:
        raise RefusedError(f"its networks are more than {MOST_DEPTH} modules deep")
    for group in ("_parameters", "_buffers", "_modules"):
        entries = state.get(group)
        if entries is None:
            continue
        if not isinstance(entries, dict):
            raise RefusedError(f"a module of it has a {group} that is no dictionary")
        for name, entry in entries.items():
            members.one()
            if not isinstance(name, str) or len(name) > 200:
                raise RefusedError("a module of it has a member without a proper name")
            if entry is None:
                continue
            if group != "_modules":
                if not isinstance(entry, StoredTensor):
                    raise RefusedError(f"{printable(prefix + name)} is no tensor")
                yield prefix + name, entry
                continue
            inner = _state_of(entry)
            if inner is None:
                raise RefusedError(f"{printable(prefix + name)} is no module")
            yield from _tensors(inner, f"{prefix}{name}.", depth + 1, members)


def plain(value: Any) -> Any:
    """Dictionaries, lists, numbers and texts of a value; nodes of OmegaConf become those.

    Everything else becomes None, as does what is nested too deeply or is too much.
    """
    return _plain(value, 0, [MOST_MEMBERS])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > MOST_DEPTH or left[0] < 0:
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {
            key: _plain(item, depth + 1, left)
            for key, item in islice(value.items(), max(left[0], 0))
            if isinstance(key, str)
        }
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1, left) for item in value[: max(left[0], 0)]]
    if isinstance(value, Inert) and value.name.startswith("omegaconf."):
        state = value.state if isinstance(value.state, dict) else {}
        inner = state.get("_content", state.get("_val"))
        return _plain(inner, depth + 1, left)
    return None


__all__ = ["OfficialModule", "OfficialSnapshot", "read_snapshot"]
