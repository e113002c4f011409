// Barriers in shared memory (sm_90), named barriers, and the registers of a warpgroup.
//
// An mbarrier is 8 bytes of shared memory that count. It is in a phase, the first has number 0,
// and goes on to the next when as many threads have arrived as it was made for and as many bytes
// of asynchronous copies are there as were announced for the phase.
//
//   mbarrier_init           for so many arrivals a phase; by one thread, then
//   fence_mbarrier_init     which lets asynchronous copies see it, then a __syncthreads
//   mbarrier_arrive         one arrival; what the thread did before is seen by who waits
//   mbarrier_arrive_expect  one arrival that announces bytes, before they are copied
//   mbarrier_wait           until a phase of this parity has ended, of the last two; what arrived
//                           in it, threads' work and copies, is seen from here on
//
// The parity of the phase a thread waits for is 0, 1, 0, ...; of a barrier that is still in phase
// 0, "phase -1" with parity 1 counts as ended.
//
//   fence_proxy_async       what this thread wrote to shared memory is seen by asynchronous copies
//                           and wgmma that are ordered behind it
//   named_barrier_sync      a __syncthreads of some warps: barrier 1 to 15 for so many threads
//   named_barrier_arrive    the same without waiting
//   registers_release,      a warpgroup's registers a thread, less or more than the launch gave;
//   registers_take          by all of its threads, multiples of 8 from 24 to 256

#pragma once

#include <cstdint>

#include "platform.cuh"
#include "ptx.cuh"

#ifdef DIGAN_EMULATED
#include "mbarrier.h"
#else

namespace digan {

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

// The hardware sleeps for a while in each try.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra there;\n"
      "bra again;\n"
      "there:\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void named_barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void registers_release() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void registers_take() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace digan

#endif  // DIGAN_EMULATED
