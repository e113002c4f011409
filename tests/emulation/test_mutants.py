"""The emulated tests catch planted faults: a few of one kernel here, all in `make soak`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.emulation import build
from tests.emulation.mutate import CSRC, mutable_files
from tests.emulation.planting import blank_comments, plant
from tests.emulation.survivors import reason_for, stale

SOURCE = """
// a comment with tile[i] and if (a < b)
__global__ void add_kernel(Global<const T> x, Global<T> out, int64_t count) {
  DIGAN_SHARED(T, tile, kThreads);
  const int64_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < count) {
    tile[threadIdx.x] = x[i];
  }
  __syncthreads();
  for (int k = 0; k < kThreads; ++k) {
    out[i * kThreads + k] += tile[k];
  }
  store16(out + i, value);
}
int host(int n) {
  if (n < 3) {
    return table[n];
  }
}
"""


def test_planting():
    text, faults = plant(SOURCE, "add.cu", 5, set())
    assert text.count("\n") == SOURCE.count("\n")
    assert [fault.number for fault in faults] == list(range(5, 5 + len(faults)))
    kinds = [(fault.line - 1, fault.kind, fault.what) for fault in faults]
    assert (8, "barrier", "no __syncthreads();") in kinds
    assert (5, "guard", "not (i < count)") in kinds
    assert (5, "guard", "i <= count") in kinds
    assert (9, "bound", "k <= kThreads") in kinds
    assert (9, "index", "0 + 1") in kinds
    assert (10, "index", "i * kThreads + k + 1") in kinds
    assert (12, "index", "i + 1") in kinds
    assert all(line < 14 for line, _, _ in kinds)
    assert "// a comment with tile[i] and if (a < b)" in text


def test_planting_leaves_lines_alone():
    _, faults = plant(SOURCE, "add.cu", 1, {6})
    assert not [fault for fault in faults if fault.line == 6]
    assert faults


def test_comments_are_blanked():
    text = 'a // b\n"c" /* d\n */ e\n#include <f>\n'
    code = blank_comments(text)
    assert code.split() == ["a", "e"]
    assert [code.index(c) for c in "a\ne"] == [text.index(c) for c in "a\ne"]
    assert len(code) == len(text)


def _try(*arguments):
    """In a process of its own, as a process has one library of kernels: planted, caught."""
    command = [sys.executable, "-m", "tests.emulation.mutate", *arguments]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) faults planted, (\d+) caught", done.stdout)
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    return int(found[1]), int(found[2]), done.stdout


def test_the_explained_survivors_are_faults_of_the_sources():
    """An entry whose line is gone explains nothing, and would hide that its successor is not."""
    faults = []
    for path in mutable_files():
        faults += plant(path.read_text(), path.name, 1 + len(faults), set())[1]
    assert stale(faults, CSRC) == []
    caught = next(f for f in faults if f.file == "sums.cuh" and f.kind == "barrier")
    assert reason_for(caught, CSRC) is None


@pytest.mark.slow
@pytest.mark.soak
def test_faults_in_the_kernels_are_caught(soak):
    """A fixed sample of one file's; in a soak those of all files, a few of which change nothing."""
    if not soak:
        planted, caught, said = _try("--files", "factorized_modulation.cu", "--sample", "6")
        assert planted == caught == 6, said
        return
    planted, caught, said = _try()
    assert caught >= 0.95 * planted > 100, said
    assert "UNEXPLAINED" not in said, said
