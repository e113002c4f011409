"""Compiles csrc/ into the one shared object that Python loads, digan/_native.so.

It is no Python extension module: it links neither libpython nor anything of one PyTorch, and
exists once for all of them. setup.py loads this file by its path; the standard library is all
it needs, besides the program ninja.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Files are listed one by one, so that a file missing from a source archive is an error and
# not a smaller library.
KERNELS = (
    "csrc/bias_act.cu",
    "csrc/bias_act_backward.cu",
    "csrc/coord_chain.cu",
    "csrc/coord_linear.cu",
    "csrc/coord_linear_backward.cu",
    "csrc/coord_linear_hopper.cu",
    "csrc/coord_linear_hopper_backward.cu",
    "csrc/factorized_modulation.cu",
    "csrc/factorized_modulation_backward.cu",
    "csrc/fir_resample.cu",
    "csrc/fourier_features.cu",
    "csrc/fourier_features_at.cu",
    "csrc/fourier_features_axes.cu",
    "csrc/fourier_features_backward.cu",
    "csrc/frames_to_uint8.cu",
    "csrc/modulated_linear.cu",
    "csrc/modulated_linear_backward.cu",
    "csrc/modulated_linear_hopper.cu",
    "csrc/modulated_linear_hopper_backward.cu",
    "csrc/modulated_linear_narrow.cu",
    "csrc/modulated_linear_narrow_backward.cu",
)
BINDINGS = (
    "csrc/binding/bias_act.cpp",
    "csrc/binding/coord_chain.cpp",
    "csrc/binding/coord_linear.cpp",
    "csrc/binding/factorized_modulation.cpp",
    "csrc/binding/fir_resample.cpp",
    "csrc/binding/fourier_features.cpp",
    "csrc/binding/fourier_features_at.cpp",
    "csrc/binding/frames_to_uint8.cpp",
    "csrc/binding/library.cpp",
    "csrc/binding/modulated_linear.cpp",
    "csrc/binding/stream.cpp",
)
HOPPER = "sm_90a"  # which sources with `_hopper` in their names are compiled for alone
TORCH_TARGET_VERSION = "0x020a000000000000ULL"  # 2.10, the oldest PyTorch that loads it
CURE = "mend that, or set DIGAN_BUILD_CUDA=0 to install as pure Python"


class BuildError(Exception):
    """One or two lines for people: what failed, where the log is, what to do."""


@dataclass(frozen=True)
class Tools:
    """What the build runs and reads, all of it found beforehand."""

    nvcc: str
    cuda_home: str
    torch: str  # PyTorch's folder
    ninja: str
    cxx: str  # may hold arguments, as CXX of the environment does


def find_ninja() -> str | None:
    """ninja on PATH, beside this Python, or in the package `ninja`."""
    spec = importlib.util.find_spec("ninja")
    places = list(spec.submodule_search_locations or []) if spec else []
    extra = [str(Path(sys.executable).parent), *(os.path.join(p, "data", "bin") for p in places)]
    return shutil.which("ninja") or shutil.which("ninja", path=os.pathsep.join(extra))


def find_torch() -> str | None:
    """PyTorch's folder, without importing it."""
    spec = importlib.util.find_spec("torch")
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent)


def find_cxx(environ: Mapping[str, str]) -> str:
    """The C++ compiler for the bindings, which nvcc is told to use too."""
    return environ.get("CXX", "").strip() or shutil.which("g++") or "clang++"


def jobs(environ: Mapping[str, str]) -> int:
    """MAX_JOBS, else the cores this process may use."""
    wish = environ.get("MAX_JOBS", "").strip()
    if not wish:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not wish.isdigit() or int(wish) < 1:
        raise BuildError(f"MAX_JOBS must be a positive integer, got {wish!r}")
    return int(wish)


def build(
    output: Path,
    folder: Path,
    tools: Tools,
    architectures: Sequence[str],
    version: str,
    environ: Mapping[str, str],
    kernels: Sequence[str] = KERNELS,
    bindings: Sequence[str] = BINDINGS,
) -> Path:
    """Builds the library `output`, with everything between in `folder`; returns the log.

    Files that did not change since the last build in the same folder are not compiled again.

    Raises:
        BuildError: a source is missing, or a compiler failed.
    """
    missing = [source for source in (*kernels, *bindings) if not (ROOT / source).is_file()]
    if missing:
        raise BuildError(f"{missing[0]} is missing from this source tree")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    plan = _ninja_file(folder, tools, architectures, version, kernels, bindings, jobs(environ))
    (folder / "build.ninja").write_text(plan)
    log = folder / "build.log"
    # -k 0: the log holds what is wrong with every file, not with the first alone.
    command = [tools.ninja, "-C", str(folder), "-k", "0", "-j", str(jobs(environ))]
    with open(log, "w") as file:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            check=False,
        )
    if done.returncode != 0:
        text = log.read_text(errors="replace")
        raise BuildError(f"{first_error(text)}\n(the whole log is {log}; {CURE})")
    # The log tells of every file, also of those that were compiled by an earlier call.
    with open(log, "a") as file:
        for source in (*kernels, *bindings):
            file.write((folder / f"{_object(source)}.log").read_text(errors="replace"))
    shutil.copyfile(folder / "_native.so", output)
    return log


def first_error(log: str) -> str:
    """The first line in which a compiler or the linker says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern in (
        r"\berror\b\s*(#\S+)?\s*:|\(\d+\): error\b",
        r"undefined reference|cannot find",
    ):
        for line in lines:
            if re.search(pattern, line) and not line.startswith("ninja:"):
                return line
    return next((line for line in reversed(lines)), "ninja failed without a message")


def _ninja_file(
    folder: Path,
    tools: Tools,
    architectures: Sequence[str],
    version: str,
    kernels: Sequence[str],
    bindings: Sequence[str],
    workers: int,
) -> str:
    home, torch = Path(tools.cuda_home), Path(tools.torch)
    include = [f"-I{ROOT / 'csrc'}"]
    cuda_include = [f"-isystem{place}" for place in _places(home, "include")]
    libraries = [f"-L{place}" for place in _places(home, "lib")]
    # -Werror is for the tests: a newer compiler's new warning must not stop an installation.
    warnings = ["-Wall", "-Wextra"]
    nvcc = [
        *(tools.nvcc, "-std=c++17", "-O3", "-Xptxas=-v", f"-ccbin={shlex.split(tools.cxx)[0]}"),
        *("-Xcompiler=-fPIC,-fvisibility=hidden", f"-Xcompiler={','.join(warnings)}"),
        f"--threads={max(1, workers // len(kernels))}",
        *include,
        *(["-DDIGAN_SM_90A"] if HOPPER in architectures else []),
    ]
    cxx = [
        *(*shlex.split(tools.cxx), "-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", *warnings),
        # No name of this machine's folders in the library; __FILE__ is in PyTorch's messages.
        *(f"-fmacro-prefix-map={ROOT}/=", f"-fmacro-prefix-map={torch}/="),
        f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
        f'-DDIGAN_VERSION="{version}"',
        f'-DDIGAN_ARCHITECTURES="{" ".join(architectures)}"',
        *(*include, f"-isystem{torch / 'include'}", *cuda_include),
    ]
    link = [
        # A symbol that this PyTorch lacks is an error at load, not at the first call.
        *(*shlex.split(tools.cxx), "-shared", "-Wl,-z,now", "-static-libstdc++"),
        # What comes from static libraries stays inside: others have their own copy.
        *("-Wl,--exclude-libs,ALL", "-Wl,--as-needed", "-Wl,--no-undefined", "-s"),
    ]
    after = [
        *(*libraries, f"-L{torch / 'lib'}", "-lcudart_static", "-ltorch_cpu", "-ldl", "-lrt"),
        # libtorch_cpu needs libraries that lie beside it, or that only its wheel can find.
        *("-lpthread", "-Wl,--allow-shlib-undefined"),
    ]
    # Without code for it the launchers are still there, in a library that never calls them.
    hopper = [HOPPER] if HOPPER in architectures else architectures
    compilers = {
        "nvcc": [*nvcc, *map(_gencode, architectures)],
        "nvcc_hopper": [*nvcc, *map(_gencode, hopper)],
        "cxx": cxx,
    }
    objects = {source: _object(source) for source in (*kernels, *bindings)}
    lines = [
        "ninja_required_version = 1.5",
        *(
            f"rule {rule}\n  command = {_logged(_command(compiler))}\n"
            f"  depfile = $out.d\n  deps = gcc\n  description = {rule} $in"
            for rule, compiler in compilers.items()
        ),
        f"rule link\n  command = {_command(link)} $in {_command(after)} -o $out",
        "  description = link $out",
    ]
    for source, made in objects.items():
        rule = "cxx" if source in bindings else "nvcc_hopper" if "_hopper" in source else "nvcc"
        lines.append(f"build {_path(made)}: {rule} {_path(str(ROOT / source))}")
    lines.append(f"build _native.so: link {' '.join(map(_path, objects.values()))}")
    lines.append("default _native.so\n")
    return "\n".join(lines)


def _logged(compiler: str) -> str:
    """A command whose output is kept beside its object, and shown where it fails."""
    said = "$out.log 2>&1 || { cat $out.log; exit 1; }"
    return f"{compiler} -MD -MF $out.d -c $in -o $out > {said}"


def _object(source: str) -> str:
    """`csrc/binding/bias_act.cpp` -> `binding/bias_act.cpp.o`."""
    return source.removeprefix("csrc/") + ".o"


def _gencode(name: str) -> str:
    """One -gencode for `sm_90a` (code) or `compute_80` (PTX)."""
    number = name.partition("_")[2]
    return f"-gencode=arch=compute_{number},code={name}"


def _places(home: Path, kind: str) -> list[Path]:
    """The toolkit's folders of headers or libraries that are there."""
    if kind == "include":
        places = [home / "include", *home.glob("targets/*/include")]
    else:
        places = [home / "lib64", *home.glob("targets/*/lib"), *home.glob("lib/*-linux-gnu")]
    return [place for place in places if place.is_dir()]


def _command(arguments: Sequence[str]) -> str:
    """Quoted for the shell, and then for ninja."""
    return " ".join(shlex.quote(argument) for argument in arguments).replace("$", "$$")


def _path(path: str) -> str:
    """A path as ninja's build lines want it."""
    return re.sub(r"([$ :])", r"$\1", path)
