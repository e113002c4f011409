#include "fourier_features_at.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t videos, points, frequencies, dimensions;
};

constexpr Shape kShapes[] = {{1, 1, 1, 1},  {2, 11, 8, 1}, {2, 9, 31, 2},  {2, 7, 32, 3},
                             {3, 5, 33, 4}, {2, 70, 8, 2}, {1, 5, 296, 3}, {0, 4, 5, 3},
                             {2, 0, 5, 3},  {2, 3, 0, 2}};

void run_one(Draw& draw, Number wide, Number number, const Shape& s) {
  const std::string what = std::string(name_of(number)) + " B " + std::to_string(s.videos) + " N " +
                           std::to_string(s.points) + " F " + std::to_string(s.frequencies) +
                           " d " + std::to_string(s.dimensions);
  const auto given = [&](Call& call) {
    digan::FourierFeaturesPoints points;
    points.wide = wide;
    points.number = number;
    points.videos = s.videos;
    points.points = s.points;
    points.frequencies = s.frequencies;
    points.dimensions = s.dimensions;
    points.freq = call.in(wide, s.videos * s.frequencies * s.dimensions, 3);
    points.phase = call.in(wide, s.videos * s.frequencies, 2);
    points.coords = call.in(wide, s.videos * s.points * s.dimensions, 0.7);
    return points;
  };
  const int64_t features = s.videos * s.points * 2 * s.frequencies;
  {
    Call forward(draw, "fourier_features_at " + what);
    digan::FourierFeaturesAtArguments arguments{given(forward)};
    arguments.out = forward.out(number, features);
    forward.done(launch_fourier_features_at(arguments, nullptr));
  }
  Call backward(draw, "fourier_features_at_backward " + what);
  digan::FourierFeaturesAtBackwardArguments arguments{given(backward)};
  arguments.grad = backward.in(number, features);
  const digan::FourierFeaturesAtBackwardSizes sizes = fourier_features_at_backward_sizes(arguments);
  arguments.frequency_parts = backward.work(wide, sizes.frequency_parts);
  arguments.coords_parts = backward.work(wide, sizes.coords_parts);
  arguments.dfreq = backward.out(wide, s.videos * s.frequencies * s.dimensions);
  arguments.dphase = backward.out(wide, s.videos * s.frequencies);
  arguments.dcoords = backward.out(wide, s.videos * s.points * s.dimensions);
  backward.done(launch_fourier_features_at_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number wide : kWideNumbers) {
    for (const Shape& shape : kShapes) {
      run_one(draw, wide, wide, shape);
      run_one(draw, wide, kNumbers[draw.below(4)], shape);
    }
  }
}

const Entry entry("fourier_features_at", run);

}  // namespace
}  // namespace driver
