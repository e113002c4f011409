// The gradient of pre-activations as wgmma's A, made in registers from grad and out.
//
// A stage holds a slice of grad, one of out where that tells slopes, and one of B: boxes of lines
// of 128 bytes, of 16-bit numbers.

#pragma once

#include <cstring>

#include "gemm/hopper/products.cuh"
#include "gemm/slope.cuh"

namespace digan::gemm::hopper {

constexpr int kOfGradient = kTileRows * kLine;  // bytes of a slice of grad, or of out
constexpr int kOfB = kTileColumns * kLine;
constexpr int kB = 2 * kOfGradient;  // where B begins in a stage
using GradientRing = Ring<3, 2 * kOfGradient + kOfB, kConsumerWarps>;

// Four words of grad times the slopes that those of out tell. Which numbers they are is all one.
template <class T>
__device__ __forceinline__ void apply(const Slope<T, true>& slope,
                                      uint32_t (&grad)[4],
                                      const uint32_t (&out)[4]) {
  Vec16<T> numbers, outputs;
  memcpy(numbers.v, grad, 16);
  memcpy(outputs.v, out, 16);
  numbers = slope(numbers, outputs);
  memcpy(grad, numbers.v, 16);
}

// The copying thread's part of a tile: `load(stage, barrier, k)` starts a slice's copies.
template <class Load>
__device__ __forceinline__ void copy_slices(const GradientRing& ring,
                                            RingPlace<GradientRing>& place,
                                            int slices,
                                            bool slopes,
                                            const Load& load) {
  for (int k = 0; k < slices; ++k, place.advance()) {
    const int bytes = GradientRing::kStageBytes - (slopes ? 0 : kOfGradient);
    const Shared<unsigned char> stage = ring.fill(place, bytes);
    load(stage, ring.full(place), k);
  }
}

}  // namespace digan::gemm::hopper
