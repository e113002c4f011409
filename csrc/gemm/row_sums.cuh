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

  // A block's batch is a part of a video: which video, its first slice, and how many of `all`.
  __device__ __forceinline__ int64_t video(int64_t batch) const { return batch / count; }
  __device__ __forceinline__ int first(int64_t batch) const {
    return static_cast<int>(batch % count) * slices;
  }
  __device__ __forceinline__ int left(int64_t batch, int all) const {
    return at_most(all - first(batch), slices);
  }
};

// Where the sums of a part go: to the result where a video has one part.
template <class T>
struct RowSums {
  RowParts parts;
  Global<T> dweight;                         // [videos, outputs, inputs]
  Global<Wide<T>> weight_parts, bias_parts;  // the latter null where nobody wants a dbias

  __device__ __forceinline__ void store(int64_t at,
                                        int count,
                                        bool whole,
                                        const Wide<T> (&values)[kPiece]) const {
    if (parts.count > 1) {
      store_piece(weight_parts + at, count, whole, values);
    } else {
      store_piece(dweight + at, count, whole, values);
    }
  }
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
// `factor` to `out`, of which `count` numbers exist. `shared` is free.
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
}

// `a` has the gradients and their workspaces under the names of ModulatedLinearBackwardArguments.
template <class T, class Arguments>
RowSums<T> row_sums_to(const Arguments& a, const RowParts& parts) {
  using W = Wide<T>;
  return {parts, static_cast<T*>(a.dweight), static_cast<W*>(a.weight_parts),
          static_cast<W*>(a.dbias != nullptr ? a.bias_parts : nullptr)};
}

// The second stage, of `count` parts of a video: dweight, M x N of each, where there are several,
// dbias where it is wanted. Without parts, both are zeros.
template <class T, class Arguments>
cudaError_t sum_row_parts(const Arguments& a,
                          const Extent& extent,
                          int64_t count,
                          cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t numbers = extent.m * extent.n;
  const SumTask<W, T> weight_sum[] = {{static_cast<const W*>(a.weight_parts),
                                       static_cast<T*>(a.dweight), count == 1 ? 0 : extent.batches,
                                       count, numbers, numbers, 1}};
  const cudaError_t error = sum_parts(weight_sum, stream);
  if (error != cudaSuccess || a.dbias == nullptr) {
    return error;
  }
  const SumTask<W, W> bias_sum[] = {{static_cast<const W*>(a.bias_parts), static_cast<W*>(a.dbias),
                                     1, extent.batches * count, extent.m, 0, 1}};
  return sum_parts(bias_sum, stream);
}

}  // namespace digan::gemm
