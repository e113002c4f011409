// factorized_modulation: the weights of a layer from its base weight and low-rank factors.
// Formulas and meaning: digan/ops/factorized_modulation.py.

#pragma once

#include <cstdint>

#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous and of one type, float64 or float32.
struct FactorizedModulationInputs {
  Number number = Number::kF32;
  int64_t videos = 0;            // B
  int64_t outputs = 0;           // O
  int64_t inputs = 0;            // I
  int64_t rank = 1;              // R, at least 1
  bool demodulate = true;        // divide by the row norms
  const void* weight = nullptr;  // [O, I]
  const void* left = nullptr;    // [B, O, R]
  const void* right = nullptr;   // [B, R, I]
};

struct FactorizedModulationArguments : FactorizedModulationInputs {
  void* out = nullptr;  // [B, O, I]
};

cudaError_t launch_factorized_modulation(const FactorizedModulationArguments& arguments,
                                         cudaStream_t stream);

struct FactorizedModulationBackwardArguments : FactorizedModulationInputs {
  const void* grad = nullptr;   // [B, O, I]
  void* du = nullptr;           // workspace [B, O, I], 16-byte aligned; unused, may be null, if
                                // not demodulated
  void* right_parts = nullptr;  // workspace, its size below
  void* dweight = nullptr;      // [O, I]
  void* dleft = nullptr;        // [B, O, R]
  void* dright = nullptr;       // [B, R, I]
};

// The size of `right_parts` in numbers. Needs the extents, the number type and the inputs: how
// the work is cut depends on their alignment.
int64_t factorized_modulation_right_parts(const FactorizedModulationBackwardArguments& arguments);

cudaError_t launch_factorized_modulation_backward(
    const FactorizedModulationBackwardArguments& arguments, cudaStream_t stream);

}  // namespace digan
