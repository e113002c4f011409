// DESIGN
//
// out[o] = gain * sum_k w[k] u[o * down + k - pad], u being x with up - 1 zeros behind every
// sample: sample i meets tap k = i * up - (o * down - pad). So a thread runs over the samples
// that have such a tap and never sees an inserted or padded zero.
//
// A thread makes a strip of four outputs along y. It runs over the rows of x under the strip
// once; of a separable filter it sums a row horizontally and gives that to all four, so an output
// of a 4 x 4 filter costs 11 multiply-adds and 7 loads in place of 16 and 16. Other filters are
// summed for each output of the strip.
//
//   channels last   a thread has the N channels of a 16-byte pack; neighbours have the next
//                   channels, so every access is whole and a warp's taps are mostly the same;
//   tiles           rows of contiguous numbers, up and down of 1 or 2, up to 8 taps: a block
//                   makes 32 x 32 outputs of one plane from a tile of x, widened and padded with
//                   zeros in shared memory;
//   anything        one channel a thread, any strides, any filter.
//
// Taps, flipped and with the gain, are put in shared memory by every block, up to 1024 numbers;
// larger filters are read from global memory. Moved: x once (rows under two strips come from
// the caches), out once. Shared memory: 4 KiB of taps (8 in float64); a tile has 70 x 71 numbers,
// 20 KiB (39 KiB in float64). Registers: strips 80 to 128, tiles 64.
//
// Rejected: two passes for separable filters (twice the bytes, which bound this op at 4 taps);
// filters in constant memory (a copy before every launch, not capturable in a graph).

#include "fir_resample.h"

#include <algorithm>

#include "widen.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;

constexpr int kStrip = 4;  // outputs of a thread
constexpr int kSharedTaps = 1024;

constexpr int kTileX = 32;  // outputs of a block; a warp has a row of strips
constexpr int kTileY = kThreads / kTileX * kStrip;
constexpr int kTileTaps = 8;
constexpr int kTileFactor = 2;  // largest up and down
constexpr int kTileRows = (kTileY - 1) * kTileFactor + kTileTaps;
constexpr int kTileColumns = (kTileX - 1) * kTileFactor + kTileTaps;
constexpr int kTilePitch = kTileColumns | 1;

__device__ __forceinline__ int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
__device__ __forceinline__ int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// Any a, b >= 1; divides in 32 bits where that is enough.
__device__ __forceinline__ int64_t floor_div(int64_t a, int64_t b) {
  if (b == 1) {
    return a;
  }
  const int64_t shifted = a < 0 ? a - (b - 1) : a;
  const int narrow = static_cast<int>(shifted);
  return shifted == narrow ? narrow / static_cast<int>(b) : shifted / b;
}

// ---------------------------------------------------------------- taps

// As weights of a correlation. Of a separable filter the table has the taps of a row, which
// carry the gain, and behind them those of a column; otherwise it is [taps y, taps x].
template <class F>
struct Table {
  Global<const F> filter;  // null: one tap of 1
  FirTaps taps;

  __device__ __forceinline__ int size() const {
    return taps.separable ? 2 * taps.x : taps.y * taps.x;
  }
  __device__ __forceinline__ F operator[](int index) const {
    // The gain is rounded with the taps, in the filter's precision.
    const F gain = static_cast<F>(taps.separable && index >= taps.x ? 1. : taps.gain);
    if (filter == nullptr) {
      return gain;
    }
    const int row = index / taps.x;
    const int column = index - row * taps.x;
    const int64_t y = taps.separable ? 0 : taps.flip ? row : taps.y - 1 - row;
    const int64_t x = taps.flip ? column : taps.x - 1 - column;
    return filter[y * taps.stride_y + x * taps.stride_x] * gain;
  }
};

// ---------------------------------------------------------------- one strip

// The samples under some outputs of an axis, and the taps that they meet.
struct Span {
  int64_t first;  // sample
  int count;      // of samples
  int tap;        // that the first sample meets in the first output; the next meets tap + up
};

// Samples outside of [low, high] are left out.
__device__ __forceinline__ Span
span_of(const FirAxis& axis, int64_t output, int outputs, int64_t low, int64_t high) {
  const int64_t base = output * axis.down - axis.pad;
  const int64_t end = base + static_cast<int64_t>(outputs - 1) * axis.down + axis.taps - 1;
  const int64_t first = larger(low, floor_div(base + axis.up - 1, axis.up));
  const int64_t last = smaller(high, floor_div(end, axis.up));
  if (last < first) {
    return {0, 0, 0};
  }
  return {first, static_cast<int>(last - first + 1), static_cast<int>(first * axis.up - base)};
}

// Adds to kStrip outputs what is under them. read(i, j, value) gives the i-th row's j-th sample.
template <class W, int N, class Read, class Weight>
__device__ __forceinline__ void sum_strip(const FirTaps& taps,
                                          const FirAxis& y_axis,
                                          const FirAxis& x_axis,
                                          const Span& y,
                                          const Span& x,
                                          const Read& read,
                                          const Weight& weight,
                                          W (&sum)[kStrip][N]) {
  const int up_x = static_cast<int>(x_axis.up);
  const int up_y = static_cast<int>(y_axis.up);
  const int down_y = static_cast<int>(y_axis.down);
  for (int i = 0; i < y.count; ++i) {
    const int tap = y.tap + i * up_y;
    W across[N] = {};
    if (taps.separable) {
      int kx = x.tap;
      for (int j = 0; j < x.count; ++j, kx += up_x) {
        W value[N];
        read(i, j, value);
        const W w = weight(kx);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          across[k] = fma(w, value[k], across[k]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      const int ky = tap - r * down_y;
      if (ky < 0 || ky >= taps.y) {
        continue;
      }
      if (taps.separable) {
        const W w = weight(taps.x + ky);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          sum[r][k] = fma(w, across[k], sum[r][k]);
        }
        continue;
      }
      int index = ky * taps.x + x.tap;
      for (int j = 0; j < x.count; ++j, index += up_x) {
        W value[N];
        read(i, j, value);
        const W w = weight(index);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          sum[r][k] = fma(w, value[k], sum[r][k]);
        }
      }
    }
  }
}

// ---------------------------------------------------------------- N channels a thread

struct Strips {
  FirAxis y, x;
  int64_t images, packs, strips;  // packs of channels, strips of an image's height
  FirStrides x_stride, out_stride;
  bool channels_fastest;  // from thread to thread
};

// Which strip a thread makes.
struct Place {
  int64_t image, pack, strip, column;
};

__device__ __forceinline__ Place place_of(const Strips& s, int64_t index) {
  Place place;
  if (s.channels_fastest) {
    const int64_t pixel = index / s.packs;
    const int64_t line = pixel / s.x.out;
    place.image = line / s.strips;
    place.pack = index - pixel * s.packs;
    place.column = pixel - line * s.x.out;
    place.strip = line - place.image * s.strips;
  } else {
    const int64_t line = index / s.x.out;
    const int64_t plane = line / s.strips;
    place.image = plane / s.packs;
    place.column = index - line * s.x.out;
    place.strip = line - plane * s.strips;
    place.pack = plane - place.image * s.packs;
  }
  return place;
}

template <class T, class F, int N>
__global__ void __launch_bounds__(kThreads, 2)
    fir_resample_kernel(Global<const T> x,       // [images, channels, y, x], any strides
                        Global<const F> filter,  // [taps], [taps y, taps x] or null
                        Global<T> out,           // [images, channels, y, x], any strides
                        Strips s,
                        FirTaps taps) {
  using W = Wide<T>;
  DIGAN_SHARED(W, weights, kSharedTaps);
  const Table<F> table{filter, taps};
  const bool in_shared = table.size() <= kSharedTaps;
  if (in_shared) {
    for (int i = static_cast<int>(threadIdx.x); i < table.size(); i += kThreads) {
      weights[i] = static_cast<W>(table[i]);
    }
  }
  __syncthreads();
  const auto weight = [&](int index) -> W {
    if (in_shared) {
      return weights[index];
    }
    return static_cast<W>(table[index]);
  };
  const int64_t count = s.images * s.packs * s.strips * s.x.out;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; index < count;
       index += stride) {
    const Place place = place_of(s, index);
    const int64_t row = place.strip * kStrip;
    const int64_t channel = place.pack * N;
    const int outputs = static_cast<int>(smaller(kStrip, s.y.out - row));
    const Span over_y = span_of(s.y, row, outputs, 0, s.y.in - 1);
    const Span over_x = span_of(s.x, place.column, 1, 0, s.x.in - 1);
    const Global<const T> corner =
        x + (place.image * s.x_stride.image + channel * s.x_stride.channel +
             over_y.first * s.x_stride.y + over_x.first * s.x_stride.x);
    W sum[kStrip][N] = {};
    const auto read = [&](int i, int j, W(&value)[N]) {
      widen_several<T, N>(load_several<N, T>(corner + (i * s.x_stride.y + j * s.x_stride.x)),
                          value);
    };
    sum_strip(taps, s.y, s.x, over_y, over_x, read, weight, sum);
    const Global<T> to = out + (place.image * s.out_stride.image + channel * s.out_stride.channel +
                                row * s.out_stride.y + place.column * s.out_stride.x);
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      if (r < outputs) {
        store_several<N, T>(to + r * s.out_stride.y, narrow_several<T, N>(sum[r]));
      }
    }
  }
}

// ---------------------------------------------------------------- tiles of planes

struct Tiles {
  FirAxis y, x;
  int64_t channels;
  int64_t count, columns, rows;  // tiles in all, along x, along y
  FirStrides x_stride, out_stride;
};

template <class T, class F>
__global__ void __launch_bounds__(kThreads) fir_resample_tile_kernel(
    Global<const T> x,       // [images, channels, y, x], the last contiguous
    Global<const F> filter,  // [taps], [taps y, taps x] or null; up to kTileTaps an axis
    Global<T> out,           // [images, channels, y, x], the last contiguous
    Tiles t,
    FirTaps taps) {
  using W = Wide<T>;
  DIGAN_SHARED(W, weights, kTileTaps * kTileTaps);
  DIGAN_SHARED(W, tile, kTileRows * kTilePitch);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kTileX;
  const int warp = thread / kTileX;
  const Table<F> table{filter, taps};
  for (int i = thread; i < table.size(); i += kThreads) {
    weights[i] = static_cast<W>(table[i]);
  }
  const auto weight = [&](int index) -> W { return weights[index]; };
  constexpr int64_t kFar = int64_t{1} << 60;

  for (int64_t index = blockIdx.x; index < t.count; index += gridDim.x) {
    const int64_t line = index / t.columns;
    const int64_t plane = line / t.rows;
    const int64_t image = plane / t.channels;
    const int64_t column = (index - line * t.columns) * kTileX;
    const int64_t row = (line - plane * t.rows) * kTileY;
    const int64_t channel = plane - image * t.channels;
    const int outputs_x = static_cast<int>(smaller(kTileX, t.x.out - column));
    const int outputs_y = static_cast<int>(smaller(kTileY, t.y.out - row));
    // Samples outside of the image are zeros of the tile.
    const Span whole_y = span_of(t.y, row, outputs_y, -kFar, kFar);
    const Span whole_x = span_of(t.x, column, outputs_x, -kFar, kFar);
    const int64_t plane_start = image * t.x_stride.image + channel * t.x_stride.channel;
    __syncthreads();  // the tile before this one has been read
    for (int i = warp; i < whole_y.count; i += kThreads / kTileX) {
      const int64_t from_y = whole_y.first + i;
      const bool inside = from_y >= 0 && from_y < t.y.in;
      for (int j = lane; j < whole_x.count; j += kTileX) {
        const int64_t from_x = whole_x.first + j;
        W value = 0;
        if (inside && from_x >= 0 && from_x < t.x.in) {
          value = widen(x[plane_start + from_y * t.x_stride.y + from_x]);
        }
        tile[i * kTilePitch + j] = value;
      }
    }
    __syncthreads();
    const int outputs = outputs_y - warp * kStrip < kStrip ? outputs_y - warp * kStrip : kStrip;
    if (lane >= outputs_x || outputs <= 0) {
      continue;
    }
    const Span over_y = span_of(t.y, row + warp * kStrip, outputs, -kFar, kFar);
    const Span over_x = span_of(t.x, column + lane, 1, -kFar, kFar);
    const int corner = static_cast<int>(over_y.first - whole_y.first) * kTilePitch +
                       static_cast<int>(over_x.first - whole_x.first);
    W sum[kStrip][1] = {};
    const auto read = [&](int i, int j, W(&value)[1]) {
      value[0] = tile[corner + i * kTilePitch + j];
    };
    sum_strip(taps, t.y, t.x, over_y, over_x, read, weight, sum);
    const int64_t to = image * t.out_stride.image + channel * t.out_stride.channel +
                       (row + warp * kStrip) * t.out_stride.y + column + lane;
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      if (r < outputs) {
        out[to + r * t.out_stride.y] = narrow<T>(sum[r][0]);
      }
    }
  }
}

// ---------------------------------------------------------------- launches

bool fits_tiles(const FirResampleArguments& a) {
  const auto small = [](const FirAxis& axis) {
    return axis.taps <= kTileTaps && axis.up <= kTileFactor && axis.down <= kTileFactor &&
           axis.out >= kTileX / 2;
  };
  return a.x_stride.x == 1 && a.out_stride.x == 1 && small(a.y) && small(a.x_axis);
}

template <class T, class F>
cudaError_t run_tiles(const FirResampleArguments& a, cudaStream_t stream) {
  Tiles tiles;
  tiles.y = a.y;
  tiles.x = a.x_axis;
  tiles.channels = a.channels;
  tiles.columns = ceil_div(a.x_axis.out, kTileX);
  tiles.rows = ceil_div(a.y.out, kTileY);
  tiles.count = a.images * a.channels * tiles.rows * tiles.columns;
  tiles.x_stride = a.x_stride;
  tiles.out_stride = a.out_stride;
  const int64_t blocks = std::min(tiles.count, kMaxBlocks);
  return DIGAN_LAUNCH((fir_resample_tile_kernel<T, F>), static_cast<unsigned>(blocks), kThreads,
                      stream, static_cast<const T*>(a.x), static_cast<const F*>(a.filter),
                      static_cast<T*>(a.out), tiles, a.taps);
}

template <class T, class F, int N>
cudaError_t run_strips(const FirResampleArguments& a, cudaStream_t stream) {
  Strips strips;
  strips.y = a.y;
  strips.x = a.x_axis;
  strips.images = a.images;
  strips.packs = a.channels / N;
  strips.strips = ceil_div(a.y.out, kStrip);
  strips.x_stride = a.x_stride;
  strips.out_stride = a.out_stride;
  strips.channels_fastest = a.out_stride.channel == 1 && a.channels > 1;
  const int64_t count = strips.images * strips.packs * strips.strips * strips.x.out;
  const int64_t blocks = std::min(ceil_div(count, kThreads), kMaxBlocks);
  return DIGAN_LAUNCH((fir_resample_kernel<T, F, N>), static_cast<unsigned>(blocks), kThreads,
                      stream, static_cast<const T*>(a.x), static_cast<const F*>(a.filter),
                      static_cast<T*>(a.out), strips, a.taps);
}

// True if every pack of N channels lies in 16 bytes at a multiple of 16.
bool has_packs(const FirResampleArguments& a, int numbers) {
  const auto whole = [numbers](const FirStrides& stride) {
    return stride.channel == 1 && stride.image % numbers == 0 && stride.y % numbers == 0 &&
           stride.x % numbers == 0;
  };
  return a.channels % numbers == 0 && is_aligned(a.x) && is_aligned(a.out) && whole(a.x_stride) &&
         whole(a.out_stride);
}

template <class T, class F>
cudaError_t run(const FirResampleArguments& a, cudaStream_t stream) {
  if (has_packs(a, kVector<T>)) {
    return run_strips<T, F, kVector<T>>(a, stream);
  }
  return fits_tiles(a) ? run_tiles<T, F>(a, stream) : run_strips<T, F, 1>(a, stream);
}

bool is_served(const FirAxis& axis) {
  return axis.up >= 1 && axis.up <= kMostFirFactor && axis.down >= 1 &&
         axis.down <= kMostFirFactor && axis.taps >= 1 && axis.taps <= kMostFirTaps;
}

}  // namespace

cudaError_t launch_fir_resample(const FirResampleArguments& a, cudaStream_t stream) {
  if (a.images == 0 || a.channels == 0 || a.y.out == 0 || a.x_axis.out == 0) {
    return cudaSuccess;
  }
  if (!is_served(a.y) || !is_served(a.x_axis) || a.y.taps * a.x_axis.taps > kMostFirTaps) {
    return cudaErrorInvalidValue;
  }
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    if constexpr (std::is_same_v<T, double>) {
      if (a.filter != nullptr && a.filter_number == Number::kF32) {
        return run<double, float>(a, stream);
      }
    }
    return run<T, Wide<T>>(a, stream);
  });
}

}  // namespace digan
