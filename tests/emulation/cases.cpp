// Python's way to the small kernels.

#include "cases.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "controls.h"

namespace py = pybind11;

namespace {

using Words = py::array_t<uint32_t, py::array::c_style | py::array::forcecast>;

const cases::Table& table() {
  static const cases::Table made = [] {
    cases::Table table;
    cases::add_warp_cases(table);
    cases::add_block_cases(table);
    cases::add_shared_cases(table);
    cases::add_tensor_cases(table);
    cases::add_copy_cases(table);
    cases::add_mbarrier_cases(table);
    cases::add_wgmma_cases(table);
    return table;
  }();
  return made;
}

// Runs a kernel; raises RuntimeError with the emulator's report.
Words run(const std::string& name,
          const Words& in,
          int out_words,
          int count,
          unsigned blocks,
          unsigned threads,
          int shared_bytes) {
  const cases::Kernel kernel = table().at(name);
  Words out(out_words);
  const emu::Allocation in_memory(in.data(), 4 * in.size(), emu::Access::kRead, "in");
  const emu::Allocation out_memory(out.data(), 4 * out.size(), emu::Access::kFresh, "out");
  uint32_t* words = out.mutable_data();
  const uint32_t* source = in.data();
  if (DIGAN_LAUNCH_SHARED((kernel), blocks, threads, shared_bytes, nullptr, source, words, count) !=
      cudaSuccess) {
    throw std::runtime_error(cudaGetErrorString(cudaGetLastError()));
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(emulator_cases, module) {
  emu::bind_controls(module);
  cases::bind_tma_cases(module);
  module.def("run", &run, py::arg("name"), py::arg("words"), py::arg("out_words"), py::arg("count"),
             py::arg("blocks") = 1, py::arg("threads") = 32, py::arg("shared_bytes") = 0);
  module.def("names", [] {
    std::vector<std::string> names;
    for (const auto& [name, kernel] : table()) {
      names.push_back(name);
    }
    return names;
  });
}
