// PyTorch's side of coord_linear.

#include "coord_linear.h"

#include "binding/grid.h"
#include "binding/hopper.h"
#include "binding/ops.h"
#include "binding/pre_activation.h"

namespace digan {
namespace {

// The grid, weight, bias and skip, checked and contiguous.
struct Inputs {
  GridInputs grid;
  Tensor weight;
  MaybeTensor bias, skip;
  int64_t outputs;

  Inputs(const char* op,
         const Tensor& freq,
         const Tensor& phase,
         const Tensor& y,
         const Tensor& x,
         const Tensor& weight,
         const MaybeTensor& bias,
         const MaybeTensor& skip)
      : grid(op, freq, phase, y, x, number_of("weight", weight), wide_of(weight.scalar_type())),
        weight(contiguous(weight)) {
    const FourierFeaturesGrid& g = grid.grid;
    check_rank("weight", weight, 3);
    outputs = weight.size(1);
    check_sizes("weight", weight, {g.videos, outputs, 2 * g.frequencies});
    this->bias = wide_bias(bias, outputs, weight.scalar_type());
    if (skip) {
      check(g.height % 2 == 0 && g.width % 2 == 0, "a grid with skip must have even sides, got ",
            g.height, " x ", g.width);
      check_like("skip", *skip, {g.videos, g.frames, g.height / 2, g.width / 2, outputs},
                 weight.scalar_type());
      this->skip = contiguous(*skip);
    }
  }

  void give_to(Launch& launch, const Pointwise& pointwise, bool tf32, CoordLinearCall& call) const {
    call.grid = grid.given_to(launch);
    call.tf32 = tf32;
    call.hopper = hopper_asked();
    call.outputs = outputs;
    call.pointwise = pointwise;
    call.weight = launch.in("weight", weight);
  }
};

std::tuple<Tensor, Tensor> run(const Inputs& inputs,
                               const Pointwise& pointwise,
                               bool keeps,
                               bool tf32) {
  const Tensor& weight = inputs.weight;
  const Sizes sizes = inputs.grid.sizes(inputs.outputs);
  const Tensor out = empty(weight, sizes);
  const Tensor z = empty(weight, keeps ? sizes : Sizes{0});
  Launch launch("coord_linear", inputs.grid.freq);
  CoordLinearArguments arguments;
  inputs.give_to(launch, pointwise, tf32, arguments);
  arguments.bias = launch.in("bias", inputs.bias);
  arguments.skip = launch.in("skip", inputs.skip);
  arguments.out = launch.out("out", out);
  arguments.pre_activation = keeps ? launch.out("z", z) : nullptr;
  launch.check(launch_coord_linear(arguments, launch.stream()));
  return {out, z};
}

}  // namespace

std::tuple<Tensor, Tensor> coord_linear(const Tensor& freq,
                                        const Tensor& phase,
                                        const Tensor& y,
                                        const Tensor& x,
                                        const Tensor& weight,
                                        const MaybeTensor& bias,
                                        const MaybeTensor& skip,
                                        const std::string& activation,
                                        double alpha,
                                        double gain,
                                        const std::optional<double>& clamp,
                                        bool keep_pre_activation,
                                        bool tf32) {
  const Pointwise pointwise = pointwise_of(activation, alpha, gain, clamp);
  return run(Inputs("coord_linear", freq, phase, y, x, weight, bias, skip), pointwise,
             keep_pre_activation && !slope_from_output(pointwise), tf32);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> coord_linear_backward(
    const Tensor& grad,
    const Tensor& freq,
    const Tensor& phase,
    const Tensor& y,
    const Tensor& x,
    const Tensor& weight,
    const MaybeTensor& bias,
    const MaybeTensor& skip,
    const MaybeTensor& z,
    const MaybeTensor& out,
    const std::string& activation,
    double alpha,
    double gain,
    const std::optional<double>& clamp,
    bool tf32) {
  const char* op = "coord_linear_backward";
  const Inputs inputs(op, freq, phase, y, x, weight, bias, skip);
  const ScalarType dtype = weight.scalar_type(), wide = wide_of(dtype);
  check_like("grad", grad, inputs.grid.sizes(inputs.outputs), dtype);
  const PreActivationGradient da =
      pre_activation_gradient(op, grad, z, out, pointwise_of(activation, alpha, gain, clamp),
                              [&] { return std::get<0>(run(inputs, Pointwise(), false, tf32)); });

  const Tensor wide_freq = to_dtype(inputs.grid.freq, wide);
  const Tensor wide_y = to_dtype(inputs.grid.y, wide), wide_x = to_dtype(inputs.grid.x, wide);
  const Tensor dweight = empty(weight, sizes_of(weight));
  const Tensor dfreq = empty(freq, sizes_of(freq), wide),
               dphase = empty(freq, sizes_of(phase), wide);
  const Tensor dy = empty(freq, sizes_of(y), wide), dx = empty(freq, sizes_of(x), wide);
  MaybeTensor dbias, dskip;
  if (bias) {
    dbias = empty(weight, {inputs.outputs}, wide);
  }
  if (skip) {
    dskip = empty(weight, sizes_of(*skip));
  }
  Launch launch(op, grad);
  CoordLinearBackwardArguments arguments;
  inputs.give_to(launch, da.pointwise, tf32, arguments);
  arguments.grad = launch.in("grad", da.grad);
  arguments.out = launch.in("out", da.out);
  arguments.freq = launch.in("freq", wide_freq);
  arguments.y = launch.in("y", wide_y);
  arguments.x = launch.in("x", wide_x);
  arguments.dweight = launch.out("dweight", dweight);
  arguments.dskip = launch.out("dskip", dskip);
  arguments.dbias = launch.out("dbias", dbias);
  arguments.dfreq = launch.out("dfreq", dfreq);
  arguments.dphase = launch.out("dphase", dphase);
  arguments.dy = launch.out("dy", dy);
  arguments.dx = launch.out("dx", dx);

  const CoordLinearBackwardSizes sizes = coord_linear_backward_sizes(arguments);
  const Tensor weight_parts = empty(weight, {sizes.weight_parts}, wide);
  const Tensor bias_parts = empty(weight, {sizes.bias_parts}, wide);
  const Tensor phase_parts = empty(weight, {sizes.frequency_parts}, wide);
  const Tensor freq_x_parts = empty(weight, {sizes.frequency_parts}, wide);
  const Tensor freq_y_parts = empty(weight, {sizes.frequency_parts}, wide);
  const Tensor y_parts = empty(weight, {sizes.y_parts}, wide);
  const Tensor x_parts = empty(weight, {sizes.x_parts}, wide);
  arguments.weight_parts = launch.out("weight_parts", weight_parts);
  arguments.bias_parts = launch.out("bias_parts", bias_parts);
  arguments.phase_parts = launch.out("phase_parts", phase_parts);
  arguments.freq_x_parts = launch.out("freq_x_parts", freq_x_parts);
  arguments.freq_y_parts = launch.out("freq_y_parts", freq_y_parts);
  arguments.y_parts = launch.out("y_parts", y_parts);
  arguments.x_parts = launch.out("x_parts", x_parts);
  launch.check(launch_coord_linear_backward(arguments, launch.stream()));

  const ScalarType own = freq.scalar_type();
  return {to_dtype(dfreq, own),
          to_dtype(dphase, own),
          to_dtype(dy, own),
          to_dtype(dx, own),
          dweight,
          bias ? to_dtype(*dbias, bias->scalar_type()) : empty(weight, {0}),
          skip ? *dskip : empty(weight, {0})};
}

}  // namespace digan
