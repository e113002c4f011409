// PyTorch's side of fourier_features on a grid.

#include "fourier_features.h"

#include "binding/ops.h"

namespace digan {
namespace {

// freq, phase, y and x, checked and contiguous, and the tables of the axes.
struct Inputs {
  Tensor freq, phase, y, x, rows, columns;
  FourierFeaturesGrid grid;

  Inputs(const char* op,
         const Tensor& freq,
         const Tensor& phase,
         const Tensor& y,
         const Tensor& x,
         Number number)
      : freq(contiguous(freq)), phase(contiguous(phase)), y(contiguous(y)), x(contiguous(x)) {
    grid.wide = wide_number_of(op, "freq", freq);
    grid.number = number;
    check_rank("freq", freq, 3);
    check_rank("phase", phase, 3);
    check_rank("y", y, 1);
    check_rank("x", x, 1);
    grid.videos = freq.size(0);
    grid.frequencies = freq.size(1);
    grid.frames = phase.size(1);
    grid.height = y.size(0);
    grid.width = x.size(0);
    const ScalarType dtype = freq.scalar_type();
    check_sizes("freq", freq, {grid.videos, grid.frequencies, 2});
    check_like("phase", phase, {grid.videos, grid.frames, grid.frequencies}, dtype);
    check_dtype("y", y, dtype);
    check_dtype("x", x, dtype);
    rows = empty(freq, {2, grid.videos, grid.frames, grid.height, grid.frequencies});
    columns = empty(freq, {2, grid.videos, grid.width, grid.frequencies});
  }

  Sizes features() const {
    return {grid.videos, grid.frames, grid.height, grid.width, 2 * grid.frequencies};
  }

  FourierFeaturesGrid given_to(Launch& launch) const {
    FourierFeaturesGrid given = grid;
    given.freq = launch.in("freq", freq);
    given.phase = launch.in("phase", phase);
    given.y = launch.in("y", y);
    given.x = launch.in("x", x);
    given.rows = launch.out("rows", rows);
    given.columns = launch.out("columns", columns);
    return given;
  }
};

}  // namespace

Tensor fourier_features(
    const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x, ScalarType dtype) {
  const Inputs inputs("fourier_features", freq, phase, y, x, number_of("dtype", dtype));
  const Tensor out = empty(freq, inputs.features(), dtype);
  Launch launch("fourier_features", freq);
  FourierFeaturesArguments arguments{inputs.given_to(launch)};
  arguments.out = launch.out("out", out);
  launch.check(launch_fourier_features(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fourier_features_backward(
    const Tensor& grad, const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x) {
  const Inputs inputs("fourier_features_backward", freq, phase, y, x, number_of("grad", grad));
  check_sizes("grad", grad, inputs.features());
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
