// From a warpgroup's sums to memory: the pieces of gemm/epilogue.cuh for wgmma's accumulators.
//
// DESIGN
// A warp has 16 rows of all of the tile's columns. 64 columns at a time go through shared memory of
// its own, behind the ring, in which the next tile's slices arrive meanwhile. Which 64 is a branch
// around the stores alone, so that the activations are written out once. Rows stand 68 numbers
// apart and columns from 32 on 4 further: a row's pieces are read without a bank conflict, and the
// stores, of every second number, have the two passes that they cannot do without.

#pragma once

#include "gemm/epilogue.cuh"
#include "gemm/hopper/pipeline.cuh"

namespace digan::gemm::hopper {

constexpr int kStagedColumns = 64;
constexpr int kStagedRow = kStagedColumns + 4;
constexpr int kStagedNumbers = 16 * kStagedRow;  // of a warp
// Of the eight consuming warps.
constexpr int kStagingBytes = 8 * kStagedNumbers * static_cast<int>(sizeof(float));

__device__ __forceinline__ constexpr int staged(int row, int column) {
  return row * kStagedRow + column + column / 32 * 4;
}

// Calls function(row, column, float (&)[kPiece]) for the pieces of a warpgroup's 64 rows that this
// warp holds, its kCount sums a thread as wgmma leaves them. `staging` has kStagingBytes.
template <int kCount, class Function>
__device__ __forceinline__ void for_each_piece(const float (&sums)[kCount],
                                               Shared<unsigned char> staging,
                                               const Function& function) {
  constexpr int kGroups = 2 * kCount / kStagedColumns;
  constexpr int kPieces = kStagedColumns / kPiece;  // of a row
  static_assert(2 * kCount % kStagedColumns == 0);
  const int warp = static_cast<int>(threadIdx.x - kWarpgroup) / 32;  // of the consuming ones
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Shared<float> own = view_as<float>(staging) + warp * kStagedNumbers;
#pragma unroll 1
  for (int group = 0; group < kGroups; ++group) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      if (k == group) {
#pragma unroll
        for (int j = 0; j < kStagedColumns / 8; ++j) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            own[staged(lane / 4 + n / 2 * 8, 8 * j + lane % 4 * 2 + n % 2)] =
                sums[(k * kStagedColumns / 8 + j) * 4 + n];
          }
        }
      }
    }
    __syncwarp();
#pragma unroll 1
    for (int index = lane; index < 16 * kPieces; index += 32) {
      const int row = index / kPieces;
      const int column = index % kPieces * kPiece;
      float values[kPiece];
#pragma unroll
      for (int n = 0; n < kPiece; n += 4) {
        const Vec16<float> chunk = load16(own + (staged(row, column) + n));
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          values[n + c] = chunk.v[c];
        }
      }
      function(warp % 4 * 16 + row, group * kStagedColumns + column, values);
    }
    __syncwarp();
  }
}

}  // namespace digan::gemm::hopper
