// The second stage of deterministic reductions: sums of partial sums, always in the same order.
//
// One launch serves several tensors of partial sums, as each is small. A block of 256 threads is
// a rectangle of lanes and neighbouring columns of one group. A lane adds every lanes-th part of
// its column, about eight of them and more only where 32 lanes are not enough, and shared memory
// adds the lanes. Sums are in float64: there are few parts, and they cancel.

#pragma once

#include <cstdint>

#include "vector.cuh"

namespace digan {

template <class S, class T>
struct SumTask {
  Global<const S> parts;  // [groups, count, columns]
  Global<T> out;          // [groups, columns] by the strides
  int64_t groups;
  int64_t count;
  int64_t columns;
  int64_t group_stride;
  int64_t column_stride;
  int64_t first_block = 0;  // set by sum_parts, like the one below
  int lanes = 1;            // a power of two
};

constexpr int kSumTasks = 6;
constexpr int kSumThreads = 256;
constexpr int kMostSumLanes = 32;  // leaves 8 columns, a whole 32-byte sector of floats
constexpr int kPartsOfALane = 8;

template <class S, class T>
struct SumTasks {
  SumTask<S, T> task[kSumTasks];
};

template <class S, class T>
__global__ void __launch_bounds__(kSumThreads) sum_parts_kernel(SumTasks<S, T> tasks) {
  DIGAN_SHARED(double, shared, kSumThreads);
  // The last task that begins at or before this block; constant indices keep it in registers.
  SumTask<S, T> task = tasks.task[0];
#pragma unroll
  for (int k = 1; k < kSumTasks; ++k) {
    if (static_cast<int64_t>(blockIdx.x) >= tasks.task[k].first_block) {
      task = tasks.task[k];
    }
  }
  const int columns = kSumThreads / task.lanes;  // of this block
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread / columns;
  const int64_t block = static_cast<int64_t>(blockIdx.x) - task.first_block;
  const int64_t tiles = (task.columns + columns - 1) / columns;
  const int64_t group = block / tiles;
  const int64_t column = block % tiles * columns + thread % columns;

  double sum = 0;
  if (column < task.columns) {
#pragma unroll 4
    for (int64_t part = lane; part < task.count; part += task.lanes) {
      sum += static_cast<double>(task.parts[(group * task.count + part) * task.columns + column]);
    }
  }
  shared[thread] = sum;
  for (int half = task.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) {
      sum += shared[thread + half * columns];
      shared[thread] = sum;
    }
  }
  if (lane == 0 && column < task.columns) {
    task.out[group * task.group_stride + column * task.column_stride] =
        narrow<T>(static_cast<Wide<T>>(sum));
  }
}

// Runs the given tasks, at most kSumTasks. A task without parts yields zeros.
template <class S, class T, int N>
cudaError_t sum_parts(const SumTask<S, T> (&given)[N], cudaStream_t stream) {
  static_assert(N <= kSumTasks, "raise kSumTasks");
  SumTasks<S, T> tasks{};
  int64_t blocks = 0;
  for (int k = 0; k < N; ++k) {
    SumTask<S, T>& task = tasks.task[k];
    task = given[k];
    while (task.lanes < kMostSumLanes && task.lanes * kPartsOfALane < task.count) {
      task.lanes *= 2;
    }
    task.first_block = blocks;
    blocks += task.groups * ceil_div(task.columns, kSumThreads / task.lanes);
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
  return DIGAN_LAUNCH((sum_parts_kernel<S, T>), static_cast<unsigned>(blocks), kSumThreads, stream,
                      tasks);
}

}  // namespace digan
