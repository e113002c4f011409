// modulated_linear, gradients by x, weight and bias.
//
// DESIGN
// Two products per video. With dA = grad * act'(pre-activation), which is never written:
//
//   dx [P, I] = dA [P, O] weight [O, I]       dweight [O, I] = dA^T [O, P] x [P, I]
//
// The slope is told by the saved output and applied to a slice of grad in shared memory; where it
// is not (sine, gelu and their like), bias_act_backward makes dA beforehand, as such a slope costs
// tens of instructions a number and would be computed again for every tile along the other axis.
// The gain is a factor of the results. ldmatrix transposes what has its reduced axis outermost.
//
// The reduced axis of dweight is all rows of a video. Where its tiles leave multiprocessors idle,
// rows are split into parts, whose sums are added by sum_parts in a fixed order. The blocks of the
// first columns add up dA for dbias on their way. Bytes of dx: grad and out for every kN inputs,
// the weights for every kM rows, dx once; of dweight: grad and out for every kN inputs, x for every
// kM outputs, dweight once, or its parts twice.

#include "gemm/operands.cuh"
#include "gemm/problem.cuh"
#include "gemm/row_sums.cuh"
#include "modulated_linear.h"
#include "modulated_linear_hopper.h"

namespace digan {
namespace gemm {
namespace {

template <class T>
struct LayerGradient {
  Global<const T> grad, out;  // out may be null: no slope
  Global<const T> x, weight;
  int rows, inputs, outputs;
  bool whole;         // grad and out lie in whole chunks, and the weights or x
  bool whole_result;  // dx, or dweight
  Pointwise pointwise;
};

// ---------------------------------------------------------------- dx

template <class T, class Shape, bool kWhole, bool kClamps>
using GradientRows = Sloped<KeptRows<T, Shape, Shape::kM, StraightColumns, kWhole, 2>, kClamps>;
template <class T, class Shape, bool kWhole>
using WeightColumns = KeptColumns<T, Shape, Shape::kN, ReducedRows<T>, StraightColumns, kWhole>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    modulated_linear_dx_kernel(LayerGradient<typename Math::Number> layer,
                               Global<typename Math::Number> dx) {
  using T = typename Math::Number;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const TilePlace<Shape> place(layer.rows, layer.inputs);
  const int64_t rows_before = place.batch * layer.rows;

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole, [&](auto whole) {
    with_flag<Shape>(layer.pointwise.clamps, [&](auto clamps) {
      constexpr bool kWhole = decltype(whole)::value, kClamps = decltype(clamps)::value;
      GradientRows<T, Shape, kWhole, kClamps> a(
          {{layer.grad + rows_before * layer.outputs, layer.out + rows_before * layer.outputs},
           layer.outputs,
           StraightRows{place.m, layer.rows},
           StraightColumns{layer.outputs}},
          Slope<T, kClamps>(layer.pointwise), static_cast<bool>(layer.out));
      WeightColumns<T, Shape, kWhole> b({layer.weight + place.batch * layer.outputs * layer.inputs},
                                        layer.inputs, ReducedRows<T>{0, layer.outputs},
                                        StraightColumns{layer.inputs}, place.n);
      main_loop<Math, Shape>(sums, a, b, shared, slices_of<T>(layer.outputs));
    });
  });

  __syncthreads();
  const Wide<T> gain = static_cast<Wide<T>>(layer.pointwise.gain);
  for_each_piece<Math, Shape>(
      sums, view_as<Wide<T>>(shared), [&](int m, int n, Wide<T>(&values)[kPiece]) {
        const int row = place.m + m, column = place.n + n;
        if (row >= layer.rows || column >= layer.inputs) {
          return;
        }
        scale(values, gain);
        store_piece(dx + ((rows_before + row) * layer.inputs + column),
                    at_most(layer.inputs - column, kPiece), layer.whole_result, values);
      });
}

// ---------------------------------------------------------------- dweight, dbias

template <class T, class Shape, bool kWhole, bool kClamps, bool kSums>
using GradientColumns =
    Sloped<KeptColumns<T, Shape, Shape::kM, ReducedRows<T>, StraightColumns, kWhole, 2>,
           kClamps,
           kSums>;
template <class T, class Shape, bool kWhole>
using InputColumns = KeptColumns<T, Shape, Shape::kN, ReducedRows<T>, StraightColumns, kWhole>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    modulated_linear_dweight_kernel(LayerGradient<typename Math::Number> layer,
                                    RowSums<typename Math::Number> to) {
  using T = typename Math::Number;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const TilePlace<Shape> place(layer.outputs, layer.inputs);
  const int64_t rows_before = to.parts.video(place.batch) * layer.rows;
  const int first = to.parts.first(place.batch);
  const int slices = to.parts.left(place.batch, slices_of<T>(layer.rows));
  const ReducedRows<T> rows{first * kDepth<T>, at_most((first + slices) * kDepth<T>, layer.rows)};
  const bool sums_bias = to.bias_parts && place.n == 0;

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole, [&](auto whole) {
    with_flag<Shape>(layer.pointwise.clamps, [&](auto clamps) {
      with_flag<Shape>(sums_bias, [&](auto summed) {
        constexpr bool kWhole = decltype(whole)::value, kClamps = decltype(clamps)::value,
                       kSums = decltype(summed)::value;
        using Gradient = GradientColumns<T, Shape, kWhole, kClamps, kSums>;
        Gradient a(
            {{layer.grad + rows_before * layer.outputs, layer.out + rows_before * layer.outputs},
             layer.outputs,
             rows,
             StraightColumns{layer.outputs},
             place.m},
            Slope<T, kClamps>(layer.pointwise), static_cast<bool>(layer.out));
        InputColumns<T, Shape, kWhole> b({layer.x + rows_before * layer.inputs}, layer.inputs, rows,
                                         StraightColumns{layer.inputs}, place.n);
        main_loop<Math, Shape>(sums, a, b, shared, slices);
        if (sums_bias) {
          __syncthreads();
          store_row_sums<Shape>(
              a, view_as<Wide<T>>(shared), to.bias_parts + (place.batch * layer.outputs + place.m),
              layer.outputs - place.m, static_cast<Wide<T>>(layer.pointwise.gain));
        }
      });
    });
  });

  __syncthreads();
  const Wide<T> gain = static_cast<Wide<T>>(layer.pointwise.gain);
  for_each_piece<Math, Shape>(
      sums, view_as<Wide<T>>(shared), [&](int m, int n, Wide<T>(&values)[kPiece]) {
        const int row = place.m + m, column = place.n + n;
        if (row >= layer.outputs || column >= layer.inputs) {
          return;
        }
        scale(values, gain);
        const int64_t at = (place.batch * layer.outputs + row) * layer.inputs + column;
        to.store(at, at_most(layer.inputs - column, kPiece), layer.whole_result, values);
      });
}

// ---------------------------------------------------------------- on the host

struct Plan {
  bool large_dx, large_dweight;
  bool hopper_dx, hopper_dweight;  // of these, on cards of 9.0
  RowParts parts;
  bool whole_dx, whole_dweight;
};

Extent dx_extent(const ModulatedLinearBackwardArguments& a) {
  return {a.videos, a.rows, a.inputs};
}
Extent dweight_extent(const ModulatedLinearBackwardArguments& a) {
  return {a.videos, a.outputs, a.inputs};
}

Plan plan_of(const ModulatedLinearBackwardArguments& a) {
  Plan plan;
  const bool whole_grad = lies_in_chunks(a.number, a.outputs, a.grad, a.out);
  plan.whole_dx = whole_grad && lies_in_chunks(a.number, a.inputs, a.weight);
  plan.whole_dweight = whole_grad && lies_in_chunks(a.number, a.inputs, a.x);
  const bool has = has_large(a.number, a.tf32);
  plan.large_dx = has && plan.whole_dx && is_large<LargeTile>(dx_extent(a)) &&
                  fills_card(dx_extent(a).blocks<LargeTile>());
  plan.large_dweight = has && plan.whole_dweight && is_large<LargeTile>(dweight_extent(a));
  const bool serves = hopper::serves(a.hopper, a.number);
  plan.hopper_dx = serves && plan.large_dx && a.outputs > 0;
  plan.hopper_dweight = serves && plan.large_dweight && a.rows > 0;
  const int64_t blocks = plan.large_dweight ? dweight_extent(a).blocks<LargeTile>()
                                            : dweight_extent(a).blocks<SmallTile>();
  const int depth = plan.hopper_dweight ? kHopperDepth : depth_of(a.number);
  plan.parts = row_parts(blocks, ceil_div(a.rows, depth));
  return plan;
}

}  // namespace
}  // namespace gemm

ModulatedLinearBackwardSizes modulated_linear_backward_sizes(
    const ModulatedLinearBackwardArguments& a) {
  const gemm::RowParts parts = gemm::plan_of(a).parts;
  ModulatedLinearBackwardSizes sizes;
  sizes.weight_parts = parts.count > 1 ? a.videos * parts.count * a.outputs * a.inputs : 0;
  sizes.bias_parts = a.dbias != nullptr ? a.videos * parts.count * a.outputs : 0;
  return sizes;
}

cudaError_t launch_modulated_linear_backward(const ModulatedLinearBackwardArguments& a,
                                             cudaStream_t stream) {
  using namespace gemm;
  if (!dx_extent(a).fits() || !dweight_extent(a).fits() || a.rows > kMostExtent) {
    return cudaErrorInvalidConfiguration;
  }
  const Plan plan = plan_of(a);
  const auto layer_of = [&](auto number, bool whole, const void* result, const void* parts) {
    using T = decltype(number);
    return LayerGradient<T>{
        static_cast<const T*>(a.grad),
        static_cast<const T*>(a.out),
        static_cast<const T*>(a.x),
        static_cast<const T*>(a.weight),
        static_cast<int>(a.rows),
        static_cast<int>(a.inputs),
        static_cast<int>(a.outputs),
        whole,
        a.inputs % kPiece == 0 && lies_in_chunks(a.number, a.inputs, result, parts),
        a.pointwise};
  };

  cudaError_t error = cudaSuccess;
  if (plan.hopper_dx) {
    error = launch_modulated_linear_dx_hopper(a, stream);
  } else {
    error = with_math<LargeTile>(a.number, a.tf32, plan.large_dx, [&](auto math, auto shape) {
      using Math = decltype(math);
      using Shape = decltype(shape);
      using T = typename Math::Number;
      const int64_t blocks = dx_extent(a).blocks<Shape>();
      if (blocks == 0) {
        return cudaSuccess;
      }
      constexpr int kBytes =
          shared_bytes<Math, Shape, GradientRows<T, Shape, true, true>,
                       WeightColumns<T, Shape, true>>(Staging<Math, Shape>::kBytes);
      return DIGAN_LAUNCH_SHARED(
          (modulated_linear_dx_kernel<Math, Shape>), static_cast<unsigned>(blocks), Shape::kThreads,
          kBytes, stream, layer_of(T(), plan.whole_dx, a.dx, nullptr), static_cast<T*>(a.dx));
    });
  }
  if (error != cudaSuccess) {
    return error;
  }
  return with_math<LargeTile>(a.number, a.tf32, plan.large_dweight, [&](auto math, auto shape) {
    using Math = decltype(math);
    using Shape = decltype(shape);
    using T = typename Math::Number;
    const int64_t blocks = a.rows > 0 ? dweight_extent(a).blocks<Shape>() * plan.parts.count : 0;
    if (plan.hopper_dweight) {
      const cudaError_t launched =
          launch_modulated_linear_dweight_hopper(a, plan.parts.count, plan.parts.slices, stream);
      if (launched != cudaSuccess) {
        return launched;
      }
    } else if (blocks > 0) {
      constexpr int kBytes =
          shared_bytes<Math, Shape, GradientColumns<T, Shape, true, true, true>,
                       InputColumns<T, Shape, true>>(Staging<Math, Shape>::kBytes);
      const cudaError_t launched =
          DIGAN_LAUNCH_SHARED((modulated_linear_dweight_kernel<Math, Shape>),
                              static_cast<unsigned>(blocks), Shape::kThreads, kBytes, stream,
                              layer_of(T(), plan.whole_dweight, a.dweight, a.weight_parts),
                              row_sums_to<T>(a, plan.parts));
      if (launched != cudaSuccess) {
        return launched;
      }
    }
    return sum_row_parts<T>(a, {a.videos, a.outputs, a.inputs}, blocks > 0 ? plan.parts.count : 0,
                            stream);
  });
}

}  // namespace digan
