"""Where the CUDA toolkit is, or which part of it is missing.

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = Path("/usr/local/cuda")


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
