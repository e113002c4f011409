// wgmma: the matrix products of a warpgroup, 128 threads, on cards of 9.0.
//
//   D[64, N] += A[64, 16] B[16, N], in float32, of numbers of 16 bits
//
// B lies in shared memory, A there or in registers. Of D, thread 32 w + 4 g + q holds rows
// 16 w + g and 16 w + g + 8, columns 8 j + 2 q and 8 j + 2 q + 1, as d[4 j + {0, 1}] of the first
// row and d[4 j + {2, 3}] of the second; of A in registers, a warp holds its 16 rows as ldmatrix
// leaves them for mma.m16n8k16.
//
// The product is asynchronous. From its issue until the wait for its group nobody may touch its
// registers or write its shared memory:
//
//   wgmma_fence(d, a...)   hands over registers that other instructions wrote
//   wgmma(d, a, b, adds)   issues; without `adds` D is overwritten. Those on the same D follow one
//                          another by themselves
//   wgmma_commit()         ends a group
//   wgmma_wait<n>(d, ...)  until at most the n newest groups are under way; the registers named are
//                          the caller's again
//
// In shared memory operands lie in rows of 128 bytes (or 64, or 32), whose chunks of 16 change
// places by bits of their address (swizzle 128B, as TMA writes it); such a row is one of
//
//   Major::kReduced   64 numbers of the reduced axis of one row of A, one column of B
//   Major::kKept      64 rows of A, or columns of B, at one place of the reduced axis

#pragma once

#include <cstdint>

#include "ptx.cuh"

namespace digan::gemm::hopper {

enum class Major { kReduced, kKept };

constexpr int kSwizzleRow = 128;       // bytes
constexpr int kInstructionDepth = 16;  // numbers of the reduced axis

// The descriptor of a matrix at a shared address, in rows of kRow bytes: `pieces`, the bytes from
// one such row's end of the axis to where it goes on; the other distance is that of 8 rows. Bits:
// address 0 to 13, the two distances from 16 and from 32 on, all in units of 16 bytes; 49 to 51
// the phase of the swizzle at the beginning, 0 for memory whose pattern begins at a multiple of
// its length of 8 rows; 62 and 63 the swizzle, 1 for 128 bytes, 2 for 64, 3 for 32.
template <int kRow>
__device__ __forceinline__ constexpr uint64_t matrix_descriptor(uint32_t address, uint32_t pieces) {
  static_assert(kRow == 128 || kRow == 64 || kRow == 32);
  constexpr uint64_t kSwizzle = kRow == 128 ? 1 : kRow == 64 ? 2 : 3;
  return (address & 0x3ffff) >> 4 | uint64_t{pieces >> 4} << 16 | uint64_t{8 * kRow >> 4} << 32 |
         kSwizzle << 62;
}

// A matrix with its reduced axis along the rows. An instruction takes no more of it than a row, so
// that the distance of pieces means nothing; 16 is what others write.
template <int kRow = kSwizzleRow>
__device__ __forceinline__ constexpr uint64_t reduced_rows(uint32_t address) {
  return matrix_descriptor<kRow>(address, 16);
}
// With the kept axis along the rows, `bytes` from 64 of it to the next 64.
__device__ __forceinline__ constexpr uint64_t kept_rows(uint32_t address, uint32_t bytes) {
  return matrix_descriptor<kSwizzleRow>(address, bytes);
}

// What is added to a descriptor to stand `bytes` further.
__device__ __forceinline__ constexpr uint64_t further(uint32_t bytes) {
  return bytes >> 4;
}

// Bytes from one instruction's piece of the reduced axis to the next, in the same 64.
template <Major kMajor>
constexpr uint32_t kStepBytes =
    kMajor == Major::kReduced ? 2 * kInstructionDepth : kInstructionDepth * kSwizzleRow;

}  // namespace digan::gemm::hopper

#ifdef DIGAN_EMULATED
#include "wgmma.h"
#else

#include <type_traits>

namespace digan::gemm::hopper {

// ---------------------------------------------------------------- order

// Registers as the compiler must hold them here.
__device__ __forceinline__ void pin(float& x) {
  asm volatile("" : "+f"(x)::"memory");
}
__device__ __forceinline__ void pin(uint32_t& x) {
  asm volatile("" : "+r"(x)::"memory");
}
template <class R, int N>
__device__ __forceinline__ void pin(R (&registers)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    pin(registers[i]);
  }
}

template <class... Registers>
__device__ __forceinline__ void wgmma_fence(Registers&... registers) {
  (pin(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending, class... Registers>
__device__ __forceinline__ void wgmma_wait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  (pin(registers), ...);
}

// ---------------------------------------------------------------- products

// The accumulators' registers by number, and as operands.
#define DIGAN_D32                            \
  "%0, %1, %2, %3, %4, %5, %6, %7"           \
  ", %8, %9, %10, %11, %12, %13, %14, %15"   \
  ", %16, %17, %18, %19, %20, %21, %22, %23" \
  ", %24, %25, %26, %27, %28, %29, %30, %31"
#define DIGAN_D64                            \
  DIGAN_D32                                  \
  ", %32, %33, %34, %35, %36, %37, %38, %39" \
  ", %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define DIGAN_D128                                   \
  DIGAN_D64                                          \
  ", %64, %65, %66, %67, %68, %69, %70, %71"         \
  ", %72, %73, %74, %75, %76, %77, %78, %79"         \
  ", %80, %81, %82, %83, %84, %85, %86, %87"         \
  ", %88, %89, %90, %91, %92, %93, %94, %95"         \
  ", %96, %97, %98, %99, %100, %101, %102, %103"     \
  ", %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119" \
  ", %120, %121, %122, %123, %124, %125, %126, %127"
#define DIGAN_OUT8(i)                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define DIGAN_OUT32(i) DIGAN_OUT8(i), DIGAN_OUT8(i + 8), DIGAN_OUT8(i + 16), DIGAN_OUT8(i + 24)
#define DIGAN_OUT64(i) DIGAN_OUT32(i), DIGAN_OUT32(i + 32)
#define DIGAN_OUT128(i) DIGAN_OUT64(i), DIGAN_OUT64(i + 64)

// `count` accumulators of a thread; the operands behind them by their numbers.
#define DIGAN_WGMMA(n, type, count, flag, operands)                                 \
  "{.reg .pred p; setp.ne.b32 p, " flag ", 0; wgmma.mma_async.sync.aligned.m64n" #n \
  "k16.f32." type "." type " {" DIGAN_D##count "}, " operands ";}"

#define DIGAN_WGMMA_SHARED(n, type, count, a, b, flag, major_a, major_b)                       \
  asm volatile(DIGAN_WGMMA(n, type, count, flag, a ", " b ", p, 1, 1, " major_a ", " major_b)  \
               : DIGAN_OUT##count(0)                                                           \
               : "l"(a_matrix), "l"(b_matrix), "r"(static_cast<int>(adds)), "n"(kTransposedA), \
                 "n"(kTransposedB))

#define DIGAN_WGMMA_REGISTERS(n, type, count, a, b, flag, major_b)                              \
  asm volatile(DIGAN_WGMMA(n, type, count, flag, "{" a "}, " b ", p, 1, 1, " major_b)           \
               : DIGAN_OUT##count(0)                                                            \
               : "r"(a_rows[0]), "r"(a_rows[1]), "r"(a_rows[2]), "r"(a_rows[3]), "l"(b_matrix), \
                 "r"(static_cast<int>(adds)), "n"(kTransposedB))

// N from the accumulators. T: bf16 or f16.
template <class T, Major kMajorA, Major kMajorB, int kCount>
__device__ __forceinline__ void wgmma(float (&d)[kCount],
                                      uint64_t a_matrix,
                                      uint64_t b_matrix,
                                      bool adds = true) {
  static_assert(kCount == 32 || kCount == 64 || kCount == 128, "N of 64, 128 or 256");
  constexpr int kTransposedA = kMajorA == Major::kKept, kTransposedB = kMajorB == Major::kKept;
  if constexpr (std::is_same_v<T, bf16>) {
    if constexpr (kCount == 32) {
      DIGAN_WGMMA_SHARED(64, "bf16", 32, "%32", "%33", "%34", "%35", "%36");
    } else if constexpr (kCount == 64) {
      DIGAN_WGMMA_SHARED(128, "bf16", 64, "%64", "%65", "%66", "%67", "%68");
    } else {
      DIGAN_WGMMA_SHARED(256, "bf16", 128, "%128", "%129", "%130", "%131", "%132");
    }
  } else {
    if constexpr (kCount == 32) {
      DIGAN_WGMMA_SHARED(64, "f16", 32, "%32", "%33", "%34", "%35", "%36");
    } else if constexpr (kCount == 64) {
      DIGAN_WGMMA_SHARED(128, "f16", 64, "%64", "%65", "%66", "%67", "%68");
    } else {
      DIGAN_WGMMA_SHARED(256, "f16", 128, "%128", "%129", "%130", "%131", "%132");
    }
  }
}

// With A in registers.
template <class T, Major kMajorB, int kCount>
__device__ __forceinline__ void wgmma(float (&d)[kCount],
                                      const uint32_t (&a_rows)[4],
                                      uint64_t b_matrix,
                                      bool adds = true) {
  static_assert(kCount == 32 || kCount == 64 || kCount == 128, "N of 64, 128 or 256");
  constexpr int kTransposedB = kMajorB == Major::kKept;
  if constexpr (std::is_same_v<T, bf16>) {
    if constexpr (kCount == 32) {
      DIGAN_WGMMA_REGISTERS(64, "bf16", 32, "%32, %33, %34, %35", "%36", "%37", "%38");
    } else if constexpr (kCount == 64) {
      DIGAN_WGMMA_REGISTERS(128, "bf16", 64, "%64, %65, %66, %67", "%68", "%69", "%70");
    } else {
      DIGAN_WGMMA_REGISTERS(256, "bf16", 128, "%128, %129, %130, %131", "%132", "%133", "%134");
    }
  } else {
    if constexpr (kCount == 32) {
      DIGAN_WGMMA_REGISTERS(64, "f16", 32, "%32, %33, %34, %35", "%36", "%37", "%38");
    } else if constexpr (kCount == 64) {
      DIGAN_WGMMA_REGISTERS(128, "f16", 64, "%64, %65, %66, %67", "%68", "%69", "%70");
    } else {
      DIGAN_WGMMA_REGISTERS(256, "f16", 128, "%128, %129, %130, %131", "%132", "%133", "%134");
    }
  }
}

#undef DIGAN_D32
#undef DIGAN_D64
#undef DIGAN_D128
#undef DIGAN_OUT8
#undef DIGAN_OUT32
#undef DIGAN_OUT64
#undef DIGAN_OUT128
#undef DIGAN_WGMMA
#undef DIGAN_WGMMA_SHARED
#undef DIGAN_WGMMA_REGISTERS

}  // namespace digan::gemm::hopper

#endif  // DIGAN_EMULATED
