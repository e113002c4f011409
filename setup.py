"""The build: the package with its native library, or a pure Python one.

Everything static is in pyproject.toml, the compiling in csrc/build_library.py. This file only
decides whether the CUDA kernels are compiled, and says why when they are not.
`DIGAN_BUILD_CUDA` asks for it: `auto` (default) compiles what can be compiled, `1` makes
anything else an error, `0` never compiles. PyTorch is no build requirement: its headers are
those of the one that is installed, by `pip install --no-build-isolation .`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def load(path: str) -> ModuleType:
    """A file of this tree by its path, because importing `digan` needs it installed."""
    name = "digan_build_" + Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look it up
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def obstacle(environ: Mapping[str, str]) -> str | None:
    """The first thing that keeps the kernels from being compiled, or None."""
    builder = load("csrc/build_library.py")
    reason: str | None = load("digan/toolkit.py").find_toolkit(environ).reason
    if reason is not None:
        return reason
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "they are built for Linux on x86-64 only"
    if builder.find_torch() is None:
        return "PyTorch cannot be imported here, so build with pip install --no-build-isolation"
    if builder.find_ninja() is None:
        return "ninja is not installed; pip install ninja"
    return None


def choose(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Whether to compile under DIGAN_BUILD_CUDA, and one sentence to print ("" for none)."""
    mode = environ.get("DIGAN_BUILD_CUDA", "auto").strip().lower() or "auto"
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"digan: DIGAN_BUILD_CUDA must be auto, 1 or 0, got {mode!r}")
    if mode == "0":
        return False, ""
    why = obstacle(environ)
    if why is None:
        return True, ""
    if mode == "1":
        raise SystemExit(
            f"digan: DIGAN_BUILD_CUDA=1 asks for CUDA kernels, but {why};"
            " mend that, or unset DIGAN_BUILD_CUDA to install as pure Python"
        )
    return False, f"digan: installing as pure Python, because {why}"


class BuildLibrary(build_ext):
    """`build_ext` that makes digan/_native.so, which is loaded and never imported."""

    def get_ext_filename(self, fullname: str) -> str:
        """No tag of one Python in the name."""
        return fullname.replace(".", os.sep) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compiles with every setting taken from the environment."""
        builder, toolkit = load("csrc/build_library.py"), load("digan/toolkit.py")
        found = toolkit.find_toolkit()
        tools = builder.Tools(
            nvcc=found.nvcc,
            cuda_home=found.home,
            torch=builder.find_torch(),
            ninja=builder.find_ninja(),
            cxx=builder.find_cxx(os.environ),
        )
        output, folder = Path(self.get_ext_fullpath(ext.name)), ROOT / "build" / "native"
        version = load("digan/_version.py").__version__
        try:
            names = toolkit.architectures()
            print(f"digan: compiling the kernels for {' '.join(names)}", flush=True)
            builder.build(output, folder, tools, names, version, os.environ)
        except (builder.BuildError, ValueError) as error:
            raise SystemExit(f"digan: {error}") from None


class LibraryWheel(bdist_wheel):
    """A wheel with the library serves every Python on one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """py3-none-linux_x86_64 with the library, py3-none-any without."""
        tag: tuple[str, str, str] = super().get_tag()
        return ("py3", "none", tag[2])


def arguments(compiles: bool) -> dict[str, Any]:
    """What setup() is given."""
    commands = {"build_ext": BuildLibrary, "bdist_wheel": LibraryWheel}
    library = Extension("digan._native", sources=[])
    return {"cmdclass": commands, "ext_modules": [library] if compiles else []}


if __name__ == "__main__":
    compiles, sentence = choose(os.environ)
    # One build runs this file several times; the sentence belongs to the run that builds.
    if sentence and {"bdist_wheel", "editable_wheel"} & set(sys.argv):
        print(sentence)
    setup(**arguments(compiles))
