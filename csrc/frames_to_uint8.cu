// frames_to_uint8: pictures in [-1, 1] to bytes.
//
// DESIGN
// The tensor is one run of numbers. A thread takes 16 of them: 16-byte loads (four of float32,
// two of 16 bits, eight of float64), the sums in registers, and one 16-byte store. What a warp's
// first load brings of a line its next ones find in the first cache. Moved: frames once, a byte a
// number; of float32 pictures 12 + 3 bytes a pixel. Sum and product are two instructions with a
// rounding each, as PyTorch has them: an fma would give other bytes close to a half. Frames at
// an address that is no multiple of 16 are read number by number.
//
// Rejected: four numbers a thread, whose loads are whole lines at once but whose stores are words
// of 4 bytes, four times as many.

#include "frames_to_uint8.h"

#include "vector.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;
constexpr int kPack = 16;  // bytes, and so numbers, of a store

__device__ __forceinline__ float level_of(float x) {
  return __fmul_rn(__fadd_rn(x, 1.0f), 127.5f);
}
__device__ __forceinline__ double level_of(double x) {
  return __dmul_rn(__dadd_rn(x, 1.0), 127.5);
}

// The bounds are whole numbers, so that they may come before the rounding; max() of NaN and 0 is 0.
template <class W>
__device__ __forceinline__ uint8_t byte_of(W x) {
  return static_cast<uint8_t>(static_cast<int>(rint(min(max(level_of(x), W(0)), W(255)))));
}

// V is how many numbers a load takes: all of a pack, in accesses of 16 bytes, or one.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    frames_to_uint8_kernel(Global<const T> frames,  // [count]
                           Global<uint8_t> out,     // [count]
                           int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  if (at + kPack > count) {
    for (int64_t i = at; i < count; ++i) {
      out[i] = byte_of(widen(static_cast<T>(frames[i])));
    }
    return;
  }
  Several<uint8_t, kPack> bytes;
#pragma unroll
  for (int k = 0; k < kPack; k += V) {
    const Several<T, V> part = load_several<V, T>(frames + (at + k));
#pragma unroll
    for (int i = 0; i < V; ++i) {
      bytes.v[k + i] = byte_of(widen(part.v[i]));
    }
  }
  store_several<kPack, uint8_t>(out + at, bytes);
}

template <class T, int V>
cudaError_t run(const FramesToUint8Arguments& a, cudaStream_t stream) {
  const int64_t blocks = ceil_div(ceil_div(a.count, kPack), kThreads);
  if (blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return DIGAN_LAUNCH((frames_to_uint8_kernel<T, V>), static_cast<unsigned>(blocks), kThreads,
                      stream, static_cast<const T*>(a.frames), a.out, a.count);
}

}  // namespace

cudaError_t launch_frames_to_uint8(const FramesToUint8Arguments& a, cudaStream_t stream) {
  if (a.count == 0) {
    return cudaSuccess;
  }
  if (!is_aligned(a.out)) {
    return cudaErrorInvalidValue;
  }
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    return is_aligned(a.frames) ? run<T, kPack>(a, stream) : run<T, 1>(a, stream);
  });
}

}  // namespace digan
