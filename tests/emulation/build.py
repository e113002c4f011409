"""Builds the emulator with a host C++ compiler, and runs the package's ops on it.

    from tests.emulation.build import emulated

    with emulated(seed=3) as controls:
        y = digan.ops.bias_act(x, ...)          # a CPU tensor: the kernels of csrc/*.cu, emulated
        print(controls.launches())

Libraries lie in build/emulation under a hash of all that went into them; a lock makes
concurrent test processes wait for one build.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csrc.build_library import TORCH_TARGET_VERSION

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FOLDER = ROOT / "build" / "emulation"
NAMESPACE = "digan_emulated"

EMULATOR = (
    "array_bounds.cpp",
    "async_copy.cpp",
    "bank_conflicts.cpp",
    "controls.cpp",
    "fiber.cpp",
    "launch.cpp",
    "mbarrier.cpp",
    "memory.cpp",
    "order.cpp",
    "schedule.cpp",
    "shared.cpp",
    "tensor_cores.cpp",
    "tma.cpp",
    "wgmma.cpp",
)
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class BuildError(RuntimeError):
    """The compiler's words."""


@dataclass(frozen=True)
class Library:
    """A Python module made of the emulator and what it runs."""

    name: str  # of the module
    sources: tuple[Path, ...]
    with_torch: bool = False
    optimise: str = "-O1"
    sanitized: bool = False  # a program in place of a module, watched by the compiler's sanitizers
    include: tuple[Path, ...] = field(default=(ROOT / "csrc", HERE))

    def inputs(self) -> list[Path]:
        """Every file that the library may be made of, headers too."""
        kinds = {".h", ".cuh", ".cu", ".cpp"}
        found = {p for folder in self.include for p in folder.rglob("*") if p.suffix in kinds}
        return sorted(found | set(self.sources))


def emulator_sources() -> tuple[Path, ...]:
    return tuple(HERE / name for name in EMULATOR)


def ops_library(csrc: Path = ROOT / "csrc") -> Library:
    """All kernels and bindings that are there."""
    kernels = sorted(csrc.glob("*.cu"))
    bindings = sorted(p for p in csrc.glob("binding/*.cpp") if p.name != "stream.cpp")
    sources = (*emulator_sources(), HERE / "library_module.cpp", *kernels, *bindings)
    return Library(NAMESPACE, sources, with_torch=True, include=(csrc, HERE))


def cases_library() -> Library:
    """The small kernels on which the emulator itself is tested."""
    return Library("emulator_cases", (*emulator_sources(), *sorted(HERE.glob("cases*.c[up]*"))))


def sanitized_driver(*names: str) -> Library:
    """The program of tests/sanitizers with the launchers of `names`, or with all of them."""
    folder, csrc = HERE.parent / "sanitizers", ROOT / "csrc"
    mains = [folder / f"{name}.cpp" for name in ("driver", *names)]
    kernels = [path for name in names for path in csrc.glob(f"{name}*.cu")]
    if not names:
        mains, kernels = list(folder.glob("*.cpp")), list(csrc.glob("*.cu"))
    # Instead of the emulator's own report of such indices there is the sanitizer's.
    emulator = [HERE / n for n in EMULATOR if n not in ("array_bounds.cpp", "controls.cpp")]
    sources = (*emulator, *sorted(mains), *sorted(kernels))
    return Library("sanitized_driver", sources, sanitized=True, include=(csrc, HERE, folder))


def compiler() -> list[str]:
    """CXX, which may hold arguments, else what is there."""
    wish = shlex.split(os.environ.get("CXX", ""))
    found = wish or [shutil.which("g++") or shutil.which("clang++") or "c++"]
    return found


def flags(library: Library) -> list[str]:
    """The arguments that every source of a library is compiled with."""
    if library.sanitized:
        return [
            *("-x", "c++", "-std=c++20", library.optimise, "-g1", "-ffp-contract=off"),
            *("-DDIGAN_EMULATED", *SANITIZERS, "-Wno-unknown-pragmas"),
            *(f"-I{folder}" for folder in library.include),
        ]
    import pybind11

    found = [
        *("-x", "c++", "-std=c++20", library.optimise, "-fPIC", "-fvisibility=hidden"),
        # One rounding per operation, as written: kernels that want an FMA say fma.
        *("-ffp-contract=off", "-DDIGAN_EMULATED", f"-DDIGAN_NAMESPACE={NAMESPACE}"),
        "-fsanitize=bounds",  # reported by array_bounds.cpp, without the compiler's library
        *("-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function"),
        *(f"-I{folder}" for folder in library.include),
        f"-isystem{pybind11.get_include()}",
        f"-isystem{sysconfig.get_paths()['include']}",
    ]
    if _is_gnu():
        found.append("-fno-gnu-unique")  # two such libraries in one process share nothing
    if library.with_torch:
        import torch

        found += [
            f"-isystem{Path(torch.__file__).parent / 'include'}",
            f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
        ]
    return found


@functools.cache
def _is_gnu() -> bool:
    text = subprocess.run(
        [*compiler(), "--version"], capture_output=True, text=True, check=False
    ).stdout
    return "Free Software Foundation" in text


def link_flags(library: Library) -> list[str]:
    if library.sanitized:
        return [*SANITIZERS]
    if not library.with_torch:
        return []
    import torch

    lib = Path(torch.__file__).parent / "lib"
    return [f"-L{lib}", "-ltorch_cpu", "-ltorch", "-Wl,--allow-shlib-undefined"]


def key_of(library: Library) -> str:
    """A hash of all that goes into a library."""
    digest = hashlib.sha256()
    for words in (compiler(), flags(library), link_flags(library)):
        digest.update("\0".join(words).encode())
    if library.sanitized:  # of a subset of the sources
        digest.update("\0".join(path.name for path in library.sources).encode())
    for path in library.inputs():
        place = next((f for f in library.include if path.is_relative_to(f)), path.parent)
        digest.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _escape(path: Path | str) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _command(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words).replace("$", "$$")


def object_name(library: Library, source: Path) -> str:
    """Sources of one name in two folders must not share an object."""
    place = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    return f"{library.name}/{source.name}.{place}.o"


def ninja_file(
    library: Library,
    output: Path,
    ready: dict[Path, Path] | None = None,
    changed: Path | None = None,
) -> str:
    """`ready` has the objects of sources that need not be compiled.

    Sources in the folder `changed` look there for headers first.
    """
    ready = ready or {}
    objects = {s: ready.get(s, Path(object_name(library, s))) for s in library.sources}
    compiler_words, compile_flags = _command(compiler()), _command(flags(library))
    link = _command([*compiler(), *([] if library.sanitized else ["-shared"])])
    lines = [
        "rule compile",
        f"  command = {compiler_words} $first {compile_flags} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = c++ $in",
        "rule link",
        f"  command = {link} $in {_command(link_flags(library))} -o $out",
        "  description = link $out",
    ]
    for source, made in objects.items():
        if source in ready:
            continue
        lines.append(f"build {_escape(made)}: compile {_escape(source)}")
        if changed is not None and source.is_relative_to(changed):
            lines.append(f"  first = {_command([f'-I{changed}'])}")
    lines.append(f"build {_escape(output)}: link {' '.join(map(_escape, objects.values()))}")
    lines.append(f"default {_escape(output)}\n")
    return "\n".join(lines)


def find_ninja() -> str:
    beside = Path(sys.executable).parent
    found = shutil.which("ninja") or shutil.which("ninja", path=str(beside))
    if found is None:
        raise BuildError("ninja is missing; pip install ninja")
    return found


def run_ninja(folder: Path, text: str, name: str, jobs: int | None = None) -> None:
    """Runs a build in `folder`.

    Raises:
        BuildError: with everything that the compilers said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / f"{name}.ninja"
    plan.write_text(text)
    command = [find_ninja(), "-C", str(folder), "-f", plan.name, "-k", "0"]
    command += [] if jobs is None else ["-j", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(done.stdout + done.stderr)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time builds in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(library: Library, folder: Path = FOLDER) -> Path:
    """The path of a library's shared object or program, compiled if it is not there yet."""
    suffix = "" if library.sanitized else ".so"
    output = folder / f"{library.name}-{key_of(library)}{suffix}"
    if output.exists():
        return output
    with locked(folder):
        if not output.exists():
            made = Path(f"{library.name}{suffix or '.out'}")
            run_ninja(folder, ninja_file(library, made), library.name, _jobs())
            # Copied and renamed, so that nobody sees half a file.
            half = output.with_suffix(".half")
            shutil.copy(folder / made, half)
            half.rename(output)
    return output


def _jobs() -> int | None:
    wish = os.environ.get("MAX_JOBS", "").strip()
    return int(wish) if wish.isdigit() and int(wish) > 0 else None


def load_module(name: str, path: Path) -> Any:
    """A Python extension module from its file."""
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@functools.cache
def load_cases() -> Any:
    """The module with the small kernels, and the emulator's controls."""
    return load_module("emulator_cases", build(cases_library()))


@functools.cache
def load_emulated(path: Path | None = None) -> Any:
    """Loads the emulated ops as `torch.ops.digan_emulated.*`; returns the emulator's controls."""
    import torch

    from digan import ops  # noqa: F401  (defines the schemas)

    controls = load_module(NAMESPACE, build(ops_library()) if path is None else path)
    definitions = torch.library.Library(NAMESPACE, "DEF")
    for name in emulated_ops():
        schema = str(getattr(torch.ops.digan, name).default._schema)
        definitions.define(schema.removeprefix("digan::"))
    controls.definitions = definitions  # they last as long as this
    return controls


def emulated_ops() -> list[str]:
    """The ops that the loaded library serves."""
    import torch

    prefix = NAMESPACE + "::"
    found = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))


def _router(name: str) -> Any:
    import torch

    def run(*args: Any) -> Any:
        return getattr(torch.ops.digan_emulated, name)(*args)

    return run


@contextlib.contextmanager
def emulated(
    seed: int = 0,
    only: Sequence[str] | None = None,
    library: Path | None = None,
    hopper: bool = False,
) -> Iterator[Any]:
    """While it lasts, `torch.ops.digan.*` on CPU tensors run the emulated kernels.

    Yields the controls: set_seed, launches, clear_launches, kernels, last_report. With `only`,
    other ops keep their formulas. `library` is one with planted faults; a process has one library.
    `hopper`: launchers take the path for cards of 9.0 where it serves a call.
    """
    import torch

    controls = load_emulated(library)
    controls.set_seed(seed)
    controls.set_hopper(hopper)
    controls.clear_launches()
    routes = torch.library.Library("digan", "IMPL", "CPU")
    try:
        for name in emulated_ops() if only is None else only:
            routes.impl(name, _router(name))
        yield controls
    finally:
        routes._destroy()


if __name__ == "__main__":
    print(build(cases_library() if "cases" in sys.argv else ops_library()))
