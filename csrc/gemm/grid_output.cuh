// The outputs of a layer on a grid: bias, skip connection, activation, memory.

#pragma once

#include "gemm/epilogue.cuh"
#include "gemm/pixels.cuh"

namespace digan::gemm {

template <class T>
struct GridOutput {
  LayerOutput<T> output;
  Global<const T> skip;  // [frames, H/2, W/2, O], may be null
  GridExtent grid;

  // Products of pixel (h, w) of frame `frame` of all videos; what lies outside is left out.
  __device__ __forceinline__ void store(int64_t frame,
                                        int h,
                                        int w,
                                        int column,
                                        const Epilogue<T>& epilogue,
                                        Wide<T> (&values)[kPiece]) const {
    if (h >= grid.height || w >= grid.width || column >= output.columns) {
      return;
    }
    output.add_bias(column, values);
    if (skip) {
      const int half_width = grid.width / 2;
      const int64_t cell = frame * (grid.height / 2) * half_width + (h / 2 * half_width + w / 2);
      Wide<T> low[kPiece];
      load_piece(skip + (cell * output.columns + column), at_most(output.columns - column, kPiece),
                 output.whole, low);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {
        values[i] += low[i];
      }
    }
    output.store(frame * grid.pixels() + (h * grid.width + w), column, epilogue, values);
  }
};

}  // namespace digan::gemm
