// Conversions of several numbers at once.

#pragma once

#include "vector.cuh"

namespace digan {

template <class T, int V>
__device__ __forceinline__ void widen_several(const Several<T, V>& from, Wide<T> (&to)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) {
    to[i] = widen(from.v[i]);
  }
}

template <class T, int V>
__device__ __forceinline__ Several<T, V> narrow_several(const Wide<T> (&from)[V]) {
  Several<T, V> to;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    to.v[i] = narrow<T>(from[i]);
  }
  return to;
}

}  // namespace digan
