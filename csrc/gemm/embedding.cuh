// The Fourier embedding of pixels as an operand: made where it is multiplied, never written.
//
// DESIGN
// The angle at a pixel is its row's (phase + freq_y*y) plus its column's (freq_x*x). Their sines
// and cosines are in tables (fourier_features_axes.cu, made in float64); a slice takes the few
// rows and columns that its pixels lie on into shared memory, asynchronously like any operand,
// and every thread makes 8 (for 16 bits) neighbouring frequencies of one pixel by angle addition:
//
//   sin = sin_row cos_column + cos_row sin_column,  cos = cos_row cos_column - sin_row sin_column
//
// four operations and one rounding a pair. Threads that read together have different columns of
// the grid and the same frequencies, so that swizzled table rows bring them to different banks.

#pragma once

#include "gemm/operands.cuh"
#include "gemm/pixels.cuh"

namespace digan::gemm {

// As fourier_features_axes.cu leaves them: sines, and the cosines `..._cosines` behind.
template <class W>
struct AxisTables {
  Global<const W> rows;     // [2, B, T, H, F]
  Global<const W> columns;  // [2, B, W, F]
  int64_t row_cosines, column_cosines;
  int frequencies;
};

// Rows of tables in shared memory: sines and cosines of kHeight grid rows, then of kWidth columns,
// each of kFrequencies.
template <class T, int kHeight, int kWidth, int kFrequencies>
struct TableSlice {
  using W = Wide<T>;
  static constexpr int kRows = 2 * (kHeight + kWidth);
  static constexpr int kChunks = kFrequencies / kChunk<W>;  // of a row
  static constexpr int kNumbers =                           // of T
      kRows * kFrequencies * static_cast<int>(sizeof(W) / sizeof(T));

  __device__ __forceinline__ static int offset(int row, int chunk) {
    return (row * kChunks + swizzled<kChunks>(row, chunk)) * kChunk<W>;
  }

  // Where a table row begins in memory. `row` and `column` of all tables: 64-bit, clamped.
  template <class Row, class ColumnOf>
  __device__ __forceinline__ static Global<const W> source(const AxisTables<W>& tables,
                                                           int table_row,
                                                           const Row& row,
                                                           const ColumnOf& column) {
    if (table_row < 2 * kHeight) {
      const bool cosine = table_row >= kHeight;
      const int64_t at = row(table_row - (cosine ? kHeight : 0));
      return tables.rows + (at * tables.frequencies + (cosine ? tables.row_cosines : 0));
    }
    table_row -= 2 * kHeight;
    const bool cosine = table_row >= kWidth;
    const int64_t at = column(table_row - (cosine ? kWidth : 0));
    return tables.columns + (at * tables.frequencies + (cosine ? tables.column_cosines : 0));
  }

  // Sines and cosines of a chunk of T's frequencies at a pixel.
  __device__ __forceinline__ static void make(
      Shared<const W> table, int h, int w, int chunk, Vec16<T>& sine, Vec16<T>& cosine) {
    constexpr int kParts = kChunk<T> / kChunk<W>;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int at = chunk * kParts + part;
      const Vec16<W> sin_row = load16(table + offset(h, at));
      const Vec16<W> cos_row = load16(table + offset(kHeight + h, at));
      const Vec16<W> sin_column = load16(table + offset(2 * kHeight + w, at));
      const Vec16<W> cos_column = load16(table + offset(2 * kHeight + kWidth + w, at));
#pragma unroll
      for (int i = 0; i < kChunk<W>; ++i) {
        const int f = part * kChunk<W> + i;
        sine.v[f] = narrow<T>(fma(sin_row.v[i], cos_column.v[i], cos_row.v[i] * sin_column.v[i]));
        cosine.v[f] =
            narrow<T>(fma(cos_row.v[i], cos_column.v[i], -(sin_row.v[i] * sin_column.v[i])));
      }
    }
  }
};

// The embedding of a tile of pixels, its features reduced: half a slice of sines, then the
// cosines of the same frequencies.
template <class T, class Shape, bool kWhole>
class EmbeddingRows {
 public:
  using Number = T;
  using W = Wide<T>;
  using Slice = gemm::Slice<T, Shape::kM, true>;
  using Rectangle = gemm::Rectangle<Shape::kM>;
  static constexpr int kFrequencies = kDepth<T> / 2;  // of a slice
  using Table = TableSlice<T, Rectangle::kHeight, Rectangle::kWidth, kFrequencies>;
  static constexpr int kNumbers = Slice::kNumbers + Table::kNumbers;
  static constexpr bool kPrepares = true;
  static_assert(Table::kRows * Table::kChunks <= Shape::kThreads, "a thread copies one chunk");
  static_assert(2 * Shape::kM == Shape::kThreads, "a thread makes one of a pixel's two chunks");

  __device__ __forceinline__ EmbeddingRows(const AxisTables<W>& tables,
                                           const GridExtent& grid,
                                           const PixelTile<Shape>& tile) {
    const int thread = static_cast<int>(threadIdx.x);
    const int row = at_most(thread / Table::kChunks, Table::kRows - 1);
    const int begin = thread % Table::kChunks * kChunk<W>;
    next_ =
        Table::source(
            tables, row,
            [&](int r) { return tile.frame * grid.height + at_most(tile.h + r, grid.height - 1); },
            [&](int c) {
              return tile.frame / grid.frames * grid.width + at_most(tile.w + c, grid.width - 1);
            }) +
        begin;
    left_ = tables.frequencies - begin;
  }

  __device__ __forceinline__ void copy(Shared<T> stage) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < Table::kRows * Table::kChunks) {
      const auto table = view_as<W>(stage + Slice::kNumbers);
      copy_chunk<kWhole>(table + Table::offset(thread / Table::kChunks, thread % Table::kChunks),
                         next_, left_);
    }
  }
  __device__ __forceinline__ void advance() {
    next_ += kFrequencies;
    left_ -= kFrequencies;
  }

  __device__ __forceinline__ void prepare(Shared<T> stage) const {
    const int m = static_cast<int>(threadIdx.x) % Shape::kM;
    const int chunk = static_cast<int>(threadIdx.x) / Shape::kM;
    Vec16<T> sine, cosine;
    Table::make(view_as<const W>(stage + Slice::kNumbers), m / Rectangle::kWidth,
                m % Rectangle::kWidth, chunk, sine, cosine);
    store16(stage + Slice::offset(m, chunk), sine);
    store16(stage + Slice::offset(m, Slice::kChunks / 2 + chunk), cosine);
  }

  __device__ __forceinline__ void use(Shared<T>, int) const {}

 private:
  Global<const W> next_;
  int left_;
};

// Features are kept here, in groups of 8 sines and the 8 cosines of the same frequencies, so that
// both meet in one warp; pixels are reduced.
constexpr int kFeaturePeriod = 16;

template <class T, class Shape, bool kWhole>
class EmbeddingColumns {
 public:
  using Number = T;
  using W = Wide<T>;
  using Slice = gemm::Slice<T, Shape::kN, false>;
  using Pixels = PixelSlices<T>;
  static constexpr int kFrequencies = Shape::kN / 2;  // of a tile
  using Table = TableSlice<T, Pixels::kHeight, Pixels::kWidth, kFrequencies>;
  static constexpr int kNumbers = Slice::kNumbers + Table::kNumbers;
  static constexpr bool kPrepares = true;
  static_assert(kDepth<T> * kFrequencies / kChunk<T> == Shape::kThreads,
                "a thread makes one chunk of sines and one of cosines");

  // `frame` is the first of the video, among those of all; `first` the tile's first feature.
  __device__ __forceinline__
  EmbeddingColumns(const AxisTables<W>& tables, const Pixels& pixels, int64_t frame, int first)
      : tables_(tables), pixels_(pixels), frame_(frame), first_(first / 2) {}

  __device__ __forceinline__ void copy(Shared<T> stage) const {
    const auto table = view_as<W>(stage + Slice::kNumbers);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * Shape::kThreads;
      if (index < Table::kRows * Table::kChunks) {
        const int row = index / Table::kChunks, chunk = index % Table::kChunks;
        const GridExtent& grid = pixels_.grid;
        const int f = first_ + chunk * kChunk<W>;
        const Global<const W> from =
            Table::source(
                tables_, row,
                [&](int r) {
                  return (frame_ + pixels_.t) * grid.height +
                         at_most(pixels_.h + r, grid.height - 1);
                },
                [&](int c) {
                  return frame_ / grid.frames * grid.width + at_most(pixels_.w + c, grid.width - 1);
                }) +
            f;
        copy_chunk<kWhole>(table + Table::offset(row, chunk), from, tables_.frequencies - f);
      }
    }
  }
  __device__ __forceinline__ void advance() { pixels_.advance(); }

  __device__ __forceinline__ void prepare(Shared<T> stage) const {
    const int pixel = static_cast<int>(threadIdx.x) % kDepth<T>;
    const int chunk = static_cast<int>(threadIdx.x) / kDepth<T>;
    Vec16<T> sine, cosine;
    Table::make(view_as<const W>(stage + Slice::kNumbers), pixel / Pixels::kWidth,
                pixel % Pixels::kWidth, chunk, sine, cosine);
    const int f = chunk * kChunk<T>;
    const int place = f / 8 * kFeaturePeriod + f % 8;
    store16(stage + Slice::offset(pixel, place / kChunk<T>), sine);
    store16(stage + Slice::offset(pixel, (place + 8) / kChunk<T>), cosine);
  }

  __device__ __forceinline__ void use(Shared<T>, int) const {}

 private:
  static constexpr int kCopies =
      (Table::kRows * Table::kChunks + Shape::kThreads - 1) / Shape::kThreads;
  AxisTables<W> tables_;
  Pixels pixels_;
  int64_t frame_;
  int first_;  // frequency
};

}  // namespace digan::gemm
