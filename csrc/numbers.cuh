// Number types of the kernels, and the only conversions between them.
//
// Arithmetic is in Wide<T>: float for float, bf16 and f16, double for double.

#pragma once

#include "number.h"
#include "platform.cuh"

namespace digan {

template <class T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ double widen(double x) {
  return x;
}
__device__ __forceinline__ float widen(bf16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float widen(f16 x) {
  return __half2float(x);
}

// Rounds to nearest even.
template <class T>
__device__ __forceinline__ T narrow(Wide<T> x) {
  return static_cast<T>(x);
}
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 narrow<f16>(float x) {
  return __float2half_rn(x);
}

// Calls function(T()) with the C++ type of a number; returns what it returns.
template <class Function>
cudaError_t with_number(Number number, const Function& function) {
  switch (number) {
    case Number::kF64:
      return function(double());
    case Number::kF32:
      return function(float());
    case Number::kBF16:
      return function(bf16());
    case Number::kF16:
      return function(f16());
  }
  return cudaErrorInvalidValue;
}

}  // namespace digan
