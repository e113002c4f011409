// What both directions of factorized_modulation share: how a block is cut, tiles of kRows rows
// and V columns in registers, the modulation itself, and sums over a block.

#pragma once

#include <cmath>

#include "factorized_modulation.h"
#include "vector.cuh"

namespace digan {

constexpr int kRows = 4;
constexpr int kMostThreads = 256;
constexpr int kMostWarps = kMostThreads / 32;
constexpr double kEpsilon = 1e-8;

struct Extents {
  int64_t videos, outputs, inputs, rank;
  double scale;  // 1 / sqrt(rank)
};

__device__ __forceinline__ float root(float x) {
  return sqrtf(x);
}
__device__ __forceinline__ double root(double x) {
  return sqrt(x);
}

// A row that exists: rows of a block beyond the last stand on the last, and are not stored.
__device__ __forceinline__ int64_t row_of(int64_t first, int k, const Extents& extents) {
  return first + k < extents.outputs ? first + k : extents.outputs - 1;
}

// The rows of one block, and the columns of one thread.
template <int V>
struct RowBlock {
  int64_t b;      // video
  int64_t first;  // row
  int64_t begin;  // column; the next are `chunk` further
  int64_t chunk;
  bool kept;  // a thread meets one piece of a row, so that it stays in registers

  __device__ __forceinline__ RowBlock(const Extents& extents, int64_t row_blocks)
      : b(blockIdx.x / row_blocks),
        first(blockIdx.x % row_blocks * kRows),
        begin(static_cast<int64_t>(threadIdx.x) * V),
        chunk(static_cast<int64_t>(blockDim.x) * V),
        kept(extents.inputs <= chunk) {}
};

template <class T, int V>
struct Tile {
  T v[kRows][V];
};

// 1 + left @ right / sqrt(R) for kRows rows from `first` and V columns from `i`, of one video.
template <class T, int V>
__device__ __forceinline__ Tile<T, V> modulation(Global<const T> left,   // [B, O, R]
                                                 Global<const T> right,  // [B, R, I]
                                                 const Extents& extents,
                                                 int64_t b,
                                                 int64_t first,
                                                 int64_t i) {
  Tile<T, V> sum = {};
  for (int64_t r = 0; r < extents.rank; ++r) {
    const Several<T, V> column =
        load_several<V>(right + ((b * extents.rank + r) * extents.inputs + i));
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t row = b * extents.outputs + row_of(first, k, extents);
      const T factor = left[row * extents.rank + r];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        sum.v[k][v] += factor * column.v[v];
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      sum.v[k][v] = 1 + sum.v[k][v] * static_cast<T>(extents.scale);
    }
  }
  return sum;
}

// kRows rows, V columns, of a matrix [O, I].
template <class T, int V>
__device__ __forceinline__ Tile<T, V> load_tile(Global<const T> matrix,
                                                const Extents& extents,
                                                int64_t first,
                                                int64_t i) {
  Tile<T, V> tile;
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    const Several<T, V> row =
        load_several<V>(matrix + (row_of(first, k, extents) * extents.inputs + i));
#pragma unroll
    for (int v = 0; v < V; ++v) {
      tile.v[k][v] = row.v[v];
    }
  }
  return tile;
}

template <class T, int V>
__device__ __forceinline__ void store_tile(
    Global<T> matrix, const Extents& extents, int64_t first, int64_t i, const Tile<T, V>& tile) {
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    if (first + k < extents.outputs) {
      Several<T, V> row;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        row.v[v] = tile.v[k][v];
      }
      store_several(matrix + ((first + k) * extents.inputs + i), row);
    }
  }
}

template <class T, int V>
__device__ __forceinline__ Tile<T, V> multiplied(const Tile<T, V>& a, const Tile<T, V>& b) {
  Tile<T, V> product;
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      product.v[k][v] = a.v[k][v] * b.v[k][v];
    }
  }
  return product;
}

// Replaces every value by its sum over the block. `shared` holds N * kMostWarps numbers.
template <int N, class T, class Shared>
__device__ __forceinline__ void sum_over_block(T (&value)[N], Shared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      value[n] += __shfl_xor_sync(0xffffffffu, value[n], offset);
    }
    if (thread % 32 == 0) {
      shared[thread / 32 * N + n] = value[n];
    }
  }
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    value[n] = 0;
    for (int warp = 0; warp < warps; ++warp) {
      value[n] += shared[warp * N + n];
    }
  }
}

// ---------------------------------------------------------------- on the host

inline Extents extents_of(const FactorizedModulationInputs& a) {
  return {a.videos, a.outputs, a.inputs, a.rank, 1 / std::sqrt(static_cast<double>(a.rank))};
}

inline bool is_served(Number number, int64_t rank) {
  return (number == Number::kF32 || number == Number::kF64) && rank >= 1;
}

// Threads of a block over columns, V each: whole warps, no more than one row needs.
inline unsigned threads_for(int64_t inputs, int vector) {
  const int64_t warps = ceil_div(inputs, 32 * static_cast<int64_t>(vector));
  return static_cast<unsigned>(warps < 1 ? 32 : warps < kMostWarps ? warps * 32 : kMostThreads);
}

inline int vector_of(Number number, int64_t inputs, bool aligned) {
  const int count = 16 / size_of(number);
  return aligned && inputs % count == 0 ? count : 1;
}

// Calls function(T(), V as VectorOf).
template <class Function>
cudaError_t with_vector(Number number, int vector, const Function& function) {
  if (number == Number::kF64) {
    return vector == 1 ? function(double(), VectorOf<1>()) : function(double(), VectorOf<2>());
  }
  return vector == 1 ? function(float(), VectorOf<1>()) : function(float(), VectorOf<4>());
}

}  // namespace digan
