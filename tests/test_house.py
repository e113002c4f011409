"""The rules of the house: who may import whom, names, sizes, and no trace of a machine.

Each rule is a function from a file's text to a list of complaints. It is tried on a sample
that breaks it, so that a rule that can no longer fail is noticed, and on every file.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 449
IGNORED_FOLDERS = {"runs", "build", "dist", "shared", "__pycache__", "node_modules"}
HIDDEN_FOLDERS = {".ci", ".github"}
VAGUE_NAMES = {"utils", "util", "misc", "helpers", "helper", "common"}

# What each room of the package may import of the package, itself always included. A room is
# a folder or a file of digan/. Everything points one way: ops -> nn -> training, synthesis,
# metrics -> cli; data stands beside them and knows neither nn nor training.
BASE = {"", "_version", "errors", "formats", "randomness"}
MODEL = BASE | {"ops", "grid", "config", "nn"}
FRAMES = MODEL | {"data", "synthesis", "metrics"}
SHOW = FRAMES | {"training", "files", "importer", "info", "showcase"}
MAY_IMPORT: dict[str, set[str]] = {
    "": {"_version"},
    "_version": set(),
    "errors": set(),
    "formats": set(),
    "toolkit": set(),
    "randomness": {"errors"},
    "files": {"errors"},
    "ranges": {"errors"},
    "pulse": set(),
    "processes": {"errors", "pulse"},
    "native": {"_version", "toolkit"},
    "plotting": {"errors"},
    "ops": {"native"},
    "grid": BASE,
    "config": BASE | {"grid"},
    "execution": BASE | {"ops", "config"},
    "nn": BASE | {"ops", "grid", "config", "files"},
    "data": BASE | {"config"},
    "synthesis": MODEL | {"data"},
    "metrics": MODEL | {"data", "synthesis", "files", "processes"},
    "watching": BASE | {"data", "files", "showcase"},
    "training": FRAMES | {"execution", "files", "processes", "watching"},
    "generate": FRAMES | {"execution", "files", "ranges", "processes"},
    "bench": FRAMES
    | {"training", "execution", "files", "generate", "info", "plotting", "processes"},
    "inspection": FRAMES | {"execution", "files", "plotting"},
    "inversion": MODEL | {"data", "synthesis", "files", "plotting"},
    "importer": MODEL | {"files"},
    "info": BASE | {"ops", "toolkit", "native"},
    "showcase": FRAMES | {"_version", "generate", "files", "inversion"},
    "explore": FRAMES,
    "demo": SHOW | {"generate", "demo_page", "files"},
    "demo_page": {"errors", "files", "data", "showcase", "watching"},
    "cli": BASE,
    "verbs": SHOW
    | {"bench", "cli", "info", "explore", "demo", "generate", "execution", "ranges"}
    | {"inspection", "inversion", "files", "processes", "watching"},
    "__main__": {"cli"},
}
# Rooms that others take out of the house: nothing beyond the standard library and these.
OUTSIDE: dict[str, set[str]] = {
    "ops": {"torch"},
    "native": {"torch"},
    "toolkit": set(),
    "errors": set(),
    "": set(),
}
NEVER_IMPORTED = {"tests", "benchmarks", "examples", "docs"}


def is_ours(folder: Path) -> bool:
    """False for build products, caches, virtual environments and other hidden folders."""
    hidden = folder.name.startswith(".") and folder.name not in HIDDEN_FOLDERS
    built = folder.name in IGNORED_FOLDERS or folder.suffix == ".egg-info"
    return not (hidden or built or (folder / "pyvenv.cfg").exists())


def house_files() -> list[Path]:
    """Every file of the source tree, relative to the root; build products are left out."""
    found = []
    for folder, names, files in os.walk(ROOT):
        names[:] = sorted(name for name in names if is_ours(Path(folder, name)))
        found += [Path(folder, name).relative_to(ROOT) for name in sorted(files)]
    return found


def text_of(path: Path) -> str | None:
    """The file's text, or None for a binary file."""
    content = (ROOT / path).read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


FILES = [path for path in house_files() if not (ROOT / path).is_symlink()]
TEXTS = [path for path in FILES if text_of(path) is not None]
PYTHON = [path for path in TEXTS if path.suffix == ".py"]
MODULES = [path for path in PYTHON if path.parts[0] == "digan"]


def room_of(module: str) -> str:
    """`digan.data.video` -> `data`, `digan` -> ""."""
    return [*module.split("."), ""][1]


def module_of(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(text: str, path: Path) -> set[str]:
    """Every module that the file names in an import, wherever it stands, in full."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(package[: len(package) - node.level + 1] + base.split("."))
                base = base.rstrip(".")
            if base == "digan":  # `from digan import ops` names a room, not an attribute
                found |= {
                    f"digan.{alias.name}" if alias.name in MAY_IMPORT else "digan"
                    for alias in node.names
                }
            else:
                found.add(base)
    return found


def import_complaints(text: str, path: Path) -> list[str]:
    """Imports against the directions of the house."""
    room = room_of(module_of(path))
    if room not in MAY_IMPORT:
        return [f"{path}: {room} is a new room; say in MAY_IMPORT what it may import"]
    complaints = []
    for module in sorted(imported_modules(text, path)):
        top = module.split(".")[0]
        if top == "digan":
            target = room_of(module)
            if target != room and target not in MAY_IMPORT[room]:
                complaints.append(f"{path}: {room or 'digan'} may not import {module}")
        elif top in NEVER_IMPORTED:
            complaints.append(f"{path}: nothing imports {top}, got {module}")
        elif room in OUTSIDE and top not in OUTSIDE[room] | set(sys.stdlib_module_names):
            complaints.append(f"{path}: {room or 'digan'} stands alone, got import {module}")
    return complaints


def name_complaints(path: Path) -> list[str]:
    """Names that say nothing about their content."""
    stems = [Path(part).stem.lower().strip("_") for part in path.parts]
    return [f"{path}: {stem} is a name for anything" for stem in stems if stem in VAGUE_NAMES]


def size_complaints(text: str, path: Path) -> list[str]:
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, at most {MOST_LINES}"] if lines > MOST_LINES else []


HOSTS = re.compile(
    r"\b(pypi|pythonhosted|anaconda|npmjs)\.(org|com)\b|\bdownload\.pytorch\b|\bdeb\.debian\b"
)
MACHINE_PATH = re.compile(r"(^|[^\w.~])/(work|root|tmp|home)/", re.MULTILINE)


def trace_complaints(text: str, path: Path) -> list[str]:
    """Folders of one machine and hosts of package registries."""
    found = [match[0].strip() for match in MACHINE_PATH.finditer(text)]
    found += [match[0] for match in HOSTS.finditer(text)]
    return [f"{path}: {trace} belongs to one machine" for trace in found]


def torch_header_complaints(text: str, path: Path) -> list[str]:
    """PyTorch headers in the native library outside the bindings."""
    if path.parent.name == "binding":
        return []
    includes = re.findall(r"^\s*#\s*include\s*[<\"]((?:torch|ATen|c10)/[^>\"]+)", text, re.M)
    return [f"{path}: only csrc/binding/ may include {name}" for name in includes]


# ---------------------------------------------------------------- the files of this tree


def test_the_whole_tree_was_seen():
    assert len(MODULES) >= 15
    assert len(PYTHON) >= len(MODULES) + 5
    assert {Path("Makefile"), Path(".ci/run"), Path("csrc/README.md")} <= set(TEXTS)
    rooms = {room_of(module_of(path)) for path in MODULES}
    assert {"", "ops", "nn", "data", "metrics", "training", "info"} <= rooms


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path):
    assert import_complaints(text_of(path) or "", path) == []


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_python_files_are_short(path):
    assert size_complaints(text_of(path) or "", path) == []


def test_names_say_something():
    assert [complaint for path in FILES for complaint in name_complaints(path)] == []


def test_no_trace_of_a_machine():
    assert [c for path in TEXTS for c in trace_complaints(text_of(path) or "", path)] == []


def test_kernels_know_no_pytorch():
    native = [path for path in TEXTS if path.parts[0] == "csrc"]
    assert [c for path in native for c in torch_header_complaints(text_of(path) or "", path)] == []


def test_directions_have_no_cycle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        free = {room for room, may in MAY_IMPORT.items() if room not in done and may <= done}
        assert free, f"a cycle among {sorted(set(MAY_IMPORT) - done)}"
        done |= free


def test_importing_the_package_is_light():
    code = "import sys, digan; print([m for m in ('torch', 'numpy', 'av') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- each rule can fail


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("digan/ops/x.py", "import numpy"),
        ("digan/ops/x.py", "from digan.errors import DiganError"),
        ("digan/ops/x.py", "from ..nn import layers"),
        ("digan/ops/x.py", "def f():\n    from digan import nn"),
        ("digan/nn/x.py", "from digan.training.loop import train"),
        ("digan/data/x.py", "import digan.nn.generator"),
        ("digan/data/x.py", "from digan import training"),
        ("digan/metrics/x.py", "from digan import cli"),
        ("digan/metrics/x.py", "import digan.training"),
        ("digan/training/x.py", "import digan.cli"),
        ("digan/synthesis/x.py", "from digan.training import config"),
        ("digan/cli.py", "import tests.op_cases"),
        ("digan/cli.py", "from benchmarks.timing import time"),
        ("digan/toolkit.py", "import torch"),
        ("digan/errors.py", "from digan.ops import bias_act"),
        ("digan/attic.py", ""),
    ],
)
def test_wrong_import_is_caught(path, line):
    assert len(import_complaints(line, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("digan/ops/__init__.py", "from .bias_act import bias_act\nimport math, torch.nn"),
        ("digan/ops/x.py", "from digan.ops import _registry\nfrom . import _check"),
        ("digan/nn/x.py", "from digan.ops import bias_act\nfrom digan import grid, ops"),
        ("digan/metrics/x.py", "import scipy.linalg\nfrom digan import __version__"),
        ("digan/training/x.py", "import digan.metrics, digan.synthesis"),
    ],
)
def test_right_import_passes(path, line):
    assert import_complaints(line, Path(path)) == []


def test_vague_name_is_caught():
    assert len(name_complaints(Path("digan/nn/utils.py"))) == 1
    assert len(name_complaints(Path("csrc/common.cuh"))) == 1
    assert len(name_complaints(Path("digan/helpers/x.py"))) == 1
    assert name_complaints(Path("digan/nn/mapping.py")) == []


def test_long_file_is_caught():
    assert len(size_complaints("x\n" * 450, Path("x.py"))) == 1
    assert size_complaints("x\n" * 449, Path("x.py")) == []


@pytest.mark.parametrize("folder", ["work", "root", "tmp", "home"])
def test_machine_path_is_caught(folder):
    path = f"/{folder}" + "/me/x.py"
    for text in (path, f"'{path}'", f"a\n{path}", f"FOO={path}", f"file://{path}"):
        assert len(trace_complaints(text, Path("x"))) == 1, text
    for text in (f"runs{path}", f"~{path}", f"..{path}", f"/{folder}x/", f"a /{folder}"):
        assert trace_complaints(text, Path("x")) == [], text


@pytest.mark.parametrize("host", ["files.pythonhosted", "pypi", "conda.anaconda"])
def test_registry_host_is_caught(host):
    assert len(trace_complaints(f"get https://{host}" + ".org/simple", Path("x"))) == 1
    assert trace_complaints(f"a word about {host}", Path("x")) == []


def test_torch_header_is_caught():
    text = '#include <torch/csrc/stable/tensor.h>\n# include "ATen/ATen.h"\n#include <cuda.h>\n'
    assert len(torch_header_complaints(text, Path("csrc/x.cu"))) == 2
    assert torch_header_complaints(text, Path("csrc/binding/x.cpp")) == []
