"""Installing: the wheel's content, the source archive, and the choice to compile or not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import digan

ROOT = Path(__file__).resolve().parent.parent
NO_TOOLKIT = "CUDA_HOME is nowhere, which holds no program bin/nvcc"


def package_files(tree: Path) -> set[str]:
    """What a pure wheel must hold of digan/: modules, py.typed and assets."""
    files = (path for path in (tree / "digan").rglob("*") if path.is_file())
    return {
        path.relative_to(tree).as_posix()
        for path in files
        if path.suffix == ".py" or path.name == "py.typed" or path.parent.name == "assets"
    }


def run(
    *command: str, cwd: Path, check: bool = True, **environ: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PIP_NO_INDEX": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert not check or done.returncode == 0, done.stdout
    return done


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the source tree without git, in a folder with a space in its name.

    Built without kernels here; tests/test_native_build.py builds one with them.
    """
    tree = tmp_path_factory.mktemp("a clone") / "digan"
    skip = shutil.ignore_patterns(
        *(".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"),
        "*.so",
    )
    shutil.copytree(ROOT, tree, ignore=skip)
    return tree


@pytest.fixture(scope="module")
def wheel(tree) -> Path:
    run(
        *("-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", "dist"),
        cwd=tree,
        DIGAN_BUILD_CUDA="0",
    )
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def build():
    """setup.py as a module; it builds nothing unless it is run."""
    spec = importlib.util.spec_from_file_location("digan_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_wheel_is_pure(wheel):
    assert wheel.name == f"digan-{digan.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"digan-{digan.__version__}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: true" in text
    assert "Tag: py3-none-any" in text


def test_wheel_holds_the_package_and_nothing_else(tree, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"digan-{digan.__version__}.dist-info/"
    package = {name for name in names if not name.startswith(info)}
    assert "digan/py.typed" in package
    assert package == package_files(tree)
    assert {info + "licenses/LICENSE", info + "licenses/THIRD_PARTY.md"} <= names


def test_wheel_metadata(wheel):
    info = f"digan-{digan.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == digan.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    requires = metadata.get_all("Requires-Dist")
    core = {line for line in requires if "extra ==" not in line}
    assert "torch>=2.10" in core
    assert not {"torchvision", "torchcodec", "decord", "moviepy"} & {
        line.split(">")[0].split(";")[0] for line in requires
    }
    assert set(metadata.get_all("Provides-Extra")) == {
        "train", "hub", "explore", "plot", "docs", "dev",
    }  # fmt: skip
    assert "digan = digan.cli:main" in entry_points


def test_installed_wheel_imports_without_its_dependencies(wheel, tmp_path):
    site = tmp_path / "site"
    run(
        *("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)),
        cwd=tmp_path,
    )
    # -S leaves out site-packages: neither torch nor this source tree can be found.
    code = (
        "import digan, digan.toolkit, digan.info; print(digan.__file__); print(digan.__version__)"
    )
    done = run("-S", "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    file, version = done.stdout.split("\n")[:2]
    assert Path(file) == site / "digan" / "__init__.py"
    assert version == digan.__version__


def test_source_archive_can_be_built_from(tree, tmp_path):
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run("-c", code, cwd=tree)
    name = f"digan-{digan.__version__}"
    shutil.unpack_archive(tmp_path / f"{name}.tar.gz", tmp_path, filter="data")
    for path in (
        "setup.py",
        "pyproject.toml",
        "digan/toolkit.py",
        "CMakeLists.txt",
        "csrc/build_library.py",
    ):
        assert (tmp_path / name / path).is_file(), path
    natives = [*(ROOT / "csrc").rglob("*.*"), *(ROOT / "tests" / "emulation").rglob("*.*")]
    for path in natives:
        if path.suffix in (".cu", ".cuh", ".cpp", ".h", ".md"):
            assert (tmp_path / name / path.relative_to(ROOT)).is_file(), path
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    run("-c", code, cwd=tmp_path / name, DIGAN_BUILD_CUDA="0")
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl") as archive:
        assert package_files(tree) <= set(archive.namelist())


def test_torch_is_no_build_requirement():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["build-system"]["requires"] == ["setuptools>=77"]


def test_citation_names_this_version():
    assert f"\nversion: {digan.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_asking_for_kernels_fails_in_one_sentence(tree):
    done = run(
        *("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "none"),
        cwd=tree,
        check=False,
        DIGAN_BUILD_CUDA="1",
        CUDA_HOME="nowhere",
    )
    assert done.returncode != 0
    said = [line.strip() for line in done.stdout.splitlines() if "digan: " in line]
    assert said == [
        f"digan: DIGAN_BUILD_CUDA=1 asks for CUDA kernels, but {NO_TOOLKIT};"
        " mend that, or unset DIGAN_BUILD_CUDA to install as pure Python"
    ]
    assert "Traceback" not in done.stdout
    assert not list(tree.glob("none/*.whl"))


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [("auto", f"digan: installing as pure Python, because {NO_TOOLKIT}"), ("0", None)],
)
def test_build_says_once_why_it_is_pure(tree, tmp_path, mode, sentence):
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    done = run("-c", code, cwd=tree, DIGAN_BUILD_CUDA=mode, CUDA_HOME="nowhere")
    said = [line for line in done.stdout.splitlines() if line.startswith("digan: ")]
    assert said == ([sentence] if sentence else [])


class TestChoice:
    """`choose`, which decides whether anything is compiled."""

    def test_zero_is_quiet(self, build):
        assert build.choose({"DIGAN_BUILD_CUDA": "0"}) == (False, "")

    def test_missing_toolkit_is_named(self, build, tmp_path):
        environ = {"CUDA_HOME": str(tmp_path)}
        compiles, sentence = build.choose(environ)
        assert not compiles
        assert sentence.endswith(f"CUDA_HOME is {tmp_path}, which holds no program bin/nvcc")
        with pytest.raises(SystemExit, match="holds no program bin/nvcc; mend that"):
            build.choose({**environ, "DIGAN_BUILD_CUDA": "1"})

    @pytest.mark.parametrize(
        ("missing", "cure"),
        [("find_torch", "pip install --no-build-isolation"), ("find_ninja", "pip install ninja")],
    )
    def test_missing_part_is_named(self, build, toolkit, monkeypatch, missing, cure):
        monkeypatch.setattr(build.load("csrc/build_library.py"), missing, lambda: None)
        compiles, sentence = build.choose(os.environ)
        assert not compiles
        assert sentence.endswith(cure)

    def test_all_there_compiles(self, build, toolkit):
        assert build.choose(os.environ) == (True, "")
        (library,) = build.arguments(True)["ext_modules"]
        assert library.name == "digan._native"
        assert build.arguments(False)["ext_modules"] == []

    def test_unknown_mode_is_refused(self, build):
        with pytest.raises(SystemExit, match="must be auto, 1 or 0, got 'yes'"):
            build.choose({"DIGAN_BUILD_CUDA": "yes"})

    def test_every_source_is_listed(self, build):
        builder = build.load("csrc/build_library.py")
        listed = sorted((*builder.KERNELS, *builder.BINDINGS))
        there = [*(ROOT / "csrc").rglob("*.cu"), *(ROOT / "csrc").rglob("*.cpp")]
        assert listed == sorted(path.relative_to(ROOT).as_posix() for path in there)
