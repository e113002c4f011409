// The products of a tile on a warpgroup's tensor cores, slice by slice (sm_90).
//
// DESIGN
// A tile of 128 x 256 belongs to two consuming warpgroups, 64 rows each, whose sums are 128
// registers of a thread. A slice is 64 numbers of the reduced axis, a line of 128 bytes: four
// wgmma. Those of slice k are under way while the warps wait for slice k + 1, or make its A in
// registers, from which wgmma takes it as well as from shared memory; then k's stage is released.
// A number that is made on its way to the tensor cores so never returns to shared memory, and
// meets the 256 columns of the tile.

#pragma once

#include "gemm/hopper/pipeline.cuh"
#include "gemm/hopper/wgmma.cuh"
#include "gemm/problem.cuh"

namespace digan::gemm::hopper {

constexpr int kTileRows = 128, kTileColumns = 256;
constexpr int kGroupRows = kTileRows / 2;  // of a warpgroup
constexpr int kSlice = 64;                 // of the reduced axis, of 16 bits each
constexpr int kSteps = kSlice / kInstructionDepth;
constexpr int kLine = 2 * kSlice;     // bytes
constexpr int kBox = kSlice * kLine;  // bytes of 64 lines
constexpr int kConsumerWarps = 8;

using TileSums = float[kTileColumns / 2];

// Tiles by number: columns innermost, so that those under way together read the same rows.
struct Tiles {
  int across, down, batches;

  Tiles(int64_t rows, int64_t columns, int64_t batches)
      : across(static_cast<int>(ceil_div(columns, kTileColumns))),
        down(static_cast<int>(ceil_div(rows, kTileRows))),
        batches(static_cast<int>(batches)) {}

  __host__ __device__ __forceinline__ unsigned count() const {
    return static_cast<unsigned>(across) * static_cast<unsigned>(down) *
           static_cast<unsigned>(batches);
  }
  __device__ __forceinline__ int column(unsigned tile) const {
    return static_cast<int>(tile % static_cast<unsigned>(across)) * kTileColumns;
  }
  __device__ __forceinline__ int row(unsigned tile) const {
    return static_cast<int>(tile / static_cast<unsigned>(across) % static_cast<unsigned>(down)) *
           kTileRows;
  }
  __device__ __forceinline__ int batch(unsigned tile) const {
    return static_cast<int>(tile / static_cast<unsigned>(across) / static_cast<unsigned>(down));
  }
};

// Of a persistent kernel with so many tiles.
inline unsigned resident_blocks(unsigned tiles) {
  const auto most = static_cast<unsigned>(multiprocessors());
  return tiles < most ? tiles : most;
}

// Slices of a reduced axis.
__host__ __device__ __forceinline__ int slices_of_lines(int extent) {
  return (extent + kSlice - 1) / kSlice;
}

// What both loops do around a slice's wgmma: `issue(stage, adds)` issues them, and the stage is
// released when those of the next are under way. The first slice overwrites the sums.
template <class Ring, class Issue>
__device__ __forceinline__ void one_slice(const Ring& ring,
                                          RingPlace<Ring>& place,
                                          RingPlace<Ring>& before,
                                          bool first,
                                          const Issue& issue) {
  issue(ring.wait(place), !first);
  wgmma_commit();
  if (!first) {
    wgmma_wait<1>();
    ring.release(before);
  }
  before = place;
  place.advance();
}

// The sums of `slices` slices, at least one. Stages hold lines of 64 numbers of the reduced axis
// at the byte `a` for this warpgroup's rows, and at `b` for the tile's columns.
template <class T, class Ring>
__device__ __forceinline__ void multiply(
    TileSums& sums, const Ring& ring, RingPlace<Ring>& place, int slices, int a, int b) {
  RingPlace<Ring> before;
  for (int k = 0; k < slices; ++k) {
    one_slice(ring, place, before, k == 0, [&](Shared<unsigned char> stage, bool adds) {
      const uint64_t rows = reduced_rows(shared_address(stage + a));
      const uint64_t columns = reduced_rows(shared_address(stage + b));
      wgmma_fence(sums);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        constexpr uint32_t kBytes = kStepBytes<Major::kReduced>;
        wgmma<T, Major::kReduced, Major::kReduced>(sums, rows + further(kBytes * step),
                                                   columns + further(kBytes * step),
                                                   adds || step > 0);
      }
    });
  }
  wgmma_wait<0>(sums);
  ring.release(before);
}

// All slices where A is made in registers, by `slice(made, first)`. Registers under way are not
// those that are made, so two sets take turns; of each turn there is one copy in the code, since a
// third one's registers are too many where a kernel goes on with the sums.
template <class Made, class Slice>
__device__ __forceinline__ void in_turns(Made& even, Made& odd, int slices, const Slice& slice) {
#pragma unroll 1
  for (int k = 0; k < slices; k += 2) {
    slice(even, k == 0);
    if (k + 1 < slices) {
      slice(odd, false);
    }
  }
}

// The same where a warp makes its 16 rows of A: make(stage, step, registers) those of 16 numbers
// of the reduced axis, as mma.m16n8k16 takes them. At `b` stand four boxes of 64 of the tile's
// columns a line, a line for each number of the reduced axis.
template <class T, class Ring, class Make>
__device__ __forceinline__ void multiply_made(
    TileSums& sums, const Ring& ring, RingPlace<Ring>& place, int slices, int b, const Make& make) {
  uint32_t even[kSteps][4], odd[kSteps][4];
  RingPlace<Ring> before;
  const auto slice = [&](uint32_t (&rows)[kSteps][4], bool first) {
    one_slice(ring, place, before, first, [&](Shared<unsigned char> stage, bool adds) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        make(stage, step, rows[step]);
      }
      const uint64_t columns = kept_rows(shared_address(stage + b), kBox);
      wgmma_fence(sums, rows[0], rows[1], rows[2], rows[3]);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        wgmma<T, Major::kKept>(sums, rows[step], columns + further(kStepBytes<Major::kKept> * step),
                               adds || step > 0);
      }
    });
  };
  in_turns(even, odd, slices, slice);
  wgmma_wait<0>(sums);
  ring.release(before);
}

// Four 8 x 8 matrices of a box of lines for a warp's 16 rows of A, by ldmatrix.
//
// The reduced axis along the lines, which are the warp's rows from `first` on:
template <class T>
__device__ __forceinline__ void load_rows(uint32_t (&to)[4],
                                          Shared<unsigned char> box,
                                          int first,
                                          int step) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = first + lane % 16;
  const int chunk = 2 * step + lane / 16;
  ldmatrix_x4(to, view_as<T>(box + (row * kLine + (chunk ^ row % 8) * 16)));
}

// The kept axis along the lines, of which the warp's rows are from `first` on:
template <class T>
__device__ __forceinline__ void load_columns(uint32_t (&to)[4],
                                             Shared<unsigned char> box,
                                             int first,
                                             int step) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = kInstructionDepth * step + lane / 16 * 8 + lane % 8;
  const int chunk = first / 8 + lane / 8 % 2;
  ldmatrix_x4_trans(to, view_as<T>(box + (row * kLine + (chunk ^ row % 8) * 16)));
}

}  // namespace digan::gemm::hopper
