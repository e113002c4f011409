// Where the rows and columns of a tile lie in memory.
//
// Places beyond the end of a kept axis stand on its last one: what is made of them is never
// stored. Those beyond the end of the reduced axis count as zeros.

#pragma once

#include <cstdint>

#include "gemm/tile.cuh"

namespace digan::gemm {

__device__ __forceinline__ int at_most(int x, int most) {
  return x < most ? x : most;
}

// ---------------------------------------------------------------- columns
//
// extent       columns of memory, or frequencies
// at(place)    the column of a place of the tile's axis, a multiple of a chunk
// index(place) what must be below `extent` there
// kAdvance     what a slice further adds to both

struct StraightColumns {
  int extent;

  template <class T>
  static constexpr int kAdvance = kDepth<T>;

  __device__ __forceinline__ static int index(int place) { return place; }
  __device__ __forceinline__ int at(int place) const { return place; }
};

// Features, of which memory has all sines before all cosines, in groups of half a period of sines
// and the cosines of the same frequencies.
template <int kPeriod>
struct PairedColumns {
  int extent;

  template <class T>
  static constexpr int kAdvance = kDepth<T> / 2;

  __device__ __forceinline__ static int index(int place) {
    return place / kPeriod * (kPeriod / 2) + place % (kPeriod / 2);
  }
  __device__ __forceinline__ int at(int place) const {
    return index(place) + (place % kPeriod >= kPeriod / 2 ? extent : 0);
  }
};

// ---------------------------------------------------------------- kept rows

// Of one matrix, from `first`.
struct StraightRows {
  int first, extent;

  __device__ __forceinline__ int operator()(int row) const {
    return at_most(first + row, extent - 1);
  }
};

// ---------------------------------------------------------------- reduced rows

// Stands on one slice after the other: operator() is the row of memory, -1 for none.
template <class T>
struct ReducedRows {
  int next, extent;

  __device__ __forceinline__ int operator()(int row) const {
    return next + row < extent ? next + row : -1;
  }
  __device__ __forceinline__ void advance() { next += kDepth<T>; }
};

}  // namespace digan::gemm
