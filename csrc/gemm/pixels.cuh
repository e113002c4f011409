// Tiles of pixels: the rows of a product that are a grid's.
//
// A tile's rows are a rectangle of one frame, so that pixels share rows and columns of the grid,
// and the 2x2 cells of a skip connection lie inside.

#pragma once

#include "gemm/maps.cuh"
#include "vector.cuh"

namespace digan::gemm {

struct GridExtent {
  int frames, height, width;  // frames of a video

  __host__ __device__ __forceinline__ int64_t pixels() const {
    return static_cast<int64_t>(height) * width;
  }
};

// Row m of a tile is pixel (m / kWidth, m % kWidth) of its rectangle.
template <int kCount>
struct Rectangle {
  static constexpr int kWidth = kCount >= 128 ? 16 : 8;
  static constexpr int kHeight = kCount / kWidth;

  static int64_t count(const GridExtent& grid) {
    return ceil_div(grid.height, kHeight) * ceil_div(grid.width, kWidth);
  }
};

// A block's tile: N innermost, then rectangles, then frames of all videos.
template <class Shape>
struct PixelTile {
  using Rectangle = gemm::Rectangle<Shape::kM>;
  int64_t frame;      // of all videos
  int row, column;    // of rectangles
  int h, w, n;        // where the tile begins
  int rows, columns;  // rectangles of a frame
  int tiles_n;

  __device__ __forceinline__ PixelTile(const GridExtent& grid, int tiles_n) : tiles_n(tiles_n) {
    rows = (grid.height + Rectangle::kHeight - 1) / Rectangle::kHeight;
    columns = (grid.width + Rectangle::kWidth - 1) / Rectangle::kWidth;
    const unsigned block = blockIdx.x;
    const unsigned rectangle = block / static_cast<unsigned>(tiles_n);
    n = static_cast<int>(block % static_cast<unsigned>(tiles_n)) * Shape::kN;
    column = static_cast<int>(rectangle % static_cast<unsigned>(columns));
    row =
        static_cast<int>(rectangle / static_cast<unsigned>(columns) % static_cast<unsigned>(rows));
    frame = rectangle / static_cast<unsigned>(columns) / static_cast<unsigned>(rows);
    h = row * Rectangle::kHeight;
    w = column * Rectangle::kWidth;
  }
};

// Row of a tile -> row of a frame's pixels.
template <class Shape>
struct PixelRows {
  int h, w;
  GridExtent grid;

  __device__ __forceinline__ int operator()(int row) const {
    using Rectangle = gemm::Rectangle<Shape::kM>;
    return at_most(h + row / Rectangle::kWidth, grid.height - 1) * grid.width +
           at_most(w + row % Rectangle::kWidth, grid.width - 1);
  }
};

// The pixels of a video as a reduced axis: slices are rectangles 8 pixels wide, which stand one
// after the other along x, then y, then time.
template <class T>
struct PixelSlices {
  static constexpr int kWidth = 8, kHeight = kDepth<T> / kWidth;
  GridExtent grid;
  int t, h, w;

  __host__ __device__ static int count(const GridExtent& grid) {
    return grid.frames * ((grid.height + kHeight - 1) / kHeight) *
           ((grid.width + kWidth - 1) / kWidth);
  }
  __device__ __forceinline__ PixelSlices(const GridExtent& grid, int slice) : grid(grid) {
    const int columns = (grid.width + kWidth - 1) / kWidth;
    const int rows = (grid.height + kHeight - 1) / kHeight;
    t = slice / (columns * rows);
    h = slice / columns % rows * kHeight;
    w = slice % columns * kWidth;
  }
  __device__ __forceinline__ void advance() {
    w += kWidth;
    if (w >= grid.width) {
      w = 0;
      h += kHeight;
      if (h >= grid.height) {
        h = 0;
        ++t;
      }
    }
  }

  // As maps.cuh has it for rows of a matrix.
  template <class Share, int kMatrices>
  class Walk {
   public:
    __device__ __forceinline__ Walk(const PixelSlices& slices,
                                    int pitch,
                                    const Global<const T> (&columns)[kMatrices])
        : slices_(slices), pitch_(pitch) {
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        columns_[m] = columns[m];
      }
    }
    __device__ __forceinline__ bool has(int copy) const {
      return row(copy) < slices_.grid.height && column(copy) < slices_.grid.width;
    }
    __device__ __forceinline__ Global<const T> from(int m, int copy) const {
      const int pixel =
          (slices_.t * slices_.grid.height + row(copy)) * slices_.grid.width + column(copy);
      return columns_[m] + static_cast<int64_t>(has(copy) ? pixel : 0) * pitch_;
    }
    __device__ __forceinline__ void advance() { slices_.advance(); }

   private:
    __device__ __forceinline__ int row(int copy) const {
      return slices_.h + Share::row(copy) / kWidth;
    }
    __device__ __forceinline__ int column(int copy) const {
      return slices_.w + Share::row(copy) % kWidth;
    }
    PixelSlices slices_;
    int pitch_;
    Global<const T> columns_[kMatrices];
  };
};

}  // namespace digan::gemm
