// Products whose reduced axis is long, all rows of a video: how it is split, and what is summed
// beside the product.

#pragma once

#include "gemm/problem.cuh"
#include "sums.cuh"

namespace digan::gemm {

// The reduced axis in `count` parts of `slices` slices, the last of which may be shorter.
struct RowParts {
  int count = 1;
  int slices = 0;
};

// So many parts that two rounds of blocks fill the card, but none of fewer than 16 slices: a
// part's sums are written and read once more.
inline RowParts row_parts(int64_t blocks, int64_t slices) {
  constexpr int64_t kFewest = 16;
  const int64_t wanted = blocks > 0 ? ceil_div(2 * multiprocessors(), blocks) : 1;
  const int64_t most = slices / kFewest > 1 ? slices / kFewest : 1;
  const int64_t count = wanted < most ? wanted : most;
  RowParts parts;
  parts.slices = static_cast<int>(ceil_div(slices > 0 ? slices : 1, count));
  parts.count = static_cast<int>(ceil_div(slices > 0 ? slices : 1, parts.slices));
  return parts;
}

// What the threads of a block summed of their kept columns, added in a fixed order and times
// `factor` to `out`, of which `count` numbers exist. `shared` is free before, and after.
template <class Shape, class Operand, class W>
__device__ __forceinline__ void store_row_sums(
    const Operand& operand, Shared<W> shared, Global<W> out, int count, W factor) {
  using Share = typename Operand::Share;
  constexpr int kWidth = kChunk<typename Operand::T>;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    shared[Share::row(0) * Shape::kM + Share::chunk() * kWidth + j] = operand.sum(j);
  }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x);
  if (column < Shape::kM && column < count) {
    W sum = 0;
#pragma unroll
    for (int row = 0; row < Share::kRowsAtOnce; ++row) {
      sum += shared[row * Shape::kM + column];
    }
    out[column] = sum * factor;
  }
  __syncthreads();
}

// The second stage: dweight [videos, outputs, inputs] where there are several parts of a video,
// dbias [outputs] where it is wanted. Without parts, both are zeros.
template <class T>
cudaError_t sum_row_parts(int64_t videos,
                          int64_t count,
                          int64_t outputs,
                          int64_t inputs,
                          const void* weight_parts,
                          void* dweight,
                          const void* bias_parts,
                          void* dbias,
                          cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t numbers = outputs * inputs;
  const SumTask<W, T> weight_sum[] = {{static_cast<const W*>(weight_parts),
                                       static_cast<T*>(dweight), count == 1 ? 0 : videos, count,
                                       numbers, numbers, 1}};
  const cudaError_t error = sum_parts(weight_sum, stream);
  if (error != cudaSuccess || dbias == nullptr) {
    return error;
  }
  const SumTask<W, W> bias_sum[] = {{static_cast<const W*>(bias_parts), static_cast<W*>(dbias), 1,
                                     videos * count, outputs, 0, 1}};
  return sum_parts(bias_sum, stream);
}

}  // namespace digan::gemm
