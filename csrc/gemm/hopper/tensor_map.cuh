// Tensor maps for tma.cuh, made on the host.
//
// The function that makes them is the driver's. It is asked for at run time, so that the library
// links no driver and loads where there is none.

#pragma once

#include <cstdint>

#include "gemm/hopper/tma.cuh"
#include "number.h"

namespace digan::gemm::hopper {

// Bytes over which a box's chunks of 16 change places; its innermost axis has just as many.
enum class Swizzle { kNone, k32, k64, k128 };

struct TensorAxis {
  int64_t extent;  // numbers, at least 1
  int64_t stride;  // numbers from one to the next; 1 for the innermost axis, else whole chunks
  int box;         // numbers that a copy moves, 1 to 256
};

using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

// Null where the driver has none.
inline EncodeTensorMap find_encode_tensor_map() {
  constexpr unsigned kVersion = 12000;  // of CUDA, which introduced it
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                             kVersion, cudaEnableDefault, &result);
  if (error != cudaSuccess) {
    cudaGetLastError();  // the caller is told by the result, and CUDA forgets it
    return nullptr;
  }
  return result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTensorMap>(found) : nullptr;
}

inline bool tensor_map_type(Number number, CUtensorMapDataType& type) {
  switch (number) {
    case Number::kBF16:
      type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
      return true;
    case Number::kF16:
      type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
      return true;
    case Number::kF32:
      type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
      return true;
    default:
      return false;
  }
}

// A map of the tensor at `base`, its axes innermost first. What TMA cannot copy, by alignment or
// size, is cudaErrorInvalidValue; a driver without TMA is cudaErrorNotSupported.
template <int kAxes>
cudaError_t make_tensor_map(TensorMap& map,
                            Number number,
                            const void* base,
                            const TensorAxis (&axes)[kAxes],
                            Swizzle swizzle) {
  static_assert(kAxes >= 2 && kAxes <= 5);
  const EncodeTensorMap encode = find_encode_tensor_map();
  if (encode == nullptr) {
    return cudaErrorNotSupported;
  }
  CUtensorMapDataType type;
  const bool fills_swizzle =
      swizzle == Swizzle::kNone || axes[0].box * size_of(number) == 16 << static_cast<int>(swizzle);
  if (!tensor_map_type(number, type) || !fills_swizzle) {
    return cudaErrorInvalidValue;
  }
  cuuint64_t extents[kAxes], strides[kAxes - 1];
  cuuint32_t box[kAxes], steps[kAxes];
  for (int i = 0; i < kAxes; ++i) {
    extents[i] = static_cast<cuuint64_t>(axes[i].extent);
    box[i] = static_cast<cuuint32_t>(axes[i].box);
    steps[i] = 1;
    if (i > 0) {
      strides[i - 1] = static_cast<cuuint64_t>(axes[i].stride * size_of(number));
    }
  }
  constexpr CUtensorMapSwizzle kSwizzles[] = {
      CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_SWIZZLE_32B,
      CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_SWIZZLE_128B,
  };
  const CUresult result =
      encode(&map, type, kAxes, const_cast<void*>(base), extents, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, kSwizzles[static_cast<int>(swizzle)],
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace digan::gemm::hopper
