"""CMakeLists.txt: a static library of csrc/*.cu, for cards or for the emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require

ROOT = Path(__file__).resolve().parent.parent
HEADER = """
#pragma once
#include <cuda_runtime.h>
__device__ inline float twice(float x) { return 2.0f * x; }
"""
KERNEL = """
#include "gemm/twice.cuh"
__global__ void twice_kernel(float* x) { x[threadIdx.x] = twice(x[threadIdx.x]); }
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
    # cmake and ninja are among the tools that `make setup` installs beside Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["cmake", *arguments],
        cwd=tree,
        env={**os.environ, "PATH": path, "CMAKE_GENERATOR": "Ninja"},
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
    if shutil.which("c++") is None:
        require("nvcc", "no host compiler for nvcc")
    (tree / "csrc" / "twice.cu").write_text(KERNEL)
    (tree / "csrc" / "gemm").mkdir()
    (tree / "csrc" / "gemm" / "twice.cuh").write_text(HEADER)
    cmake(
        *("-S", ".", "-B", "out", "-DCMAKE_CUDA_ARCHITECTURES=90a-real"),
        f"-DCMAKE_CUDA_COMPILER={toolkit.home}/bin/nvcc",
        tree=tree,
    )
    cmake("--build", "out", tree=tree)
    assert (tree / "out" / "libdigan_kernels.a").stat().st_size > 0
    assert "twice.cu" in (tree / "out" / "compile_commands.json").read_text()


def test_it_builds_the_emulated_kernels(tmp_path):
    """The real kernels, for the host: a C++ compiler is all it takes."""
    out = tmp_path / "out"
    cmake("-S", ".", "-B", str(out), "-DDIGAN_EMULATOR=ON", tree=ROOT)
    cmake("--build", str(out), tree=ROOT)
    assert (out / "libdigan_emulated.a").stat().st_size > 0
    assert not (out / "libdigan_kernels.a").exists()
