// DESIGN
//
// Forward. The tensor is one run of numbers, cut into packs of 16 bytes; a thread takes every
// stride-th pack and carries along the channel and the position that its pack starts at, so
// that no division stands in the loop and any extents keep 16-byte accesses. The next pack is
// loaded before the present one is worked on. With channels last the stride is a whole number
// of rows where it can be, and a thread then keeps its biases in registers. Moved: x once, out
// once. Only addresses that are no multiple of 16 take the same code with packs of one number.
//
// Backward. dx needs no more than that, but dbias sums over all but the channels, so threads are
// bound to channels:
//   rows    (inner = 1)  a thread owns the N channels of one pack, walks down the rows and sums
//                        in N registers; the block then adds its rows in shared memory;
//   planes  (inner > 1)  a group of 1 to 256 threads owns one channel, walks over its planes
//                        and sums in one register; the group then adds in shared memory.
// Each block writes one row of partial sums [parts, channels], which a second kernel adds in
// fixed order: results do not depend on the order of blocks, nor on the device. Moved: grad and
// kept once, dx once, and partial sums of at most a few thousand rows. Without bias, planes runs
// with one channel and sums nothing.
//
// Shared memory: 256 sums a pack position (8 KiB for 16-bit numbers). Registers: forward 64 at
// most, backward 80 (both for packs of eight), so that four and three blocks share a
// multiprocessor.
//
// Rejected: atomic adds for dbias (not deterministic); one block per channel (a few blocks for
// few channels); templates over the activation (eleven times the code; the branch is uniform and
// taken once a pack).

#include "bias_act.h"

#include <algorithm>
#include <numeric>

#include "activation.cuh"
#include "numbers.cuh"
#include "platform.cuh"
#include "vector.cuh"
#include "widen.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;

// The numbers of a 16-byte access.
template <class T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));

// Blocks of a multiprocessor, for the compiler to keep the registers below.
constexpr int kForwardBlocks = 4;
constexpr int kBackwardBlocks = 3;

// Blocks that fill any device; beyond that, threads take more.
constexpr int64_t kFullGrid = 1024;

constexpr int kSumChannels = 8;  // of one block of the second stage: a 32-byte sector of floats
constexpr int kSumLanes = kThreads / kSumChannels;

// A bias in x's numbers or in sums, or none; x's numbers are what is added.
template <class T>
struct Bias {
  Global<const T> own;
  Global<const Wide<T>> wide;

  __device__ __forceinline__ Wide<T> operator[](int64_t channel) const {
    if (wide != nullptr) {
      return widen(narrow<T>(wide[channel]));
    }
    return own != nullptr ? widen(own[channel]) : Wide<T>(0);
  }
};

// As many numbers of a pack as the tensor still has; zeros behind.
template <int N, class T>
__device__ __forceinline__ Several<T, N> load_part(Global<const T> from, int64_t left) {
  if (left >= N) {
    return load_several<N, T>(from);
  }
  Several<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < left) {
      pack.v[i] = from[i];
    } else {
      pack.v[i] = narrow<T>(Wide<T>(0));
    }
  }
  return pack;
}

template <int N, class T>
__device__ __forceinline__ void store_part(Global<T> to, const Several<T, N>& pack, int64_t left) {
  if (left >= N) {
    store_several<N, T>(to, pack);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < left) {
      to[i] = pack.v[i];
    }
  }
}

// ---------------------------------------------------------------- forward

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

// ---------------------------------------------------------------- backward

// dx of one pack, which stays in `grad` for the sums.
template <class T, int N>
__device__ __forceinline__ Several<T, N> pull_back_pack(const Epilogue<T>& epilogue,
                                                        bool kept_is_output,
                                                        const Several<T, N>& grad_pack,
                                                        const Several<T, N>& kept_pack,
                                                        const Wide<T> (&b)[N],
                                                        Wide<T> (&grad)[N]) {
  Wide<T> kept[N];
  widen_several<T, N>(grad_pack, grad);
  widen_several<T, N>(kept_pack, kept);
  if (kept_is_output) {
    epilogue.pull_back_from_output(grad, kept);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      kept[i] += b[i];
    }
    epilogue.pull_back(grad, kept);
  }
  return narrow_several<T, N>(grad);
}

// How a matrix [rows, channels] is cut: a block has `columns` packs times `lanes` rows.
struct RowsCut {
  int64_t rows, channels;
  int columns, lanes;
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    bias_act_rows_kernel(Global<const T> grad,             // [rows, channels]
                         Global<const T> kept,             // [rows, channels]
                         Global<const T> bias_own,         // [channels] or null
                         Global<const Wide<T>> bias_wide,  // [channels] or null
                         Global<T> dx,                     // [rows, channels]
                         Global<Wide<T>> partial,          // [gridDim.y, channels]
                         RowsCut cut,
                         bool kept_is_output,
                         Pointwise pointwise) {
  using W = Wide<T>;
  DIGAN_SHARED(W, sums, kThreads * N);
  const Epilogue<T> epilogue(pointwise);
  const Bias<T> bias{bias_own, bias_wide};
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % cut.columns;
  const int lane = thread / cut.columns;
  const int64_t channel = (static_cast<int64_t>(blockIdx.x) * cut.columns + column) * N;
  W sum[N] = {};
  if (lane < cut.lanes && channel < cut.channels) {
    W b[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      b[i] = bias[channel + i];
    }
    const int64_t step = static_cast<int64_t>(gridDim.y) * cut.lanes;
    for (int64_t row = static_cast<int64_t>(blockIdx.y) * cut.lanes + lane; row < cut.rows;
         row += step) {
      const int64_t at = row * cut.channels + channel;
      W d[N];
      store_several<N, T>(
          dx + at, pull_back_pack<T, N>(epilogue, kept_is_output, load_several<N, T>(grad + at),
                                        load_several<N, T>(kept + at), b, d));
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sum[i] += d[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sums[i * kThreads + thread] = sum[i];
  }
  __syncthreads();
  for (int live = cut.lanes; live > 1;) {
    const int half = (live + 1) / 2;
    if (lane + half < live) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sums[i * kThreads + thread] += sums[i * kThreads + thread + half * cut.columns];
      }
    }
    __syncthreads();
    live = half;
  }
  if (lane == 0 && channel < cut.channels) {
    const Global<W> to = partial + (static_cast<int64_t>(blockIdx.y) * cut.channels + channel);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      to[i] = sums[i * kThreads + thread];
    }
  }
}

// How [outer, channels, inner] is cut: `group` threads, a power of two, have one channel; a
// plane is `chunks` times the group's packs.
struct PlanesCut {
  int64_t outer, channels, inner;
  int64_t chunks;
  int group;
  int64_t step_outer, step_chunks;  // gridDim.y / chunks, gridDim.y % chunks
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks)
    bias_act_planes_kernel(Global<const T> grad,             // [outer, channels, inner]
                           Global<const T> kept,             // [outer, channels, inner]
                           Global<const T> bias_own,         // [channels] or null
                           Global<const Wide<T>> bias_wide,  // [channels] or null
                           Global<T> dx,                     // [outer, channels, inner]
                           Global<Wide<T>> partial,          // [gridDim.y, channels] or null
                           PlanesCut cut,
                           bool kept_is_output,
                           Pointwise pointwise) {
  using W = Wide<T>;
  DIGAN_SHARED(W, sums, kThreads);
  const Epilogue<T> epilogue(pointwise);
  const Bias<T> bias{bias_own, bias_wide};
  const int thread = static_cast<int>(threadIdx.x);
  const int member = thread % cut.group;
  const int64_t channel =
      static_cast<int64_t>(blockIdx.x) * (kThreads / cut.group) + thread / cut.group;
  W sum = 0;
  if (channel < cut.channels) {
    const W same = bias[channel];
    W b[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      b[i] = same;
    }
    int64_t outer = blockIdx.y / cut.chunks;
    int64_t chunk = blockIdx.y - outer * cut.chunks;
    while (outer < cut.outer) {
      const int64_t position = (chunk * cut.group + member) * N;
      const int64_t left = cut.inner - position;
      if (left > 0) {
        const int64_t at = (outer * cut.channels + channel) * cut.inner + position;
        W d[N];
        store_part<N, T>(
            dx + at,
            pull_back_pack<T, N>(epilogue, kept_is_output, load_part<N, T>(grad + at, left),
                                 load_part<N, T>(kept + at, left), b, d),
            left);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          sum += d[i];  // behind the end grad is 0
        }
      }
      outer += cut.step_outer;
      chunk += cut.step_chunks;
      if (chunk >= cut.chunks) {
        chunk -= cut.chunks;
        ++outer;
      }
    }
  }
  if (partial == nullptr) {
    return;
  }
  sums[thread] = sum;
  __syncthreads();
  for (int half = cut.group / 2; half > 0; half /= 2) {
    if (member < half) {
      sums[thread] += sums[thread + half];
    }
    __syncthreads();
  }
  if (member == 0 && channel < cut.channels) {
    partial[static_cast<int64_t>(blockIdx.y) * cut.channels + channel] = sums[thread];
  }
}

// The second stage: columns of partial sums, in a fixed order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_act_sum_kernel(Global<const Wide<T>> partial,  // [parts, channels]
                        Global<T> own,                  // [channels] or null
                        Global<Wide<T>> wide,           // [channels] or null
                        int64_t parts,
                        int64_t channels) {
  using W = Wide<T>;
  DIGAN_SHARED(W, sums, kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread / kSumChannels;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kSumChannels + thread % kSumChannels;
  W sum = 0;
  if (channel < channels) {
#pragma unroll 4
    for (int64_t part = lane; part < parts; part += kSumLanes) {
      sum += partial[part * channels + channel];
    }
  }
  sums[thread] = sum;
  __syncthreads();
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    if (lane < half) {
      sums[thread] += sums[thread + half * kSumChannels];
    }
    __syncthreads();
  }
  if (lane == 0 && channel < channels) {
    if (wide != nullptr) {
      wide[channel] = sums[thread];
    } else {
      own[channel] = narrow<T>(sums[thread]);
    }
  }
}

// The grid of the first stage; its y is the number of parts.
struct Grid {
  bool rows;
  bool packs;  // of 16 bytes; else of one number
  RowsCut rows_cut;
  PlanesCut planes_cut;
  int64_t x, y;
};

// The same for the workspace's size and for the launch: it depends on extents and addresses only.
Grid grid_of(const BiasActBackwardArguments& a) {
  Grid grid = {};
  const int vector = 16 / size_of(a.number);
  const bool aligned = is_aligned(a.grad) && is_aligned(a.kept) && is_aligned(a.dx);
  const bool sums = a.bias != nullptr;
  grid.rows = sums && a.inner == 1;
  if (grid.rows) {
    grid.packs = aligned && a.channels % vector == 0;
    const int64_t columns = a.channels / (grid.packs ? vector : 1);
    RowsCut& cut = grid.rows_cut;
    cut.rows = a.outer;
    cut.channels = a.channels;
    cut.columns = static_cast<int>(std::min<int64_t>(columns, kThreads));
    cut.lanes = kThreads / cut.columns;
    grid.x = ceil_div(columns, cut.columns);
    grid.y = std::min(ceil_div(a.outer, cut.lanes), ceil_div(kFullGrid, grid.x));
    return grid;
  }
  PlanesCut& cut = grid.planes_cut;
  cut.outer = sums ? a.outer : 1;
  cut.channels = sums ? a.channels : 1;
  cut.inner = sums ? a.inner : a.outer * a.channels * a.inner;
  grid.packs = aligned && (cut.inner % vector == 0 || cut.outer * cut.channels == 1);
  const int64_t members = ceil_div(cut.inner, grid.packs ? vector : 1);
  cut.group = 1;
  while (cut.group < members && cut.group < kThreads) {
    cut.group *= 2;
  }
  cut.chunks = ceil_div(members, cut.group);
  const int64_t items = cut.outer * cut.chunks;
  grid.x = ceil_div(cut.channels, kThreads / cut.group);
  // Without sums many small blocks balance best.
  const int64_t most = sums ? ceil_div(kFullGrid, grid.x) : std::max(kFullGrid, ceil_div(items, 4));
  grid.y = std::min({items, most, int64_t{65535}});
  cut.step_outer = grid.y / cut.chunks;
  cut.step_chunks = grid.y % cut.chunks;
  return grid;
}

template <class T, int N>
cudaError_t run_backward(const BiasActBackwardArguments& a, const Grid& grid, cudaStream_t stream) {
  using W = Wide<T>;
  const T* grad = static_cast<const T*>(a.grad);
  const T* kept = static_cast<const T*>(a.kept);
  const T* bias_own = static_cast<const T*>(a.bias_is_wide ? nullptr : a.bias);
  const W* bias_wide = static_cast<const W*>(a.bias_is_wide ? a.bias : nullptr);
  T* dx = static_cast<T*>(a.dx);
  W* partial = static_cast<W*>(a.bias == nullptr ? nullptr : a.workspace);
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  if (grid.rows) {
    return DIGAN_LAUNCH((bias_act_rows_kernel<T, N>), blocks, kThreads, stream, grad, kept,
                        bias_own, bias_wide, dx, partial, grid.rows_cut, a.kept_is_output,
                        a.pointwise);
  }
  return DIGAN_LAUNCH((bias_act_planes_kernel<T, N>), blocks, kThreads, stream, grad, kept,
                      bias_own, bias_wide, dx, partial, grid.planes_cut, a.kept_is_output,
                      a.pointwise);
}

template <class T>
cudaError_t run_sum(const BiasActBackwardArguments& a, int64_t parts, cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t blocks = ceil_div(a.channels, kSumChannels);
  return DIGAN_LAUNCH((bias_act_sum_kernel<T>), static_cast<unsigned>(blocks), kThreads, stream,
                      static_cast<const W*>(a.workspace),
                      static_cast<T*>(a.bias_is_wide ? nullptr : a.dbias),
                      static_cast<W*>(a.bias_is_wide ? a.dbias : nullptr), parts, a.channels);
}

}  // namespace

cudaError_t launch_bias_act(const BiasActArguments& a, cudaStream_t stream) {
  if (a.outer == 0 || a.channels == 0 || a.inner == 0) {
    return cudaSuccess;
  }
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    return is_aligned(a.x) && is_aligned(a.out) ? run_forward<T, kVector<T>>(a, stream)
                                                : run_forward<T, 1>(a, stream);
  });
}

int64_t bias_act_workspace(const BiasActBackwardArguments& a) {
  if (a.bias == nullptr || a.outer == 0 || a.channels == 0 || a.inner == 0) {
    return 0;
  }
  return grid_of(a).y * a.channels * (a.number == Number::kF64 ? 8 : 4);
}

cudaError_t launch_bias_act_backward(const BiasActBackwardArguments& a, cudaStream_t stream) {
  if (a.outer == 0 || a.channels == 0 || a.inner == 0) {
    return cudaSuccess;
  }
  const Grid grid = grid_of(a);
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    const cudaError_t error = grid.packs ? run_backward<T, kVector<T>>(a, grid, stream)
                                         : run_backward<T, 1>(a, grid, stream);
    return error != cudaSuccess || a.bias == nullptr ? error : run_sum<T>(a, grid.y, stream);
  });
}

}  // namespace digan
