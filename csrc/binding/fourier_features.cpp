// PyTorch's side of fourier_features, on a grid and at points.

#include "fourier_features.h"

#include "binding/ops.h"

namespace digan {
namespace {

// All of the call but the features are of one dtype, float64 or float32.
Number wide_number(const char* op, const Tensor& freq) {
  const Number number = number_of("freq", freq);
  check(number == Number::kF64 || number == Number::kF32, op,
        ": freq must be float64 or float32, got ", torch::headeronly::toString(freq.scalar_type()));
  return number;
}

// freq, phase, y and x, checked and contiguous.
struct GridInputs {
  Tensor freq, phase, y, x;
  Number wide;
  int64_t videos, frames, height, width, frequencies;

  GridInputs(
      const char* op, const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x)
      : freq(contiguous(freq)), phase(contiguous(phase)), y(contiguous(y)), x(contiguous(x)) {
    wide = wide_number(op, freq);
    check_rank("freq", freq, 3);
    check_rank("phase", phase, 3);
    check_rank("y", y, 1);
    check_rank("x", x, 1);
    videos = freq.size(0);
    frequencies = freq.size(1);
    frames = phase.size(1);
    height = y.size(0);
    width = x.size(0);
    check_sizes("freq", freq, {videos, frequencies, 2});
    check_sizes("phase", phase, {videos, frames, frequencies});
    check_dtype("phase", phase, freq.scalar_type());
    check_dtype("y", y, freq.scalar_type());
    check_dtype("x", x, freq.scalar_type());
  }

  Sizes features() const { return {videos, frames, height, width, 2 * frequencies}; }
  Tensor rows() const { return empty(freq, {2, videos, frames, height, frequencies}); }
  Tensor columns() const { return empty(freq, {2, videos, width, frequencies}); }

  template <class Arguments>
  void give(Launch& launch, Arguments& arguments) const {
    arguments.wide = wide;
    arguments.videos = videos;
    arguments.frames = frames;
    arguments.height = height;
    arguments.width = width;
    arguments.frequencies = frequencies;
    arguments.freq = launch.in("freq", freq);
    arguments.phase = launch.in("phase", phase);
    arguments.y = launch.in("y", y);
    arguments.x = launch.in("x", x);
  }
};

// freq, phase and coords, checked and contiguous.
struct PointInputs {
  Tensor freq, phase, coords;
  Number wide;
  int64_t videos, points, frequencies, dimensions;

  PointInputs(const char* op, const Tensor& freq, const Tensor& phase, const Tensor& coords)
      : freq(contiguous(freq)), phase(contiguous(phase)), coords(contiguous(coords)) {
    wide = wide_number(op, freq);
    check_rank("freq", freq, 3);
    check_rank("phase", phase, 2);
    check_rank("coords", coords, 3);
    videos = freq.size(0);
    frequencies = freq.size(1);
    dimensions = freq.size(2);
    points = coords.size(1);
    check(1 <= dimensions && dimensions <= 4, "freq must be [B, F, d] with d of 1 to 4, got ",
          text(sizes_of(freq)));
    check_sizes("phase", phase, {videos, frequencies});
    check_sizes("coords", coords, {videos, points, dimensions});
    check_dtype("phase", phase, freq.scalar_type());
    check_dtype("coords", coords, freq.scalar_type());
  }

  Sizes features() const { return {videos, points, 2 * frequencies}; }

  template <class Arguments>
  void give(Launch& launch, Arguments& arguments) const {
    arguments.wide = wide;
    arguments.videos = videos;
    arguments.points = points;
    arguments.frequencies = frequencies;
    arguments.dimensions = dimensions;
    arguments.freq = launch.in("freq", freq);
    arguments.phase = launch.in("phase", phase);
    arguments.coords = launch.in("coords", coords);
  }
};

}  // namespace

Tensor fourier_features(
    const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x, ScalarType dtype) {
  const GridInputs inputs("fourier_features", freq, phase, y, x);
  FourierFeaturesArguments arguments;
  arguments.number = number_of("dtype", dtype);
  const Tensor out = empty(freq, inputs.features(), dtype);
  const Tensor rows = inputs.rows(), columns = inputs.columns();
  Launch launch("fourier_features", freq);
  inputs.give(launch, arguments);
  arguments.rows = launch.out("rows", rows);
  arguments.columns = launch.out("columns", columns);
  arguments.out = launch.out("out", out);
  launch.check(launch_fourier_features(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fourier_features_backward(
    const Tensor& grad, const Tensor& freq, const Tensor& phase, const Tensor& y, const Tensor& x) {
  const GridInputs inputs("fourier_features_backward", freq, phase, y, x);
  check_sizes("grad", grad, inputs.features());
  const Tensor grad_here = contiguous(grad);
  FourierFeaturesBackwardArguments arguments;
  arguments.number = number_of("grad", grad);
  Launch launch("fourier_features_backward", freq);
  inputs.give(launch, arguments);
  arguments.grad = launch.in("grad", grad_here);

  const FourierFeaturesBackwardSizes sizes = fourier_features_backward_sizes(arguments);
  const Tensor rows = inputs.rows(), columns = inputs.columns();
  const Tensor phase_parts = empty(freq, {sizes.frequency_parts});
  const Tensor freq_x_parts = empty(freq, {sizes.frequency_parts});
  const Tensor freq_y_parts = empty(freq, {sizes.frequency_parts});
  const Tensor y_parts = empty(freq, {sizes.y_parts});
  const Tensor x_parts = empty(freq, {sizes.x_parts});
  const Tensor dfreq = empty(freq, sizes_of(freq)), dphase = empty(freq, sizes_of(phase));
  const Tensor dy = empty(freq, sizes_of(y)), dx = empty(freq, sizes_of(x));
  arguments.rows = launch.out("rows", rows);
  arguments.columns = launch.out("columns", columns);
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

Tensor fourier_features_at(const Tensor& freq,
                           const Tensor& phase,
                           const Tensor& coords,
                           ScalarType dtype) {
  const PointInputs inputs("fourier_features_at", freq, phase, coords);
  FourierFeaturesAtArguments arguments;
  arguments.number = number_of("dtype", dtype);
  const Tensor out = empty(freq, inputs.features(), dtype);
  Launch launch("fourier_features_at", freq);
  inputs.give(launch, arguments);
  arguments.out = launch.out("out", out);
  launch.check(launch_fourier_features_at(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> fourier_features_at_backward(const Tensor& grad,
                                                                const Tensor& freq,
                                                                const Tensor& phase,
                                                                const Tensor& coords) {
  const PointInputs inputs("fourier_features_at_backward", freq, phase, coords);
  check_sizes("grad", grad, inputs.features());
  const Tensor grad_here = contiguous(grad);
  FourierFeaturesAtBackwardArguments arguments;
  arguments.number = number_of("grad", grad);
  Launch launch("fourier_features_at_backward", freq);
  inputs.give(launch, arguments);
  arguments.grad = launch.in("grad", grad_here);

  const FourierFeaturesAtBackwardSizes sizes = fourier_features_at_backward_sizes(arguments);
  const Tensor frequency_parts = empty(freq, {sizes.frequency_parts});
  const Tensor coords_parts = empty(freq, {sizes.coords_parts});
  const Tensor dfreq = empty(freq, sizes_of(freq)), dphase = empty(freq, sizes_of(phase));
  const Tensor dcoords = empty(freq, sizes_of(coords));
  arguments.frequency_parts = launch.out("frequency_parts", frequency_parts);
  arguments.coords_parts = launch.out("coords_parts", coords_parts);
  arguments.dfreq = launch.out("dfreq", dfreq);
  arguments.dphase = launch.out("dphase", dphase);
  arguments.dcoords = launch.out("dcoords", dcoords);
  launch.check(launch_fourier_features_at_backward(arguments, launch.stream()));
  return {dfreq, dphase, dcoords};
}

}  // namespace digan
