// factorized_modulation, forward.
//
// DESIGN
// U = weight * (1 + left @ right / sqrt(R)), W = U / (norm of each row + 1e-8). The rank is small
// (10), so the product is made where it is needed, R fused multiply-adds a number, and never
// written; the kernel is bound by the bytes of its output.
//
// A block takes kRows rows of one video, so that a 16-byte piece of `right` read from L1 serves
// kRows rows; a thread keeps its V columns of each in registers from the sum of squares to the
// division. Where a row is longer than the block, columns are made a second time instead: still
// one write. Bytes: the output once, weight and factors from L2. Shared memory: 32 numbers. Sums
// are in the tensors' type.

#include "factorized_modulation.h"

#include "factorized_modulation_tiles.cuh"

namespace digan {
namespace {

// Blocks of a multiprocessor: left alone, the compiler aims at four and spills on some cards;
// float64 takes two registers a number.
template <class T>
constexpr int kBlocks = sizeof(T) == 8 ? 1 : 2;

template <class T, int V>
__global__ void __launch_bounds__(kMostThreads, kBlocks<T>)
    factorized_modulation_kernel(Global<const T> weight,  // [O, I]
                                 Global<const T> left,    // [B, O, R]
                                 Global<const T> right,   // [B, R, I]
                                 Global<T> out,           // [B, O, I]
                                 Extents extents,
                                 int64_t row_blocks,  // per video
                                 bool demodulate) {
  DIGAN_SHARED(T, shared, kRows * kMostWarps);
  const RowBlock<V> block(extents, row_blocks);

  Tile<T, V> u = {};
  const auto make = [&](int64_t i) {
    u = multiplied(modulation<T, V>(left, right, extents, block.b, block.first, i),
                   load_tile<T, V>(weight, extents, block.first, i));
  };
  T factor[kRows] = {};
  if (demodulate) {
    for (int64_t i = block.begin; i < extents.inputs; i += block.chunk) {
      make(i);
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          factor[k] += u.v[k][v] * u.v[k][v];
        }
      }
    }
    sum_over_block(factor, shared);
  }
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    factor[k] = demodulate ? 1 / (root(factor[k]) + static_cast<T>(kEpsilon)) : T(1);
  }
  const Global<T> out_b = out + block.b * extents.outputs * extents.inputs;
  for (int64_t i = block.begin; i < extents.inputs; i += block.chunk) {
    if (!demodulate || !block.kept) {
      make(i);
    }
    Tile<T, V> w;
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        w.v[k][v] = u.v[k][v] * factor[k];
      }
    }
    store_tile<T, V>(out_b, extents, block.first, i, w);
  }
}

}  // namespace

cudaError_t launch_factorized_modulation(const FactorizedModulationArguments& a,
                                         cudaStream_t stream) {
  if (!is_served(a.number, a.rank)) {
    return cudaErrorInvalidValue;
  }
  const Extents extents = extents_of(a);
  const int64_t row_blocks = ceil_div(a.outputs, kRows);
  const int64_t blocks = a.videos * row_blocks;
  if (blocks == 0 || a.inputs == 0) {
    return cudaSuccess;
  }
  if (blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  const int vector = vector_of(a.number, a.inputs,
                               is_aligned(a.out) && is_aligned(a.weight) && is_aligned(a.right));
  return with_vector(a.number, vector, [&](auto t, auto v) {
    using T = decltype(t);
    return DIGAN_LAUNCH((factorized_modulation_kernel<T, decltype(v)::value>),
                        static_cast<unsigned>(blocks), threads_for(a.inputs, vector), stream,
                        static_cast<const T*>(a.weight), static_cast<const T*>(a.left),
                        static_cast<const T*>(a.right), static_cast<T*>(a.out), extents, row_blocks,
                        a.demodulate);
  });
}

}  // namespace digan
