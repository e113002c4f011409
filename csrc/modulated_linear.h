// modulated_linear: one linear layer per video, with its activation.
// Formulas and meaning: digan/ops/modulated_linear.py.

#pragma once

#include <cstdint>

#include "activation.h"
#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous and of one type, but for biases and sums: those are of its wide type,
// float32, or float64 for float64.
struct ModulatedLinearCall {
  Number number = Number::kF32;
  bool tf32 = false;             // float32 products may round their operands to tf32
  bool hopper = false;           // cards of 9.0 may take their own path, where it serves the call
  int64_t videos = 0;            // B
  int64_t rows = 0;              // P
  int64_t inputs = 0;            // I
  int64_t outputs = 0;           // O
  Pointwise pointwise;           // activation, gain and clamp
  const void* x = nullptr;       // [B, P, I]
  const void* weight = nullptr;  // [B, O, I]
};

struct ModulatedLinearArguments : ModulatedLinearCall {
  const void* bias = nullptr;      // [O], may be null
  void* out = nullptr;             // [B, P, O]
  void* pre_activation = nullptr;  // [B, P, O], null where nobody wants it
};

cudaError_t launch_modulated_linear(const ModulatedLinearArguments& arguments, cudaStream_t stream);

struct ModulatedLinearBackwardArguments : ModulatedLinearCall {
  const void* grad = nullptr;  // [B, P, O]
  // [B, P, O], the outputs where slope_from_output() holds; null if `grad` is by the
  // pre-activations already, up to the gain.
  const void* out = nullptr;
  void* weight_parts = nullptr;  // workspaces, sizes below
  void* bias_parts = nullptr;
  void* dx = nullptr;       // [B, P, I]
  void* dweight = nullptr;  // [B, O, I]
  void* dbias = nullptr;    // [O], null where nobody wants it
};

// Sizes of the workspaces in numbers of the wide type; 0 where none is needed.
struct ModulatedLinearBackwardSizes {
  int64_t weight_parts = 0;
  int64_t bias_parts = 0;
};

// Needs the extents, the numbers, the inputs and whether there is a dbias.
ModulatedLinearBackwardSizes modulated_linear_backward_sizes(
    const ModulatedLinearBackwardArguments& arguments);

cudaError_t launch_modulated_linear_backward(const ModulatedLinearBackwardArguments& arguments,
                                             cudaStream_t stream);

}  // namespace digan
