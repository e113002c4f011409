// PyTorch's side of fourier_features_at.

#include "fourier_features_at.h"

#include "binding/ops.h"

namespace digan {
namespace {

// freq, phase and coords, checked and contiguous.
struct Inputs {
  Tensor freq, phase, coords;
  FourierFeaturesPoints points;

  Inputs(
      const char* op, const Tensor& freq, const Tensor& phase, const Tensor& coords, Number number)
      : freq(contiguous(freq)), phase(contiguous(phase)), coords(contiguous(coords)) {
    points.wide = wide_number_of(op, "freq", freq);
    points.number = number;
    check_rank("freq", freq, 3);
    check_rank("phase", phase, 2);
    check_rank("coords", coords, 3);
    points.videos = freq.size(0);
    points.frequencies = freq.size(1);
    points.dimensions = freq.size(2);
    points.points = coords.size(1);
    check(1 <= points.dimensions && points.dimensions <= 4,
          "freq must be [B, F, d] with d of 1 to 4, got ", text(sizes_of(freq)));
    const ScalarType dtype = freq.scalar_type();
    check_like("phase", phase, {points.videos, points.frequencies}, dtype);
    check_like("coords", coords, {points.videos, points.points, points.dimensions}, dtype);
  }

  Sizes features() const { return {points.videos, points.points, 2 * points.frequencies}; }

  FourierFeaturesPoints given_to(Launch& launch) const {
    FourierFeaturesPoints given = points;
    given.freq = launch.in("freq", freq);
    given.phase = launch.in("phase", phase);
    given.coords = launch.in("coords", coords);
    return given;
  }
};

}  // namespace

Tensor fourier_features_at(const Tensor& freq,
                           const Tensor& phase,
                           const Tensor& coords,
                           ScalarType dtype) {
  const Inputs inputs("fourier_features_at", freq, phase, coords, number_of("dtype", dtype));
  const Tensor out = empty(freq, inputs.features(), dtype);
  Launch launch("fourier_features_at", freq);
  FourierFeaturesAtArguments arguments{inputs.given_to(launch)};
  arguments.out = launch.out("out", out);
  launch.check(launch_fourier_features_at(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> fourier_features_at_backward(const Tensor& grad,
                                                                const Tensor& freq,
                                                                const Tensor& phase,
                                                                const Tensor& coords) {
  const Inputs inputs("fourier_features_at_backward", freq, phase, coords, number_of("grad", grad));
  check_sizes("grad", grad, inputs.features());
  const Tensor grad_here = contiguous(grad);
  Launch launch("fourier_features_at_backward", freq);
  FourierFeaturesAtBackwardArguments arguments{inputs.given_to(launch)};
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
