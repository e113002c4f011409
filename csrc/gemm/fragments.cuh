// How a warp multiplies: the pieces of operands that its registers hold, and their product.
//
// A warp's accumulators are groups of 16 rows by 8 columns. Of each, lane 4 g + q holds
// (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1), in that order, whatever multiplies:
//
//   TensorCores<bf16>, <f16>   mma.m16n8k16
//   TensorCores<float>         mma.m16n8k8 on tf32: operands rounded to 10 bits of fraction
//   Plain<float>, <double>     fused multiply-adds in full precision
//
// A step is as much of the reduced axis as one instruction takes.

#pragma once

#include "gemm/tile.cuh"
#include "ptx.cuh"

namespace digan::gemm {

template <class T>
struct TensorCores {
  using Number = T;
  static constexpr bool kIsPlain = false;
  static constexpr int kStep = 2 * kChunk<T>;
  static constexpr int kSteps = kDepth<T> / kStep;
  struct A {
    uint32_t v[4];
  };
  struct B {
    uint32_t v[2];
  };

  __device__ __forceinline__ static void multiply(float (&sum)[4], const A& a, const B& b) {
    if constexpr (sizeof(T) == 4) {
      mma_m16n8k8_tf32(sum, a.v, b.v);
    } else if constexpr (std::is_same_v<T, bf16>) {
      mma_m16n8k16_bf16(sum, a.v, b.v);
    } else {
      mma_m16n8k16_f16(sum, a.v, b.v);
    }
  }

  // Loads 16 kGroups rows of A, or 8 kGroups columns of B, from `first` of the kept axis on, of a
  // slice that stands `stage` numbers behind the one that it was made for.
  template <class Slice, int kGroups, bool kIsA>
  class Loader {
   public:
    __device__ __forceinline__ Loader(Shared<const T> slice, int first) {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      if constexpr (kMatrices && Slice::kReducedInner) {
        // Lanes name the rows of four 8x8 matrices: of A, two of rows and then two of columns; of
        // B, the other way round.
        const int row = kIsA ? lane % 16 : lane / 16 * 8 + lane % 8;
        const int half = kIsA ? lane / 16 : lane / 8 % 2;
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          at_[step] = slice + Slice::offset(first + row, 2 * step + half);
        }
      } else if constexpr (kMatrices) {
        const int row = kIsA ? lane / 16 * 8 + lane % 8 : lane % 16;
        const int half = kIsA ? lane / 8 % 2 : lane / 16;
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          at_[i] = slice + Slice::offset(row, first / 8 + 2 * i + half);
        }
      } else {
        // Number by number, of rows lane % 4 and lane % 4 + 4 of a step.
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            at_[2 * i + half] =
                slice + Slice::number(lane % 4, first + 16 * i + 8 * half + lane / 4);
          }
        }
      }
    }

    template <class Fragment>
    __device__ __forceinline__ void load(Fragment (&to)[kGroups], int stage, int step) const {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        uint32_t four[4];
        if constexpr (kMatrices && Slice::kReducedInner) {
          ldmatrix_x4(four, at_[step] + stage + 16 * i * kRow);
        } else if constexpr (kMatrices) {
          ldmatrix_x4_trans(four, at_[i] + stage + kStep * step * kRow);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            // Of A the two halves of rows come first, of B the two of the step.
            const int half = kIsA ? j % 2 : j / 2;
            const int low = kIsA ? j / 2 : j % 2;
            four[j] = __float_as_uint(at_[2 * i + half][stage + (kStep * step + 4 * low) * kRow]);
          }
        }
        if constexpr (sizeof(T) == 4) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            four[j] = to_tf32(__uint_as_float(four[j]));
          }
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (kIsA) {
            to[i].v[j] = four[j];
          } else {
            to[2 * i + j / 2].v[j % 2] = four[j];
          }
        }
      }
    }

   private:
    static constexpr bool kMatrices = sizeof(T) == 2 || Slice::kReducedInner;  // by ldmatrix
    static constexpr int kLoads = kIsA ? kGroups : kGroups / 2;  // of 16 of the kept axis
    static constexpr int kRow = Slice::kChunks * kChunk<T>;
    static constexpr int kPlaces = !kMatrices ? 2 * kLoads : Slice::kReducedInner ? kSteps : kLoads;
    // Loads a whole row of chunks apart, or rows that swizzle alike, lie a constant from one
    // another, which becomes part of the instruction.
    Shared<const T> at_[kPlaces];
  };
};

template <class T>
struct Plain {
  using Number = T;
  static constexpr bool kIsPlain = true;
  static constexpr int kStep = kChunk<T>;
  static constexpr int kSteps = kDepth<T> / kStep;
  struct A {
    T v[2][kStep];  // rows g and g + 8
  };
  struct B {
    T v[2][kStep];  // columns 2q and 2q + 1
  };

  __device__ __forceinline__ static void multiply(T (&sum)[4], const A& a, const B& b) {
#pragma unroll
    for (int k = 0; k < kStep; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[i] = fma(a.v[i / 2][k], b.v[i % 2][k], sum[i]);
      }
    }
  }

  template <class Slice, int kGroups, bool kIsA>
  class Loader {
   public:
    __device__ __forceinline__ Loader(Shared<const T> slice, int first)
        : slice_(slice), first_(first) {}

    template <class Fragment>
    __device__ __forceinline__ void load(Fragment (&to)[kGroups], int stage, int step) const {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      const Shared<const T> slice = slice_ + stage;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int kept = first_ + (kIsA ? 16 * i + 8 * j + lane / 4 : 8 * i + lane % 4 * 2 + j);
          if constexpr (Slice::kReducedInner) {
            const Vec16<T> chunk = load16(slice + Slice::offset(kept, step));
#pragma unroll
            for (int k = 0; k < kStep; ++k) {
              to[i].v[j][k] = chunk.v[k];
            }
          } else {
#pragma unroll
            for (int k = 0; k < kStep; ++k) {
              to[i].v[j][k] = slice[Slice::number(kStep * step + k, kept)];
            }
          }
        }
      }
    }

   private:
    Shared<const T> slice_;
    int first_;
  };
};

}  // namespace digan::gemm
