// The Fourier embedding of pixels as wgmma takes A: in registers (sm_90).
//
// DESIGN
// The embedding is made by angle addition from the tables of the grid's axes, as in
// gemm/embedding.cuh, but a warp makes just the 16 rows that it multiplies, and each thread the
// numbers of them that its registers hold: nothing of the embedding is ever in shared memory. The
// tables' slices are there, of 32 frequencies, a line of 128 bytes each: the tile's 8 rows of
// pixels and its 16 columns, sines and then cosines. A warp's 16 matrix rows are one row of pixels;
// of these, matrix row r is column 8 (r / 8) + 2 (r % 4) + r % 8 / 4, because four threads of one
// column read two chunks of a line, and then the four columns that are read together have them in
// different banks. Of 16 sines and 16 cosines a thread makes 8 pairs: 32 multiplications and
// additions, 8 conversions of two numbers, 12 loads of 8 bytes, for two wgmma that take the tensor
// cores 256 cycles.

#pragma once

#include <cstring>

#include "gemm/embedding.cuh"
#include "gemm/hopper/pipeline.cuh"
#include "gemm/hopper/tensor_map.cuh"

namespace digan::gemm::hopper {

constexpr int kSliceFrequencies = 32;                                            // of a slice
constexpr int kTableLine = kSliceFrequencies * static_cast<int>(sizeof(float));  // bytes
using TileRectangle = Rectangle<128>;
static_assert(TileRectangle::kWidth == 16, "a warp's rows of a product are a row of pixels");

// The column of pixels, of 16, of a matrix row.
__device__ __forceinline__ constexpr int column_of(int row) {
  return row / 8 * 8 + row % 4 * 2 + row % 8 / 4;
}

// Where the slices of both tables lie, in bytes from their first.
struct TableLines {
  static constexpr int kRows = TileRectangle::kHeight, kColumns = TileRectangle::kWidth;
  static constexpr int kColumnsBegin = 2 * kRows * kTableLine;
  static constexpr int kBytes = kColumnsBegin + 2 * kColumns * kTableLine;
};

// Tensor maps of both tables, by slices.
struct TableMaps {
  TensorMap rows;     // [2, frames H, F]
  TensorMap columns;  // [2, B W, F]

  // Of the frames' row of pixels `row` and the videos' column `column` on.
  __device__ __forceinline__ void load(Shared<unsigned char> to,
                                       Shared<uint64_t> barrier,
                                       int slice,
                                       int64_t row,
                                       int column) const {
    tma_load(to, rows, barrier, slice * kSliceFrequencies, static_cast<int>(row), 0);
    tma_load(to + TableLines::kColumnsBegin, columns, barrier, slice * kSliceFrequencies, column,
             0);
  }
};

inline cudaError_t make_table_map(
    TensorMap& map, const void* table, int64_t frequencies, int64_t lines, int box) {
  return make_tensor_map(
      map, Number::kF32, table,
      {{frequencies, 1, kSliceFrequencies}, {lines, frequencies, box}, {2, lines * frequencies, 2}},
      Swizzle::k128);
}

inline cudaError_t make_table_maps(TableMaps& maps, const FourierFeaturesGrid& a) {
  const cudaError_t error = make_table_map(maps.rows, a.rows, a.frequencies,
                                           a.videos * a.frames * a.height, TableLines::kRows);
  return error != cudaSuccess ? error
                              : make_table_map(maps.columns, a.columns, a.frequencies,
                                               a.videos * a.width, TableLines::kColumns);
}

// Where a line's numbers begin for this thread: those of frequencies 2 (lane % 4) and one further.
// Lines begin at multiples of 128 bytes, so that frequencies 4 further are at `^ 16`.
__device__ __forceinline__ int place_of_line(int line) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return line * kTableLine + (lane % 4 / 2 ^ line % 8) * 16 + lane % 2 * 8;
}

// Two sines there, and the two cosines of lines `lines` further.
__device__ __forceinline__ void load_two(Shared<const unsigned char> tables,
                                         int place,
                                         int lines,
                                         float (&sine)[2],
                                         float (&cosine)[2]) {
  const uint64_t sines = view_as<const uint64_t>(tables + place)[0];
  const uint64_t cosines = view_as<const uint64_t>(tables + (place + lines * kTableLine))[0];
  memcpy(sine, &sines, 8);
  memcpy(cosine, &cosines, 8);
}

// What a thread makes of the embedding: `row` is its warp's row of pixels in the tile.
template <class T>
class MadeRows {
 public:
  __device__ __forceinline__ explicit MadeRows(int row) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row_ = place_of_line(row);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      column_[i] = TableLines::kColumnsBegin + place_of_line(column_of(lane / 4 + 8 * i));
    }
  }

  // Of 16 frequencies from 16 `step` on, the registers of mma.m16n8k16's A.
  __device__ __forceinline__ void make(Shared<const unsigned char> tables,
                                       int step,
                                       uint32_t (&sines)[4],
                                       uint32_t (&cosines)[4]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int further = (4 * step + 2 * half) * 16;
      float sin_row[2], cos_row[2];
      load_two(tables, row_ ^ further, TableLines::kRows, sin_row, cos_row);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sin_column[2], cos_column[2];
        load_two(tables, column_[i] ^ further, TableLines::kColumns, sin_column, cos_column);
        T sine[2], cosine[2];
#pragma unroll
        for (int f = 0; f < 2; ++f) {
          sine[f] = narrow<T>(fma(sin_row[f], cos_column[f], cos_row[f] * sin_column[f]));
          cosine[f] = narrow<T>(fma(cos_row[f], cos_column[f], -(sin_row[f] * sin_column[f])));
        }
        memcpy(&sines[2 * half + i], sine, 4);
        memcpy(&cosines[2 * half + i], cosine, 4);
      }
    }
  }

 private:
  int row_, column_[2];
};

}  // namespace digan::gemm::hopper
