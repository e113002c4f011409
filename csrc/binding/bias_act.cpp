// PyTorch's side of bias_act.

#include "bias_act.h"

#include "binding/dense.h"
#include "binding/ops.h"
#include "binding/pointwise.h"

namespace digan {
namespace {

// What both directions are told alike.
struct Call {
  BiasActCall call;
  MaybeTensor bias;  // as the kernels read it, in x's dtype or in that of sums

  // `first` is the tensor of the shape and dtype of all others, `first_name` its name.
  Call(const char* first_name,
       const Tensor& first,
       const MaybeTensor& given,
       const std::string& activation,
       double alpha,
       double gain,
       const std::optional<double>& clamp,
       int64_t dim) {
    call.number = number_of(first_name, first);
    call.pointwise = pointwise_of(activation, alpha, gain, clamp);
    check(dim >= 0 && dim < first.dim(), "dim must be an axis of x, which has ", first.dim(),
          ", got ", dim);
    if (!given) {
      return;
    }
    number_of("bias", *given);
    check_sizes("bias", *given, {first.size(dim)});
    // A third dtype is rounded to x's.
    const ScalarType own = first.scalar_type();
    call.bias_is_wide = given->scalar_type() == wide_of(own) && wide_of(own) != own;
    bias = contiguous(call.bias_is_wide ? *given : to_dtype(*given, own));
  }

  // With the extents around an axis, in the order in which the elements of `dense` lie.
  BiasActCall given_to(Launch& launch, const Tensor& dense, int64_t dim) const {
    BiasActCall given = call;
    given.bias = launch.in("bias", bias);
    given.outer = given.inner = 1;
    given.channels = dense.size(dim);
    bool passed = false;
    for (const int64_t axis : outermost_first(sizes_of(dense), {strides_of(dense)})) {
      if (axis == dim) {
        passed = true;
      } else {
        (passed ? given.inner : given.outer) *= dense.size(axis);
      }
    }
    return given;
  }
};

}  // namespace

Tensor bias_act(const Tensor& x,
                const MaybeTensor& bias,
                const std::string& activation,
                double alpha,
                double gain,
                const std::optional<double>& clamp,
                int64_t dim) {
  const Call call("x", x, bias, activation, alpha, gain, clamp, dim);
  const Tensor out = empty_like(x);
  Launch launch("bias_act", x);
  const Tensor dense = laid_out_as(x, out);
  BiasActArguments arguments{call.given_to(launch, out, dim)};
  arguments.x = launch.in("x", dense);
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
  const Call call("grad", grad, bias, activation, alpha, gain, clamp, dim);
  check(x || out, "x or out must be given, got neither");
  const Activation kind = call.call.pointwise.activation;
  check(!out || slope_from_output(kind, alpha, gain), "out tells no slope of ", activation,
        " with alpha ", alpha, " and gain ", gain);
  const char* name = out ? "out" : "x";
  const Tensor& kept = out ? *out : *x;
  check_like(name, kept, sizes_of(grad), grad.scalar_type());

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
  BiasActBackwardArguments arguments{call.given_to(launch, dx, dim)};
  arguments.grad = launch.in("grad", dense_grad);
  arguments.kept = launch.in(name, dense_kept);
  arguments.kept_is_output = out.has_value();
  arguments.dx = launch.out("dx", dx);
  if (!bias) {
    launch.check(launch_bias_act_backward(arguments, launch.stream()));
    return {dx, empty(grad, {0})};
  }
  if (grad.numel() == 0) {
    return {dx, torch::stable::new_zeros(grad, {bias->numel()}, bias->scalar_type())};
  }
  const Tensor dbias = empty(grad, {bias->numel()}, call.bias->scalar_type());
  const ScalarType wide = wide_of(grad.scalar_type());
  const int64_t bytes_of_sum = wide == ScalarType::Double ? 8 : 4;
  const Tensor workspace = empty(grad, {bias_act_workspace(arguments) / bytes_of_sum}, wide);
  arguments.dbias = launch.out("dbias", dbias);
  arguments.workspace = launch.out("workspace", workspace);
  launch.check(launch_bias_act_backward(arguments, launch.stream()));
  return {dx, to_dtype(dbias, bias->scalar_type())};
}

}  // namespace digan
