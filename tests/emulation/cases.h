// The small kernels on which the emulator itself is tested, by name.
//
// All have one signature: words in, words out, and how many. Faults are chosen by name.

#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <string>

#include "platform.cuh"

namespace cases {

using Kernel = void (*)(digan::Global<const uint32_t> in, digan::Global<uint32_t> out, int count);
using Table = std::map<std::string, Kernel>;

void add_warp_cases(Table& table);
void add_block_cases(Table& table);
void add_shared_cases(Table& table);
void add_tensor_cases(Table& table);
void add_copy_cases(Table& table);
void add_mbarrier_cases(Table& table);
void bind_tma_cases(pybind11::module_& module);
void add_wgmma_cases(Table& table);

}  // namespace cases
