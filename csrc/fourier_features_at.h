// fourier_features_at: sines and cosines of phases at scattered points.
// Formulas and meaning: digan/ops/fourier_features_at.py.

#pragma once

#include <cstdint>

#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous. `wide` is the type of everything but features and their gradient:
// float64 or float32.
struct FourierFeaturesPoints {
  Number wide = Number::kF32;
  Number number = Number::kF32;  // of the features and of their gradient
  int64_t videos = 0;            // B
  int64_t points = 0;            // N
  int64_t frequencies = 0;       // F
  int64_t dimensions = 0;        // d, 1 to 4
  const void* freq = nullptr;    // [B, F, d]
  const void* phase = nullptr;   // [B, F]
  const void* coords = nullptr;  // [B, N, d]
};

struct FourierFeaturesAtArguments : FourierFeaturesPoints {
  void* out = nullptr;  // [B, N, 2F]
};

cudaError_t launch_fourier_features_at(const FourierFeaturesAtArguments& arguments,
                                       cudaStream_t stream);

struct FourierFeaturesAtBackwardArguments : FourierFeaturesPoints {
  const void* grad = nullptr;       // [B, N, 2F]
  void* frequency_parts = nullptr;  // workspaces of `wide`, sizes below
  void* coords_parts = nullptr;
  void* dfreq = nullptr;    // [B, F, d]
  void* dphase = nullptr;   // [B, F]
  void* dcoords = nullptr;  // [B, N, d]
};

// Sizes of the workspaces in numbers.
struct FourierFeaturesAtBackwardSizes {
  int64_t frequency_parts = 0;
  int64_t coords_parts = 0;
};

// Needs the extents, the number types and `grad`: how the work is cut depends on its alignment.
FourierFeaturesAtBackwardSizes fourier_features_at_backward_sizes(
    const FourierFeaturesAtBackwardArguments& arguments);

cudaError_t launch_fourier_features_at_backward(const FourierFeaturesAtBackwardArguments& arguments,
                                                cudaStream_t stream);

}  // namespace digan
