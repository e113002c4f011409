// PyTorch's side of modulated_linear.

#include "modulated_linear.h"

#include "binding/hopper.h"
#include "binding/ops.h"
#include "binding/pre_activation.h"
#include "modulated_linear_narrow.h"

namespace digan {
namespace {

// x and weight, checked and contiguous.
struct Inputs {
  Tensor x, weight;
  int64_t videos, rows, inputs, outputs;

  Inputs(const Tensor& x, const Tensor& weight) : x(contiguous(x)), weight(contiguous(weight)) {
    check_rank("x", x, 3);
    check_rank("weight", weight, 3);
    videos = x.size(0);
    rows = x.size(1);
    inputs = x.size(2);
    outputs = weight.size(1);
    check_like("weight", weight, {videos, outputs, inputs}, x.scalar_type());
  }

  // A layer to few channels, as RGB, is bound by reading x, and has a form for that.
  bool is_narrow() const { return outputs <= kMostOutputs; }

  template <class Call>
  void give_to(Launch& launch, const Pointwise& pointwise, Call& call) const {
    call.number = number_of("x", x);
    call.videos = videos;
    call.rows = rows;
    call.inputs = inputs;
    call.outputs = outputs;
    call.pointwise = pointwise;
    call.x = launch.in("x", x);
    call.weight = launch.in("weight", weight);
  }
};

// Returns the output, and the pre-activation where it is wanted, else nothing.
std::tuple<Tensor, Tensor> run(const Inputs& inputs,
                               const MaybeTensor& bias,
                               const Pointwise& pointwise,
                               bool keeps,
                               bool tf32) {
  const Tensor& x = inputs.x;
  const MaybeTensor wide = wide_bias(bias, inputs.outputs, x.scalar_type());
  const Sizes sizes = {inputs.videos, inputs.rows, inputs.outputs};
  const Tensor out = empty(x, sizes);
  const Tensor z = empty(x, keeps ? sizes : Sizes{0});
  Launch launch("modulated_linear", x);
  const auto give = [&](auto& arguments, void*& to, void*& pre_activation) {
    inputs.give_to(launch, pointwise, arguments);
    arguments.bias = launch.in("bias", wide);
    to = launch.out("out", out);
    pre_activation = keeps ? launch.out("z", z) : nullptr;
  };
  if (inputs.is_narrow()) {
    ModulatedLinearNarrowArguments arguments;
    give(arguments, arguments.y, arguments.z);
    launch.check(launch_modulated_linear_narrow(arguments, launch.stream()));
  } else {
    ModulatedLinearArguments arguments;
    give(arguments, arguments.out, arguments.pre_activation);
    arguments.tf32 = tf32;
    arguments.hopper = hopper_asked();
    launch.check(launch_modulated_linear(arguments, launch.stream()));
  }
  return {out, z};
}

}  // namespace

std::tuple<Tensor, Tensor> modulated_linear(const Tensor& x,
                                            const Tensor& weight,
                                            const MaybeTensor& bias,
                                            const std::string& activation,
                                            double alpha,
                                            double gain,
                                            const std::optional<double>& clamp,
                                            bool keep_pre_activation,
                                            bool tf32) {
  const Pointwise pointwise = pointwise_of(activation, alpha, gain, clamp);
  return run(Inputs(x, weight), bias, pointwise,
             keep_pre_activation && !slope_from_output(pointwise), tf32);
}

std::tuple<Tensor, Tensor, Tensor> modulated_linear_backward(const Tensor& grad,
                                                             const Tensor& x,
                                                             const Tensor& weight,
                                                             const MaybeTensor& bias,
                                                             const MaybeTensor& z,
                                                             const MaybeTensor& y,
                                                             const std::string& activation,
                                                             double alpha,
                                                             double gain,
                                                             const std::optional<double>& clamp,
                                                             bool tf32) {
  const Inputs inputs(x, weight);
  const ScalarType dtype = x.scalar_type();
  check_like("grad", grad, {inputs.videos, inputs.rows, inputs.outputs}, dtype);
  const MaybeTensor checked_bias = wide_bias(bias, inputs.outputs, dtype);
  const PreActivationGradient da = pre_activation_gradient(
      "modulated_linear_backward", grad, z, y, pointwise_of(activation, alpha, gain, clamp),
      [&] { return std::get<0>(run(inputs, bias, Pointwise(), false, tf32)); });

  const Tensor dx = empty(x, sizes_of(x)), dweight = empty(x, sizes_of(weight));
  MaybeTensor dbias;
  if (bias) {
    dbias = empty(x, {inputs.outputs}, wide_of(dtype));
  }
  Launch launch("modulated_linear_backward", grad);
  const auto give = [&](auto& arguments) {
    inputs.give_to(launch, da.pointwise, arguments);
    arguments.grad = launch.in("grad", da.grad);
    arguments.dx = launch.out("dx", dx);
    arguments.dweight = launch.out("dweight", dweight);
    arguments.dbias = launch.out("dbias", dbias);
  };
  if (inputs.is_narrow()) {
    ModulatedLinearNarrowBackwardArguments arguments;
    give(arguments);
    arguments.kept = launch.in("out", da.out);
    arguments.kept_is_output = da.out.has_value();
    const ScalarType wide = wide_of(dtype);
    const int64_t bytes_of_sum = wide == ScalarType::Double ? 8 : 4;
    const Tensor workspace =
        empty(x, {modulated_linear_narrow_workspace(arguments) / bytes_of_sum}, wide);
    arguments.workspace = launch.out("workspace", workspace);
    launch.check(launch_modulated_linear_narrow_backward(arguments, launch.stream()));
  } else {
    ModulatedLinearBackwardArguments arguments;
    give(arguments);
    arguments.out = launch.in("out", da.out);
    arguments.tf32 = tf32;
    arguments.hopper = hopper_asked();
    const ModulatedLinearBackwardSizes sizes = modulated_linear_backward_sizes(arguments);
    const Tensor weight_parts = empty(x, {sizes.weight_parts}, wide_of(dtype));
    const Tensor bias_parts = empty(x, {sizes.bias_parts}, wide_of(dtype));
    arguments.weight_parts = launch.out("weight_parts", weight_parts);
    arguments.bias_parts = launch.out("bias_parts", bias_parts);
    launch.check(launch_modulated_linear_backward(arguments, launch.stream()));
  }
  return {dx, dweight, bias ? to_dtype(*dbias, bias->scalar_type()) : empty(grad, {0})};
}

}  // namespace digan
