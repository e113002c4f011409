// bfloat16 and float16 as bits, with exact conversions that round to nearest even.

#pragma once

#include <cstdint>
#include <cstring>

namespace emu {

struct bf16 {
  uint16_t bits;
};

struct f16 {
  uint16_t bits;
};

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

}  // namespace emu

inline float __bfloat162float(emu::bf16 x) {
  return emu::float_of(static_cast<uint32_t>(x.bits) << 16);
}

inline emu::bf16 __float2bfloat16_rn(float x) {
  const uint32_t bits = emu::bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {0x7fff};  // NaN, as the GPU writes it
  }
  const uint32_t odd = (bits >> 16) & 1u;
  return {static_cast<uint16_t>((bits + 0x7fffu + odd) >> 16)};
}
inline emu::bf16 __float2bfloat16(float x) {
  return __float2bfloat16_rn(x);
}

inline float __half2float(emu::f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t fraction = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact in float32
    const float size = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign != 0 ? -size : size;
  }
  if (exponent == 31) {
    return emu::float_of(sign | 0x7f800000u | (fraction << 13));
  }
  return emu::float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
}

inline emu::f16 __float2half_rn(float x) {
  const uint32_t bits = emu::bits_of(x);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return {0x7fff};
  }
  if (size >= 0x477ff000u) {  // 65520 and beyond round to infinity
    return {static_cast<uint16_t>(sign | 0x7c00u)};
  }
  if (size < 0x38800000u) {
    // Below 2^-14: adding 0.5 leaves a unit of 2^-24, to which the addition itself rounds.
    const uint32_t sum = emu::bits_of(emu::float_of(size) + 0.5f);
    return {static_cast<uint16_t>(sign | (sum - 0x3f000000u))};
  }
  const uint32_t odd = (size >> 13) & 1u;
  return {static_cast<uint16_t>(sign | ((size + 0xfffu + odd - (112u << 23)) >> 13))};
}
inline emu::f16 __float2half(float x) {
  return __float2half_rn(x);
}
