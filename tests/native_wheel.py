"""A wheel with kernels, built once for all tests that look at it.

It has code for two cards, and in a soak for the whole default list. It is built in a folder of
build/ from a copy of the sources, and again only when a source, the
compiler or PyTorch is another; ninja compiles what changed. A lock makes parallel test workers
wait for one build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from digan.toolkit import DEFAULT_ARCHITECTURES, Toolkit, architectures

ROOT = Path(__file__).resolve().parent.parent
TWO_CARDS = "8.0 9.0a"


@dataclass(frozen=True)
class Built:
    """What the build left."""

    wheel: Path
    library: Path  # as it lies in the wheel
    architectures: tuple[str, ...]
    log: str = field(repr=False)  # of every compiler call

    @property
    def cards(self) -> tuple[str, ...]:
        """The cards that there is machine code for."""
        return tuple(name for name in self.architectures if name.startswith("sm_"))


def sources() -> list[Path]:
    """What a build reads, relative to the root."""
    files = [Path(name) for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")]
    files += [Path("THIRD_PARTY.md"), Path("MANIFEST.in")]
    for folder in ("csrc", "digan"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".so", ".pyc"):
                files.append(path.relative_to(ROOT))
    return files


def built_wheel(toolkit: Toolkit, whole: bool = False) -> Built:
    """Builds where it must, and returns what is there."""
    place = ROOT / "build" / ("native_test_whole" if whole else "native_test")
    listed = DEFAULT_ARCHITECTURES if whole else TWO_CARDS
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = hashlib.sha256(f"{toolkit.version} {torch.__version__} {listed}".encode())
        for path in sources():
            key.update(f"{path}\0".encode() + (ROOT / path).read_bytes())
        stamp = place / "stamp"
        if not stamp.is_file() or stamp.read_text() != key.hexdigest():
            stamp.unlink(missing_ok=True)
            _build(place, listed)
            stamp.write_text(key.hexdigest())
    (wheel,) = (place / "dist").glob("*.whl")
    log = (place / "tree" / "build" / "native" / "build.log").read_text()
    names = architectures({"TORCH_CUDA_ARCH_LIST": listed})
    return Built(wheel, place / "unpacked" / "digan" / "_native.so", tuple(names), log)


def copy_sources(tree: Path) -> None:
    """The sources in `tree`; a file that did not change keeps its time, as ninja goes by it."""
    wanted = set(sources())
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        relative = path.relative_to(tree)
        if relative not in wanted and relative.parts[0] != "build":
            path.unlink()
    for relative in sorted(wanted):
        content, target = (ROOT / relative).read_bytes(), tree / relative
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _build(place: Path, listed: str) -> None:
    tree, dist = place / "tree", place / "dist"
    copy_sources(tree)
    for old in [dist, place / "unpacked", *(tree / "build").glob("lib*")]:
        shutil.rmtree(old, ignore_errors=True)
    environ = {
        **os.environ,
        "DIGAN_BUILD_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": listed,
        "PIP_NO_INDEX": "1",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(dist)),
        ],
        cwd=tree,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        archive.extract("digan/_native.so", place / "unpacked")
