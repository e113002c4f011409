"""The build: a pure Python wheel wherever no kernel can be compiled.

Everything static is in pyproject.toml. This file only decides whether CUDA kernels are
compiled, and says why when they are not. `DIGAN_BUILD_CUDA` asks for it: `auto` (default)
compiles what can be compiled, `1` makes anything else an error, `0` never compiles.
PyTorch is no build requirement: kernels are built against the one that is installed, by
`pip install --no-build-isolation .`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent

# The extensions made of csrc/. Files are listed one by one, so that a file missing from a
# source archive is an error and not a smaller library.
KERNELS: Sequence[Extension] = ()


def load_toolkit_module() -> ModuleType:
    """digan/toolkit.py by its path, because importing `digan` needs it installed."""
    spec = importlib.util.spec_from_file_location("digan_toolkit", ROOT / "digan" / "toolkit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def obstacle(kernels: Sequence[Extension], environ: Mapping[str, str]) -> str | None:
    """The first thing that keeps the kernels from being compiled, or None."""
    if not kernels:
        return "this version of digan has no CUDA kernels to compile"
    reason: str | None = load_toolkit_module().find_toolkit(environ).reason
    if reason is not None:
        return reason
    if importlib.util.find_spec("torch") is None:
        return "PyTorch cannot be imported here, so build with pip install --no-build-isolation"
    return None


def choose_extensions(
    kernels: Sequence[Extension], environ: Mapping[str, str]
) -> tuple[list[Extension], str]:
    """What to compile under DIGAN_BUILD_CUDA, and one sentence to print ("" for none)."""
    mode = environ.get("DIGAN_BUILD_CUDA", "auto").strip().lower() or "auto"
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"digan: DIGAN_BUILD_CUDA must be auto, 1 or 0, got {mode!r}")
    if mode == "0":
        return [], ""
    why = obstacle(kernels, environ)
    if why is None:
        return list(kernels), ""
    if mode == "1":
        raise SystemExit(
            f"digan: DIGAN_BUILD_CUDA=1 asks for CUDA kernels, but {why};"
            " mend that, or unset DIGAN_BUILD_CUDA to install as pure Python"
        )
    return [], f"digan: installing as pure Python, because {why}"


if __name__ == "__main__":
    extensions, sentence = choose_extensions(KERNELS, os.environ)
    # One build runs this file several times; the sentence belongs to the run that builds.
    if sentence and {"bdist_wheel", "editable_wheel"} & set(sys.argv):
        print(sentence)
    setup(ext_modules=extensions)
