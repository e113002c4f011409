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

  // Which of its rows a thread copies: that of grid row or column `at`, sines or cosines.
  struct Place {
    bool is_row, is_cosine;
    int at;

    __device__ __forceinline__ explicit Place(int table_row)
        : is_row(table_row < 2 * kHeight),
          is_cosine(is_row ? table_row >= kHeight : table_row >= 2 * kHeight + kWidth),
          at(table_row - (is_row ? 0 : 2 * kHeight) - (is_cosine ? is_row ? kHeight : kWidth : 0)) {
    }

    // The table that it stands in, from row `rows_before` or column `columns_before` on.
    __device__ __forceinline__ Global<const W> table(const AxisTables<W>& tables,
                                                     int64_t rows_before,
                                                     int64_t columns_before) const {
      return is_row ? tables.rows +
                          (rows_before * tables.frequencies + (is_cosine ? tables.row_cosines : 0))
                    : tables.columns + (columns_before * tables.frequencies +
                                        (is_cosine ? tables.column_cosines : 0));
    }
  };

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
    const typename Table::Place place(at_most(thread / Table::kChunks, Table::kRows - 1));
    const int begin = thread % Table::kChunks * kChunk<W>;
    const int index = place.is_row ? at_most(tile.h + place.at, grid.height - 1)
                                   : at_most(tile.w + place.at, grid.width - 1);
    next_ = place.table(tables, tile.frame * grid.height, tile.frame / grid.frames * grid.width) +
            (static_cast<int64_t>(index) * tables.frequencies + begin);
    left_ = tables.frequencies - begin;
  }

  __device__ __forceinline__ void copy(Shared<T> stage) const {
    copy_table(view_as<W>(stage + Slice::kNumbers));
  }
  __device__ __forceinline__ void copy_table(Shared<W> table) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < Table::kRows * Table::kChunks) {
      copy_chunk<kWhole>(table + Table::offset(thread / Table::kChunks, thread % Table::kChunks),
                         next_, left_);
    }
  }
  __device__ __forceinline__ void advance() {
    next_ += kFrequencies;
    left_ -= kFrequencies;
  }

  __device__ __forceinline__ void prepare(Shared<T> stage) const {
    make_slice(stage, view_as<const W>(stage + Slice::kNumbers));
  }
  __device__ __forceinline__ void make_slice(Shared<T> slice, Shared<const W> table) const {
    const int m = static_cast<int>(threadIdx.x) % Shape::kM;
    const int chunk = static_cast<int>(threadIdx.x) / Shape::kM;
    Vec16<T> sine, cosine;
    Table::make(table, m / Rectangle::kWidth, m % Rectangle::kWidth, chunk, sine, cosine);
    store16(slice + Slice::offset(m, chunk), sine);
    store16(slice + Slice::offset(m, Slice::kChunks / 2 + chunk), cosine);
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

  // Of the slices that `pixels` stands on, which go on with the other operand's walk over them.
  // `frame` is the first of the video, among those of all; `first` the tile's first feature.
  __device__ __forceinline__ EmbeddingColumns(const AxisTables<W>& tables,
                                              const GridExtent& grid,
                                              const PixelSlices<T>& pixels,
                                              int64_t frame,
                                              int first)
      : pixels_(pixels), frequencies_(tables.frequencies) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const typename Table::Place place(at_most(row(i), Table::kRows - 1));
      const int f = first / 2 + chunk(i) * kChunk<W>;
      is_row_[i] = place.is_row;
      at_[i] = place.at;
      left_[i] = tables.frequencies - f;
      table_[i] = place.table(tables, frame * grid.height, frame / grid.frames * grid.width) + f;
    }
  }

  __device__ __forceinline__ void copy(Shared<T> stage) const {
    const auto table = view_as<W>(stage + Slice::kNumbers);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (row(i) < Table::kRows) {
        const int first = is_row_[i] ? pixels_.row() : pixels_.column();
        const int count = is_row_[i] ? pixels_.rows() : pixels_.columns();
        copy_chunk<kWhole>(table + Table::offset(row(i), chunk(i)),
                           table_[i] + rows_of(first + at_most(at_[i], count - 1), frequencies_),
                           pixels_.any() ? left_[i] : 0);
      }
    }
  }
  __device__ __forceinline__ void advance() {}

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

  __device__ __forceinline__ static int row(int copy) {
    return (static_cast<int>(threadIdx.x) + copy * Shape::kThreads) / Table::kChunks;
  }
  __device__ __forceinline__ static int chunk(int copy) {
    return (static_cast<int>(threadIdx.x) + copy * Shape::kThreads) % Table::kChunks;
  }

  const Pixels& pixels_;
  int frequencies_;
  Global<const W> table_[kCopies];  // where the thread's frequencies begin
  bool is_row_[kCopies];
  int at_[kCopies];
  int left_[kCopies];
};

}  // namespace digan::gemm
