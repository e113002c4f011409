// The tiles of a matrix product: their shapes, and where their numbers lie in shared memory.
//
// D[M, N] = A[M, K] B[K, N] is cut into tiles of kM x kN, one a block, which a block's warps cut
// further. K is the reduced axis; of it a block holds kDepth at a time, a "slice". An operand
// lies in memory with either its reduced axis innermost ([kept, K]) or its kept one ([K, kept]),
// and so does its slice in shared memory, in chunks of 16 bytes.

#pragma once

#include "numbers.cuh"
#include "platform.cuh"

namespace digan::gemm {

template <class T>
constexpr int kChunk = static_cast<int>(16 / sizeof(T));  // numbers of 16 bytes

template <class T>
constexpr int kDepth = static_cast<int>(64 / sizeof(T));  // two steps of a tensor core

// Shared memory that a block may have on every card that is served, less what is kept free.
constexpr int kSharedBytes = 96 * 1024;

template <int kM_, int kN_, int kWarpsM_, int kWarpsN_, int kBlocks_>
struct TileShape {
  static constexpr int kM = kM_, kN = kN_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kBlocks = kBlocks_;  // of a multiprocessor, by registers
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;
  static constexpr int kGroupsM = kWarpM / 16;  // fragments of a warp
  static constexpr int kGroupsN = kWarpN / 8;
};

// 64 x 64 a warp: of every 32 products' operands, 8 loads from shared memory, which keeps the
// tensor cores and not shared memory the bottleneck; 256 columns, so that what is done to a
// number of A on its way is done for many products.
using LargeTile = TileShape<128, 256, 2, 4, 1>;
// For operands that are both made on their way, whose ingredients leave no room for more.
using MediumTile = TileShape<128, 128, 2, 4, 1>;
// Eight times the blocks of a large one, for problems that are small or not in whole chunks.
using SmallTile = TileShape<64, 64, 2, 2, 3>;

// Where this thread's warp stands in the tile.
template <class Shape>
struct WarpPlace {
  int lane, row, column;
  __device__ __forceinline__ WarpPlace() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32;
    row = warp / Shape::kWarpsN * Shape::kWarpM;
    column = warp % Shape::kWarpsN * Shape::kWarpN;
  }
};

// Chunks of a row change places by the row's number, so that the threads that read together,
// 8 rows of one chunk for ldmatrix, find different banks. A row of 4 chunks shares its 128 bytes
// of banks with its neighbour, one of 2 with three.
template <int kChunks>
__device__ __forceinline__ constexpr int swizzled(int row, int chunk) {
  static_assert(kChunks == 2 || kChunks == 4 || kChunks % 8 == 0, "rows of 32, 64 or 128 n bytes");
  return kChunks >= 8 ? chunk ^ row % 8 : chunk ^ row / (8 / kChunks) % kChunks;
}

// A slice of an operand in shared memory.
template <class T, int kExtent, bool kReducedInner_>
struct Slice {
  static constexpr bool kReducedInner = kReducedInner_;
  static constexpr int kRows = kReducedInner ? kExtent : kDepth<T>;
  static constexpr int kChunks = (kReducedInner ? kDepth<T> : kExtent) / kChunk<T>;  // of a row
  static constexpr int kNumbers = kExtent * kDepth<T>;

  // Whether rows so far apart have their chunks in the same places.
  static constexpr bool swizzles_alike(int rows) {
    return rows % (kReducedInner && kChunks < 8 ? kChunks * (8 / kChunks) : 8) == 0 ||
           (!kReducedInner && sizeof(T) > 2 && rows % 4 == 0);
  }
  // Of a chunk's first number.
  __device__ __forceinline__ static constexpr int offset(int row, int chunk) {
    if constexpr (!kReducedInner && sizeof(T) > 2) {
      // No ldmatrix transposes these: a warp reads 8 neighbours of 4 rows, number by number.
      return (row * kChunks + (chunk ^ row % 4 * 2)) * kChunk<T>;
    } else {
      return (row * kChunks + swizzled<kChunks>(row, chunk)) * kChunk<T>;
    }
  }
  // Of one number.
  __device__ __forceinline__ static constexpr int number(int row, int column) {
    return offset(row, column / kChunk<T>) + column % kChunk<T>;
  }
};

}  // namespace digan::gemm
