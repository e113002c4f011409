// The epilogue of an embedding's gradient: it is reduced to what its angles, and so the
// frequencies, phases and axes, get of it, and is never written.
//
// DESIGN
// A tile holds the gradients of sines and cosines of kN / 2 frequencies at kM pixels. Groups of 16
// pixels go through shared memory, as in epilogue.cuh, and come back with a lane for each
// frequency of its warp, which makes the embedding once more from the tables and sums
//
//   dtheta = dsin cos - dcos sin
//
// over rows and columns of pixels. Partial sums per tile, in a fixed order; sum_parts adds them:
//
//   phase   dtheta            [B*T, tiles of a frame, F]
//   freq_x  dtheta x          the same
//   freq_y  dtheta y          the same
//   y       dtheta freq_y     [B*T, columns of tiles, tiles of F, H]
//   x       dtheta freq_x     [B*T, rows of tiles, tiles of F, W]

#pragma once

#include "gemm/embedding.cuh"
#include "gemm/epilogue.cuh"

namespace digan::gemm {

template <class W>
struct PhaseSums {
  AxisTables<W> tables;
  Global<const W> freq, y, x;
  Global<W> phase_parts, freq_x_parts, freq_y_parts, y_parts, x_parts;
};

template <class Math, class Shape>
struct PhaseStaging {
  using W = Wide<typename Math::Number>;
  using Rectangle = gemm::Rectangle<Shape::kM>;
  // A warp reads 8 sines, or cosines, of every 16 columns; the other half of a long row, or the
  // eighth row further of short ones, is in the banks between.
  using Group = Staging<Math, Shape, 8, Shape::kWarpN + (Shape::kWarpN > 32 ? 8 : 1)>;
  static constexpr int kLanes = Shape::kWarpN / 2;  // frequencies of a warp
  static constexpr int kShares = 32 / kLanes;       // lanes of one frequency
  static constexpr int kSlots = Shape::kWarpsM * kShares;
  // Behind the groups of pixels: sums over the pixels that a warp's lanes have, by frequency, row
  // and column.
  static constexpr int kByFrequency = Group::kNumbers * (Shape::kThreads / 32);
  static constexpr int kByRow = kByFrequency + 3 * kSlots * Shape::kN / 2;
  static constexpr int kByColumn = kByRow + Shape::kWarpsN * Rectangle::kHeight;
  // Sines of the tile's columns of pixels, then cosines.
  static constexpr int kTable = kByColumn + Shape::kWarpsN * kSlots * Rectangle::kWidth;
  static constexpr int kTableNumbers = Rectangle::kWidth * Shape::kN / 2;
  static constexpr int kNumbers = kTable + 2 * kTableNumbers;
  static constexpr int kBytes = kNumbers * static_cast<int>(sizeof(W));
};

template <int kLanes, class W>
__device__ __forceinline__ W sum_over_lanes(W value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// `sums` is the embedding's gradient but for the factor `gain`; features are paired by
// kFeaturePeriod. `shared` holds PhaseStaging::kBytes.
template <class Math, class Shape>
__device__ __forceinline__ void store_phase_sums(const Sums<Math, Shape>& sums,
                                                 Shared<Wide<typename Math::Number>> shared,
                                                 const PhaseSums<Wide<typename Math::Number>>& to,
                                                 const GridExtent& grid,
                                                 const PixelTile<Shape>& tile,
                                                 Wide<typename Math::Number> gain) {
  using W = Wide<typename Math::Number>;
  using Layout = PhaseStaging<Math, Shape>;
  using Staging = typename Layout::Group;
  using Rectangle = gemm::Rectangle<Shape::kM>;
  constexpr int kLanes = Layout::kLanes, kRows = 16 / Layout::kShares;
  static_assert(kRows == Rectangle::kWidth, "a lane has one row of pixels of a group");
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_m = warp / Shape::kWarpsN, warp_n = warp % Shape::kWarpsN;
  const int slot = warp_m * Layout::kShares + lane / kLanes;
  const int in_tile = warp_n * kLanes + lane % kLanes;
  const int frequencies = to.tables.frequencies;
  const int f = at_most(tile.n / 2 + in_tile, frequencies - 1);
  const int64_t video = tile.frame / grid.frames;
  const W freq_x = to.freq[(video * frequencies + f) * 2];
  const W freq_y = to.freq[(video * frequencies + f) * 2 + 1];
  const int place = lane % kLanes / 8 * kFeaturePeriod + lane % 8;  // of the sine, in the warp
  const auto own = shared + warp * Staging::kNumbers;
  const bool has_frequency = tile.n / 2 + in_tile < frequencies;

  // Read from memory once, and in place of 64-bit addresses for every column in registers.
  constexpr int kWidth = Shape::kN / 2;
  for (int index = static_cast<int>(threadIdx.x); index < Layout::kTableNumbers;
       index += Shape::kThreads) {
    const int w = at_most(tile.w + index / kWidth, grid.width - 1);
    const int64_t at = (video * grid.width + w) * frequencies +
                       at_most(tile.n / 2 + index % kWidth, frequencies - 1);
    shared[Layout::kTable + index] = to.tables.columns[at];
    shared[Layout::kTable + Layout::kTableNumbers + index] =
        to.tables.columns[to.tables.column_cosines + at];
  }
  __syncthreads();

  W by_phase = 0, by_freq_y = 0;
  W by_column[kRows] = {};
#pragma unroll 1
  for (int i = 0; i < Shape::kGroupsM; ++i) {
    Staging::fill(own, sums, i);
    __syncwarp();
    const int first = lane / kLanes * kRows;  // of the group's pixels
    const int row = (warp_m * Shape::kWarpM + 16 * i + first) / Rectangle::kWidth;
    const int h = at_most(tile.h + row, grid.height - 1);
    const int64_t row_at = (tile.frame * grid.height + h) * frequencies + f;
    const W sin_row = to.tables.rows[row_at];
    const W cos_row = to.tables.rows[to.tables.row_cosines + row_at];
    const bool has_row = has_frequency && tile.h + row < grid.height;
    W by_row = 0;
#pragma unroll
    for (int c = 0; c < kRows; ++c) {
      const int column = Layout::kTable + c * kWidth + in_tile;
      const W sin_column = shared[column];
      const W cos_column = shared[column + Layout::kTableNumbers];
      const W sine = fma(sin_row, cos_column, cos_row * sin_column);
      const W cosine = fma(cos_row, cos_column, -(sin_row * sin_column));
      const W by_sine = own[Staging::offset(first + c, place)];
      const W by_cosine = own[Staging::offset(first + c, place + 8)];
      const W dtheta = gain * fma(by_sine, cosine, -(by_cosine * sine));
      const W counted = has_row && tile.w + c < grid.width ? dtheta : W(0);
      by_row += counted;
      by_column[c] += counted;
    }
    by_phase += by_row;
    by_freq_y += by_row * to.y[h];
    const W by_y = sum_over_lanes<kLanes>(by_row * freq_y);
    if (lane % kLanes == 0) {
      shared[Layout::kByRow + warp_n * Rectangle::kHeight + row] = by_y;
    }
    __syncwarp();
  }

  W by_freq_x = 0;
#pragma unroll
  for (int c = 0; c < kRows; ++c) {
    by_freq_x += by_column[c] * to.x[at_most(tile.w + c, grid.width - 1)];
    const W by_x = sum_over_lanes<kLanes>(by_column[c] * freq_x);
    if (lane % kLanes == 0) {
      shared[Layout::kByColumn + (warp_n * Layout::kSlots + slot) * Rectangle::kWidth + c] = by_x;
    }
  }
  const int at = Layout::kByFrequency + slot * kWidth + in_tile;
  shared[at] = by_phase;
  shared[at + Layout::kSlots * kWidth] = by_freq_x;
  shared[at + 2 * Layout::kSlots * kWidth] = by_freq_y;
  __syncthreads();

  const int64_t part = (tile.frame * tile.rows + tile.row) * tile.columns + tile.column;
  const int tile_n = tile.n / Shape::kN;
  for (int index = static_cast<int>(threadIdx.x); index < 3 * kWidth; index += Shape::kThreads) {
    const int kind = index / kWidth;
    const int f_out = tile.n / 2 + index % kWidth;
    W sum = 0;
#pragma unroll
    for (int s = 0; s < Layout::kSlots; ++s) {
      sum += shared[Layout::kByFrequency + (kind * Layout::kSlots + s) * kWidth + index % kWidth];
    }
    if (f_out < frequencies) {
      const Global<W> parts = kind == 0   ? to.phase_parts
                              : kind == 1 ? to.freq_x_parts
                                          : to.freq_y_parts;
      parts[part * frequencies + f_out] = sum;
    }
  }
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < Rectangle::kHeight && tile.h + thread < grid.height) {
    W sum = 0;
#pragma unroll
    for (int n = 0; n < Shape::kWarpsN; ++n) {
      sum += shared[Layout::kByRow + n * Rectangle::kHeight + thread];
    }
    const int64_t slot_y = (tile.frame * tile.columns + tile.column) * tile.tiles_n + tile_n;
    to.y_parts[slot_y * grid.height + tile.h + thread] = sum;
  }
  if (thread < Rectangle::kWidth && tile.w + thread < grid.width) {
    W sum = 0;
#pragma unroll
    for (int s = 0; s < Shape::kWarpsN * Layout::kSlots; ++s) {
      sum += shared[Layout::kByColumn + s * Rectangle::kWidth + thread];
    }
    const int64_t slot_x = (tile.frame * tile.rows + tile.row) * tile.tiles_n + tile_n;
    to.x_parts[slot_x * grid.width + tile.w + thread] = sum;
  }
}

}  // namespace digan::gemm
