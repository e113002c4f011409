// modulated_linear, forward: out = act(x weight^T + bias), one matrix for each video.
//
// DESIGN
// A product per video of [P, I] by [I, O], both operands with the reduced axis innermost, so that
// ldmatrix reads them as they lie. Bias, activation, gain and clamp are met with the accumulators
// in float; the pre-activation is written only where a gradient will need it. Bytes: x once for
// every kN outputs, the weights once for every kM rows (both from L2 but for the first time), out
// once. Bound by the tensor cores from about 256 channels on.

#include "modulated_linear.h"

#include "gemm/operands.cuh"
#include "gemm/problem.cuh"
#include "modulated_linear_hopper.h"

namespace digan {
namespace gemm {
namespace {

template <class T>
struct Layer {
  Global<const T> x, weight;
  LayerOutput<T> output;
  int rows, inputs;
  bool whole_inputs;
};

template <class T, class Shape, int kExtent, bool kWhole>
using Operand = KeptRows<T, Shape, kExtent, StraightColumns, kWhole>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    modulated_linear_kernel(Layer<typename Math::Number> layer) {
  using T = typename Math::Number;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const TilePlace<Shape> place(layer.rows, layer.output.columns);
  const int slices = slices_of<T>(layer.inputs);

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole_inputs, [&](auto whole) {
    constexpr bool kWhole = decltype(whole)::value;
    const StraightColumns columns{layer.inputs};
    Operand<T, Shape, Shape::kM, kWhole> a({layer.x + place.batch * layer.rows * layer.inputs},
                                           layer.inputs, StraightRows{place.m, layer.rows},
                                           columns);
    Operand<T, Shape, Shape::kN, kWhole> b(
        {layer.weight + place.batch * layer.output.columns * layer.inputs}, layer.inputs,
        StraightRows{place.n, layer.output.columns}, columns);
    main_loop<Math, Shape>(sums, a, b, shared, slices);
  });

  __syncthreads();
  const Epilogue<T> epilogue(layer.output.pointwise);
  for_each_piece<Math, Shape>(
      sums, view_as<Wide<T>>(shared), [&](int m, int n, Wide<T>(&values)[kPiece]) {
        const int row = place.m + m, column = place.n + n;
        if (row < layer.rows && column < layer.output.columns) {
          layer.output.add_bias(column, values);
          layer.output.store(place.batch * layer.rows + row, column, epilogue, values);
        }
      });
}

}  // namespace
}  // namespace gemm

cudaError_t launch_modulated_linear(const ModulatedLinearArguments& a, cudaStream_t stream) {
  using namespace gemm;
  const Extent extent{a.videos, a.rows, a.outputs};
  if (!extent.fits() || a.inputs > kMostExtent) {
    return cudaErrorInvalidConfiguration;
  }
  const bool whole_inputs = lies_in_chunks(a.number, a.inputs, a.x, a.weight);
  const bool whole_outputs =
      a.outputs % kPiece == 0 && lies_in_chunks(a.number, a.outputs, a.out, a.pre_activation);
  const bool large = has_large(a.number, a.tf32) && whole_inputs && is_large<LargeTile>(extent) &&
                     fills_card(extent.blocks<LargeTile>());
  if (large && a.inputs > 0 && hopper::serves(a.hopper, a.number)) {
    return launch_modulated_linear_hopper(a, stream);
  }
  return with_math<LargeTile>(a.number, a.tf32, large, [&](auto math, auto shape) {
    using Math = decltype(math);
    using Shape = decltype(shape);
    using T = typename Math::Number;
    const int64_t blocks = extent.blocks<Shape>();
    if (blocks == 0) {
      return cudaSuccess;
    }
    constexpr int kBytes =
        shared_bytes<Math, Shape, Operand<T, Shape, Shape::kM, true>,
                     Operand<T, Shape, Shape::kN, true>>(Staging<Math, Shape>::kBytes);
    const LayerOutput<T> output{static_cast<const Wide<T>*>(a.bias),
                                static_cast<T*>(a.out),
                                static_cast<T*>(a.pre_activation),
                                static_cast<int>(a.outputs),
                                whole_outputs,
                                a.pointwise};
    const Layer<T> layer{static_cast<const T*>(a.x), static_cast<const T*>(a.weight), output,
                         static_cast<int>(a.rows),   static_cast<int>(a.inputs),      whole_inputs};
    return DIGAN_LAUNCH_SHARED((modulated_linear_kernel<Math, Shape>),
                               static_cast<unsigned>(blocks), Shape::kThreads, kBytes, stream,
                               layer);
  });
}

}  // namespace digan
