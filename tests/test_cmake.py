"""CMakeLists.txt: a static library of csrc/*.cu, for cards or for the emulator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require

ROOT = Path(__file__).resolve().parent.parent
KERNEL = """
#include <cuda_runtime.h>
__global__ void twice_kernel(float* x) { x[threadIdx.x] *= 2.0f; }
cudaError_t launch_twice(float* x, cudaStream_t stream) {
  twice_kernel<<<1, 32, 0, stream>>>(x);
  return cudaGetLastError();
}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "csrc").mkdir()
    (tmp_path / "digan").mkdir()
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    shutil.copy(ROOT / "digan" / "_version.py", tmp_path / "digan")
    return tmp_path


def cmake(*arguments: str, tree: Path) -> str:
    beside = Path(sys.executable).with_name("cmake")
    program = str(beside) if beside.exists() else shutil.which("cmake")
    if program is None:
        pytest.skip("cmake is not installed")
    done = subprocess.run(
        [program, *arguments],
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_without_sources_it_says_so_and_defines_nothing(tree):
    printed = cmake("-S", ".", "-B", "out", tree=tree)
    assert "digan: csrc/ holds no .cu file, so there is no library to build" in printed
    cmake("--build", "out", tree=tree)
    assert not list(tree.glob("out/*.a"))


def test_with_a_source_it_builds_the_library(tree, toolkit):
    if shutil.which("c++") is None or shutil.which("make") is None:
        require("nvcc", "no host compiler or make to drive nvcc")
    (tree / "csrc" / "twice.cu").write_text(KERNEL)
    cmake(
        *("-S", ".", "-B", "out", "-G", "Unix Makefiles", "-DCMAKE_CUDA_ARCHITECTURES=90a-real"),
        f"-DCMAKE_CUDA_COMPILER={toolkit.home}/bin/nvcc",
        tree=tree,
    )
    cmake("--build", "out", tree=tree)
    assert (tree / "out" / "libdigan_kernels.a").stat().st_size > 0
    assert "twice.cu" in (tree / "out" / "compile_commands.json").read_text()


def test_it_builds_the_emulated_kernels(tmp_path):
    """The real kernels, for the host: a C++ compiler is all it takes."""
    if shutil.which("c++") is None or shutil.which("make") is None:
        pytest.skip("no C++ compiler or make")
    if not list((ROOT / "csrc").glob("*.cu")):
        pytest.skip("no kernels")
    out = tmp_path / "out"
    cmake("-S", ".", "-B", str(out), "-G", "Unix Makefiles", "-DDIGAN_EMULATOR=ON", tree=ROOT)
    cmake("--build", str(out), tree=ROOT)
    assert (out / "libdigan_emulated.a").stat().st_size > 0
    assert not (out / "libdigan_kernels.a").exists()
