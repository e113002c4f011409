// A gradient times the activation's slope, as an operand is prepared: chunks of 16 bytes.
//
// Only for activations whose output tells the slope (linear, relu, lrelu): 1 above zero, alpha
// below and at it, 0 where the clamp holds. The gain is a factor of the whole product and is left
// to its epilogue, in float. Pairs of 16-bit numbers are treated together, as integers: it is
// these few instructions a pair that stand beside the tensor cores' in the main loop.

#pragma once

#include <cstring>

#include "activation.cuh"
#include "ptx.cuh"

namespace digan::gemm {

// kClamps: there may be a clamp.
template <class T, bool kClamps>
class Slope {
 public:
  __device__ __forceinline__ explicit Slope(const Pointwise& p)
      : clamps_(p.clamps),
        below_(prepared(static_cast<Wide<T>>(p.activation == Activation::kLinear  ? 1
                                             : p.activation == Activation::kLrelu ? p.alpha
                                                                                  : 0))),
        bound_(prepared(bound_in<T>(p.clamp))) {}

  __device__ __forceinline__ Vec16<T> operator()(Vec16<T> grad, const Vec16<T>& out) const {
    if constexpr (kPairs) {
      uint32_t g[4], y[4];
      memcpy(g, grad.v, 16);
      memcpy(y, out.v, 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        g[i] = pair(g[i], y[i]);
      }
      memcpy(grad.v, g, 16);
    } else {
#pragma unroll
      for (int i = 0; i < Vec16<T>::kCount; ++i) {
        const T y = out.v[i];
        const bool held = kClamps && clamps_ && (y >= bound_ || y <= -bound_);
        grad.v[i] = held ? T(0) : y > 0 ? grad.v[i] : grad.v[i] * below_;
      }
    }
    return grad;
  }

 private:
  static constexpr bool kPairs = sizeof(T) == 2;
  using Kept = std::conditional_t<kPairs, uint32_t, Wide<T>>;
  static constexpr uint32_t kMagnitude = 0x7fff7fff;
  static constexpr uint32_t kOnes = 0x00010001;
  static constexpr uint32_t kOne = std::is_same_v<T, bf16> ? 0x3f80 : 0x3c00;
  static constexpr uint32_t kInfinity = std::is_same_v<T, bf16> ? 0x7f80 : 0x7c00;

  // A number as it is used: in both halves of a pair.
  __device__ __forceinline__ static Kept prepared(Wide<T> x) {
    if constexpr (kPairs) {
      const T rounded = narrow<T>(x);
      uint16_t bits;
      memcpy(&bits, &rounded, 2);
      return bits * kOnes;
    } else {
      return x;
    }
  }

  __device__ __forceinline__ uint32_t pair(uint32_t grad, uint32_t y) const {
    uint32_t result;
    if constexpr (std::is_same_v<T, bf16>) {
      result = mul_bf16x2(grad, where_positive_bf16x2(y, kOne * kOnes, below_));
    } else {
      result = mul_f16x2(grad, where_positive_f16x2(y, kOne * kOnes, below_));
    }
    if (kClamps && clamps_) {
      // A sum of a magnitude and a number below 2^15 sets the top bit where it reaches 2^15, and
      // carries nothing to the other half.
      const uint32_t magnitude = y & kMagnitude;
      const uint32_t held = sign_mask_x2(magnitude + (0x8000 * kOnes - bound_));
      const uint32_t nan = sign_mask_x2(magnitude + (0x7fff - kInfinity) * kOnes);
      result &= ~held | nan;
    }
    return result;
  }

  bool clamps_;
  Kept below_;  // the slope below zero
  Kept bound_;
};

}  // namespace digan::gemm
