#include "bias_act.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t outer, channels, inner;
};

// A pixel, planes that end inside a pack of 16 bytes and at its end, rows as channels last has
// them, more numbers than a block has threads, and nothing.
constexpr Shape kShapes[] = {{1, 1, 1},  {2, 3, 5},   {2, 8, 16},  {3, 33, 1},
                             {5, 16, 1}, {1, 5, 301}, {2, 3, 257}, {0, 3, 4}};

void run_one(Draw& draw, Number number, const Shape& shape) {
  const int64_t size = shape.outer * shape.channels * shape.inner;
  digan::BiasActCall call;
  call.number = number;
  call.outer = shape.outer;
  call.channels = shape.channels;
  call.inner = shape.inner;
  call.pointwise = draw.pointwise();
  const bool has_bias = draw.flip();
  call.bias_is_wide = size_of(number) == 2 && draw.flip();
  const Number of_bias = call.bias_is_wide ? wide_of(number) : number;
  const std::string what = std::string(name_of(number)) + " [" + std::to_string(shape.outer) +
                           ", " + std::to_string(shape.channels) + ", " +
                           std::to_string(shape.inner) + "] " + text_of(call.pointwise);
  {
    Call forward(draw, "bias_act " + what);
    digan::BiasActArguments arguments{call};
    arguments.bias = has_bias ? forward.in(of_bias, shape.channels) : nullptr;
    arguments.x = forward.in(number, size);
    arguments.out = forward.out(number, size);
    forward.done(launch_bias_act(arguments, nullptr));
  }
  if (size == 0) {
    return;  // there is nothing to sum
  }
  Call backward(draw, "bias_act_backward " + what);
  digan::BiasActBackwardArguments arguments{call};
  arguments.bias = has_bias ? backward.in(of_bias, shape.channels) : nullptr;
  arguments.grad = backward.in(number, size);
  arguments.kept = backward.in(number, size);
  const digan::Pointwise& p = call.pointwise;
  arguments.kept_is_output = slope_from_output(p.activation, p.alpha, p.gain);
  arguments.dx = backward.out(number, size);
  if (has_bias) {
    arguments.dbias = backward.out(of_bias, shape.channels);
    arguments.workspace = backward.work_bytes(bias_act_workspace(arguments));
  }
  backward.done(launch_bias_act_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number number : kNumbers) {
    for (const Shape& shape : kShapes) {
      run_one(draw, number, shape);
      run_one(draw, number, shape);
    }
  }
}

const Entry entry("bias_act", run);

}  // namespace
}  // namespace driver
