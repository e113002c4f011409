// Launcher of fir_resample: zero-insert, pad, filter and decimate images.

#pragma once

#include <cstdint>

#include "number.h"
#include "runtime.h"

namespace digan {

constexpr int64_t kMostFirTaps = 1 << 28;    // of a filter
constexpr int64_t kMostFirFactor = 1 << 20;  // up and down

// One axis of the images.
struct FirAxis {
  int64_t in, out;   // sizes
  int64_t up, down;  // 1 to kMostFirFactor
  int64_t pad;       // zeros in front; negative: crop
  int64_t taps;      // 1 without filter
};

struct FirTaps {
  int y, x;                            // numbers of taps
  int64_t stride_y = 0, stride_x = 0;  // in elements
  bool separable = false;              // the filter has one axis, x, and serves both
  bool flip = false;                   // correlation in place of convolution
  double gain = 1;
};

// In elements.
struct FirStrides {
  int64_t image, channel, y, x;
};

struct FirResampleArguments {
  Number number;  // of x and out
  const void* x;  // [images, channels, y.in, x_axis.in]
  void* out;      // [images, channels, y.out, x_axis.out]
  int64_t images, channels;
  FirStrides x_stride, out_stride;
  FirAxis y, x_axis;
  const void* filter = nullptr;         // [taps], [taps y, taps x], or none
  Number filter_number = Number::kF32;  // float32; for float64 images float32 or float64
  FirTaps taps;
};

// cudaErrorInvalidValue for taps or factors beyond the most.
cudaError_t launch_fir_resample(const FirResampleArguments& arguments, cudaStream_t stream);

}  // namespace digan
