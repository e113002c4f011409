// From accumulators to memory.
//
// DESIGN
// A thread's accumulators are scattered pairs. Groups of 16 rows go through shared memory, the
// ring's, which is free by then, so that a thread gets 8 neighbours of one row: 16-byte accesses
// for everything that a product is met with (bias, skip, outputs), and one place in the code where
// the activations, a branch at run time, are written out.

#pragma once

#include "activation.cuh"
#include "gemm/main_loop.cuh"
#include "gemm/maps.cuh"
#include "widen.cuh"

namespace digan::gemm {

constexpr int kPiece = 8;  // numbers of a row that a thread gets at once

// A warp's own part of the staging area: 16 rows of its tile. Rows are kRow numbers long; columns
// from 32 on stand kShift further. The defaults are for pieces, which 8 threads read at a time:
// two halves of a long row, or two short rows, stand 4 banks apart.
template <class Math,
          class Shape,
          int kShift = 4,
          int kRow = Shape::kWarpN + (Shape::kWarpN > 32 ? 8 : 4)>
struct Staging {
  using W = Wide<typename Math::Number>;
  static constexpr int kNumbers = 16 * kRow;
  static constexpr int kBytes = kNumbers * (Shape::kThreads / 32) * static_cast<int>(sizeof(W));

  __device__ __forceinline__ static int offset(int row, int column) {
    return row * kRow + column + column / 32 * kShift;
  }

  // Group i of the warp's rows. Constant indices keep the accumulators in registers.
  __device__ __forceinline__ static void fill(Shared<W> own, const Sums<Math, Shape>& sums, int i) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int k = 0; k < Shape::kGroupsM; ++k) {
      if (k == i) {
#pragma unroll
        for (int j = 0; j < Shape::kGroupsN; ++j) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            own[offset(lane / 4 + n / 2 * 8, 8 * j + lane % 4 * 2 + n % 2)] = sums[k][j][n];
          }
        }
      }
    }
  }
};

// Calls function(row, column, W (&)[kPiece]) for all pieces of the tile. `staging` holds
// Staging::kBytes, which nobody else uses any more.
template <class Math, class Shape, class Function>
__device__ __forceinline__ void for_each_piece(const Sums<Math, Shape>& sums,
                                               Shared<Wide<typename Math::Number>> staging,
                                               const Function& function) {
  using Staging = Staging<Math, Shape>;
  constexpr int kPieces = Shape::kWarpN / kPiece;  // of a row
  const WarpPlace<Shape> warp;
  const auto own = staging + static_cast<int>(threadIdx.x) / 32 * Staging::kNumbers;
#pragma unroll 1
  for (int i = 0; i < Shape::kGroupsM; ++i) {
    Staging::fill(own, sums, i);
    __syncwarp();
#pragma unroll 1
    for (int index = warp.lane; index < 16 * kPieces; index += 32) {
      const int row = index / kPieces;
      const int column = index % kPieces * kPiece;
      Wide<typename Math::Number> values[kPiece];
#pragma unroll
      for (int n = 0; n < kPiece; n += kChunk<Wide<typename Math::Number>>) {
        const auto chunk = load16(own + (Staging::offset(row, column) + n));
#pragma unroll
        for (int c = 0; c < kChunk<Wide<typename Math::Number>>; ++c) {
          values[n + c] = chunk.v[c];
        }
      }
      function(warp.row + 16 * i + row, warp.column + column, values);
    }
    __syncwarp();
  }
}

// ---------------------------------------------------------------- pieces of memory

// kPiece numbers from `from`, of which the first `count` exist. kWhole: all or none do, at a
// multiple of 16 bytes.
template <class T>
__device__ __forceinline__ void load_piece(Global<const T> from,
                                           int count,
                                           bool whole,
                                           Wide<T> (&to)[kPiece]) {
  if (whole) {
    widen_several(load_several<kPiece>(from), to);
  } else {
#pragma unroll
    for (int n = 0; n < kPiece; ++n) {
      to[n] = n < count ? widen(from[n]) : Wide<T>(0);
    }
  }
}

template <class T>
__device__ __forceinline__ void store_piece(Global<T> to,
                                            int count,
                                            bool whole,
                                            const Wide<T> (&values)[kPiece]) {
  const Several<T, kPiece> piece = narrow_several<T>(values);
  if (whole) {
    store_several(to, piece);
  } else {
#pragma unroll
    for (int n = 0; n < kPiece; ++n) {
      if (n < count) {
        to[n] = piece.v[n];
      }
    }
  }
}

// ---------------------------------------------------------------- layers

template <class W>
__device__ __forceinline__ void scale(W (&values)[kPiece], W factor) {
#pragma unroll
  for (int n = 0; n < kPiece; ++n) {
    values[n] *= factor;
  }
}

// What becomes of a layer's products.
template <class T>
struct LayerOutput {
  Global<const Wide<T>> bias;     // [O], may be null
  Global<T> out, pre_activation;  // the latter null where nobody wants it
  int columns;                    // O
  bool whole;                     // rows lie in whole chunks
  Pointwise pointwise;

  __device__ __forceinline__ void add_bias(int column, Wide<T> (&values)[kPiece]) const {
    if (bias) {
      const int count = at_most(columns - column, kPiece);
#pragma unroll
      for (int n = 0; n < kPiece; ++n) {
        values[n] += n < count ? bias[column + n] : Wide<T>(0);
      }
    }
  }

  // Pre-activations of the output's row `row`; they become outputs.
  __device__ __forceinline__ void store(int64_t row,
                                        int column,
                                        const Epilogue<T>& epilogue,
                                        Wide<T> (&values)[kPiece]) const {
    const int64_t at = row * columns + column;
    const int count = at_most(columns - column, kPiece);
    if (pre_activation) {
      store_piece(pre_activation + at, count, whole, values);
    }
    epilogue.apply(values);
    store_piece(out + at, count, whole, values);
  }
};

}  // namespace digan::gemm
