// Tiles of pixels and of the other operand's columns, by number, for persistent kernels.

#pragma once

#include "gemm/hopper/embedding.cuh"
#include "gemm/hopper/products.cuh"
#include "gemm/pixels.cuh"

namespace digan::gemm::hopper {

// Columns innermost, then rectangles of pixels, then frames of all videos.
struct GridTiles {
  int across, columns, rows, frames;

  GridTiles(const GridExtent& grid, int64_t columns_of_product, int64_t frames)
      : across(static_cast<int>(ceil_div(columns_of_product, kTileColumns))),
        columns(static_cast<int>(ceil_div(grid.width, TileRectangle::kWidth))),
        rows(static_cast<int>(ceil_div(grid.height, TileRectangle::kHeight))),
        frames(static_cast<int>(frames)) {}

  __host__ __device__ __forceinline__ unsigned count() const {
    return static_cast<unsigned>(across) * static_cast<unsigned>(columns) *
           static_cast<unsigned>(rows) * static_cast<unsigned>(frames);
  }
};

// One of them.
struct GridPlace {
  int across, column, row;  // of tiles
  int frame;                // of all videos

  __device__ __forceinline__ GridPlace(const GridTiles& tiles, unsigned tile) {
    across = static_cast<int>(tile % static_cast<unsigned>(tiles.across));
    tile /= static_cast<unsigned>(tiles.across);
    column = static_cast<int>(tile % static_cast<unsigned>(tiles.columns));
    tile /= static_cast<unsigned>(tiles.columns);
    row = static_cast<int>(tile % static_cast<unsigned>(tiles.rows));
    frame = static_cast<int>(tile / static_cast<unsigned>(tiles.rows));
  }

  // Where it begins.
  __device__ __forceinline__ int n() const { return across * kTileColumns; }
  __device__ __forceinline__ int h() const { return row * TileRectangle::kHeight; }
  __device__ __forceinline__ int w() const { return column * TileRectangle::kWidth; }
};

// Where a warp's pixels are in the tile: two rows, eight columns. Matrix row r is pixel
// (r / 8, column_of(r % 8)) of them.
struct WarpPixels {
  int pair, half;  // rows 2 pair and 2 pair + 1, columns from 8 half on

  __device__ __forceinline__ WarpPixels() {
    const int warp = static_cast<int>(threadIdx.x - kWarpgroup) / 32;
    pair = warp / 2;
    half = warp % 2;
  }
  __device__ __forceinline__ int warp() const { return 2 * pair + half; }
  __device__ __forceinline__ int line(int row) const {
    return (2 * pair + row / 8) * TileRectangle::kWidth + 8 * half + column_of(row % 8);
  }
};

}  // namespace digan::gemm::hopper
