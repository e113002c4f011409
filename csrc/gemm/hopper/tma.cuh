// Copies of boxes of tensors between global and shared memory (TMA, sm_90).
//
// A tensor map, made on the host, says where a tensor of 2 to 4 axes lies, innermost axis first,
// and which box of it one instruction copies. Coordinates are of the box's first number, in
// numbers; they may lie outside of the tensor, where loads give zeros and stores drop what is
// there. A box lies in shared memory axis by axis, its innermost contiguous, its chunks of 16
// bytes swizzled over as many bytes as the map says: with Swizzle::k128 chunk c of the 128-byte
// line r, counted from a multiple of 1024, stands in place c ^ r % 8.
//
//   tma_load        by one thread; the bytes of the whole box, also those outside of the tensor,
//                   count for a phase of `barrier`, and are there when it has ended
//   tma_store       by one thread, of what all writers have fenced (fence_proxy_async) before a
//                   barrier; in groups:
//   tma_store_commit     ends the group of this thread's stores since the last
//   tma_store_wait_read  until at most kPending groups, the newest, still read shared memory
//   tma_store_wait       until at most kPending groups are not yet in global memory
//   tma_prefetch    fetches a tensor map, which takes a while, before it is needed
//
// Addresses in shared memory: multiples of 128, and of the swizzle's period, 8 lines of it.

#pragma once

#include <cstdint>

#include "gemm/hopper/barrier.cuh"
#include "number.h"
#include "platform.cuh"

#ifdef DIGAN_EMULATED
#include "tma.h"
#else

#include <cuda.h>

namespace digan {

using TensorMap = CUtensorMap;

__device__ __forceinline__ uint64_t address_of(const TensorMap& map) {
  return reinterpret_cast<uint64_t>(&map);
}

__device__ __forceinline__ void tma_prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(address_of(map)) : "memory");
}

template <class T>
__device__ __forceinline__ void tma_load(
    T* to, const TensorMap& map, uint64_t* barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
      "l"(address_of(map)), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}

template <class T>
__device__ __forceinline__ void tma_load(
    T* to, const TensorMap& map, uint64_t* barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
      "l"(address_of(map)), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

template <class T>
__device__ __forceinline__ void tma_load(
    T* to, const TensorMap& map, uint64_t* barrier, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
      "l"(address_of(map)), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

template <class T>
__device__ __forceinline__ void tma_store(const TensorMap& map, const T* from, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
          address_of(map)),
      "r"(shared_address(from)), "r"(x), "r"(y)
      : "memory");
}

template <class T>
__device__ __forceinline__ void tma_store(
    const TensorMap& map, const T* from, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          address_of(map)),
      "r"(shared_address(from)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

__device__ __forceinline__ void tma_store_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

template <int kPending>
__device__ __forceinline__ void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace digan

#endif  // DIGAN_EMULATED
