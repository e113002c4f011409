// Launchers of bias_act: y = clamp(gain * act(x + bias; alpha), -clamp, clamp), and its gradients.
//
// Tensors are dense and seen as [outer, channels, inner]; channels-last is inner = 1.

#pragma once

#include <cstdint>

#include "activation.h"
#include "number.h"
#include "runtime.h"

namespace digan {

struct BiasActArguments {
  Number number;               // of x and out
  const void* x;               // [outer, channels, inner]
  const void* bias = nullptr;  // [channels], or none
  bool bias_is_wide = false;   // bias holds sums (float32 for 16-bit x), not x's numbers
  void* out;                   // [outer, channels, inner]
  int64_t outer, channels, inner;
  Pointwise pointwise;
};

cudaError_t launch_bias_act(const BiasActArguments& arguments, cudaStream_t stream);

struct BiasActBackwardArguments {
  Number number;               // of grad, kept and dx
  const void* grad;            // [outer, channels, inner]
  const void* kept;            // [outer, channels, inner]: x, or the output
  bool kept_is_output;         // only where slope_from_output() holds
  const void* bias = nullptr;  // [channels], or none
  bool bias_is_wide = false;   // of bias and dbias
  void* dx;                    // [outer, channels, inner]
  void* dbias = nullptr;       // [channels], with bias only
  void* workspace = nullptr;   // bias_act_workspace() bytes, with bias only
  int64_t outer, channels, inner;
  Pointwise pointwise;
};

// Bytes that the sums need between the two stages; 0 without bias.
int64_t bias_act_workspace(const BiasActBackwardArguments& arguments);

cudaError_t launch_bias_act_backward(const BiasActBackwardArguments& arguments,
                                     cudaStream_t stream);

}  // namespace digan
