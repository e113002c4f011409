// bias_act, first gradients.
//
// DESIGN
// dx needs no more than the forward pass, but dbias sums over all but the channels, so threads are
// bound to channels:
//   rows    (inner = 1)  a thread owns the N channels of one pack, walks down the rows and sums
//                        in N registers; the block then adds its rows in shared memory;
//   planes  (inner > 1)  a group of 1 to 256 threads owns one channel, walks over its planes
//                        and sums in one register; the group then adds in shared memory.
// Each block writes one row of partial sums [parts, channels], which sums.cuh adds in fixed
// order: results do not depend on the order of blocks, nor on the device. Moved: grad and kept
// once, dx once, and partial sums of at most a few thousand rows. Without bias, planes runs with
// one channel and sums nothing.
//
// Shared memory: 256 sums a pack position (8 KiB for 16-bit numbers). Registers: 80 at most (packs
// of eight), so that three blocks share a multiprocessor.
//
// Rejected: atomic adds for dbias (not deterministic); one block per channel (a few blocks for
// few channels).

#include <algorithm>

#include "activation.cuh"
#include "bias_act.h"
#include "bias_act_packs.cuh"
#include "sums.cuh"

namespace digan {
namespace {

// Blocks of a multiprocessor, for the compiler to keep the registers below; float64, which takes
// two registers a number, would spill.
template <class T>
constexpr int kBackwardBlocks = sizeof(T) == 8 ? 2 : 3;

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
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<T>)
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
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<T>)
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
  const W* const partial = static_cast<const W*>(a.workspace);
  if (a.bias_is_wide) {
    const SumTask<W, W> tasks[] = {{partial, static_cast<W*>(a.dbias), 1, parts, a.channels, 0, 1}};
    return sum_parts(tasks, stream);
  }
  const SumTask<W, T> tasks[] = {{partial, static_cast<T*>(a.dbias), 1, parts, a.channels, 0, 1}};
  return sum_parts(tasks, stream);
}

}  // namespace

int64_t bias_act_workspace(const BiasActBackwardArguments& a) {
  if (a.bias == nullptr || is_empty(a)) {
    return 0;
  }
  return grid_of(a).y * a.channels * (a.number == Number::kF64 ? 8 : 4);
}

cudaError_t launch_bias_act_backward(const BiasActBackwardArguments& a, cudaStream_t stream) {
  if (is_empty(a)) {
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
