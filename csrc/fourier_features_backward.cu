// fourier_features on a grid, first gradients.
//
// DESIGN
// The features are made again, by rotation as in fourier_features.cu. dtheta = Gs cos theta -
// Gc sin theta is made as the gradient streams by, once, and is never written. The block of
// fourier_features_sums.cuh holds kColumns columns a thread in registers, with their rotors and
// running sums, and walks down the rows of one frame; the next row's gradient is asked for before
// this row's sums are made. Each row is summed over the block's columns (shuffles, then 8 warps
// through shared memory, double-buffered: one barrier a row). From these sums come all gradients:
// by phase and freq_y in registers of one thread a frequency, by y with a shuffle over the
// frequencies, and by freq_x and x from the columns' sums at the end. Partial sums leave the
// block, a few thousandths of the gradient's size; sums.cuh adds them in float64. Shared memory:
// 2 * 8 * 32 * V numbers, 16 KiB at most. V = 1 where it is 1 forward.
//
// Rejected: writing dtheta summed over columns and over rows and reducing those (a tenth more
// bytes, two more kernels).

#include "angle_sums.cuh"
#include "fourier_features.h"
#include "fourier_features_axes.h"
#include "fourier_features_sums.cuh"

namespace digan {
namespace {

constexpr int kColumns = 2;  // a thread's columns

// The blocks of the backward kernel: frequencies innermost, then columns, rows, frames.
struct Cut {
  FeatureLanes frequencies;
  int rows_per_block = 32;
  int64_t row_blocks = 0;     // per frame
  int64_t column_blocks = 0;  // per row
  int64_t y_slots = 0;        // partial sums for one row of one frame
  int64_t blocks = 0;
};

Cut cut_of(const FeatureGrid& grid, int vector) {
  Cut cut;
  cut.frequencies = feature_lanes(grid.frequencies, vector);
  const int lanes = cut.frequencies.lanes;
  cut.column_blocks = ceil_div(grid.width, kColumns * (kFeatureThreads / lanes));
  const int64_t side_by_side =
      grid.videos * grid.frames * cut.column_blocks * cut.frequencies.tiles;
  // Four times the blocks that a large GPU holds, if the rows suffice; the same on every GPU,
  // as it decides the order of the sums.
  while (cut.rows_per_block > 4 &&
         side_by_side * ceil_div(grid.height, cut.rows_per_block) < 1024) {
    cut.rows_per_block /= 2;
  }
  cut.row_blocks = ceil_div(grid.height, cut.rows_per_block);
  const int warps = lanes * vector > 32 ? lanes * vector / 32 : 1;
  cut.y_slots = cut.column_blocks * cut.frequencies.tiles * warps;
  cut.blocks = side_by_side * cut.row_blocks;
  return cut;
}

template <class S>
struct Partials {
  Global<S> phase;   // [B, T, row blocks, column blocks, F]
  Global<S> freq_x;  // the same
  Global<S> freq_y;  // the same
  Global<S> y;       // [B, T, y slots, H]
  Global<S> x;       // [B, T, row blocks, frequency tiles, W]
};

// V neighbouring gradients as a thread keeps them until their row's turn.
template <class S, class G, int V>
struct Gradients {
  using Word = G;
  static constexpr int kPerWord = 1;
  Several<Word, V> words;
  __device__ __forceinline__ S at(int v) const { return static_cast<S>(widen(words.v[v])); }
};

// nvcc would give each bfloat16 a register of its own, and then spill: two in one register.
template <>
struct Gradients<float, bf16, 8> {
  using Word = uint32_t;
  static constexpr int kPerWord = 2;
  Several<Word, 4> words;
  __device__ __forceinline__ float at(int v) const {
    const uint32_t pair = words.v[v / 2];
    return __uint_as_float(v % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
  }
};

template <class S, class G, int V>
__global__ void __launch_bounds__(kFeatureThreads, 2) fourier_features_backward_kernel(
    Global<const typename Gradients<S, G, V>::Word> grad,  // [B, T, H, W, 2F]
    Global<const S> freq,                                  // [B, F, 2]
    Global<const S> y,                                     // [H]
    Global<const S> x,                                     // [W]
    Global<const S> rows,                                  // [2, B, T, H, F]
    Global<const S> columns,                               // [2, B, W, F]
    Partials<S> partials,
    FeatureGrid grid,
    Cut cut) {
  DIGAN_SHARED(S, shared, 2 * kFeatureWarps * 32 * V);
  // Frequencies whose row rotors are in registers at a time.
  constexpr int kGroup = V == 8 ? 4 : V;
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = cut.frequencies.lanes;
  const int lane = thread % lanes;
  const int64_t block = blockIdx.x;
  const int64_t tile = block % cut.frequencies.tiles;
  const int64_t column_block = block / cut.frequencies.tiles % cut.column_blocks;
  const int64_t row_block = block / cut.frequencies.tiles / cut.column_blocks % cut.row_blocks;
  const int64_t frame = block / cut.frequencies.tiles / cut.column_blocks / cut.row_blocks;
  const int64_t b = frame / grid.frames;

  // What this thread streams, and the frequency whose sums over the block it gets.
  const int64_t f = (tile * lanes + lane) * V;
  const int64_t own_f = f + thread / lanes;
  const bool owns = thread < lanes * V && own_f < grid.frequencies;
  const S own_freq_y = owns ? static_cast<S>(freq[(b * grid.frequencies + own_f) * 2 + 1]) : S(0);

  const int positions = kFeatureThreads / lanes;
  // Column c of this thread is w + c * positions.
  const int64_t w = column_block * kColumns * positions + thread / lanes;
  bool has[kColumns];
  Several<S, V> sin_a[kColumns] = {}, cos_a[kColumns] = {};
  S by_column[kColumns][V] = {};
  const int64_t column_cosines = grid.videos * grid.width * grid.frequencies;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    has[c] = w + c * positions < grid.width && f < grid.frequencies;
    if (has[c]) {
      const int64_t column = (b * grid.width + w + c * positions) * grid.frequencies + f;
      sin_a[c] = load_several<V>(columns + column);
      cos_a[c] = load_several<V>(columns + (column_cosines + column));
    }
  }

  const int64_t first = row_block * cut.rows_per_block;
  const int64_t last =
      first + cut.rows_per_block < grid.height ? first + cut.rows_per_block : grid.height;
  const int row_count = static_cast<int>(last - first);
  int64_t row = (frame * grid.height + first) * grid.frequencies + f;
  const int64_t row_cosines = grid.videos * grid.frames * grid.height * grid.frequencies;
  using Words = Gradients<S, G, V>;
  constexpr int kPerWord = Words::kPerWord;
  Global<const typename Words::Word> next =
      grad +
      (((frame * grid.height + first) * grid.width + w) * 2 * grid.frequencies + f) / kPerWord;
  Words grad_s[kColumns] = {}, grad_c[kColumns] = {};
  const auto load_next = [&]() {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (has[c]) {
        const auto from = next + c * positions * 2 * grid.frequencies / kPerWord;
        grad_s[c].words = load_several<V / kPerWord>(from);
        grad_c[c].words = load_several<V / kPerWord>(from + grid.frequencies / kPerWord);
      }
    }
    next += grid.width * 2 * grid.frequencies / kPerWord;
  };
  load_next();

  S by_phase = 0, by_freq_y = 0;
  for (int r = 0; r < row_count; ++r, row += grid.frequencies) {
    S by_row[V] = {};
    if (f < grid.frequencies) {
#pragma unroll
      for (int v0 = 0; v0 < V; v0 += kGroup) {
        const Several<S, kGroup> sin_r = load_several<kGroup>(rows + (row + v0));
        const Several<S, kGroup> cos_r = load_several<kGroup>(rows + (row_cosines + row + v0));
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          // A column beyond the grid has gradients of zero.
#pragma unroll
          for (int i = 0; i < kGroup; ++i) {
            const int v = v0 + i;
            const S sine = sin_r.v[i] * cos_a[c].v[v] + cos_r.v[i] * sin_a[c].v[v];
            const S cosine = cos_r.v[i] * cos_a[c].v[v] - sin_r.v[i] * sin_a[c].v[v];
            const S dtheta = grad_s[c].at(v) * cosine - grad_c[c].at(v) * sine;
            by_column[c][v] += dtheta;
            by_row[v] += dtheta;
          }
        }
      }
    }
    if (r + 1 < row_count) {
      load_next();
    }
    const S total = sum_over_positions<S, V>(by_row, lanes, shared, r % 2);
    by_phase += owns ? total : S(0);
    by_freq_y += owns ? total * y[first + r] : S(0);
    // The warps that got totals; a whole warp decides alike.
    if (thread / 32 * 32 < lanes * V) {
      S by_y = owns ? total * own_freq_y : S(0);
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) {
        by_y += __shfl_xor_sync(0xffffffffu, by_y, offset);
      }
      if (thread % 32 == 0) {
        const int warps = lanes * V > 32 ? lanes * V / 32 : 1;
        const int64_t slot = (column_block * cut.frequencies.tiles + tile) * warps + thread / 32;
        partials.y[(frame * cut.y_slots + slot) * grid.height + first + r] = by_y;
      }
    }
  }

  S by_freq_x[V] = {};
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    S by_x = 0;
    if (has[c]) {
      const S position = x[w + c * positions];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        by_freq_x[v] += by_column[c][v] * position;
        by_x += by_column[c][v] * freq[(b * grid.frequencies + f + v) * 2];
      }
    }
    for (int offset = 1; offset < lanes; offset *= 2) {
      by_x += __shfl_xor_sync(0xffffffffu, by_x, offset);
    }
    if (lane == 0 && w + c * positions < grid.width) {
      const int64_t part = (frame * cut.row_blocks + row_block) * cut.frequencies.tiles + tile;
      partials.x[part * grid.width + w + c * positions] = by_x;
    }
  }
  const S total = sum_over_positions<S, V>(by_freq_x, lanes, shared, row_count % 2);
  if (owns) {
    const int64_t part = (frame * cut.row_blocks + row_block) * cut.column_blocks + column_block;
    partials.phase[part * grid.frequencies + own_f] = by_phase;
    partials.freq_x[part * grid.frequencies + own_f] = total;
    partials.freq_y[part * grid.frequencies + own_f] = by_freq_y;
  }
}

}  // namespace

FourierFeaturesBackwardSizes fourier_features_backward_sizes(
    const FourierFeaturesBackwardArguments& a) {
  const FeatureGrid grid(a);
  const Cut cut = cut_of(grid, feature_vector(a.wide, a.number, grid.frequencies, a.grad));
  const int64_t frames = grid.videos * grid.frames;
  FourierFeaturesBackwardSizes sizes;
  sizes.frequency_parts = frames * cut.row_blocks * cut.column_blocks * grid.frequencies;
  sizes.y_parts = frames * cut.y_slots * grid.height;
  sizes.x_parts = frames * cut.row_blocks * cut.frequencies.tiles * grid.width;
  return sizes;
}

cudaError_t launch_fourier_features_backward(const FourierFeaturesBackwardArguments& a,
                                             cudaStream_t stream) {
  const FeatureGrid grid(a);
  const int vector = feature_vector(a.wide, a.number, grid.frequencies, a.grad);
  const Cut cut = cut_of(grid, vector);
  if (cut.blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_features(a.wide, a.number, vector, [&](auto s, auto g, auto v) {
    using S = decltype(s);
    using G = decltype(g);
    if (cut.blocks > 0) {
      cudaError_t error = launch_fourier_features_axes(a, a.wide, stream);
      if (error != cudaSuccess) {
        return error;
      }
      Partials<S> partials;
      partials.phase = static_cast<S*>(a.phase_parts);
      partials.freq_x = static_cast<S*>(a.freq_x_parts);
      partials.freq_y = static_cast<S*>(a.freq_y_parts);
      partials.y = static_cast<S*>(a.y_parts);
      partials.x = static_cast<S*>(a.x_parts);
      error = DIGAN_LAUNCH(
          (fourier_features_backward_kernel<S, G, decltype(v)::value>),
          static_cast<unsigned>(cut.blocks), kFeatureThreads, stream,
          static_cast<const typename Gradients<S, G, decltype(v)::value>::Word*>(a.grad),
          static_cast<const S*>(a.freq), static_cast<const S*>(a.y), static_cast<const S*>(a.x),
          static_cast<const S*>(a.rows), static_cast<const S*>(a.columns), partials, grid, cut);
      if (error != cudaSuccess) {
        return error;
      }
    }
    AngleParts parts;
    if (cut.blocks > 0) {
      const int64_t frames = grid.videos * grid.frames;
      parts.frequencies = cut.row_blocks * cut.column_blocks;
      parts.y = frames * cut.y_slots;
      parts.x = frames * cut.row_blocks * cut.frequencies.tiles;
    }
    return sum_angle_parts<S>(a, a, parts, stream);
  });
}

}  // namespace digan
