// PyTorch's side of bias_act.

#include "bias_act.h"

#include "binding/dense.h"
#include "binding/ops.h"

namespace digan {
namespace {

Pointwise pointwise_of(const std::string& activation,
                       double alpha,
                       double gain,
                       const std::optional<double>& clamp) {
  Pointwise pointwise;
  check(find_activation(activation, &pointwise.activation),
        "activation must be a name of digan.ops, got '", activation, "'");
  check(!clamp || *clamp > 0, "clamp must be positive or None, got ", clamp.value_or(0));
  pointwise.alpha = alpha;
  pointwise.gain = gain;
  pointwise.clamps = clamp.has_value();
  pointwise.clamp = clamp.value_or(0);
  return pointwise;
}

void check_bias(const MaybeTensor& bias, const Tensor& x, int64_t dim) {
  check(dim >= 0 && dim < x.dim(), "dim must be an axis of x, which has ", x.dim(), ", got ", dim);
  if (bias) {
    number_of("bias", *bias);
    check_sizes("bias", *bias, {x.size(dim)});
  }
}

// The bias as the kernels read it, in x's dtype or in that of sums. Any other is rounded to x's.
MaybeTensor readable(const MaybeTensor& bias, ScalarType dtype) {
  if (!bias) {
    return bias;
  }
  const bool is_wide = bias->scalar_type() == wide_of(dtype);
  return contiguous(is_wide ? *bias : to_dtype(*bias, dtype));
}

// Extents around an axis, in the order in which the elements lie.
template <class Arguments>
void set_extents(const Tensor& tensor, int64_t dim, Arguments& arguments) {
  arguments.outer = arguments.inner = 1;
  arguments.channels = tensor.size(dim);
  bool passed = false;
  for (const int64_t axis : outermost_first(sizes_of(tensor), {strides_of(tensor)})) {
    if (axis == dim) {
      passed = true;
    } else {
      (passed ? arguments.inner : arguments.outer) *= tensor.size(axis);
    }
  }
}

}  // namespace

Tensor bias_act(const Tensor& x,
                const MaybeTensor& bias,
                const std::string& activation,
                double alpha,
                double gain,
                const std::optional<double>& clamp,
                int64_t dim) {
  BiasActArguments arguments;
  arguments.number = number_of("x", x);
  arguments.pointwise = pointwise_of(activation, alpha, gain, clamp);
  check_bias(bias, x, dim);
  const Tensor out = empty_like(x);
  Launch launch("bias_act", x);
  const Tensor dense = laid_out_as(x, out);
  const MaybeTensor read = readable(bias, x.scalar_type());
  set_extents(out, dim, arguments);
  arguments.x = launch.in("x", dense);
  arguments.bias = launch.in("bias", read);
  arguments.bias_is_wide = read && read->scalar_type() != x.scalar_type();
  arguments.out = launch.out("out", out);
  launch.check(launch_bias_act(arguments, launch.stream()));
  return out;
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad,
                                             const MaybeTensor& x,
                                             const MaybeTensor& bias,
                                             const MaybeTensor& out,
                                             const std::string& activation,
                                             double alpha,
                                             double gain,
                                             const std::optional<double>& clamp,
                                             int64_t dim) {
  BiasActBackwardArguments arguments;
  arguments.number = number_of("grad", grad);
  arguments.pointwise = pointwise_of(activation, alpha, gain, clamp);
  check(x || out, "x or out must be given, got neither");
  const Activation kind = arguments.pointwise.activation;
  check(!out || slope_from_output(kind, alpha, gain), "out tells no slope of ", activation,
        " with alpha ", alpha, " and gain ", gain);
  const char* name = out ? "out" : "x";
  const Tensor& kept = out ? *out : *x;
  check_bias(bias, grad, dim);
  check_sizes(name, kept, sizes_of(grad));
  check_dtype(name, kept, grad.scalar_type());

  // The strides that PyTorch's operations give the formula's result.
  std::vector<Sizes> leading = {strides_of(grad), strides_of(kept)};
  if (out && kind != Activation::kLinear) {
    std::swap(leading[0], leading[1]);
  } else if (out && !clamp) {
    leading.pop_back();  // the gradient, times a number
  }
  const Sizes sizes = sizes_of(grad);
  const Tensor dx = empty_strided(
      grad, sizes, dense_strides(sizes, outermost_first(sizes, leading)), grad.scalar_type());
  Launch launch("bias_act_backward", grad);
  const Tensor dense_grad = laid_out_as(grad, dx);
  const Tensor dense_kept = laid_out_as(kept, dx);
  const MaybeTensor read = readable(bias, grad.scalar_type());
  set_extents(dx, dim, arguments);
  arguments.grad = launch.in("grad", dense_grad);
  arguments.kept = launch.in(name, dense_kept);
  arguments.kept_is_output = out.has_value();
  arguments.bias = launch.in("bias", read);
  arguments.bias_is_wide = read && read->scalar_type() != grad.scalar_type();
  arguments.dx = launch.out("dx", dx);
  if (!bias) {
    launch.check(launch_bias_act_backward(arguments, launch.stream()));
    return {dx, empty(grad, {0})};
  }
  if (grad.numel() == 0) {
    return {dx, torch::stable::new_zeros(grad, {bias->numel()}, bias->scalar_type())};
  }
  const Tensor dbias = empty(grad, {bias->numel()}, read->scalar_type());
  const ScalarType wide = wide_of(grad.scalar_type());
  const int64_t bytes_of_sum = wide == ScalarType::Double ? 8 : 4;
  const Tensor workspace = empty(grad, {bias_act_workspace(arguments) / bytes_of_sum}, wide);
  arguments.dbias = launch.out("dbias", dbias);
  arguments.workspace = launch.out("workspace", workspace);
  launch.check(launch_bias_act_backward(arguments, launch.stream()));
  return {dx, to_dtype(dbias, bias->scalar_type())};
}

}  // namespace digan
