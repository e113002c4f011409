// How a problem is cut into blocks: which tile, how many blocks, and where a block stands.

#pragma once

#include "gemm/epilogue.cuh"
#include "gemm/maps.cuh"
#include "vector.cuh"

namespace digan::gemm {

// ---------------------------------------------------------------- on the host

// The multiprocessors of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    return 1;
  }
  return count < 1 ? 1 : count;
}

// Of rows and columns: what a tile adds to them is an int, too.
constexpr int64_t kMostExtent = 0x7fffffff - 1024;

// An M x N product for each of `batches`.
struct Extent {
  int64_t batches, m, n;

  template <class Shape>
  int64_t blocks() const {
    return batches * ceil_div(m, Shape::kM) * ceil_div(n, Shape::kN);
  }
  // Whether rows, columns and the blocks of any tile can be counted by an int.
  bool fits() const {
    return m <= kMostExtent && n <= kMostExtent && blocks<SmallTile>() <= kMaxBlocks;
  }
};

// The tile of a problem, by two questions. Are M and N more than half of a large tile's? Else it
// would multiply what is not there. Do large tiles keep most of the card's multiprocessors busy?
// Else eight times as many small ones do.
template <class Shape>
bool is_large(const Extent& extent) {
  return extent.n * 2 > Shape::kN && extent.m * 2 > Shape::kM;
}
inline bool fills_card(int64_t blocks) {
  return blocks * 4 >= static_cast<int64_t>(multiprocessors()) * 3;
}

// Whether there are large tiles for the numbers: the plain forms have none, as their threads load
// from shared memory what a tensor core shares.
inline bool has_large(Number number, bool tf32) {
  return size_of(number) == 2 || (number == Number::kF32 && tf32);
}

// Calls function(Math(), Shape()), whichever serves the numbers: tensor cores for 16 bits and,
// where tf32 is allowed, for float32.
template <class Large, class Function>
cudaError_t with_math(Number number, bool tf32, bool large, const Function& function) {
  switch (number) {
    case Number::kBF16:
      return large ? function(TensorCores<bf16>(), Large())
                   : function(TensorCores<bf16>(), SmallTile());
    case Number::kF16:
      return large ? function(TensorCores<f16>(), Large())
                   : function(TensorCores<f16>(), SmallTile());
    case Number::kF32:
      if (tf32) {
        return large ? function(TensorCores<float>(), Large())
                     : function(TensorCores<float>(), SmallTile());
      }
      return function(Plain<float>(), SmallTile());
    case Number::kF64:
      return function(Plain<double>(), SmallTile());
  }
  return cudaErrorInvalidValue;
}

// kDepth of a number that is known at run time.
inline int depth_of(Number number) {
  return 64 / size_of(number);
}

// Whether rows of `pitch` numbers from each pointer lie in whole chunks of 16 bytes.
template <class... Pointers>
bool lies_in_chunks(Number number, int64_t pitch, const Pointers*... pointers) {
  return pitch * size_of(number) % 16 == 0 && (is_aligned(pointers) && ...);
}

// ---------------------------------------------------------------- in a kernel

// A block's tile: N innermost, so that neighbours in time read the same rows of A, from L2.
template <class Shape>
struct TilePlace {
  int64_t batch;
  int m, n;

  __device__ __forceinline__ TilePlace(int rows, int columns) {
    const unsigned tiles_n = (columns + Shape::kN - 1) / Shape::kN;
    const unsigned tiles_m = (rows + Shape::kM - 1) / Shape::kM;
    const unsigned block = blockIdx.x;
    n = static_cast<int>(block % tiles_n) * Shape::kN;
    m = static_cast<int>(block / tiles_n % tiles_m) * Shape::kM;
    batch = block / tiles_n / tiles_m;
  }
};

// The slices of a reduced axis.
template <class T>
__host__ __device__ __forceinline__ int slices_of(int extent) {
  return (extent + kDepth<T> - 1) / kDepth<T>;
}

// Blocks of a multiprocessor that the registers of a kernel are to allow.
template <class Math, class Shape>
constexpr int kResident = Math::kIsPlain ? 2 : Shape::kBlocks;

// Calls function(std::bool_constant<value>) where large tiles have a loop for each value, and
// small ones, of which there are enough loops already, one for both.
template <class Shape, class Function>
__device__ __forceinline__ void with_flag(bool value, const Function& function) {
  if constexpr (!std::is_same_v<Shape, SmallTile>) {
    if (!value) {
      return function(std::false_type());
    }
  }
  function(std::true_type());
}

// The other way round: large tiles are for whole chunks alone.
template <class Shape, class Function>
__device__ __forceinline__ void with_whole(bool whole, const Function& function) {
  if constexpr (std::is_same_v<Shape, SmallTile>) {
    if (!whole) {
      return function(std::false_type());
    }
  }
  function(std::true_type());
}

// The shared memory of a kernel: the ring, and what its epilogue puts in its place.
template <class Math, class Shape, class A, class B>
constexpr int shared_bytes(int epilogue) {
  const int ring = Ring<Math, Shape, A, B>::kBytes;
  return ring > epilogue ? ring : epilogue;
}

}  // namespace digan::gemm
