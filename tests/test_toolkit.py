"""The finder of the CUDA toolkit, against made-up toolkits and the one of this machine."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from digan.toolkit import Toolkit, find_toolkit

BANNER = "Cuda compilation tools, release 13.0, V13.0.88"


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def made_toolkit(home: Path, *, headers: bool = True, banner: str = BANNER) -> Path:
    """A toolkit folder whose nvcc answers --version and --dryrun as the real one does."""
    program(
        home / "bin" / "nvcc",
        'case "$1" in\n'
        f"  --version) echo 'nvcc: NVIDIA (R) Cuda compiler driver'; echo '{banner}';;\n"
        f"  --dryrun) echo '#$ _SPACE_= ' >&2; echo '#$ TOP={home}/bin/..' >&2;;\n"
        "  *) exit 1;;\n"
        "esac",
    )
    if headers:
        include = home / "targets" / "x86_64-linux" / "include"
        include.mkdir(parents=True)
        (include / "cuda_runtime.h").touch()
    return home


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with a host compiler and nothing else."""
    program(tmp_path / "tools" / "g++", "exit 0")
    return tmp_path / "tools"


@pytest.fixture
def find(tmp_path: Path, tools: Path):
    def run(**environ: str) -> Toolkit:
        environ.setdefault("PATH", str(tools))
        return find_toolkit(environ, default_home=tmp_path / "default")

    return run


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_variable_names_the_home(tmp_path, find, variable):
    home = made_toolkit(tmp_path / "a home")
    found = find(**{variable: str(home)})
    assert found == Toolkit(str(home), str(home / "bin" / "nvcc"), "13.0.88", None)


def test_wrong_variable_is_reported_and_not_passed_over(tmp_path, tools, find):
    home = made_toolkit(tmp_path / "good")
    found = find(CUDA_HOME=str(tmp_path / "bad"), PATH=f"{home}/bin:{tools}")
    assert found.nvcc is None
    assert found.reason == f"CUDA_HOME is {tmp_path / 'bad'}, which holds no program bin/nvcc"


def test_cuda_home_comes_before_path(tmp_path, tools, find):
    wanted = made_toolkit(tmp_path / "wanted", banner="release 12.9, V12.9.1")
    other = made_toolkit(tmp_path / "other")
    found = find(CUDA_HOME=str(wanted), PATH=f"{other}/bin:{tools}")
    assert (found.home, found.version) == (str(wanted), "12.9.1")


def test_wrapper_script_on_path_leads_to_the_real_home(tmp_path, tools, find):
    home = made_toolkit(tmp_path / "real" / "cuda-13.0")
    wrapper = program(tools / "nvcc", f'exec "{home}/bin/nvcc" "$@"')
    assert find() == Toolkit(str(home), str(wrapper), "13.0.88", None)


def test_link_on_path_leads_to_the_real_home(tmp_path, tools, find):
    home = tmp_path / "real"
    made_toolkit(home)
    # This nvcc knows no --dryrun, as compilers other than NVIDIA's driver may not.
    program(home / "bin" / "nvcc", f'[ "$1" = --version ] || exit 1; echo "{BANNER}"')
    (tools / "nvcc").symlink_to(home / "bin" / "nvcc")
    found = find()
    assert (found.home, found.reason) == (str(home), None)


def test_default_home_is_the_last_place(tmp_path, find):
    home = made_toolkit(tmp_path / "default")
    assert find() == Toolkit(str(home), str(home / "bin" / "nvcc"), "13.0.88", None)


def test_nothing_found(tmp_path, find):
    assert find() == Toolkit(
        reason=f"no nvcc was found on PATH or in {tmp_path / 'default'}, and CUDA_HOME is not set"
    )


def test_missing_headers_are_named(tmp_path, find):
    home = made_toolkit(tmp_path / "cuda", headers=False)
    found = find(CUDA_HOME=str(home))
    assert found.version == "13.0.88"
    assert found.reason == f"the CUDA toolkit in {home} has no header cuda_runtime.h"


def test_missing_host_compiler_is_named(tmp_path, tools, find):
    home = made_toolkit(tmp_path / "cuda")
    (tools / "g++").unlink()
    assert "host C++ compiler" in (find(CUDA_HOME=str(home)).reason or "")
    program(tools / "my-c++", "exit 0")
    assert find(CUDA_HOME=str(home), CXX="my-c++ -m64").reason is None


def test_broken_nvcc_is_quoted(tmp_path, find):
    home = tmp_path / "cuda"
    nvcc = program(home / "bin" / "nvcc", "echo 'cannot load libfoo.so' >&2; exit 3")
    found = find(CUDA_HOME=str(home))
    assert found.reason == f"{nvcc} failed with status 3: cannot load libfoo.so"


def test_unstartable_nvcc_is_quoted(tmp_path, find):
    home = tmp_path / "cuda"
    nvcc = program(home / "bin" / "nvcc", "")
    nvcc.write_text("#!/nonexistent/interpreter\n")
    assert (find(CUDA_HOME=str(home)).reason or "").startswith(f"{nvcc} did not start: ")


def test_unreadable_version_is_named(tmp_path, find):
    home = made_toolkit(tmp_path / "cuda", banner="something else")
    assert (find(CUDA_HOME=str(home)).reason or "").endswith("--version names no CUDA release")


def test_real_toolkit_has_what_it_claims(toolkit):
    assert (Path(toolkit.home) / "bin" / "nvcc").is_file()
    done = subprocess.run([toolkit.nvcc, "--version"], capture_output=True, text=True, check=True)
    assert f"V{toolkit.version}" in done.stdout


def test_imports_the_standard_library_only(root):
    code = f"import runpy; runpy.run_path({str(root / 'digan' / 'toolkit.py')!r})"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
