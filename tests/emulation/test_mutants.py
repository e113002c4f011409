"""The emulated tests catch planted faults: a few of one kernel here, all in `make soak`."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import pytest

from tests.emulation import build, mutate
from tests.emulation.mutate import CSRC, mutable_files, name_of
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
  const Shared<float> floats = view_as<float>(tile) + i;
  store16(view_as<float>(tile) + kThreads, view_as<float>(value));
  cp_async_16(tile + i, x + 3 * i, i < count);
  cp_async_wait<kStages - (kThreads > 32 ? 2 : 1)>();
  ldmatrix_x4(found, floats);
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
    for line in (12, 13, 15):
        assert (line, "index", "i + 1") in kinds
    assert (14, "index", "kThreads + 1") in kinds
    assert (15, "index", "3 * i + 1") in kinds
    assert (15, "guard", "i <= count") in kinds
    assert (16, "barrier", "no cp_async_wait<kStages - (kThreads > 32 ? 2 : 1)>();") in kinds
    assert "view_as<float>(tile)" in text
    assert all(line < 17 for line, _, _ in kinds)
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


def test_constants_are_no_indices():
    """Where an array is defined, or its entry fixed, nothing can be off by one as the GPU runs."""
    lines = ["A a[2][Shape::kGroups];", "b[kChunk<Wide<typename M::Number>> * 2] = c[Shape::n];"]
    text = "__device__ void set() {\n" + "\n".join(lines) + "\n}\n"
    _, faults = plant(text, "set.cuh", 1, set())
    assert [fault.what for fault in faults] == ["Shape::n + 1"]


def planted(lines, name="gemm/places.cuh", head="__device__ int place(int i) {"):
    """What is planted in a function of these lines."""
    text = "\n".join([head, *lines, "}\n"])
    with_faults, faults = plant(text, name, 1, set())
    assert with_faults.count("\n") == text.count("\n")
    assert all(f"({fault.number})" in with_faults or f"({fault.number}," in with_faults
               for fault in faults)  # fmt: skip
    return [(fault.kind, fault.what) for fault in faults]


def test_results_of_integer_functions_are_places():
    assert planted(["return kRow * i + 3;"]) == [("value", "kRow * i + 3 + 1")]
    head = "__device__ __forceinline__ int operator()(int row) const {"
    assert planted(["return next + row;"], head=head) == [("value", "next + row + 1")]
    assert planted(["use([&](int r) { return first + r; });"]) == [("value", "first + r + 1")]
    pointer = "__device__ static Global<const T> source(int i) {"
    assert planted(["return tables.rows + (at * i);"], head=pointer) == [("value", "(at * i) + 1")]
    number = "__device__ static float value(int i) {"
    assert planted(["return a + b;", "return kRow;"], head=number) == []


def test_choices_are_places():
    """Of the smaller of two, `<=` is the same; a number is never a constant."""
    at_most = [("choice", "not (x < most)"), ("value", "x < most ? x : most + 1")]
    assert planted(["return x < most ? x : most;"]) == at_most
    found = planted(["int n = (left < kMost ? left : kMost) / kWidth;"])
    assert [kind for kind, _ in found] == ["choice", "index"]
    assert planted(["base_.copy(stage, k, sloped_ ? 2 : 1);"]) == [("choice", "not (sloped_)")]
    found = planted(["to = i < count ? a : T(0);", "z = z > 0 ? z : 0;", "v = kIsA ? a : b;"])
    assert found == [("choice", "not (i < count)"), ("choice", "i <= count"),
                     ("choice", "not (z > 0)")]  # fmt: skip
    assert planted(["cp_async_wait<kMany ? 2 : i>();"]) == [
        ("barrier", "no cp_async_wait<kMany ? 2 : i>();")
    ]


def test_what_orders_copies_and_products_are_barriers():
    lines = ["wgmma_fence(sums, rows[0]);", "wgmma_commit();", "wgmma_wait<1>();", "ring.start();"]
    lines += ["mbarrier_wait(full(place), place.parity ^ 1u);", "fence_proxy_async();"]
    lines += ["ring.release(before);", "named_barrier_sync(1, 256);", "tma_store_wait_read<0>();"]
    assert planted(lines) == [("barrier", f"no {line}") for line in lines]


def test_members_and_steps_are_places():
    lines = ["place_[2 * k] = Slice::offset(k, 1) + k;", "left_ -= kDepth<T>;", "w += kWidth;"]
    lines += ["next_[m][i] += Columns::template kAdvance<T>;", "w = 0;", "sum += a.v[i];"]
    lines += ["value += __shfl_xor_sync(0xffffffffu, value, 4);", "row[r] = x + (i * step);"]
    lines += ["total += d[o] * weight;", "by_row += counted;"]
    found = [what for kind, what in planted(lines) if kind == "value"]
    assert found == [
        "Slice::offset(k, 1) + k + 1",
        "kDepth<T> + 1",
        "kWidth + 1",
        "Columns::template kAdvance<T> + 1",
        "0 + 1",
        "x + (i * step) + 1",
    ]


def test_a_constructor_s_initialisers_are_places():
    head = "__device__ Rows(const Global<T> (&m)[2], int pitch)\n"
    head += (
        "    : Base({{layer.grad + i * pitch}, Rows{layer.rows, 0}}), left_(extent - at(kRow)) {"
    )
    assert planted(["f = 2 * i;"], head=head) == [
        ("value", "layer.grad + i * pitch + 1"),
        ("value", "layer.rows + 1"),
        ("value", "0 + 1"),
        ("value", "extent - at(kRow) + 1"),
        ("value", "2 * i + 1"),
    ]


def test_arguments_are_places():
    lines = ["use(stage + kRow * i, k, i / 2);", "fma(a, b * c, d);", "at<T>(i % 2);", "f(kN - 1);"]
    found = [what for _, what in planted(lines)]
    assert found == ["stage + kRow * i + 1", "i / 2 + 1", "i % 2 + 1", "kN - 1 + 1"]


def test_masks_are_places():
    head = "__device__ uint32_t pair(uint32_t grad, uint32_t y) const {"
    found = planted(["const bool high = lane & 4;", "result &= ~held | nan;"], head=head)
    assert found == [("mask", "lane | 4"), ("mask", "held | nan"), ("mask", "~held & nan")]


# ---------------------------------------------------------------- headers in a folder

HEADERS = {
    "shift.cuh": """
#pragma once
#include "cuda_words.h"
#include "mutant.h"
__device__ inline int shifted(int i) {
  const int next = i + 10;
  return next;
}
""",
    "gemm/inner.cuh": """
#pragma once
#include "shift.cuh"
__device__ inline int inner(int i) {
  const int twice = 2 * i;
  return shifted(twice);
}
""",
    "gemm/outer.cuh": """
#pragma once
#include "gemm/inner.cuh"
__device__ inline int outer(int i) { return inner(i); }
""",
    "modulated_linear.cu": """
#include "gemm/outer.cuh"
#include "shift.cuh"
#define SEEN extern "C" __attribute__((visibility("default")))
int emu::active_mutant = 0;
SEEN void choose(int number) { emu::active_mutant = number; }
SEEN int with_header(int i) { return outer(i); }
SEEN int without(int i) { return shifted(i); }
""",
    "bias_act.cu": '#include "shift.cuh"\n',
    "platform.cuh": "",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    csrc = tmp_path / "csrc"
    for name, text in HEADERS.items():
        (csrc / name).parent.mkdir(parents=True, exist_ok=True)
        (csrc / name).write_text(text)
    monkeypatch.setattr(mutate, "CSRC", csrc)
    return csrc


def test_headers_in_a_folder_have_faults_and_ops(tree):
    names = ["bias_act.cu", "gemm/inner.cuh", "gemm/outer.cuh", "modulated_linear.cu", "shift.cuh"]
    assert [name_of(path) for path in mutable_files()] == names
    found = {"gemm/outer.cuh", "gemm/inner.cuh", "shift.cuh"}
    assert mutate.includes(tree / "modulated_linear.cu") == found
    assert mutate.ops_of("gemm/inner.cuh") == ["modulated_linear"]
    assert mutate.ops_of("modulated_linear.cu") == ["modulated_linear"]
    assert mutate.ops_of("shift.cuh") == ["bias_act", "modulated_linear"]


def test_a_changed_header_is_the_only_one_of_its_name(tree, tmp_path):
    """Also where another header includes it, which is not changed and lies in a folder."""
    sources = (tree / "modulated_linear.cu",)
    plain = build.Library("headers", sources, include=(tree, build.HERE))
    files = [tree / "gemm" / "inner.cuh", tree / "shift.cuh"]
    library = tmp_path / "library.so"
    faults = mutate._compile(plain, files, tmp_path, library)
    assert [(f.file, f.what) for f in faults] == [
        ("gemm/inner.cuh", "2 * i + 1"),
        ("gemm/inner.cuh", "shifted(twice) + 1"),
        ("shift.cuh", "i + 10 + 1"),
        ("shift.cuh", "next + 1"),
    ]
    loaded = ctypes.CDLL(str(library))
    values = []
    for number in range(5):
        loaded.choose(number)
        values.append((loaded.with_header(4), loaded.without(4)))
    assert values == [(18, 14), (19, 14), (19, 14), (19, 15), (19, 15)]


def test_a_fault_that_does_not_compile_is_dropped(tree, tmp_path):
    header = tree / "gemm" / "inner.cuh"
    header.write_text(header.read_text() + "__device__ void f() { const auto a = nullptr; }\n")
    plain = build.Library("headers", (tree / "modulated_linear.cu",), include=(tree, build.HERE))
    faults = mutate._compile(plain, [header], tmp_path, tmp_path / "library.so")
    assert [fault.what for fault in faults] == ["2 * i + 1", "shifted(twice) + 1"]


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
        faults += plant(path.read_text(), name_of(path), 1 + len(faults), set())[1]
    assert stale(faults, CSRC) == []
    caught = next(f for f in faults if f.file == "sums.cuh" and f.kind == "barrier")
    assert reason_for(caught, CSRC) is None


@pytest.mark.slow
@pytest.mark.soak
def test_faults_in_the_kernels_are_caught(soak):
    """A fixed sample of one kernel's and of the loop that all matrix products share.

    In a soak those of all files, a few of which change nothing.
    """
    if not soak:
        for file in ("factorized_modulation.cu", "gemm/main_loop.cuh"):
            planted, caught, said = _try("--files", file, "--sample", "6")
            assert planted == caught == 6, said
        return
    planted, caught, said = _try()
    assert caught >= 0.95 * planted > 100, said
    assert "UNEXPLAINED" not in said, said
