// Several numbers at once: V numbers side by side, moved by 16-byte accesses, or one number.

#pragma once

#include <cstdint>

#include "numbers.cuh"
#include "platform.cuh"

namespace digan {

// The numbers of a 16-byte access.
template <class T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));

template <class T, int V>
struct Several {
  T v[V];
};

// V is 1, or a multiple of what 16 bytes hold, and `from` is then a multiple of 16 bytes.
template <int V, class T>
__device__ __forceinline__ Several<T, V> load_several(Global<const T> from) {
  Several<T, V> result;
  if constexpr (V == 1) {
    result.v[0] = from[0];
  } else {
    constexpr int kStep = 16 / sizeof(T);
#pragma unroll
    for (int k = 0; k < V / kStep; ++k) {
      const Vec16<T> part = load16(from + k * kStep);
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        result.v[k * kStep + i] = part.v[i];
      }
    }
  }
  return result;
}

template <int V, class T>
__device__ __forceinline__ void store_several(Global<T> to, const Several<T, V>& value) {
  if constexpr (V == 1) {
    to[0] = value.v[0];
  } else {
    constexpr int kStep = 16 / sizeof(T);
#pragma unroll
    for (int k = 0; k < V / kStep; ++k) {
      Vec16<T> part;
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        part.v[i] = value.v[k * kStep + i];
      }
      store16(to + k * kStep, part);
    }
  }
}

// ---------------------------------------------------------------- on the host

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// A vector length as a type, for generic functions.
template <int V>
struct VectorOf {
  static constexpr int value = V;
};

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A grid has one axis of this many blocks at most.
constexpr int64_t kMaxBlocks = 0x7fffffff;

}  // namespace digan
