// PyTorch's side of factorized_modulation.

#include "factorized_modulation.h"

#include "binding/ops.h"

namespace digan {
namespace {

// weight, left and right, checked and contiguous.
struct Inputs {
  Tensor weight, left, right;
  Number number;
  int64_t videos, outputs, inputs, rank;

  Inputs(const char* op, const Tensor& weight, const Tensor& left, const Tensor& right)
      : weight(contiguous(weight)), left(contiguous(left)), right(contiguous(right)) {
    number = number_of("weight", weight);
    check(number == Number::kF64 || number == Number::kF32, op,
          ": weight must be float64 or float32, got ",
          torch::headeronly::toString(weight.scalar_type()));
    check_rank("weight", weight, 2);
    check_rank("left", left, 3);
    check_rank("right", right, 3);
    outputs = weight.size(0);
    inputs = weight.size(1);
    videos = left.size(0);
    rank = left.size(2);
    check(rank >= 1, "left must be [B, O, R] with R at least 1, got ", text(sizes_of(left)));
    check_sizes("left", left, {videos, outputs, rank});
    check_sizes("right", right, {videos, rank, inputs});
    check_dtype("left", left, weight.scalar_type());
    check_dtype("right", right, weight.scalar_type());
  }

  template <class Arguments>
  void give(Launch& launch, Arguments& arguments) const {
    arguments.number = number;
    arguments.videos = videos;
    arguments.outputs = outputs;
    arguments.inputs = inputs;
    arguments.rank = rank;
    arguments.weight = launch.in("weight", weight);
    arguments.left = launch.in("left", left);
    arguments.right = launch.in("right", right);
  }
};

}  // namespace

Tensor factorized_modulation(const Tensor& weight,
                             const Tensor& left,
                             const Tensor& right,
                             bool demodulate) {
  const Inputs inputs("factorized_modulation", weight, left, right);
  const Tensor out = empty(weight, {inputs.videos, inputs.outputs, inputs.inputs});
  Launch launch("factorized_modulation", weight);
  FactorizedModulationArguments arguments;
  inputs.give(launch, arguments);
  arguments.demodulate = demodulate;
  arguments.out = launch.out("out", out);
  launch.check(launch_factorized_modulation(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> factorized_modulation_backward(const Tensor& grad,
                                                                  const Tensor& weight,
                                                                  const Tensor& left,
                                                                  const Tensor& right,
                                                                  bool demodulate) {
  const Inputs inputs("factorized_modulation_backward", weight, left, right);
  const Sizes matrices = {inputs.videos, inputs.outputs, inputs.inputs};
  check_sizes("grad", grad, matrices);
  check_dtype("grad", grad, weight.scalar_type());
  const Tensor grad_here = contiguous(grad);
  Launch launch("factorized_modulation_backward", weight);
  FactorizedModulationBackwardArguments arguments;
  inputs.give(launch, arguments);
  arguments.demodulate = demodulate;
  arguments.grad = launch.in("grad", grad_here);

  MaybeTensor du;
  if (demodulate) {
    du = empty(weight, matrices);
  }
  const Tensor right_parts = empty(weight, {factorized_modulation_right_parts(arguments)});
  const Tensor dweight = empty(weight, sizes_of(weight));
  const Tensor dleft = empty(weight, sizes_of(left)), dright = empty(weight, sizes_of(right));
  arguments.du = launch.out("du", du);
  arguments.right_parts = launch.out("right_parts", right_parts);
  arguments.dweight = launch.out("dweight", dweight);
  arguments.dleft = launch.out("dleft", dleft);
  arguments.dright = launch.out("dright", dright);
  launch.check(launch_factorized_modulation_backward(arguments, launch.stream()));
  return {dweight, dleft, dright};
}

}  // namespace digan
