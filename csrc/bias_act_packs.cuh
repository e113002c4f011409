// What both directions of bias_act share: the bias, and packs of numbers at a tensor's end.

#pragma once

#include "bias_act.h"
#include "widen.cuh"

namespace digan {

constexpr int kThreads = 256;

// Blocks that fill any device; beyond that, threads take more.
constexpr int64_t kFullGrid = 1024;

// A bias in x's numbers or in sums, or none; x's numbers are what is added.
template <class T>
struct Bias {
  Global<const T> own;
  Global<const Wide<T>> wide;

  __device__ __forceinline__ Wide<T> operator[](int64_t channel) const {
    if (wide != nullptr) {
      return widen(narrow<T>(wide[channel]));
    }
    return own != nullptr ? widen(own[channel]) : Wide<T>(0);
  }
};

// As many numbers of a pack as the tensor still has; zeros behind.
template <int N, class T>
__device__ __forceinline__ Several<T, N> load_part(Global<const T> from, int64_t left) {
  if (left >= N) {
    return load_several<N, T>(from);
  }
  Several<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < left) {
      pack.v[i] = from[i];
    } else {
      pack.v[i] = narrow<T>(Wide<T>(0));
    }
  }
  return pack;
}

template <int N, class T>
__device__ __forceinline__ void store_part(Global<T> to, const Several<T, N>& pack, int64_t left) {
  if (left >= N) {
    store_several<N, T>(to, pack);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < left) {
      to[i] = pack.v[i];
    }
  }
}

inline bool is_empty(const BiasActCall& a) {
  return a.outer == 0 || a.channels == 0 || a.inner == 0;
}

}  // namespace digan
