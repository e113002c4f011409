// bias_act, forward.
//
// DESIGN
// The tensor is one run of numbers, cut into packs of 16 bytes; a thread takes every stride-th
// pack and carries along the channel and the position that its pack starts at, so that no
// division stands in the loop and any extents keep 16-byte accesses. The next pack is loaded
// before the present one is worked on. With channels last the stride is a whole number of rows
// where it can be, and a thread then keeps its biases in registers. Moved: x once, out once. Only
// addresses that are no multiple of 16 take the same code with packs of one number. Registers: 64
// at most (packs of eight), so that four blocks share a multiprocessor.
//
// Rejected: templates over the activation (eleven times the code; the branch is uniform and taken
// once a pack).

#include "bias_act.h"

#include <algorithm>
#include <numeric>

#include "activation.cuh"
#include "bias_act_packs.cuh"

namespace digan {
namespace {

// Blocks of a multiprocessor, for the compiler to keep the registers below.
constexpr int kForwardBlocks = 4;

// Where a pack starts, and how far one stride of the grid takes it.
struct Walk {
  int64_t count;  // numbers in all
  int64_t channels, inner;
  int64_t step_channels;  // stride / inner % channels
  int64_t step_inner;     // stride % inner
};

// The biases of a pack's N numbers.
template <class T, int N>
__device__ __forceinline__ void load_bias(
    const Bias<T>& bias, const Walk& walk, int64_t channel, int64_t position, Wide<T> (&b)[N]) {
  if (position + N <= walk.inner) {
    const Wide<T> same = bias[channel];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      b[i] = same;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    b[i] = bias[channel];
    if (++position == walk.inner) {
      position = 0;
      channel = channel + 1 == walk.channels ? 0 : channel + 1;
    }
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, kForwardBlocks)
    bias_act_kernel(Global<const T> x,                // [count]
                    Global<const T> bias_own,         // [channels] or null
                    Global<const Wide<T>> bias_wide,  // [channels] or null
                    Global<T> out,                    // [count]
                    Walk walk,
                    Pointwise pointwise) {
  const Epilogue<T> epilogue(pointwise);
  const Bias<T> bias{bias_own, bias_wide};
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * N;
  int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (at >= walk.count) {
    return;
  }
  const bool has_bias = bias_own != nullptr || bias_wide != nullptr;
  const bool moves = has_bias && (walk.step_channels != 0 || walk.step_inner != 0);
  int64_t channel = 0;
  int64_t position = 0;
  Wide<T> b[N] = {};
  if (has_bias) {
    const int64_t row = at / walk.inner;
    position = at - row * walk.inner;
    channel = row % walk.channels;
    load_bias<T, N>(bias, walk, channel, position, b);
  }
  Several<T, N> pack = load_part<N, T>(x + at, walk.count - at);
  while (true) {
    const int64_t next = at + stride;
    Several<T, N> ahead = {};
    if (next < walk.count) {
      ahead = load_part<N, T>(x + next, walk.count - next);
    }
    Wide<T> z[N];
    widen_several<T, N>(pack, z);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      z[i] += b[i];
    }
    epilogue.apply(z);
    store_part<N, T>(out + at, narrow_several<T, N>(z), walk.count - at);
    if (next >= walk.count) {
      return;
    }
    at = next;
    pack = ahead;
    if (moves) {
      position += walk.step_inner;
      channel += walk.step_channels;
      if (position >= walk.inner) {
        position -= walk.inner;
        ++channel;
      }
      channel = channel >= walk.channels ? channel - walk.channels : channel;
      load_bias<T, N>(bias, walk, channel, position, b);
    }
  }
}

template <class T, int N>
cudaError_t run_forward(const BiasActArguments& a, cudaStream_t stream) {
  Walk walk;
  walk.count = a.outer * a.channels * a.inner;
  walk.channels = a.channels;
  walk.inner = a.inner;
  const int64_t packs = ceil_div(walk.count, N);
  int64_t blocks = ceil_div(packs, kThreads);
  if (blocks > kFullGrid) {
    blocks = std::max(kFullGrid, ceil_div(blocks, 4));
    // A stride of whole rows, so that threads keep their biases.
    const int64_t row = a.channels * a.inner;
    const int64_t multiple = row / std::gcd(row, static_cast<int64_t>(kThreads * N));
    if (a.bias != nullptr && multiple <= blocks) {
      blocks = ceil_div(blocks, multiple) * multiple;
    }
    blocks = std::min(blocks, kMaxBlocks);
  }
  const int64_t stride = blocks * kThreads * N;
  walk.step_inner = stride % a.inner;
  walk.step_channels = stride / a.inner % a.channels;
  using W = Wide<T>;
  return DIGAN_LAUNCH((bias_act_kernel<T, N>), static_cast<unsigned>(blocks), kThreads, stream,
                      static_cast<const T*>(a.x),
                      static_cast<const T*>(a.bias_is_wide ? nullptr : a.bias),
                      static_cast<const W*>(a.bias_is_wide ? a.bias : nullptr),
                      static_cast<T*>(a.out), walk, a.pointwise);
}

}  // namespace

cudaError_t launch_bias_act(const BiasActArguments& a, cudaStream_t stream) {
  if (is_empty(a)) {
    return cudaSuccess;
  }
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    return is_aligned(a.x) && is_aligned(a.out) ? run_forward<T, kVector<T>>(a, stream)
                                                : run_forward<T, 1>(a, stream);
  });
}

}  // namespace digan
