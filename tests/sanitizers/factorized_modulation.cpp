#include "factorized_modulation.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t videos, outputs, inputs, rank;
};

constexpr Shape kShapes[] = {{1, 1, 2, 1},  {2, 5, 7, 3},    {1, 31, 33, 10}, {2, 8, 8, 4},
                             {1, 6, 8, 17}, {1, 3, 1028, 2}, {0, 4, 3, 2}};

void run_one(Draw& draw, Number number, const Shape& s, bool demodulate) {
  const std::string what = std::string(name_of(number)) + " B " + std::to_string(s.videos) + " O " +
                           std::to_string(s.outputs) + " I " + std::to_string(s.inputs) + " R " +
                           std::to_string(s.rank);
  const auto given = [&](Call& call) {
    digan::FactorizedModulationInputs inputs;
    inputs.number = number;
    inputs.videos = s.videos;
    inputs.outputs = s.outputs;
    inputs.inputs = s.inputs;
    inputs.rank = s.rank;
    inputs.demodulate = demodulate;
    inputs.weight = call.in(number, s.outputs * s.inputs);
    inputs.left = call.in(number, s.videos * s.outputs * s.rank);
    inputs.right = call.in(number, s.videos * s.rank * s.inputs);
    return inputs;
  };
  const int64_t matrices = s.videos * s.outputs * s.inputs;
  {
    Call forward(draw, "factorized_modulation " + what);
    digan::FactorizedModulationArguments arguments{given(forward)};
    arguments.out = forward.out(number, matrices);
    forward.done(launch_factorized_modulation(arguments, nullptr));
  }
  Call backward(draw, "factorized_modulation_backward " + what);
  digan::FactorizedModulationBackwardArguments arguments{given(backward)};
  arguments.grad = backward.in(number, matrices);
  arguments.du = demodulate ? backward.work(number, matrices) : nullptr;
  arguments.right_parts = backward.work(number, factorized_modulation_right_parts(arguments));
  arguments.dweight = backward.out(number, s.outputs * s.inputs);
  arguments.dleft = backward.out(number, s.videos * s.outputs * s.rank);
  arguments.dright = backward.out(number, s.videos * s.rank * s.inputs);
  backward.done(launch_factorized_modulation_backward(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number number : kWideNumbers) {
    for (const Shape& shape : kShapes) {
      run_one(draw, number, shape, true);
      run_one(draw, number, shape, false);
    }
  }
}

const Entry entry("factorized_modulation", run);

}  // namespace
}  // namespace driver
