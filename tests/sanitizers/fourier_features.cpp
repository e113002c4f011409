#include "fourier_features.h"

#include "grid.h"

namespace driver {
namespace {

constexpr GridShape kShapes[] = {{1, 1, 1, 1, 1},  {2, 3, 4, 5, 8},  {2, 1, 5, 3, 31},
                                 {1, 2, 3, 7, 33}, {1, 1, 3, 70, 4}, {1, 1, 2, 3, 296},
                                 {0, 2, 3, 4, 5},  {2, 2, 3, 0, 5},  {1, 2, 3, 4, 0}};

void run_one(Draw& draw, Number wide, Number number, const GridShape& s) {
  const std::string what = std::string(name_of(number)) + " " + text_of(s);
  const int64_t features = s.pixels() * 2 * s.frequencies;
  {
    Call forward(draw, "fourier_features " + what);
    digan::FourierFeaturesArguments arguments{grid_of(forward, s, wide, number, wide)};
    arguments.out = forward.out(number, features);
    forward.done(launch_fourier_features(arguments, nullptr));
  }
  Call backward(draw, "fourier_features_backward " + what);
  digan::FourierFeaturesBackwardArguments arguments{grid_of(backward, s, wide, number, wide)};
  arguments.grad = backward.in(number, features);
  const digan::FourierFeaturesBackwardSizes sizes = fourier_features_backward_sizes(arguments);
  arguments.phase_parts = backward.work(wide, sizes.frequency_parts);
  arguments.freq_x_parts = backward.work(wide, sizes.frequency_parts);
  arguments.freq_y_parts = backward.work(wide, sizes.frequency_parts);
  arguments.y_parts = backward.work(wide, sizes.y_parts);
  arguments.x_parts = backward.work(wide, sizes.x_parts);
  arguments.dfreq = backward.out(wide, s.videos * s.frequencies * 2);
  arguments.dphase = backward.out(wide, s.videos * s.frames * s.frequencies);
  arguments.dy = backward.out(wide, s.height);
  arguments.dx = backward.out(wide, s.width);
  backward.done(launch_fourier_features_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number wide : kWideNumbers) {
    for (const GridShape& shape : kShapes) {
      run_one(draw, wide, wide, shape);
      run_one(draw, wide, kNumbers[draw.below(4)], shape);
    }
  }
}

const Entry entry("fourier_features", run);

}  // namespace
}  // namespace driver
