// The sines and cosines of a grid's axes.
//
// DESIGN
// A thread makes one entry of one table: the angle of a row (phase + freq_y*y, one per frame and
// row) or of a column (freq_x*x), float64 inside. (T*H + W)*F sines per video serve T*H*W*F
// features. sincos(double) needs a stack frame for angles beyond 2^31, so that it has this kernel
// to itself. Bytes: the tables once.

#include "fourier_features_axes.h"

#include "vector.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;

template <class S, class Table>
__global__ void __launch_bounds__(kThreads)
    fourier_features_axes_kernel(Global<const S> freq,   // [B, F, 2]
                                 Global<const S> phase,  // [B, T, F]
                                 Global<const S> y,      // [H]
                                 Global<const S> x,      // [W]
                                 Global<Table> rows,     // [2, B, T, H, F]
                                 Global<Table> columns,  // [2, B, W, F]
                                 FeatureGrid grid) {
  const int64_t row_count = grid.videos * grid.frames * grid.height * grid.frequencies;
  const int64_t column_count = grid.videos * grid.width * grid.frequencies;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= row_count + column_count) {
    return;
  }
  const bool is_row = index < row_count;
  index = is_row ? index : index - row_count;
  const int64_t f = index % grid.frequencies;
  const int64_t position = index / grid.frequencies;
  double angle;
  if (is_row) {
    const int64_t frame = position / grid.height;  // b * T + t
    const int64_t b = frame / grid.frames;
    // Exact in float64 for float32 factors, but for the last rounding of the sum.
    angle = static_cast<double>(freq[(b * grid.frequencies + f) * 2 + 1]) *
                static_cast<double>(y[position % grid.height]) +
            static_cast<double>(phase[frame * grid.frequencies + f]);
  } else {
    const int64_t b = position / grid.width;
    angle = static_cast<double>(freq[(b * grid.frequencies + f) * 2]) *
            static_cast<double>(x[position % grid.width]);
  }
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  const Global<Table> table = is_row ? rows : columns;
  table[index] = static_cast<Table>(sine);
  table[(is_row ? row_count : column_count) + index] = static_cast<Table>(cosine);
}

template <class S, class Table>
cudaError_t run(const FourierFeaturesGrid& a, unsigned blocks, cudaStream_t stream) {
  return DIGAN_LAUNCH((fourier_features_axes_kernel<S, Table>), blocks, kThreads, stream,
                      static_cast<const S*>(a.freq), static_cast<const S*>(a.phase),
                      static_cast<const S*>(a.y), static_cast<const S*>(a.x),
                      static_cast<Table*>(a.rows), static_cast<Table*>(a.columns), FeatureGrid(a));
}

}  // namespace

cudaError_t launch_fourier_features_axes(const FourierFeaturesGrid& a,
                                         Number tables,
                                         cudaStream_t stream) {
  const int64_t count = (a.frames * a.height + a.width) * a.videos * a.frequencies;
  const int64_t blocks = ceil_div(count, kThreads);
  if (blocks == 0) {
    return cudaSuccess;
  }
  if (blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  const auto from = [&](auto s) {
    using S = decltype(s);
    switch (tables) {
      case Number::kF64:
        return run<S, double>(a, static_cast<unsigned>(blocks), stream);
      case Number::kF32:
        return run<S, float>(a, static_cast<unsigned>(blocks), stream);
      default:
        return cudaErrorInvalidValue;
    }
  };
  switch (a.wide) {
    case Number::kF64:
      return from(double());
    case Number::kF32:
      return from(float());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace digan
