// PyTorch's side of fourier_features on a grid.

#include "fourier_features.h"

#include "binding/grid.h"
#include "binding/ops.h"

namespace digan {
Tensor fourier_features(
    const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x, ScalarType dtype) {
  const GridInputs inputs("fourier_features", freq, phase, y, x, number_of("dtype", dtype),
                          freq.scalar_type());
  const Tensor out = empty(freq, inputs.sizes(2 * inputs.grid.frequencies), dtype);
  Launch launch("fourier_features", freq);
  FourierFeaturesArguments arguments{inputs.given_to(launch)};
  arguments.out = launch.out("out", out);
  launch.check(launch_fourier_features(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fourier_features_backward(
    const Tensor& grad, const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x) {
  const GridInputs inputs("fourier_features_backward", freq, phase, y, x, number_of("grad", grad),
                          freq.scalar_type());
  check_sizes("grad", grad, inputs.sizes(2 * inputs.grid.frequencies));
  const Tensor grad_here = contiguous(grad);
  Launch launch("fourier_features_backward", freq);
  FourierFeaturesBackwardArguments arguments{inputs.given_to(launch)};
  arguments.grad = launch.in("grad", grad_here);

  const FourierFeaturesBackwardSizes sizes = fourier_features_backward_sizes(arguments);
  const Tensor phase_parts = empty(freq, {sizes.frequency_parts});
  const Tensor freq_x_parts = empty(freq, {sizes.frequency_parts});
  const Tensor freq_y_parts = empty(freq, {sizes.frequency_parts});
  const Tensor y_parts = empty(freq, {sizes.y_parts});
  const Tensor x_parts = empty(freq, {sizes.x_parts});
  const Tensor dfreq = empty(freq, sizes_of(freq)), dphase = empty(freq, sizes_of(phase));
  const Tensor dy = empty(freq, sizes_of(y)), dx = empty(freq, sizes_of(x));
  arguments.phase_parts = launch.out("phase_parts", phase_parts);
  arguments.freq_x_parts = launch.out("freq_x_parts", freq_x_parts);
  arguments.freq_y_parts = launch.out("freq_y_parts", freq_y_parts);
  arguments.y_parts = launch.out("y_parts", y_parts);
  arguments.x_parts = launch.out("x_parts", x_parts);
  arguments.dfreq = launch.out("dfreq", dfreq);
  arguments.dphase = launch.out("dphase", dphase);
  arguments.dy = launch.out("dy", dy);
  arguments.dx = launch.out("dx", dx);
  launch.check(launch_fourier_features_backward(arguments, launch.stream()));
  return {dfreq, dphase, dy, dx};
}

}  // namespace digan
