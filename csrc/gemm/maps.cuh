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

// Numbers before a row, neither factor negative: without signs it is one instruction, not four.
__device__ __forceinline__ int64_t rows_of(int rows, int pitch) {
  return static_cast<int64_t>(uint64_t{static_cast<uint32_t>(rows)} * static_cast<uint32_t>(pitch));
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
//
// Walk<Share, kMatrices> stands on one slice after the other, the first one first. It is made of
// the rows, the numbers of a row, and where the thread's column of each matrix begins.
//
// has(copy)        whether there is a row for the thread's copy
// from(m, copy)    that row's number in the thread's column
// advance()        goes on to the next slice

template <class T>
struct ReducedRows {
  int first, extent;

  template <class Share, int kMatrices>
  class Walk {
   public:
    __device__ __forceinline__ Walk(const ReducedRows& rows,
                                    int pitch,
                                    const Global<const T> (&columns)[kMatrices])
        : left_(rows.extent - rows.first - Share::row(0)), pitch_(pitch) {
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        next_[m] = columns[m] + static_cast<int64_t>(rows.first + Share::row(0)) * pitch;
      }
    }
    __device__ __forceinline__ bool has(int copy) const {
      return left_ > copy * Share::kRowsAtOnce;
    }
    // A multiplication by a constant: less to hold and to move than a pointer for every copy.
    __device__ __forceinline__ Global<const T> from(int m, int copy) const {
      return next_[m] + int64_t{pitch_} * (copy * Share::kRowsAtOnce);
    }
    __device__ __forceinline__ void advance() {
      left_ -= kDepth<T>;
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        next_[m] += int64_t{pitch_} * kDepth<T>;
      }
    }

   private:
    Global<const T> next_[kMatrices];  // of the thread's first row
    int left_;                         // rows from that one on
    int pitch_;
  };
};

}  // namespace digan::gemm
