// fourier_features: sines and cosines of space-time phases, on a grid.
// Formulas and meaning: digan/ops/fourier_features.py.

#pragma once

#include <cstdint>

#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous. `wide` is the type of everything but features and their gradient:
// float64 or float32.
struct FourierFeaturesGrid {
  Number wide = Number::kF32;
  Number number = Number::kF32;  // of the features and of their gradient
  int64_t videos = 0;            // B
  int64_t frames = 0;            // T
  int64_t height = 0;            // H
  int64_t width = 0;             // W
  int64_t frequencies = 0;       // F
  const void* freq = nullptr;    // [B, F, 2]
  const void* phase = nullptr;   // [B, T, F]
  const void* y = nullptr;       // [H]
  const void* x = nullptr;       // [W]
  void* rows = nullptr;          // workspace [2, B, T, H, F], of `wide`, 16-byte aligned
  void* columns = nullptr;       // workspace [2, B, W, F], of `wide`, 16-byte aligned
};

struct FourierFeaturesArguments : FourierFeaturesGrid {
  void* out = nullptr;  // [B, T, H, W, 2F]
};

cudaError_t launch_fourier_features(const FourierFeaturesArguments& arguments, cudaStream_t stream);

struct FourierFeaturesBackwardArguments : FourierFeaturesGrid {
  const void* grad = nullptr;   // [B, T, H, W, 2F]
  void* phase_parts = nullptr;  // workspaces of `wide`, sizes below
  void* freq_x_parts = nullptr;
  void* freq_y_parts = nullptr;
  void* y_parts = nullptr;
  void* x_parts = nullptr;
  void* dfreq = nullptr;   // [B, F, 2]
  void* dphase = nullptr;  // [B, T, F]
  void* dy = nullptr;      // [H]
  void* dx = nullptr;      // [W]
};

// Sizes of the workspaces in numbers.
struct FourierFeaturesBackwardSizes {
  int64_t frequency_parts = 0;  // phase_parts, freq_x_parts and freq_y_parts each
  int64_t y_parts = 0;
  int64_t x_parts = 0;
};

// Needs the extents, the number types and `grad`: how the work is cut depends on its alignment.
FourierFeaturesBackwardSizes fourier_features_backward_sizes(
    const FourierFeaturesBackwardArguments& arguments);

cudaError_t launch_fourier_features_backward(const FourierFeaturesBackwardArguments& arguments,
                                             cudaStream_t stream);

}  // namespace digan
