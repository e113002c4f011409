"""Which path the original's own ops really take, and the building of its CUDA plugins.

Its ops fall back to slow formulas without a word once a plugin does not build or PyTorch is
newer than it knows, and a win over a fallback is no win over its kernels. So nothing is
concluded from versions here: the ops are watched while they run.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from digan.errors import DiganError

PLUGIN_OPS = ("bias_act", "upfirdn2d")
GRADFIX_OPS = ("conv2d_gradfix", "grid_sample_gradfix")
OPS = (*PLUGIN_OPS, *GRADFIX_OPS)
_MOST_OF_A_REASON = 200


def first_error(text: str) -> str:
    """The first line of a compiler's or PyTorch's output that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\berror\b\s*(#\w*)?:|\bfatal\b", line, re.I)]
    line = (telling or lines or ["no reason given"])[0]
    # Of `folder/file.cpp:2:18: error` the folder says nothing: it is gone with the build.
    return re.sub(r"\S+/(?=[\w.-]+[:(]\d)", "", line)[:_MOST_OF_A_REASON]


class Plugins:
    """The original's `custom_ops`, building outside of its checkout, once, and on new PyTorch.

    Its loader imports a plugin by name after PyTorch has loaded it, which newer bindings no
    longer make possible; and it starts a failed build anew at every call of an op.

    Args:
        custom_ops: the original's module.
        folder: where to build; None for a temporary folder that goes with this object.
    """

    def __init__(self, custom_ops: Any, folder: Path | None) -> None:
        self.failures: dict[str, str] = {}
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._loaded: dict[str, Any] = {}
        self._original = custom_ops.get_plugin
        custom_ops.get_plugin = self.get
        custom_ops.verbosity = "none"
        # What the module sees of PyTorch and of the import system, and nobody else.
        builder = importlib.import_module("torch.utils.cpp_extension")
        extension = _View(builder, load=self._load, _get_build_directory=self._place)
        custom_ops.torch = _View(torch, utils=_View(torch.utils, cpp_extension=extension))
        custom_ops.importlib = _View(importlib, import_module=self._import)

    def get(self, name: str, sources: list[str], **options: Any) -> Any:
        """The original's own `get_plugin`; a failure is remembered and raised again."""
        if name in self.failures:
            raise RuntimeError(self.failures[name])
        try:
            return self._original(name, sources=sources, **options)
        except Exception as error:
            self.failures[name] = first_error(str(error) or type(error).__name__)
            raise

    def _place(self, name: str, verbose: bool = False) -> str:
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="digan-official-")
            self._folder = Path(self._temporary.name)
        place = self._folder / name
        place.mkdir(parents=True, exist_ok=True)
        return str(place)

    def _load(self, name: str, sources: list[str], **options: Any) -> Any:
        builder = importlib.import_module("torch.utils.cpp_extension")
        options.update(build_directory=self._place(name), verbose=False)
        with _tools_beside_python():
            self._loaded[name] = builder.load(name=name, sources=sources, **options)
        return self._loaded[name]

    def _import(self, name: str) -> Any:
        return self._loaded[name] if name in self._loaded else importlib.import_module(name)


@contextmanager
def _tools_beside_python() -> Iterator[None]:
    """Lets ninja be found where it is installed in an environment that is not activated."""
    before = os.environ.get("PATH")
    folders = [before] if before else []
    os.environ["PATH"] = os.pathsep.join([*folders, str(Path(sys.executable).parent)])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = before


class _View:
    """A module with some of its names replaced, for one reader of it."""

    def __init__(self, original: Any, **names: Any) -> None:
        self._original = original
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class OpWatch:
    """Counts, while it is entered, the path of every call of the original's ops.

    Calls of a plugin itself are counted, forward and backward, not the intention to call it.

    Args:
        ops: the original's modules by name, those of `OPS`.
        plugins: for the reasons of failed builds.
    """

    def __init__(self, ops: dict[str, Any], plugins: Plugins) -> None:
        self._ops = ops
        self._plugins = plugins
        self._counts: Counter[tuple[str, str]] = Counter()
        self._reasons: dict[str, str] = {}
        self._replaced: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> OpWatch:
        if self._replaced:
            raise DiganError("a watch of the original's ops must be left before it is entered")
        for name in PLUGIN_OPS:
            op = self._ops[name]
            if getattr(op, "_plugin", None) is not None:
                self._replace(op, "_plugin", _Counted(op._plugin, self._counter(name, "plugin")))
            self._replace(op, f"_{name}_ref", self._watched_formula(name, op))
            self._replace(op, "_init", self._watched_start(name, op))
        for name in GRADFIX_OPS:
            op = self._ops[name]
            self._replace(op, "_should_use_custom_op", self._watched_choice(name, op))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module, name, original in reversed(self._replaced):
            setattr(module, name, original)
        self._replaced.clear()
        for name in PLUGIN_OPS:  # built while it was watched
            if isinstance(getattr(self._ops[name], "_plugin", None), _Counted):
                self._ops[name]._plugin = self._ops[name]._plugin.original

    def paths(self) -> dict[str, str]:
        """What was seen: for each op its path, with the reason where it is not its kernel."""
        return {name: self._path(name) for name in OPS}

    def _path(self, name: str) -> str:
        seen = {how: count for (op, how), count in self._counts.items() if op == name}
        reason = self._reasons.get(name, "no reason seen")
        words = {
            "plugin": "its CUDA plugin",
            "formula": f"its slow PyTorch fallback ({reason})",
            "custom": "its own autograd functions",
            "plain": reason,
        }
        if not seen:
            return "not called"
        if len(seen) == 1:
            return words[next(iter(seen))]
        parts = [f"{words[how]}, {count} calls" for how, count in sorted(seen.items())]
        return "both: " + "; ".join(parts)

    def _replace(self, module: Any, name: str, new: Any) -> None:
        self._replaced.append((module, name, getattr(module, name)))
        setattr(module, name, new)

    def _counter(self, name: str, how: str) -> Any:
        def count() -> None:
            self._counts[name, how] += 1

        return count

    def _watched_formula(self, name: str, op: Any) -> Any:
        formula = getattr(op, f"_{name}_ref")

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._counts[name, "formula"] += 1
            device = _device_of(args, kwargs)
            if device != "cuda":
                reason = f"its kernels are for CUDA, the tensors are on {device}"
            else:
                failure = self._plugins.failures.get(f"{name}_plugin")
                reason = f"its plugin did not build: {failure}" if failure else "by its own choice"
            self._reasons[name] = reason
            return formula(*args, **kwargs)

        return watched

    def _watched_start(self, name: str, op: Any) -> Any:
        start = op._init

        def watched() -> Any:
            ready = start()
            plugin = getattr(op, "_plugin", None)
            if plugin is not None and not isinstance(plugin, _Counted):
                op._plugin = _Counted(plugin, self._counter(name, "plugin"))
            return ready

        return watched

    def _watched_choice(self, name: str, op: Any) -> Any:
        choose = op._should_use_custom_op

        def watched(*args: Any) -> Any:
            op.warnings.last = None
            chosen = choose(*args)
            self._counts[name, "custom" if chosen else "plain"] += 1
            if not chosen:
                self._reasons[name] = _why_plain(op, args)
            return chosen

        return watched


class _Counted:
    """A plugin whose functions are counted when they are called."""

    def __init__(self, original: Any, count: Any) -> None:
        self.original = original
        self._count = count

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.original, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._count()
            return function(*args, **kwargs)

        return counted


class QuietWarnings:
    """In place of the module `warnings` in the original's ops: the last text, none printed.

    They warn at every call; printing it each time would be timed with them.
    """

    def __init__(self) -> None:
        self.last: str | None = None

    def warn(self, message: object, *_: object, **__: object) -> None:
        """Keeps the first line of the message."""
        self.last = str(message).partition("\n")[0]


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    found = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
    return found[0].device.type if found else "no device"


def _why_plain(op: Any, args: tuple[Any, ...]) -> str:
    device = _device_of(args, {})
    if op.warnings.last:
        return f"disabled on this PyTorch (it says: {op.warnings.last})"
    if not op.enabled:
        return "disabled (its switch `enabled` is off)"
    if device not in ("cuda", "no device"):
        return f"disabled off the GPU (the tensors are on {device})"
    return "disabled (its own test of PyTorch's settings)"
