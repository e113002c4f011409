// The activations that ops share, with the formulas and conventions of digan/ops/_activation.py:
//
//   y = clamp(gain * act(z; alpha), -clamp, clamp)
//
// lrelu's slope at exactly 0 is alpha. The bound is first rounded to the output's type, and an
// output at or beyond it has slope 0. NaN stays NaN.
//
// Which activation it is, is a branch at run time, taken once for a whole array of numbers.

#pragma once

#include <math.h>

#include <type_traits>

#include "activation.h"
#include "numbers.cuh"
#include "platform.cuh"

namespace digan {

// ---------------------------------------------------------------- sine
//
// The library's sin and cos keep a table on the stack for huge arguments. These reduce by pi with
// fused multiply-adds, which is exact below |x| = 2^22 in float32 (2^51 in float64), and sum the
// Taylor series on [-pi/2, pi/2] to below one rounding.

__device__ __forceinline__ float sine_series(float x) {
  const float q = x * x;
  float sum = fma(q, 1.f / 6227020800.f, -1.f / 39916800.f);
  sum = fma(sum, q, 1.f / 362880.f);
  sum = fma(sum, q, -1.f / 5040.f);
  sum = fma(sum, q, 1.f / 120.f);
  sum = fma(sum, q, -1.f / 6.f);
  return fma(sum * q, x, x);
}

__device__ __forceinline__ double sine_series(double x) {
  const double q = x * x;
  double sum = fma(q, -1. / 25852016738884976640000., 1. / 51090942171709440000.);
  sum = fma(sum, q, -1. / 121645100408832000.);
  sum = fma(sum, q, 1. / 355687428096000.);
  sum = fma(sum, q, -1. / 1307674368000.);
  sum = fma(sum, q, 1. / 6227020800.);
  sum = fma(sum, q, -1. / 39916800.);
  sum = fma(sum, q, 1. / 362880.);
  sum = fma(sum, q, -1. / 5040.);
  sum = fma(sum, q, 1. / 120.);
  sum = fma(sum, q, -1. / 6.);
  return fma(sum * q, x, x);
}

// x - k pi for k within 2^22 (2^51).
__device__ __forceinline__ float less_pi_times(float x, float k) {
  return fma(-k, -3.43024902e-15f, fma(-k, -8.74227766e-08f, fma(-k, 3.14159274f, x)));
}
__device__ __forceinline__ double less_pi_times(double x, double k) {
  return fma(-k, 1.2246467991473532e-16, fma(-k, 3.1415926535897931, x));
}

// (-1)^n sin(rest), within [-1, 1] also where the reduction has lost the angle.
template <class W>
__device__ __forceinline__ W signed_sine(W n, W rest) {
  const bool odd = n - 2 * rint(n * W(0.5)) != 0;
  const W value = sine_series(odd ? -rest : rest);
  return value > 1 ? W(1) : value < -1 ? W(-1) : value;
}

constexpr double kOneOverPi = 0.31830988618379067154;

// sin(a b), cos(a b): the product is never rounded.
template <class W>
__device__ __forceinline__ W sine_of_product(W a, W b) {
  const W high = a * b;
  const W n = rint(high * W(kOneOverPi));
  return signed_sine(n, less_pi_times(high, n) + fma(a, b, -high));
}

template <class W>
__device__ __forceinline__ W cosine_of_product(W a, W b) {
  const W high = a * b;
  // cos(x) = -(-1)^n sin(x - (n + 1/2) pi)
  const W n = rint(fma(high, W(kOneOverPi), W(-0.5)));
  return -signed_sine(n, less_pi_times(high, n + W(0.5)) + fma(a, b, -high));
}

// ---------------------------------------------------------------- one activation, one number

template <class W>
__device__ __forceinline__ W sigmoid(W z) {
  return 1 / (1 + exp(-z));
}

// exp(z) below zero, 1 from there on.
template <class W>
__device__ __forceinline__ W exp_below(W z) {
  return z < 0 ? exp(z) : W(1);
}

constexpr double kSeluAlpha = 1.6732632423543772;
constexpr double kSeluScale = 1.0507009873554805;

template <Activation kActivation, class W>
__device__ __forceinline__ W value_of(W z, W alpha) {
  if constexpr (kActivation == Activation::kRelu) {
    return z < 0 ? W(0) : z;
  } else if constexpr (kActivation == Activation::kLrelu) {
    return z > 0 ? z : z * alpha;
  } else if constexpr (kActivation == Activation::kSine) {
    return sine_of_product(alpha, z);
  } else if constexpr (kActivation == Activation::kGelu) {
    return z * W(0.5) * (1 + erf(z * W(0.70710678118654752)));
  } else if constexpr (kActivation == Activation::kTanh) {
    return tanh(z);
  } else if constexpr (kActivation == Activation::kSigmoid) {
    return sigmoid(z);
  } else if constexpr (kActivation == Activation::kSoftplus) {
    return z > 20 ? z : log1p(exp(z));
  } else if constexpr (kActivation == Activation::kSwish) {
    return z * sigmoid(z);
  } else if constexpr (kActivation == Activation::kElu) {
    return z > 0 ? z : expm1(z);
  } else if constexpr (kActivation == Activation::kSelu) {
    return W(kSeluScale) * (z > 0 ? z : W(kSeluAlpha) * expm1(z));
  } else {
    return z;
  }
}

template <Activation kActivation, class W>
__device__ __forceinline__ W slope_of(W z, W alpha) {
  if constexpr (kActivation == Activation::kRelu) {
    return z > 0 ? W(1) : W(0);
  } else if constexpr (kActivation == Activation::kLrelu) {
    return z > 0 ? W(1) : alpha;
  } else if constexpr (kActivation == Activation::kSine) {
    return alpha * cosine_of_product(alpha, z);
  } else if constexpr (kActivation == Activation::kGelu) {
    const W cdf = W(0.5) * (1 + erf(z * W(0.70710678118654752)));
    return cdf + z * exp(W(-0.5) * z * z) * W(0.39894228040143268);
  } else if constexpr (kActivation == Activation::kTanh) {
    const W t = tanh(z);
    return 1 - t * t;
  } else if constexpr (kActivation == Activation::kSigmoid) {
    return sigmoid(z) * sigmoid(-z);
  } else if constexpr (kActivation == Activation::kSoftplus) {
    return sigmoid(z);
  } else if constexpr (kActivation == Activation::kSwish) {
    const W s = sigmoid(z);
    return s * (1 + z * (1 - s));
  } else if constexpr (kActivation == Activation::kElu) {
    return exp_below(z);
  } else if constexpr (kActivation == Activation::kSelu) {
    return W(kSeluScale) * (z > 0 ? W(1) : W(kSeluAlpha) * exp_below(z));
  } else {
    return W(1);
  }
}

// ---------------------------------------------------------------- any activation, N numbers

template <Activation kActivation>
using Fixed = std::integral_constant<Activation, kActivation>;

// Calls function(Fixed<activation>()).
template <class Function>
__device__ __forceinline__ void with_activation(Activation activation, const Function& function) {
  switch (activation) {
    case Activation::kLinear:
      return function(Fixed<Activation::kLinear>());
    case Activation::kRelu:
      return function(Fixed<Activation::kRelu>());
    case Activation::kLrelu:
      return function(Fixed<Activation::kLrelu>());
    case Activation::kSine:
      return function(Fixed<Activation::kSine>());
    case Activation::kGelu:
      return function(Fixed<Activation::kGelu>());
    case Activation::kTanh:
      return function(Fixed<Activation::kTanh>());
    case Activation::kSigmoid:
      return function(Fixed<Activation::kSigmoid>());
    case Activation::kSoftplus:
      return function(Fixed<Activation::kSoftplus>());
    case Activation::kSwish:
      return function(Fixed<Activation::kSwish>());
    case Activation::kElu:
      return function(Fixed<Activation::kElu>());
    case Activation::kSelu:
      return function(Fixed<Activation::kSelu>());
  }
}

// act(z) in place of every z.
template <class W, int N>
__device__ __forceinline__ void activate(Activation activation, W (&z)[N], W alpha) {
  with_activation(activation, [&](auto fixed) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      z[i] = value_of<decltype(fixed)::value>(z[i], alpha);
    }
  });
}

// act'(z) in place of every z.
template <class W, int N>
__device__ __forceinline__ void slope(Activation activation, W (&z)[N], W alpha) {
  with_activation(activation, [&](auto fixed) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      z[i] = slope_of<decltype(fixed)::value>(z[i], alpha);
    }
  });
}

template <class W>
__device__ __forceinline__ W activate(Activation activation, W z, W alpha) {
  W one[1] = {z};
  activate(activation, one, alpha);
  return one[0];
}

template <class W>
__device__ __forceinline__ W slope(Activation activation, W z, W alpha) {
  W one[1] = {z};
  slope(activation, one, alpha);
  return one[0];
}

// ---------------------------------------------------------------- with gain and clamp

// The clamp as an output of type T holds it.
template <class T>
__device__ __forceinline__ Wide<T> bound_in(double clamp) {
  if constexpr (std::is_same_v<T, f16>) {
    clamp = clamp < 65504. ? clamp : 65504.;
  }
  return widen(narrow<T>(static_cast<Wide<T>>(clamp)));
}

// A Pointwise in the arithmetic of outputs of type T.
template <class T>
struct Epilogue {
  using W = Wide<T>;
  Activation activation;
  bool clamps;
  W alpha, gain, bound;

  __device__ __forceinline__ explicit Epilogue(const Pointwise& from)
      : activation(from.activation),
        clamps(from.clamps),
        alpha(static_cast<W>(from.alpha)),
        gain(static_cast<W>(from.gain)),
        bound(bound_in<T>(from.clamp)) {}

  // y in place of every pre-activation z.
  template <int N>
  __device__ __forceinline__ void apply(W (&z)[N]) const {
    activate(activation, z, alpha);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const W y = z[i] * gain;
      z[i] = !clamps ? y : y > bound ? bound : y < -bound ? -bound : y;
    }
  }

  // grad * dy/dz in place of every grad, from the pre-activations.
  template <int N>
  __device__ __forceinline__ void pull_back(W (&grad)[N], W (&z)[N]) const {
    bool free[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      free[i] = true;
    }
    if (clamps) {
      W y[N];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        y[i] = z[i];
      }
      activate(activation, y, alpha);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        free[i] = is_free(widen(narrow<T>(y[i] * gain)));
      }
    }
    slope(activation, z, alpha);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      grad[i] = free[i] ? grad[i] * z[i] * gain : W(0);
    }
  }

  // The same from the outputs, where slope_from_output() holds.
  template <int N>
  __device__ __forceinline__ void pull_back_from_output(W (&grad)[N], const W (&y)[N]) const {
    const W below = activation == Activation::kLinear  ? W(1)
                    : activation == Activation::kLrelu ? alpha
                                                       : W(0);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const W slope = y[i] > 0 ? gain : below * gain;
      grad[i] = !clamps || is_free(y[i]) ? grad[i] * slope : W(0);
    }
  }

  // False where the clamp holds the output, or might: at the bound, too.
  __device__ __forceinline__ bool is_free(W y) const { return !(y >= bound || y <= -bound); }
};

}  // namespace digan
