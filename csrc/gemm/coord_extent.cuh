// The extents of a layer on a grid, as its launchers need them.

#pragma once

#include "coord_linear.h"
#include "gemm/embedding.cuh"
#include "gemm/problem.cuh"

namespace digan::gemm {

struct CoordExtent {
  int64_t videos, frequencies, outputs;
  int64_t frame_count, height, width;
  GridExtent grid;

  explicit CoordExtent(const CoordLinearCall& a)
      : videos(a.grid.videos),
        frequencies(a.grid.frequencies),
        outputs(a.outputs),
        frame_count(a.grid.frames),
        height(a.grid.height),
        width(a.grid.width),
        grid{static_cast<int>(frame_count), static_cast<int>(height), static_cast<int>(width)} {}

  int64_t frames() const { return videos * frame_count; }

  // Tiles of pixels times tiles of `columns` of the other operand.
  template <class Shape>
  int64_t blocks(int64_t columns) const {
    return frames() * Rectangle<Shape::kM>::count(grid) * ceil_div(columns, Shape::kN);
  }
  template <class Shape>
  bool is_large(int64_t columns) const {
    return gemm::is_large<Shape>({frames(), grid.pixels(), columns}) &&
           fills_card(blocks<Shape>(columns));
  }

  // Whether a video's pixels, its features and the blocks can be counted by an int.
  bool fits() const {
    const int64_t most = 2 * frequencies > outputs ? 2 * frequencies : outputs;
    return frame_count <= kMostExtent && height <= kMostExtent && width <= kMostExtent &&
           frame_count * height * width <= kMostExtent && most <= kMostExtent &&
           blocks<SmallTile>(most) <= kMaxBlocks;
  }

  template <class W>
  AxisTables<W> tables(const FourierFeaturesGrid& a) const {
    return {static_cast<const W*>(a.rows), static_cast<const W*>(a.columns),
            frames() * height * frequencies, videos * width * frequencies,
            static_cast<int>(frequencies)};
  }
};

inline Number wide_number(Number number) {
  return number == Number::kF64 ? Number::kF64 : Number::kF32;
}

}  // namespace digan::gemm
