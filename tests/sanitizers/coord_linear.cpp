#include "coord_linear.h"

#include "grid.h"

namespace driver {
namespace {

struct Shape : GridShape {
  int64_t outputs;
};

// The edges of tiles, 8 x 8 pixels by 64 channels and 8 x 16 by 256, pixels split into parts.
constexpr Shape kShapes[] = {{{1, 1, 1, 1, 1}, 1},     {{2, 3, 4, 6, 8}, 7},
                             {{1, 2, 7, 7, 31}, 33},   {{1, 1, 8, 10, 40}, 72},
                             {{1, 1, 6, 18, 72}, 136}, {{1, 2, 20, 18, 5}, 9},
                             {{0, 2, 4, 2, 3}, 5},     {{2, 2, 4, 0, 3}, 5}};

void run_one(Draw& draw, const LayerKind& kind, const Shape& s) {
  const digan::Pointwise p = draw.pointwise();
  const auto [number, tf32, hopper] = kind;
  const std::string what =
      text_of(kind) + " " + text_of(s) + " O " + std::to_string(s.outputs) + " " + text_of(p);
  const Number wide = wide_of(number);
  const int64_t size = s.pixels() * s.outputs;
  const int64_t weights = s.videos * s.outputs * 2 * s.frequencies;
  const bool has_bias = draw.flip();
  const bool has_skip = s.height % 2 == 0 && s.width % 2 == 0 && draw.flip();
  const auto give_to = [&](Call& call, digan::CoordLinearCall& arguments) {
    arguments.grid = grid_of(call, s, draw.flip() ? Number::kF32 : Number::kF64, number, wide);
    arguments.tf32 = tf32;
    arguments.hopper = hopper;
    arguments.outputs = s.outputs;
    arguments.weight = call.in(number, weights, 0.1);
  };
  {
    Call forward(draw, "coord_linear " + what);
    digan::CoordLinearArguments arguments;
    give_to(forward, arguments);
    arguments.pointwise = p;
    arguments.bias = has_bias ? forward.in(wide, s.outputs) : nullptr;
    arguments.skip = has_skip ? forward.in(number, size / 4) : nullptr;
    arguments.out = forward.out(number, size);
    arguments.pre_activation = draw.flip() ? forward.out(number, size) : nullptr;
    forward.done(launch_coord_linear(arguments, nullptr));
  }
  Call backward(draw, "coord_linear_backward " + what);
  digan::CoordLinearBackwardArguments arguments;
  give_to(backward, arguments);
  arguments.grad = backward.in(number, size);
  if (slope_from_output(p.activation, p.alpha, p.gain)) {
    arguments.pointwise = p;
    arguments.out = backward.in(number, size);
  }
  arguments.freq = backward.in(wide, s.videos * s.frequencies * 2, 3);
  arguments.y = backward.in(wide, s.height);
  arguments.x = backward.in(wide, s.width);
  arguments.dweight = backward.out(number, weights);
  arguments.dskip = has_skip ? backward.out(number, size / 4) : nullptr;
  arguments.dbias = has_bias ? backward.out(wide, s.outputs) : nullptr;
  arguments.dfreq = backward.out(wide, s.videos * s.frequencies * 2);
  arguments.dphase = backward.out(wide, s.videos * s.frames * s.frequencies);
  arguments.dy = backward.out(wide, s.height);
  arguments.dx = backward.out(wide, s.width);
  const digan::CoordLinearBackwardSizes sizes = coord_linear_backward_sizes(arguments);
  arguments.weight_parts = backward.work(wide, sizes.weight_parts);
  arguments.bias_parts = backward.work(wide, sizes.bias_parts);
  arguments.phase_parts = backward.work(wide, sizes.frequency_parts);
  arguments.freq_x_parts = backward.work(wide, sizes.frequency_parts);
  arguments.freq_y_parts = backward.work(wide, sizes.frequency_parts);
  arguments.y_parts = backward.work(wide, sizes.y_parts);
  arguments.x_parts = backward.work(wide, sizes.x_parts);
  backward.done(launch_coord_linear_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Shape& shape : kShapes) {
    for (const LayerKind& kind : kLayerKinds) {
      run_one(draw, kind, shape);
    }
  }
}

const Entry entry("coord_linear", run);

}  // namespace
}  // namespace driver
