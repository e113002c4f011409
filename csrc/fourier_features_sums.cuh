// How the backward kernels of the features cut their work, and the sum they share.
//
// A block of 256 threads is a rectangle: `lanes` neighbouring threads (a power of two, at most
// 32) hold V frequencies each, and the 256 / lanes groups of lanes hold one position each, a
// column of the grid or a point. So neighbouring threads read neighbouring memory, and a warp
// holds whole groups.

#pragma once

#include <cstdint>

#include "vector.cuh"

namespace digan {

constexpr int kFeatureThreads = 256;
constexpr int kFeatureWarps = kFeatureThreads / 32;

struct FeatureLanes {
  int lanes = 1;
  int64_t tiles = 0;  // of frequencies: blocks side by side
};

inline FeatureLanes feature_lanes(int64_t frequencies, int vector) {
  FeatureLanes result;
  while (result.lanes < 32 && result.lanes * vector < frequencies) {
    result.lanes *= 2;
  }
  result.tiles = ceil_div(frequencies, static_cast<int64_t>(result.lanes) * vector);
  return result;
}

// How many numbers 16 bytes of features hold, where the kernels can move them so; else 1.
inline int feature_vector(Number wide, Number number, int64_t frequencies, const void* features) {
  const bool common = number == wide ||
                      (wide == Number::kF32 && (number == Number::kBF16 || number == Number::kF16));
  const int count = 16 / size_of(number);
  return common && frequencies % count == 0 && is_aligned(features) ? count : 1;
}

// The sum of value[v] over the positions of the block. Thread i < lanes * V gets the sum of
// frequency (i % lanes) * V + i / lanes of the tile; other threads get nothing of meaning.
//
// `shared` holds kFeatureWarps * 32 * V numbers. One barrier: whoever calls it twice in a row
// gives two different buffers in turn.
template <class S, int V, class Shared>
__device__ __forceinline__ S
sum_over_positions(S (&value)[V], int lanes, Shared& shared, int buffer) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  for (int offset = 16; offset >= lanes; offset /= 2) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      value[v] += __shfl_xor_sync(0xffffffffu, value[v], offset);
    }
  }
  const int begin = buffer * kFeatureWarps * 32 * V;
  if (lane < lanes) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      shared[begin + (thread / 32 * V + v) * lanes + lane] = value[v];
    }
  }
  __syncthreads();
  S total = 0;
  if (thread < lanes * V) {
#pragma unroll
    for (int warp = 0; warp < kFeatureWarps; ++warp) {
      total += shared[begin + warp * V * lanes + thread];
    }
  }
  return total;
}

// Calls function(S(), G(), vector) with the C++ types of `wide` and `number`, and the vector
// length as VectorOf. Returns what it returns.
template <class Function>
cudaError_t with_features(Number wide, Number number, int vector, const Function& function) {
  if (wide == Number::kF64) {
    if (number == Number::kF64 && vector > 1) {
      return function(double(), double(), VectorOf<2>());
    }
    return with_number(number, [&](auto g) { return function(double(), g, VectorOf<1>()); });
  }
  if (wide != Number::kF32) {
    return cudaErrorInvalidValue;
  }
  if (vector == 1) {
    return with_number(number, [&](auto g) { return function(float(), g, VectorOf<1>()); });
  }
  switch (number) {
    case Number::kF32:
      return function(float(), float(), VectorOf<4>());
    case Number::kBF16:
      return function(float(), bf16(), VectorOf<8>());
    case Number::kF16:
      return function(float(), f16(), VectorOf<8>());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace digan
