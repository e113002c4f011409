#include "modulated_linear.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t videos, rows, inputs, outputs;
};

// The edges of tiles, 64 x 64 and 128 x 256, rows split into parts, and nothing.
constexpr Shape kShapes[] = {{1, 1, 1, 5},   {2, 11, 33, 31}, {1, 65, 72, 65}, {1, 66, 136, 136},
                             {1, 515, 9, 7}, {0, 3, 4, 5},    {2, 0, 4, 5},    {1, 3, 0, 5}};

void give_to(Call& call, const Shape& s, digan::ModulatedLinearCall& arguments) {
  arguments.videos = s.videos;
  arguments.rows = s.rows;
  arguments.inputs = s.inputs;
  arguments.outputs = s.outputs;
  arguments.x = call.in(arguments.number, s.videos * s.rows * s.inputs);
  arguments.weight = call.in(arguments.number, s.videos * s.outputs * s.inputs, 0.1);
}

void run_one(Draw& draw, const LayerKind& kind, const Shape& s) {
  const digan::Pointwise p = draw.pointwise();
  const auto [number, tf32, hopper] = kind;
  const std::string what = text_of(kind) + " B " + std::to_string(s.videos) + " P " +
                           std::to_string(s.rows) + " I " + std::to_string(s.inputs) + " O " +
                           std::to_string(s.outputs) + " " + text_of(p);
  const Number wide = wide_of(number);
  const int64_t size = s.videos * s.rows * s.outputs;
  const bool has_bias = draw.flip();
  {
    Call forward(draw, "modulated_linear " + what);
    digan::ModulatedLinearArguments arguments;
    arguments.number = number;
    arguments.tf32 = tf32;
    arguments.hopper = hopper;
    arguments.pointwise = p;
    give_to(forward, s, arguments);
    arguments.bias = has_bias ? forward.in(wide, s.outputs) : nullptr;
    arguments.out = forward.out(number, size);
    arguments.pre_activation = draw.flip() ? forward.out(number, size) : nullptr;
    forward.done(launch_modulated_linear(arguments, nullptr));
  }
  Call backward(draw, "modulated_linear_backward " + what);
  digan::ModulatedLinearBackwardArguments arguments;
  arguments.number = number;
  arguments.tf32 = tf32;
  arguments.hopper = hopper;
  give_to(backward, s, arguments);
  arguments.grad = backward.in(number, size);
  if (slope_from_output(p.activation, p.alpha, p.gain)) {
    arguments.pointwise = p;
    arguments.out = backward.in(number, size);
  }
  arguments.dx = backward.out(number, s.videos * s.rows * s.inputs);
  arguments.dweight = backward.out(number, s.videos * s.outputs * s.inputs);
  arguments.dbias = has_bias ? backward.out(wide, s.outputs) : nullptr;
  const digan::ModulatedLinearBackwardSizes sizes = modulated_linear_backward_sizes(arguments);
  arguments.weight_parts = backward.work(wide, sizes.weight_parts);
  arguments.bias_parts = backward.work(wide, sizes.bias_parts);
  backward.done(launch_modulated_linear_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Shape& shape : kShapes) {
    for (const LayerKind& kind : kLayerKinds) {
      run_one(draw, kind, shape);
    }
  }
}

const Entry entry("modulated_linear", run);

}  // namespace
}  // namespace driver
