// The main loop of every matrix product here, whatever its operands are made of.
//
// DESIGN
// A block's slices of A and B stand in a ring of kStages in shared memory. While the warps
// multiply slice k, asynchronous copies fill those to come, the newest kStages - 1 ahead; where
// an operand is not multiplied as memory holds it (the gradient times a slope, the embedding of a
// block of pixels), slice k + 1 is prepared at the same time, between the same two barriers. So
// there is one barrier a slice, and the tensor cores have work while prepare() computes.
//
// An operand is a class with
//
//   Slice                       how its slice lies in shared memory
//   kNumbers                    of shared memory it needs a stage, the slice first
//   kPrepares                   whether prepare() does anything
//   copy(stage), advance()      start the asynchronous copies of a slice; go on to the next. The
//                               slices behind the last are zeros, for which nothing is read: the
//                               loop asks for some, and so has no condition
//   prepare(stage)              finishes a slice: every thread's copies are visible to all
//   use(stage, k)               looks at the finished slice k while it is multiplied

#pragma once

#include "gemm/fragments.cuh"

namespace digan::gemm {

template <class Math, class Shape>
using Sums = Wide<typename Math::Number>[Shape::kGroupsM][Shape::kGroupsN][4];

template <class Math, class Shape, class A, class B>
struct Ring {
  using T = typename Math::Number;
  static constexpr int kNumbers = A::kNumbers + B::kNumbers;  // of a stage
  static constexpr int kFitting = kSharedBytes / (kNumbers * static_cast<int>(sizeof(T)));
  static constexpr int kStages = kFitting < 4 ? kFitting : 4;
  static constexpr int kBytes = kStages * kNumbers * static_cast<int>(sizeof(T));
  static constexpr bool kPrepares = A::kPrepares || B::kPrepares;
  static_assert(kStages >= 3, "a slice is multiplied, one prepared, one on its way");
};

// A warp's way through one slice: the next step's fragments are loaded while the tensor cores
// multiply those of this one.
template <class Math, class Shape, class SliceA, class SliceB>
class WarpProduct {
 public:
  using T = typename Math::Number;

  // Of the first stage's slices.
  __device__ __forceinline__ WarpProduct(Shared<const T> a, Shared<const T> b)
      : a_(a, WarpPlace<Shape>().row), b_(b, WarpPlace<Shape>().column) {}

  // Of those `stage` numbers behind.
  __device__ __forceinline__ void add(Sums<Math, Shape>& sums, int stage) const {
    add(sums, stage, stage);
  }

  // Of those so many numbers behind, of either operand.
  __device__ __forceinline__ void add(Sums<Math, Shape>& sums, int behind_a, int behind_b) const {
    typename Math::A fragments_a[2][Shape::kGroupsM];
    typename Math::B fragments_b[2][Shape::kGroupsN];
    a_.load(fragments_a[0], behind_a, 0);
    b_.load(fragments_b[0], behind_b, 0);
#pragma unroll
    for (int step = 0; step < Math::kSteps; ++step) {
      if (step + 1 < Math::kSteps) {
        a_.load(fragments_a[(step + 1) % 2], behind_a, step + 1);
        b_.load(fragments_b[(step + 1) % 2], behind_b, step + 1);
      }
#pragma unroll
      for (int i = 0; i < Shape::kGroupsM; ++i) {
#pragma unroll
        for (int j = 0; j < Shape::kGroupsN; ++j) {
          Math::multiply(sums[i][j], fragments_a[step % 2][i], fragments_b[step % 2][j]);
        }
      }
    }
  }

 private:
  typename Math::template Loader<SliceA, Shape::kGroupsM, true> a_;
  typename Math::template Loader<SliceB, Shape::kGroupsN, false> b_;
};

// Adds the products of slices 0 to slices - 1. `shared` holds Ring::kBytes; when the loop is left,
// other warps may still read from it.
template <class Math, class Shape, class A, class B>
__device__ __forceinline__ void main_loop(
    Sums<Math, Shape>& sums, A& a, B& b, Shared<typename Math::Number> shared, int slices) {
  using Ring = Ring<Math, Shape, A, B>;
  constexpr int kStages = Ring::kStages;
  constexpr int kAhead = Ring::kPrepares ? 1 : 0;
  if (slices <= 0) {
    return;  // empty operands may have no memory, not even to point to
  }
  const WarpProduct<Math, Shape, typename A::Slice, typename B::Slice> product(
      shared, shared + A::kNumbers);

  const auto copy = [&](int stage) {
    a.copy(shared + stage * Ring::kNumbers);
    b.copy(shared + (stage * Ring::kNumbers + A::kNumbers));
    a.advance();
    b.advance();
    cp_async_commit();
  };
  const auto prepare = [&](int stage) {
    a.prepare(shared + stage * Ring::kNumbers);
    b.prepare(shared + (stage * Ring::kNumbers + A::kNumbers));
  };

#pragma unroll
  for (int k = 0; k < kStages - 1; ++k) {
    copy(k);
  }
  if (Ring::kPrepares) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    prepare(0);
  }
  const auto step = [&](int k, int stage) {
    cp_async_wait<kStages - 2 - kAhead>();
    // Slice k is finished and seen by all; nobody multiplies slice k - 1 any more.
    __syncthreads();
    copy((stage + kStages - 1) % kStages);
    prepare((stage + 1) % kStages);
    a.use(shared + stage * Ring::kNumbers, k);
    product.add(sums, stage * Ring::kNumbers);
  };
  // Rounds of the ring. Beside tensor cores they are unrolled, so that a stage's place is part of
  // every instruction; the many of plain products hide what finding it costs.
  constexpr int kUnrolled = Math::kIsPlain ? 1 : kStages;
  int k = 0;
  for (; k + kStages <= slices; k += kStages) {
#pragma unroll kUnrolled
    for (int stage = 0; stage < kStages; ++stage) {
      step(k + stage, stage);
    }
  }
#pragma unroll kUnrolled
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (k + stage < slices) {
      step(k + stage, stage);
    }
  }
  // The zeros behind the last slice, too, before an epilogue takes their place.
  cp_async_wait<0>();
}

}  // namespace digan::gemm
