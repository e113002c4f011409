// The arguments of an activation, as every op with one takes them.

#pragma once

#include "activation.h"
#include "binding/torch.h"

namespace digan {

inline Pointwise pointwise_of(const std::string& activation,
                              double alpha,
                              double gain,
                              const std::optional<double>& clamp) {
  Pointwise pointwise;
  check(find_activation(activation, &pointwise.activation),
        "activation must be a name of digan.ops, got '", activation, "'");
  check(!clamp || *clamp > 0, "clamp must be positive or None, got ", clamp.value_or(0));
  pointwise.alpha = alpha;
  pointwise.gain = gain;
  pointwise.clamps = clamp.has_value();
  pointwise.clamp = clamp.value_or(0);
  return pointwise;
}

inline bool slope_from_output(const Pointwise& p) {
  return slope_from_output(p.activation, p.alpha, p.gain);
}

// Whether dy/dz is the gain everywhere.
inline bool has_slope(const Pointwise& p) {
  return p.activation != Activation::kLinear || p.clamps;
}

}  // namespace digan
