// The names of the activations, as the ops' schemas carry them. No CUDA header is needed.

#pragma once

#include <string_view>

namespace digan {

// In the order of ACTIVATIONS in digan/ops/_activation.py; the first three are homogeneous,
// act(c z) = c act(z) for c > 0.
enum class Activation {
  kLinear,
  kRelu,
  kLrelu,
  kSine,
  kGelu,
  kTanh,
  kSigmoid,
  kSoftplus,
  kSwish,
  kElu,
  kSelu,
};

inline constexpr std::string_view kActivationNames[] = {
    "linear",  "relu",     "lrelu", "sine", "gelu", "tanh",
    "sigmoid", "softplus", "swish", "elu",  "selu",
};

// False if the name is none of them.
inline bool find_activation(std::string_view name, Activation* found) {
  int index = 0;
  for (const std::string_view known : kActivationNames) {
    if (name == known) {
      *found = static_cast<Activation>(index);
      return true;
    }
    ++index;
  }
  return false;
}

// True if the sign of the output tells act'(z), so that the pre-activation need not be kept.
inline bool slope_from_output(Activation activation, double alpha, double gain) {
  return activation <= Activation::kLrelu && gain > 0 && alpha >= 0;
}

// y = clamp(gain * act(z; alpha), -clamp, clamp), as an op's arguments give it.
struct Pointwise {
  Activation activation = Activation::kLinear;
  bool clamps = false;
  double alpha = 0;  // slope of lrelu below zero, w0 of sine
  double gain = 1;
  double clamp = 0;
};

}  // namespace digan
