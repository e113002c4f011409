#include "modulated_linear_narrow.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t videos, rows, inputs, outputs;
};

// More inputs than a block has weights, pieces of rows, and nothing.
constexpr Shape kShapes[] = {{1, 1, 1, 1},     {2, 17, 64, 3},  {1, 129, 33, 2}, {1, 131, 20, 4},
                             {1, 18, 2064, 4}, {1, 7, 1031, 2}, {0, 3, 4, 3},    {2, 0, 4, 3}};

void run_one(Draw& draw, Number number, const Shape& s) {
  digan::ModulatedLinearNarrowCall call;
  call.number = number;
  call.videos = s.videos;
  call.rows = s.rows;
  call.inputs = s.inputs;
  call.outputs = s.outputs;
  call.pointwise = draw.pointwise();
  const digan::Pointwise& p = call.pointwise;
  const std::string what = std::string(name_of(number)) + " B " + std::to_string(s.videos) + " P " +
                           std::to_string(s.rows) + " I " + std::to_string(s.inputs) + " O " +
                           std::to_string(s.outputs) + " " + text_of(p);
  const Number wide = wide_of(number);
  const int64_t size = s.videos * s.rows * s.outputs;
  const bool has_bias = draw.flip();
  {
    Call forward(draw, "modulated_linear_narrow " + what);
    digan::ModulatedLinearNarrowArguments arguments{call};
    arguments.x = forward.in(number, s.videos * s.rows * s.inputs);
    arguments.weight = forward.in(number, s.videos * s.outputs * s.inputs, 0.1);
    arguments.bias = has_bias ? forward.in(wide, s.outputs) : nullptr;
    arguments.y = forward.out(number, size);
    arguments.z = draw.flip() ? forward.out(number, size) : nullptr;
    forward.done(launch_modulated_linear_narrow(arguments, nullptr));
  }
  Call backward(draw, "modulated_linear_narrow_backward " + what);
  digan::ModulatedLinearNarrowBackwardArguments arguments{call};
  arguments.x = backward.in(number, s.videos * s.rows * s.inputs);
  arguments.weight = backward.in(number, s.videos * s.outputs * s.inputs, 0.1);
  arguments.grad = backward.in(number, size);
  arguments.kept = backward.in(number, size);
  arguments.kept_is_output = slope_from_output(p.activation, p.alpha, p.gain);
  arguments.dx = backward.out(number, s.videos * s.rows * s.inputs);
  arguments.dweight = backward.out(number, s.videos * s.outputs * s.inputs);
  arguments.dbias = has_bias ? backward.out(wide, s.outputs) : nullptr;
  arguments.workspace = backward.work_bytes(modulated_linear_narrow_workspace(arguments));
  backward.done(launch_modulated_linear_narrow_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number number : kNumbers) {
    for (const Shape& shape : kShapes) {
      run_one(draw, number, shape);
    }
  }
}

const Entry entry("modulated_linear_narrow", run);

}  // namespace
}  // namespace driver
