// Every PTX instruction that kernels write out, as a small named function.
//
// Fragments are registers of a warp, by lane = 4 * row_in_group + pair:
//
//   ldmatrix   four 8x8 matrices of 16-bit numbers; lane 8 * m + r names row r of matrix m
//              (16 bytes), register m then holds numbers [lane / 4][2 * (lane % 4) + {0, 1}];
//              or four 8x4 ones of float32, of which it holds number [lane / 4][lane % 4]
//   mma        D[16, 8] += A[16, K] B[K, 8] in float32; operands as ldmatrix leaves them, for B
//              from memory that holds its columns (B transposed) as rows
//   cp.async   16 bytes from global to shared memory, seen after the wait for their group, by
//              other threads after a barrier behind that wait

#pragma once

#include <cstdint>

#include "platform.cuh"

namespace digan {

// Half by half, `above` where `ones` is 1 and `below` where it is 0; both halves of either are
// alike. Sums stay within their halves, whatever the sign of the difference.
__device__ __forceinline__ uint32_t choose_x2(uint32_t ones, uint32_t above, uint32_t below) {
  return ones * ((above & 0xffff) - (below & 0xffff)) + below;
}

}  // namespace digan

#ifdef DIGAN_EMULATED
#include "async_copy.h"
#include "tensor_cores.h"
#else

namespace digan {

// threadIdx.x, read here and now: what follows from it is computed where it is used, and takes no
// registers in the loops around.
__device__ __forceinline__ int thread_here() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// The address that instructions on shared memory take.
template <class T>
__device__ __forceinline__ uint32_t shared_address(const T* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---------------------------------------------------------------- ldmatrix

template <class T>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&to)[4], const T* row) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4, "matrices of 16-bit numbers or of float32");
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same with each matrix transposed on its way.
template <class T>
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&to)[4], const T* row) {
  static_assert(sizeof(T) == 2, "matrices of 16-bit numbers");
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// ---------------------------------------------------------------- mma

// Functions of registers, which the compiler may move or drop as it does an addition.

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4],
                                                  const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4],
                                                 const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Operands by to_tf32: the instruction drops the low 13 bits of what it gets.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4],
                                                 const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A float32 rounded to 10 bits of fraction, halves away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(x));
  return result;
}

// ---------------------------------------------------------------- two numbers of 16 bits

// Products of the low halves and of the high ones, each rounded once. bfloat16's is an FMA with
// -0, which leaves every product as it is, because cards before 9.0 have no other.
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(0x80008000u));
  return result;
}

__device__ __forceinline__ uint32_t mul_f16x2(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

// All ones in each half whose top bit is set, else zeros.
__device__ __forceinline__ uint32_t sign_mask_x2(uint32_t x) {
  uint32_t result;
  // Each byte of the result is the sign (8) of byte 1 or 3.
  asm("prmt.b32 %0, %1, %1, 0xbb99;" : "=r"(result) : "r"(x));
  return result;
}

// Half by half, `above` where x is greater than zero, else (NaN too) `below`.
__device__ __forceinline__ uint32_t where_positive_f16x2(uint32_t x,
                                                         uint32_t above,
                                                         uint32_t below) {
  uint32_t mask;
  asm("set.gt.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(x), "r"(0u));
  return (above & mask) | (below & ~mask);
}

// The same of bfloat16, where both halves of `above` are alike and both of `below`: cards before
// 9.0 compare no pairs of it. The emulator goes their way.
__device__ __forceinline__ uint32_t where_positive_bf16x2(uint32_t x,
                                                          uint32_t above,
                                                          uint32_t below) {
#if __CUDA_ARCH__ >= 900
  uint32_t mask;
  asm("set.gt.u32.bf16x2 %0, %1, %2;" : "=r"(mask) : "r"(x), "r"(0u));
  return (above & mask) | (below & ~mask);
#else
  // x between 0 and the smallest number there is, whose bits are 1.
  uint32_t ones;
  asm("{.reg .b32 t; max.bf16x2 t, %1, %2; min.bf16x2 %0, t, %3;}"
      : "=r"(ones)
      : "r"(x), "r"(0u), "r"(0x00010001u));
  return choose_x2(ones, above, below);
#endif
}

// ---------------------------------------------------------------- cp.async

// Where `valid` is false, zeros arrive and nothing is read, but `from` must not be null.
template <class T>
__device__ __forceinline__ void cp_async_16(T* to, const T* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}

// Ends the group of this thread's copies since the last commit.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most kPending groups of this thread, the newest, are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace digan

#endif  // DIGAN_EMULATED
