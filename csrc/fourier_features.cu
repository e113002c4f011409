// fourier_features on a grid, forward.
//
// DESIGN
// The angle freq_x*x + freq_y*y + phase is a row's angle (phase + freq_y*y, one per frame and
// row) plus a column's (freq_x*x). fourier_features_axes.cu makes sin and cos of both; this
// kernel only rotates:
//
//   sin(r + a) = sin r cos a + cos r sin a,    cos(r + a) = cos r cos a - sin r sin a.
//
// A thread owns the V frequencies of one column that fill 16 bytes of output; it keeps that
// column's rotor in registers and walks down kRows rows of one video. It reads 2V numbers from L1
// (all columns of a block read the same rows) and writes two times 16 bytes. Global bytes: the
// output once; tables are (1/W + 1/(T*H)) * 2 of it in float32, more in bfloat16.
//
// Where F is no multiple of V, or the dtypes are an odd pair (float64 with float32), V = 1: one
// number at a time, neighbouring threads still on neighbouring memory.
//
// Rejected: sines in the features kernel (two transcendental calls in place of four fused
// multiply-adds, and a float32 angle is wrong by 3e-4 at 1e4 radians).

#include "fourier_features.h"

#include "fourier_features_axes.h"
#include "fourier_features_sums.cuh"

namespace digan {
namespace {

constexpr int kRows = 16;  // a thread's rows

template <class S, class Out, int V>
__global__ void __launch_bounds__(kFeatureThreads)
    fourier_features_kernel(Global<const S> rows,     // [2, B, T, H, F]
                            Global<const S> columns,  // [2, B, W, F]
                            Global<Out> out,          // [B, T, H, W, 2F]
                            FeatureGrid grid,
                            int rows_per_block,
                            int64_t row_blocks,     // per video
                            int64_t column_blocks)  // per row
{
  const int64_t row_count = grid.frames * grid.height;  // per video
  const int64_t vectors = grid.frequencies / V;
  const int64_t block = blockIdx.x;
  const int64_t item = block % column_blocks * kFeatureThreads + threadIdx.x;
  const int64_t row_block = block / column_blocks % row_blocks;
  const int64_t b = block / column_blocks / row_blocks;
  if (item >= grid.width * vectors) {
    return;
  }
  const int64_t w = item / vectors;
  const int64_t f = item % vectors * V;

  const int64_t column = (b * grid.width + w) * grid.frequencies + f;
  const int64_t column_cosines = grid.videos * grid.width * grid.frequencies;
  const Several<S, V> sin_a = load_several<V>(columns + column);
  const Several<S, V> cos_a = load_several<V>(columns + column_cosines + column);

  const int64_t row_cosines = grid.videos * row_count * grid.frequencies;
  const int64_t first = row_block * rows_per_block;
  const int64_t last = first + rows_per_block < row_count ? first + rows_per_block : row_count;
#pragma unroll 2
  for (int64_t row = b * row_count + first; row < b * row_count + last; ++row) {
    const Several<S, V> sin_r = load_several<V>(rows + (row * grid.frequencies + f));
    const Several<S, V> cos_r = load_several<V>(rows + (row_cosines + row * grid.frequencies + f));
    Several<Out, V> sine, cosine;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      sine.v[v] =
          narrow<Out>(static_cast<Wide<Out>>(sin_r.v[v] * cos_a.v[v] + cos_r.v[v] * sin_a.v[v]));
      cosine.v[v] =
          narrow<Out>(static_cast<Wide<Out>>(cos_r.v[v] * cos_a.v[v] - sin_r.v[v] * sin_a.v[v]));
    }
    const Global<Out> to = out + ((row * grid.width + w) * 2 * grid.frequencies + f);
    store_several(to, sine);
    store_several(to + grid.frequencies, cosine);
  }
}

}  // namespace

cudaError_t launch_fourier_features(const FourierFeaturesArguments& a, cudaStream_t stream) {
  const FeatureGrid grid(a);
  const int64_t row_count = grid.frames * grid.height;
  if (grid.videos * row_count * grid.width * grid.frequencies == 0) {
    return cudaSuccess;
  }
  const int vector = feature_vector(a.wide, a.number, grid.frequencies, a.out);
  const int64_t column_blocks = ceil_div(grid.width * (grid.frequencies / vector), kFeatureThreads);
  int rows_per_block = kRows;
  while (rows_per_block > 1 &&
         grid.videos * ceil_div(row_count, rows_per_block) * column_blocks < 1024) {
    rows_per_block /= 2;
  }
  const int64_t row_blocks = ceil_div(row_count, rows_per_block);
  const int64_t blocks = grid.videos * row_blocks * column_blocks;
  if (blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_features(a.wide, a.number, vector, [&](auto s, auto out, auto v) {
    using S = decltype(s);
    using Out = decltype(out);
    const cudaError_t error = launch_fourier_features_axes(a, a.wide, stream);
    if (error != cudaSuccess) {
      return error;
    }
    return DIGAN_LAUNCH((fourier_features_kernel<S, Out, decltype(v)::value>),
                        static_cast<unsigned>(blocks), kFeatureThreads, stream,
                        static_cast<const S*>(a.rows), static_cast<const S*>(a.columns),
                        static_cast<Out*>(a.out), grid, rows_per_block, row_blocks, column_blocks);
  });
}

}  // namespace digan
