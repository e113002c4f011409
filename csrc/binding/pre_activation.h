// The gradient of pre-activations, as the products of linear layers take it.

#pragma once

#include "bias_act.h"
#include "binding/pointwise.h"

namespace digan {

// `grad` and, where the products apply the slope themselves, the outputs that tell it. Else `grad`
// is by the pre-activations already, and `pointwise` is linear.
struct PreActivationGradient {
  Tensor grad;
  MaybeTensor out;
  Pointwise pointwise;
};

// `compute_z()` yields the pre-activation where neither it nor the output was kept.
template <class Function>
PreActivationGradient pre_activation_gradient(const char* op,
                                              const Tensor& grad,
                                              const MaybeTensor& z,
                                              const MaybeTensor& out,
                                              const Pointwise& pointwise,
                                              const Function& compute_z) {
  const Tensor dense = contiguous(grad);
  if (!has_slope(pointwise)) {
    return {dense, std::nullopt, pointwise};
  }
  if (out) {
    check(slope_from_output(pointwise), op, ": the output tells no slope of this activation");
    check_like("out", *out, sizes_of(grad), grad.scalar_type());
    return {dense, contiguous(*out), pointwise};
  }
  if (z) {
    check_like("z", *z, sizes_of(grad), grad.scalar_type());
  }
  const Tensor kept = contiguous(z ? *z : compute_z());
  const Tensor da = empty(grad, sizes_of(grad));
  Launch launch(op, grad);
  BiasActBackwardArguments arguments;
  arguments.number = number_of("grad", grad);
  arguments.outer = arguments.channels = 1;
  arguments.inner = grad.numel();
  arguments.pointwise = pointwise;
  arguments.grad = launch.in("grad", dense);
  arguments.kept = launch.in("z", kept);
  arguments.dx = launch.out("da", da);
  launch.check(launch_bias_act_backward(arguments, launch.stream()));
  return {da, std::nullopt, Pointwise()};
}

// The bias of a layer in the type of sums.
inline MaybeTensor wide_bias(const MaybeTensor& bias, int64_t outputs, ScalarType number) {
  if (!bias) {
    return std::nullopt;
  }
  number_of("bias", *bias);
  check_sizes("bias", *bias, {outputs});
  return contiguous(to_dtype(*bias, wide_of(number)));
}

}  // namespace digan
