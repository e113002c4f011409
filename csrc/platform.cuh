// What a kernel of this library may use, alike under nvcc and under the emulator.
//
// Kernels are ordinary CUDA C++ with these exceptions, each of which lets the emulator of
// tests/emulation watch what a GPU would do silently:
//
//   Global<T>              a kernel's pointer to global memory; T* on a GPU, bounds-checked there
//   DIGAN_SHARED           a shared array of a size known to the compiler; poisoned and watched
//   DIGAN_SHARED_DYNAMIC   the shared memory that the launch sizes, of which a block has one piece
//   Shared<T>              a function's pointer to shared memory, as which both are given
//   view_as<U>             the same shared memory as numbers of another type
//   load16, store16        16-byte accesses; they trap where the address is not a multiple of 16
//   load_pair              two neighbouring numbers of 16 bits as one of 32, at a multiple of 4
//   bytes DIGAN_LAUNCH           <<<>>>, with the launch's error as its value DIGAN_LAUNCH_SHARED
//   the same with so many bytes of shared memory for DIGAN_SHARED_DYNAMIC DIGAN_LAUNCH_LARGE the
//   same on cards where a block may have more of it than 99 KB
//
// Inline PTX is in ptx.cuh and gemm/hopper/ only. Numbers are converted by numbers.cuh only.

#pragma once

#include <cstdint>

#ifdef DIGAN_EMULATED
#include "emulator.h"  // defines all of the below, and the CUDA words that kernels use
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace digan {

using bf16 = __nv_bfloat16;
using f16 = __half;

template <class T>
using Global = T*;
template <class T>
using Shared = T*;

// 16 bytes of numbers, moved by one instruction.
template <class T>
struct alignas(16) Vec16 {
  static constexpr int kCount = 16 / sizeof(T);
  T v[kCount];
};

template <class T>
__device__ __forceinline__ Vec16<T> load16(const T* from) {
  return *reinterpret_cast<const Vec16<T>*>(from);
}

template <class T>
__device__ __forceinline__ void store16(T* to, const Vec16<T>& value) {
  *reinterpret_cast<Vec16<T>*>(to) = value;
}

template <class T>
__device__ __forceinline__ uint32_t load_pair(const T* from) {
  static_assert(sizeof(T) == 2, "numbers of 16 bits");
  return *reinterpret_cast<const uint32_t*>(from);
}

template <class U, class T>
__device__ __forceinline__ U* view_as(T* pointer) {
  return reinterpret_cast<U*>(pointer);
}

// What a block may have without asking, and what this asks the driver for where it is more.
constexpr size_t kSharedUnasked = 48 * 1024;

template <class... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes <= kSharedUnasked) {
    return cudaSuccess;
  }
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

}  // namespace digan

#define DIGAN_SHARED(T, name, count) __shared__ __align__(16) T name[count]
// One name and type for all kernels, as the linker gives them one piece of memory. It begins where
// a swizzle over 128 bytes does.
#define DIGAN_SHARED_DYNAMIC(T, name)                                     \
  extern __shared__ __align__(1024) unsigned char digan_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(digan_dynamic_shared)

// A kernel template is given in parentheses: DIGAN_LAUNCH((fill_kernel<float>), grid, ...).
#define DIGAN_UNWRAP(...) __VA_ARGS__
// clang-format off: it takes the brackets of a launch inside a macro for comparisons.
#define DIGAN_LAUNCH(kernel, grid, block, stream, ...) \
  ((DIGAN_UNWRAP kernel)<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__), cudaGetLastError())
// A refusal is CUDA's last error too, which is hereby forgotten.
#define DIGAN_LAUNCH_SHARED(kernel, grid, block, shared_bytes, stream, ...)                       \
  (::digan::allow_shared((DIGAN_UNWRAP kernel), (shared_bytes)) != cudaSuccess                    \
       ? cudaGetLastError()                                                                       \
       : ((DIGAN_UNWRAP kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__),      \
          cudaGetLastError()))
#define DIGAN_LAUNCH_LARGE DIGAN_LAUNCH_SHARED
// clang-format on

#endif  // DIGAN_EMULATED
