// coord_linear: a linear layer on Fourier features that are never written.
// Formulas and meaning: digan/ops/coord_linear.py.

#pragma once

#include <cstdint>

#include "activation.h"
#include "fourier_features.h"
#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous. The grid's `number` is that of weight, skip, outputs and their
// gradients; its tables are of that number's wide type (float32, or float64 for float64), like
// biases, sums and what is called wide below. Its other tensors are of its own `wide`.
struct CoordLinearCall {
  FourierFeaturesGrid grid;
  bool tf32 = false;             // float32 products may round their operands to tf32
  bool hopper = false;           // cards of 9.0 may take their own path, where it serves the call
  int64_t outputs = 0;           // O
  Pointwise pointwise;           // activation, gain and clamp
  const void* weight = nullptr;  // [B, O, 2F]
};

struct CoordLinearArguments : CoordLinearCall {
  const void* bias = nullptr;      // [O], may be null
  const void* skip = nullptr;      // [B, T, H/2, W/2, O], may be null
  void* out = nullptr;             // [B, T, H, W, O]
  void* pre_activation = nullptr;  // [B, T, H, W, O], null where nobody wants it
};

cudaError_t launch_coord_linear(const CoordLinearArguments& arguments, cudaStream_t stream);

struct CoordLinearBackwardArguments : CoordLinearCall {
  const void* grad = nullptr;  // [B, T, H, W, O]
  // [B, T, H, W, O], the outputs where slope_from_output() holds; null if `grad` is by the
  // pre-activations already, up to the gain.
  const void* out = nullptr;
  // The grid's tensors, wide.
  const void* freq = nullptr;    // [B, F, 2]
  const void* y = nullptr;       // [H]
  const void* x = nullptr;       // [W]
  void* weight_parts = nullptr;  // wide workspaces, sizes below
  void* bias_parts = nullptr;
  void* phase_parts = nullptr;
  void* freq_x_parts = nullptr;
  void* freq_y_parts = nullptr;
  void* y_parts = nullptr;
  void* x_parts = nullptr;
  void* dweight = nullptr;  // [B, O, 2F]
  void* dskip = nullptr;    // [B, T, H/2, W/2, O], null where nobody wants it
  void* dbias = nullptr;    // [O], wide, null where nobody wants it
  void* dfreq = nullptr;    // wide: [B, F, 2]
  void* dphase = nullptr;   // [B, T, F]
  void* dy = nullptr;       // [H]
  void* dx = nullptr;       // [W]
};

// Sizes of the workspaces in numbers; 0 where none is needed.
struct CoordLinearBackwardSizes {
  int64_t weight_parts = 0;
  int64_t bias_parts = 0;
  int64_t frequency_parts = 0;  // phase_parts, freq_x_parts and freq_y_parts each
  int64_t y_parts = 0;
  int64_t x_parts = 0;
};

// Needs the extents, the numbers, the inputs and whether there is a dbias.
CoordLinearBackwardSizes coord_linear_backward_sizes(const CoordLinearBackwardArguments& arguments);

cudaError_t launch_coord_linear_backward(const CoordLinearBackwardArguments& arguments,
                                         cudaStream_t stream);

}  // namespace digan
