// Launchers of bias_act: y = clamp(gain * act(x + bias; alpha), -clamp, clamp), and its gradients.
//
// Tensors are dense and seen as [outer, channels, inner]; channels-last is inner = 1.

#pragma once

#include <cstdint>

#include "activation.h"
#include "number.h"
#include "runtime.h"

namespace digan {

struct BiasActCall {
  Number number = Number::kF32;  // of all tensors but bias and its gradient
  int64_t outer = 0, channels = 0, inner = 0;
  const void* bias = nullptr;  // [channels], or none
  bool bias_is_wide = false;   // bias and dbias hold sums (float32 for 16-bit x), not x's numbers
  Pointwise pointwise;
};

struct BiasActArguments : BiasActCall {
  const void* x = nullptr;  // [outer, channels, inner]
  void* out = nullptr;      // [outer, channels, inner]
};

cudaError_t launch_bias_act(const BiasActArguments& arguments, cudaStream_t stream);

struct BiasActBackwardArguments : BiasActCall {
  const void* grad = nullptr;   // [outer, channels, inner]
  const void* kept = nullptr;   // [outer, channels, inner]: x, or the output
  bool kept_is_output = false;  // only where slope_from_output() holds
  void* dx = nullptr;           // [outer, channels, inner]
  void* dbias = nullptr;        // [channels], with bias only
  void* workspace = nullptr;    // bias_act_workspace() bytes, with bias only
};

// Bytes that the sums need between the two stages; 0 without bias.
int64_t bias_act_workspace(const BiasActBackwardArguments& arguments);

cudaError_t launch_bias_act_backward(const BiasActBackwardArguments& arguments,
                                     cudaStream_t stream);

}  // namespace digan
