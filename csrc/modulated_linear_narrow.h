// modulated_linear with few outputs, as a layer to RGB has.
// Formulas and meaning: digan/ops/modulated_linear.py.

#pragma once

#include <cstdint>

#include "activation.h"
#include "number.h"
#include "runtime.h"

namespace digan {

constexpr int kMostOutputs = 4;

// All tensors are contiguous and of one type, bias and its gradient of its sums: float64 beside
// float64, else float32.
struct ModulatedLinearNarrowCall {
  Number number = Number::kF32;
  int64_t videos = 0;            // B
  int64_t rows = 0;              // P, of a video
  int64_t inputs = 0;            // I
  int64_t outputs = 0;           // O, at most kMostOutputs
  const void* x = nullptr;       // [B, P, I]
  const void* weight = nullptr;  // [B, O, I]
  Pointwise pointwise;
};

struct ModulatedLinearNarrowArguments : ModulatedLinearNarrowCall {
  const void* bias = nullptr;  // [O], or none
  void* y = nullptr;           // [B, P, O]
  void* z = nullptr;           // [B, P, O] pre-activation, or none
};

cudaError_t launch_modulated_linear_narrow(const ModulatedLinearNarrowArguments& arguments,
                                           cudaStream_t stream);

struct ModulatedLinearNarrowBackwardArguments : ModulatedLinearNarrowCall {
  const void* grad = nullptr;   // [B, P, O]
  const void* kept = nullptr;   // [B, P, O]: z, or y; none if linear without clamp
  bool kept_is_output = false;  // only where slope_from_output() holds
  void* dx = nullptr;           // [B, P, I]
  void* dweight = nullptr;      // [B, O, I]
  void* dbias = nullptr;        // [O], or none
  void* workspace = nullptr;    // modulated_linear_narrow_workspace() bytes
};

// Bytes that the sums need between the two stages. Needs the extents, the number type, and x,
// weight and dx, as how the work is cut depends on their alignment.
int64_t modulated_linear_narrow_workspace(const ModulatedLinearNarrowBackwardArguments& arguments);

cudaError_t launch_modulated_linear_narrow_backward(
    const ModulatedLinearNarrowBackwardArguments& arguments, cudaStream_t stream);

}  // namespace digan
