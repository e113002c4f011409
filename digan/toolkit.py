"""Where the CUDA toolkit is, or which part of it is missing; and the cards to compile for.

PyTorch's own finder answers None under a CPU build of PyTorch, and `nvcc` on PATH may be a
wrapper script that lies elsewhere than the toolkit, so the compiler itself is asked: the
output of `nvcc --dryrun` names its home in a line `#$ TOP=...`.

Imports the standard library only: the build loads this file by its path.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = Path("/usr/local/cuda")

# Code for each kind of card that differs, and PTX for cards to come.
DEFAULT_ARCHITECTURES = "8.0+PTX 8.6 8.9 9.0a 10.0 12.0+PTX"
OLDEST_ARCHITECTURE = 8.0  # the kernels' instructions: bfloat16 and asynchronous copies


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile, or the reason there is none.

    `reason` is None exactly when a kernel can be compiled. The other fields hold what was
    found before the search ended, for reports.
    """

    home: str | None = None
    nvcc: str | None = None
    version: str | None = None
    reason: str | None = None


def find_toolkit(
    environ: Mapping[str, str] | None = None, default_home: Path = DEFAULT_HOME
) -> Toolkit:
    """Looks in CUDA_HOME, CUDA_PATH, PATH and the default home, in this order.

    A CUDA_HOME that is set and wrong is reported, never passed over: whoever sets it wants
    that toolkit and no other.
    """
    env = os.environ if environ is None else environ
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if env.get(name):
            nvcc = Path(env[name]) / "bin" / "nvcc"
            if not _is_program(nvcc):
                return Toolkit(
                    home=env[name], reason=f"{name} is {env[name]}, which holds no program bin/nvcc"
                )
            return _examine(nvcc, Path(env[name]), env)
    on_path = shutil.which("nvcc", path=env.get("PATH", ""))
    if on_path is not None:
        return _examine(Path(on_path), None, env)
    if _is_program(default_home / "bin" / "nvcc"):
        return _examine(default_home / "bin" / "nvcc", default_home, env)
    return Toolkit(
        reason=f"no nvcc was found on PATH or in {default_home}, and CUDA_HOME is not set"
    )


def architectures(environ: Mapping[str, str] | None = None) -> list[str]:
    """What to compile for, as compilers name it: `sm_80`, `sm_90a`, and `compute_80` for PTX.

    TORCH_CUDA_ARCH_LIST as PyTorch reads it, numbers only; the default list if it is unset.
    Cards older than the kernels serve are passed over, as such lists are often made for others.

    Raises:
        ValueError: a name that is no number, or no card that the kernels serve.
    """
    env = os.environ if environ is None else environ
    listed = env.get("TORCH_CUDA_ARCH_LIST", "").strip() or DEFAULT_ARCHITECTURES
    code, ptx = [], []
    for item in re.split(r"[\s;,]+", listed):
        parts = re.fullmatch(r"([0-9]+)\.([0-9])([af]?)(\+PTX)?", item)
        if parts is None:
            raise ValueError(
                f"TORCH_CUDA_ARCH_LIST must hold numbers such as 8.0, 9.0a or 8.0+PTX, got {item!r}"
            )
        if float(f"{parts[1]}.{parts[2]}") < OLDEST_ARCHITECTURE:
            continue
        name = parts[1] + parts[2] + parts[3]
        code.append(f"sm_{name}")
        if parts[4]:
            ptx.append(f"compute_{name}")
    if not code:
        raise ValueError(
            f"TORCH_CUDA_ARCH_LIST must name a card of {OLDEST_ARCHITECTURE} or newer, "
            f"got {listed!r}"
        )
    return list(dict.fromkeys(code + ptx))


def left_out(built: Sequence[str]) -> list[str]:
    """What the default list has and a library with `built` has not."""
    return [name for name in architectures({}) if name not in built]


def serves(built: Sequence[str], major: int, minor: int) -> bool:
    """True if a library with `built` holds code that a card of this capability can run."""
    card = 10 * major + minor
    for name in built:
        kind, _, number = name.partition("_")
        if not number.isdigit():  # 90a and its like run on that one card
            runs = number[:-1] == str(card)
        elif kind == "sm":  # code runs on later cards of its generation, PTX on all later ones
            runs = int(number) // 10 == major and int(number) <= card
        else:
            runs = int(number) <= card
        if runs:
            return True
    return False


def _examine(nvcc: Path, home: Path | None, env: Mapping[str, str]) -> Toolkit:
    """Completes a toolkit from its compiler: home, version, headers, host compiler."""
    ran, printed = _output_of(nvcc, ["--version"], env)
    if not ran:
        return Toolkit(str(home) if home else None, str(nvcc), None, f"{nvcc} {printed}")
    found = re.search(r"release\s+([0-9]+\.[0-9]+)(?:,\s*V([0-9.]+))?", printed)
    version = (found[2] or found[1]) if found else None
    if version is None:
        return Toolkit(
            str(home) if home else None,
            str(nvcc),
            None,
            f"{nvcc} --version names no CUDA release",
        )
    home = home or _home_of(nvcc, env)
    reason = None
    if not _has_headers(home):
        reason = f"the CUDA toolkit in {home} has no header cuda_runtime.h"
    elif not _has_host_compiler(env):
        reason = "nvcc needs a host C++ compiler, and neither CXX, g++ nor clang++ is a program"
    return Toolkit(str(home), str(nvcc), version, reason)


def _home_of(nvcc: Path, env: Mapping[str, str]) -> Path:
    """The toolkit's folder as the compiler itself names it, else the one nvcc lies in."""
    # --dryrun only prints the steps: the file it is given need not exist.
    _, printed = _output_of(nvcc, ["--dryrun", "digan.cu"], env)
    top = re.search(r"^#\$ TOP=(.+)$", printed, re.MULTILINE)
    if top is not None and Path(top[1].strip()).is_dir():
        return Path(top[1].strip()).resolve()
    return nvcc.resolve().parent.parent


def _has_headers(home: Path) -> bool:
    # The last place is a distribution's own package, whose headers lie with the system's.
    places = [home / "include", *home.glob("targets/*/include"), home.parent.parent / "include"]
    return any((place / "cuda_runtime.h").is_file() for place in places)


def _has_host_compiler(env: Mapping[str, str]) -> bool:
    names = [env["CXX"].split()[0]] if env.get("CXX", "").strip() else ["g++", "clang++"]
    return any(shutil.which(name, path=env.get("PATH", "")) for name in names)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _output_of(program: Path, arguments: list[str], env: Mapping[str, str]) -> tuple[bool, str]:
    """(True, what it printed), or (False, what went wrong) for the end of a sentence."""
    try:
        done = subprocess.run(
            [str(program), *arguments],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "did not answer within 60 seconds"
    except OSError as error:
        return False, f"did not start: {error.strerror}"
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or ["no message"]
        return False, f"failed with status {done.returncode}: {lines[0]}"
    return True, done.stdout
