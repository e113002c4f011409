// coord_chain: consecutive layers of a coordinate network, from embedding to picture.
// Formulas and meaning: digan/ops/coord_chain.py.

#pragma once

#include <cstdint>

#include "fourier_features.h"
#include "number.h"
#include "runtime.h"

namespace digan {

// All tensors are contiguous and begin at multiples of 16 bytes. The grid's `number` is that of
// weights and activations, bfloat16 or float16; its `wide` and its tables are float32, as are
// biases and pictures.
struct CoordChainArguments {
  FourierFeaturesGrid grid;
  int64_t channels = 0;              // C, a multiple of 8, at most kMostChainChannels
  int64_t layers = 0;                // L + 1
  int64_t outputs = 0;               // O, of `onward`: likewise, 0 where there is none
  uint32_t rgb_layers = 0;           // bit l: layer l has a layer to RGB
  const void* weight = nullptr;      // [B, C, 2F], 2F at most 256, F a multiple of 8
  const void* hidden = nullptr;      // [B, L, C, C], null where L is 0
  const void* onward = nullptr;      // [B, O, C], may be null
  const void* rgb_weight = nullptr;  // [B, R, 3, C]
  const void* bias = nullptr;        // [L + 1, C]
  const void* rgb_bias = nullptr;    // [R, 3]
  const void* skip = nullptr;        // [B, T, H/2, W/2, C], may be null
  const void* image = nullptr;       // [B, T, H/2, W/2, 3] with skip, else [B, T, H, W, 3], or null
  double alpha = 0;                  // slope of the layers below zero
  bool clamps = false;
  double clamp = 0;
  void* picture = nullptr;  // [B, T, H, W, 3]
  void* next = nullptr;     // [B, T, H, W, O], null where there is no `onward`
};

constexpr int64_t kMostChainChannels = 512;
constexpr int64_t kMostChainFrequencies = 128;
constexpr int64_t kMostChainLayers = 31;

// cudaErrorInvalidValue where an extent is none of those above, and the driver's error where the
// card has too little shared memory for them.
cudaError_t launch_coord_chain(const CoordChainArguments& arguments, cudaStream_t stream);

}  // namespace digan
