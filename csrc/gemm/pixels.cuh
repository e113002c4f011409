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

// Pixels of a video as a reduced axis: slices are rectangles 8 pixels wide, which stand one after
// the other along x, then y, then time. Behind the last of them there are no pixels.
template <class T>
class PixelSlices {
 public:
  static constexpr int kWidth = 8, kHeight = kDepth<T> / kWidth;

  __host__ __device__ static int count(const GridExtent& grid) {
    return grid.frames * ((grid.height + kHeight - 1) / kHeight) *
           ((grid.width + kWidth - 1) / kWidth);
  }
  __device__ __forceinline__ PixelSlices(const GridExtent& grid, int slice, int slices)
      : left_(slices), height_(grid.height), width_(grid.width) {
    const int columns = (grid.width + kWidth - 1) / kWidth;
    const int rows = (grid.height + kHeight - 1) / kHeight;
    h_ = slice / columns % rows * kHeight;
    w_ = slice % columns * kWidth;
    row_ = slice / (columns * rows) * grid.height + h_;
  }
  __device__ __forceinline__ void advance() {
    // Choices and no branches, which the unrolled main loop would be cut at.
    const bool wraps = w_ + kWidth >= width_;
    const bool ends = h_ + kHeight >= height_;  // the frame, where it wraps
    row_ += !wraps ? 0 : ends ? height_ - h_ : kHeight;
    h_ = !wraps ? h_ : ends ? 0 : h_ + kHeight;
    w_ = wraps ? 0 : w_ + kWidth;
    --left_;
  }

  // Where the slice begins: a row of all frames' and a column, and how many there are of each.
  __device__ __forceinline__ int row() const { return row_; }
  __device__ __forceinline__ int column() const { return w_; }
  __device__ __forceinline__ int rows() const { return height_ - h_; }
  __device__ __forceinline__ int columns() const { return width_ - w_; }
  __device__ __forceinline__ int width() const { return width_; }
  __device__ __forceinline__ bool any() const { return left_ > 0; }

 private:
  int row_, h_, w_;
  int left_;  // slices
  int height_, width_;
};

// As maps.cuh has it for rows of a matrix: of the slices that `slices` stands on, which go on with
// the walk.
template <class T>
struct PixelWalk {
  PixelSlices<T>& slices;

  template <class Share, int kMatrices>
  class Walk {
   public:
    __device__ __forceinline__ Walk(const PixelWalk& pixels,
                                    int pitch,
                                    const Global<const T> (&columns)[kMatrices])
        : slices_(pixels.slices), pitch_(pitch) {
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        columns_[m] = columns[m];
      }
    }
    __device__ __forceinline__ bool has(int copy) const {
      return slices_.any() && row(copy) < slices_.rows() && column(copy) < slices_.columns();
    }
    __device__ __forceinline__ Global<const T> from(int m, int copy) const {
      const int first = slices_.row() * slices_.width() + slices_.column();
      return columns_[m] + rows_of(first + (row(copy) * slices_.width() + column(copy)), pitch_);
    }
    __device__ __forceinline__ void advance() { slices_.advance(); }

   private:
    // Within the slice.
    __device__ __forceinline__ static int row(int copy) {
      return Share::row(copy) / PixelSlices<T>::kWidth;
    }
    __device__ __forceinline__ static int column(int copy) {
      return Share::row(copy) % PixelSlices<T>::kWidth;
    }
    PixelSlices<T>& slices_;
    int pitch_;
    Global<const T> columns_[kMatrices];
  };
};

}  // namespace digan::gemm
