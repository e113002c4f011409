// The second stage of deterministic reductions: sums of partial sums, always in the same order.
//
// One launch serves several tensors of partial sums, as each is small. A block of 8 warps takes
// 32 neighbouring columns of one group; a warp adds every eighth part, and shared memory adds
// the warps. Sums are in float64: there are few parts, and they cancel.

#pragma once

#include <cstdint>

#include "vector.cuh"

namespace digan {

template <class T>
struct SumTask {
  Global<const T> parts;  // [groups, count, columns]
  Global<T> out;          // [groups, columns] by the strides
  int64_t groups;
  int64_t count;
  int64_t columns;
  int64_t group_stride;
  int64_t column_stride;
  int64_t first_block;  // set by sum_parts
};

constexpr int kSumTasks = 6;
constexpr int kSumColumns = 32;
constexpr int kSumWarps = 8;

template <class T>
struct SumTasks {
  SumTask<T> task[kSumTasks];
};

template <class T>
__global__ void __launch_bounds__(kSumColumns* kSumWarps) sum_parts_kernel(SumTasks<T> tasks) {
  DIGAN_SHARED(double, shared, kSumColumns* kSumWarps);
  // The last task that begins at or before this block; constant indices keep it in registers.
  SumTask<T> task = tasks.task[0];
#pragma unroll
  for (int k = 1; k < kSumTasks; ++k) {
    if (static_cast<int64_t>(blockIdx.x) >= tasks.task[k].first_block) {
      task = tasks.task[k];
    }
  }
  const int64_t block = static_cast<int64_t>(blockIdx.x) - task.first_block;
  const int64_t tiles = (task.columns + kSumColumns - 1) / kSumColumns;
  const int64_t group = block / tiles;
  const int lane = static_cast<int>(threadIdx.x) % kSumColumns;
  const int warp = static_cast<int>(threadIdx.x) / kSumColumns;
  const int64_t column = (block % tiles) * kSumColumns + lane;

  double sum = 0;
  if (column < task.columns) {
    for (int64_t part = warp; part < task.count; part += kSumWarps) {
      sum += task.parts[(group * task.count + part) * task.columns + column];
    }
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  if (warp == 0 && column < task.columns) {
    double total = 0;
#pragma unroll
    for (int k = 0; k < kSumWarps; ++k) {
      total += shared[k * kSumColumns + lane];
    }
    task.out[group * task.group_stride + column * task.column_stride] = static_cast<T>(total);
  }
}

// Runs the given tasks, at most kSumTasks. A task without parts yields zeros.
template <class T, int N>
cudaError_t sum_parts(const SumTask<T> (&given)[N], cudaStream_t stream) {
  static_assert(N <= kSumTasks, "raise kSumTasks");
  SumTasks<T> tasks{};
  int64_t blocks = 0;
  for (int k = 0; k < N; ++k) {
    tasks.task[k] = given[k];
    tasks.task[k].first_block = blocks;
    blocks += given[k].groups * ceil_div(given[k].columns, kSumColumns);
  }
  for (int k = N; k < kSumTasks; ++k) {
    tasks.task[k].first_block = blocks;
  }
  if (blocks == 0) {
    return cudaSuccess;
  }
  if (blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return DIGAN_LAUNCH((sum_parts_kernel<T>), static_cast<unsigned>(blocks), kSumColumns * kSumWarps,
                      stream, tasks);
}

}  // namespace digan
