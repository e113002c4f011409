// PyTorch's side of factorized_modulation.

#include "factorized_modulation.h"

#include "binding/ops.h"

namespace digan {
namespace {

// weight, left and right, checked and contiguous.
struct Inputs {
  Tensor weight, left, right;
  FactorizedModulationInputs call;

  Inputs(const char* op,
         const Tensor& weight,
         const Tensor& left,
         const Tensor& right,
         bool demodulate)
      : weight(contiguous(weight)), left(contiguous(left)), right(contiguous(right)) {
    call.number = wide_number_of(op, "weight", weight);
    call.demodulate = demodulate;
    check_rank("weight", weight, 2);
    check_rank("left", left, 3);
    check_rank("right", right, 3);
    call.outputs = weight.size(0);
    call.inputs = weight.size(1);
    call.videos = left.size(0);
    call.rank = left.size(2);
    check(call.rank >= 1, "left must be [B, O, R] with R at least 1, got ", text(sizes_of(left)));
    check_like("left", left, {call.videos, call.outputs, call.rank}, weight.scalar_type());
    check_like("right", right, {call.videos, call.rank, call.inputs}, weight.scalar_type());
  }

  Sizes matrices() const { return {call.videos, call.outputs, call.inputs}; }

  FactorizedModulationInputs given_to(Launch& launch) const {
    FactorizedModulationInputs given = call;
    given.weight = launch.in("weight", weight);
    given.left = launch.in("left", left);
    given.right = launch.in("right", right);
    return given;
  }
};

}  // namespace

Tensor factorized_modulation(const Tensor& weight,
                             const Tensor& left,
                             const Tensor& right,
                             bool demodulate) {
  const Inputs inputs("factorized_modulation", weight, left, right, demodulate);
  const Tensor out = empty(weight, inputs.matrices());
  Launch launch("factorized_modulation", weight);
  FactorizedModulationArguments arguments{inputs.given_to(launch)};
  arguments.out = launch.out("out", out);
  launch.check(launch_factorized_modulation(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> factorized_modulation_backward(const Tensor& grad,
                                                                  const Tensor& weight,
                                                                  const Tensor& left,
                                                                  const Tensor& right,
                                                                  bool demodulate) {
  const Inputs inputs("factorized_modulation_backward", weight, left, right, demodulate);
  check_like("grad", grad, inputs.matrices(), weight.scalar_type());
  const Tensor grad_here = contiguous(grad);
  Launch launch("factorized_modulation_backward", weight);
  FactorizedModulationBackwardArguments arguments{inputs.given_to(launch)};
  arguments.grad = launch.in("grad", grad_here);

  MaybeTensor du;
  if (demodulate) {
    du = empty(weight, inputs.matrices());
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
