// coord_linear, gradients by the weights, bias and skip, and by frequencies, phases and axes.
//
// DESIGN
// With dA = grad * act'(pre-activation), never written (see modulated_linear_backward.cu):
//
//   dE [H*W, 2F] = dA [H*W, O] weight [O, 2F]     per frame, reduced at once to angles' gradients
//   dweight [O, 2F] = dA^T [O, T*H*W] E           per video, E made again from the tables
//
// The first: tiles are rectangles of pixels, so that the 2x2 sums of dskip are inside one, taken
// from the slices of dA in shared memory by the tiles of the first features. Features are paired,
// 8 sines and their 8 cosines, so that a warp has both (gemm/phase_sums.cuh). The second: both
// operands are made on their way, dA by slopes and E by angle addition, and their ingredients take
// the shared memory of half a tile; pixels are reduced in rectangles, which share the rows and
// columns of the tables. Bytes: grad and out for every kN features twice, the weights from L2,
// dweight or its parts, dskip once, and the parts of phase_sums.cuh.

#include "angle_sums.cuh"
#include "coord_linear_hopper.h"
#include "fourier_features_axes.h"
#include "gemm/coord_extent.cuh"
#include "gemm/phase_sums.cuh"
#include "gemm/row_sums.cuh"

namespace digan {
namespace gemm {
namespace {

// Tiles of features, one at least: the first also sums what outputs have without features.
template <class Shape>
__host__ __device__ __forceinline__ int feature_tiles(int frequencies) {
  return frequencies > 0 ? (2 * frequencies + Shape::kN - 1) / Shape::kN : 1;
}

template <class T>
struct CoordLayerGradient {
  AxisTables<Wide<T>> tables;
  Global<const T> grad, out;  // out may be null: no slope
  Global<const T> weight;
  GridExtent grid;
  int outputs;
  bool whole_slices, whole_outputs;
  Pointwise pointwise;
};

// ---------------------------------------------------------------- frequencies, phases, axes, skip

// Slices of dA. kSumsCells: their sums over the cells of a skip connection are wanted, if there is
// one.
template <class T, class Shape, bool kWhole, bool kClamps, bool kSumsCells>
class PixelGradient
    : public Sloped<KeptRows<T, Shape, Shape::kM, StraightColumns, kWhole, 2>, kClamps> {
 public:
  using Base = Sloped<KeptRows<T, Shape, Shape::kM, StraightColumns, kWhole, 2>, kClamps>;
  using Slice = typename Base::Slice;
  using Rectangle = gemm::Rectangle<Shape::kM>;

  __device__ __forceinline__ PixelGradient(const CoordLayerGradient<T>& layer,
                                           const PixelTile<Shape>& tile,
                                           Global<T> dskip)
      : Base({{layer.grad + tile.frame * layer.grid.pixels() * layer.outputs,
               layer.out + tile.frame * layer.grid.pixels() * layer.outputs},
              layer.outputs,
              PixelRows<Shape>{tile.h, tile.w, layer.grid},
              StraightColumns{layer.outputs}},
             Slope<T, kClamps>(layer.pointwise),
             static_cast<bool>(layer.out)),
        outputs_(layer.outputs),
        whole_(layer.whole_outputs),
        gain_(static_cast<Wide<T>>(layer.pointwise.gain)) {
    const int cell = static_cast<int>(threadIdx.x) % kCells;
    const int h = tile.h / 2 + cell / (Rectangle::kWidth / 2);
    const int w = tile.w / 2 + cell % (Rectangle::kWidth / 2);
    const int height = layer.grid.height / 2, width = layer.grid.width / 2;
    sums_cells_ = kSumsCells && dskip && tile.n == 0 &&
                  static_cast<int>(threadIdx.x) < kCells * Slice::kChunks && h < height &&
                  w < width;
    cell_ = dskip;
    if (sums_cells_) {
      cell_ += ((tile.frame * height + h) * width + w) * outputs_;
    }
  }

  __device__ __forceinline__ void use(Shared<T> stage, int k) const {
    const int chunk = static_cast<int>(threadIdx.x) / kCells;
    const int column = k * kDepth<T> + chunk * kChunk<T>;
    if (!kSumsCells || !sums_cells_ || column >= outputs_) {
      return;
    }
    const int cell = static_cast<int>(threadIdx.x) % kCells;
    const int pixel =
        cell / (Rectangle::kWidth / 2) * 2 * Rectangle::kWidth + cell % (Rectangle::kWidth / 2) * 2;
    // Every other four cells begin with the odd column, which lies in the other banks.
    const int odd = cell / 4 % 2;
    Wide<T> sum[kChunk<T>] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = pixel + i / 2 * Rectangle::kWidth + (i + odd) % 2;
      const Vec16<T> da = load16(stage + Slice::offset(row, chunk));
#pragma unroll
      for (int j = 0; j < kChunk<T>; ++j) {
        sum[j] += widen(da.v[j]);
      }
    }
    Vec16<T> result;
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) {
      result.v[j] = narrow<T>(sum[j] * gain_);
    }
    if (whole_) {
      store16(cell_ + column, result);
    } else {
#pragma unroll
      for (int j = 0; j < kChunk<T>; ++j) {
        if (column + j < outputs_) {
          cell_[column + j] = result.v[j];
        }
      }
    }
  }

 private:
  static constexpr int kCells = Shape::kM / 4;
  Global<T> cell_;
  int outputs_;
  bool sums_cells_, whole_;
  Wide<T> gain_;
};

template <class T, class Shape, bool kWhole>
using FeatureColumns =
    KeptColumns<T, Shape, Shape::kN, ReducedRows<T>, PairedColumns<kFeaturePeriod>, kWhole>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    coord_linear_dphase_kernel(CoordLayerGradient<typename Math::Number> layer,
                               PhaseSums<Wide<typename Math::Number>> to,
                               Global<typename Math::Number> dskip) {
  using T = typename Math::Number;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const GridExtent& grid = layer.grid;
  const int frequencies = layer.tables.frequencies;
  const PixelTile<Shape> tile(grid, feature_tiles<Shape>(frequencies));

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole_slices, [&](auto whole) {
    with_flag<Shape>(layer.pointwise.clamps, [&](auto clamps) {
      with_flag<Shape>(dskip && tile.n == 0, [&](auto cells) {
        constexpr bool kWhole = decltype(whole)::value, kClamps = decltype(clamps)::value;
        PixelGradient<T, Shape, kWhole, kClamps, decltype(cells)::value> a(layer, tile, dskip);
        FeatureColumns<T, Shape, kWhole> b(
            {layer.weight + tile.frame / grid.frames * layer.outputs * (2 * frequencies)},
            2 * frequencies, ReducedRows<T>{0, layer.outputs},
            PairedColumns<kFeaturePeriod>{frequencies}, tile.n);
        main_loop<Math, Shape>(sums, a, b, shared, slices_of<T>(layer.outputs));
      });
    });
  });

  if (frequencies > 0) {
    __syncthreads();
    store_phase_sums<Math, Shape>(sums, view_as<Wide<T>>(shared), to, grid, tile,
                                  static_cast<Wide<T>>(layer.pointwise.gain));
  }
}

// ---------------------------------------------------------------- weights, bias

template <class T, class Shape, bool kWhole, bool kClamps, bool kSums>
using GradientColumns =
    Sloped<KeptColumns<T, Shape, Shape::kM, PixelWalk<T>, StraightColumns, kWhole, 2>,
           kClamps,
           kSums>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    coord_linear_dweight_kernel(CoordLayerGradient<typename Math::Number> layer,
                                RowSums<typename Math::Number> to) {
  using T = typename Math::Number;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const GridExtent& grid = layer.grid;
  const PairedColumns<kFeaturePeriod> features{layer.tables.frequencies};
  const TilePlace<Shape> place(layer.outputs, feature_tiles<Shape>(features.extent) * Shape::kN);
  const int64_t video = to.parts.video(place.batch);
  const int slices = to.parts.left(place.batch, PixelSlices<T>::count(grid));
  const int64_t numbers_before = video * grid.frames * grid.pixels() * layer.outputs;
  const bool sums_bias = to.bias_parts && place.n == 0;

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole_slices, [&](auto whole) {
    with_flag<Shape>(layer.pointwise.clamps, [&](auto clamps) {
      with_flag<Shape>(sums_bias, [&](auto summed) {
        constexpr bool kWhole = decltype(whole)::value, kClamps = decltype(clamps)::value,
                       kSums = decltype(summed)::value;
        PixelSlices<T> pixels(grid, to.parts.first(place.batch), slices);
        GradientColumns<T, Shape, kWhole, kClamps, kSums> a(
            {{layer.grad + numbers_before, layer.out + numbers_before},
             layer.outputs,
             PixelWalk<T>{pixels},
             StraightColumns{layer.outputs},
             place.m},
            Slope<T, kClamps>(layer.pointwise), static_cast<bool>(layer.out));
        EmbeddingColumns<T, Shape, kWhole> b(layer.tables, grid, pixels, video * grid.frames,
                                             place.n);
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
        const int row = place.m + m;
        const int count = at_most(features.extent - features.index(place.n + n), kPiece);
        if (row >= layer.outputs || count <= 0) {
          return;
        }
        scale(values, gain);
        const int64_t at =
            (place.batch * layer.outputs + row) * (2 * features.extent) + features.at(place.n + n);
        to.store(at, count, layer.whole_slices, values);
      });
}

// ---------------------------------------------------------------- on the host

struct Plan {
  bool whole, whole_outputs;
  bool large_dphase, large_dweight;
  RowParts parts;
};

Extent dweight_extent(const CoordLinearBackwardArguments& a) {
  return {a.grid.videos, a.outputs, a.grid.frequencies > 0 ? 2 * a.grid.frequencies : 1};
}

template <class Function>
auto with_depth(Number number, const Function& function) {
  switch (number) {
    case Number::kF64:
      return function(double());
    case Number::kF32:
      return function(float());
    default:
      return function(bf16());  // float16 has the same depth
  }
}

Plan plan_of(const CoordLinearBackwardArguments& a) {
  const CoordExtent extent(a);
  Plan plan;
  plan.whole_outputs =
      a.outputs % kPiece == 0 && lies_in_chunks(a.grid.number, a.outputs, a.grad, a.out, a.dskip);
  plan.whole = plan.whole_outputs && extent.frequencies > 0 && extent.frequencies % kPiece == 0 &&
               is_aligned(a.weight);
  const bool has = has_large(a.grid.number, a.tf32);
  plan.large_dphase = has && plan.whole && extent.is_large<LargeTile>(2 * extent.frequencies);
  plan.large_dweight = has && plan.whole && is_large<MediumTile>(dweight_extent(a));
  const int64_t blocks = plan.large_dweight ? dweight_extent(a).blocks<MediumTile>()
                                            : dweight_extent(a).blocks<SmallTile>();
  plan.parts =
      row_parts(blocks, with_depth(a.grid.number, [&](auto t) {
                  return static_cast<int64_t>(PixelSlices<decltype(t)>::count(extent.grid));
                }));
  return plan;
}

// Partial sums by the tiles of features and the rectangles of a frame; none without frequencies.
template <class Shape>
AngleParts angle_parts(const CoordExtent& extent) {
  if (extent.frequencies == 0) {
    return {};
  }
  const int64_t rows = ceil_div(extent.height, Rectangle<Shape::kM>::kHeight);
  const int64_t columns = ceil_div(extent.width, Rectangle<Shape::kM>::kWidth);
  const int64_t tiles_n = feature_tiles<Shape>(static_cast<int>(extent.frequencies));
  return {rows * columns, extent.frames() * columns * tiles_n, extent.frames() * rows * tiles_n};
}

}  // namespace
}  // namespace gemm

CoordLinearBackwardSizes coord_linear_backward_sizes(const CoordLinearBackwardArguments& a) {
  using namespace gemm;
  const Plan plan = plan_of(a);
  const CoordExtent extent(a);
  const AngleParts parts =
      plan.large_dphase ? angle_parts<LargeTile>(extent) : angle_parts<SmallTile>(extent);
  CoordLinearBackwardSizes sizes;
  sizes.weight_parts = plan.parts.count > 1
                           ? a.grid.videos * plan.parts.count * a.outputs * 2 * extent.frequencies
                           : 0;
  sizes.bias_parts = a.dbias != nullptr ? a.grid.videos * plan.parts.count * a.outputs : 0;
  sizes.frequency_parts = extent.frames() * parts.frequencies * extent.frequencies;
  sizes.y_parts = parts.y * extent.height;
  sizes.x_parts = parts.x * extent.width;
  return sizes;
}

cudaError_t launch_coord_linear_backward(const CoordLinearBackwardArguments& a,
                                         cudaStream_t stream) {
  using namespace gemm;
  const CoordExtent extent(a);
  if (!extent.fits() || !dweight_extent(a).fits()) {
    return cudaErrorInvalidConfiguration;
  }
  const Plan plan = plan_of(a);
  // Frequencies without outputs have gradients of zero, outputs without frequencies a bias.
  const bool any_pixels = extent.frames() * extent.grid.pixels() > 0;
  cudaError_t error = launch_fourier_features_axes(a.grid, wide_number(a.grid.number), stream);
  if (error != cudaSuccess) {
    return error;
  }
  const auto layer_of = [&](auto number) {
    using T = decltype(number);
    return CoordLayerGradient<T>{extent.tables<Wide<T>>(a.grid),
                                 static_cast<const T*>(a.grad),
                                 static_cast<const T*>(a.out),
                                 static_cast<const T*>(a.weight),
                                 extent.grid,
                                 static_cast<int>(a.outputs),
                                 plan.whole,
                                 plan.whole_outputs,
                                 a.pointwise};
  };

  error =
      with_math<LargeTile>(a.grid.number, a.tf32, plan.large_dphase, [&](auto math, auto shape) {
        using Math = decltype(math);
        using Shape = decltype(shape);
        using T = typename Math::Number;
        using W = Wide<T>;
        const int64_t blocks = any_pixels && a.outputs > 0
                                   ? extent.frames() * Rectangle<Shape::kM>::count(extent.grid) *
                                         feature_tiles<Shape>(static_cast<int>(extent.frequencies))
                                   : 0;
        cudaError_t launched = cudaErrorNotSupported;
        if (blocks > 0 && plan.large_dphase && hopper::serves(a.hopper, a.grid.number)) {
          launched = launch_coord_linear_dphase_hopper(a, stream);
        }
        if (blocks > 0 && launched == cudaErrorNotSupported) {
          constexpr int kBytes =
              shared_bytes<Math, Shape, PixelGradient<T, Shape, true, true, true>,
                           FeatureColumns<T, Shape, true>>(PhaseStaging<Math, Shape>::kBytes);
          const PhaseSums<W> to{extent.tables<W>(a.grid),        static_cast<const W*>(a.freq),
                                static_cast<const W*>(a.y),      static_cast<const W*>(a.x),
                                static_cast<W*>(a.phase_parts),  static_cast<W*>(a.freq_x_parts),
                                static_cast<W*>(a.freq_y_parts), static_cast<W*>(a.y_parts),
                                static_cast<W*>(a.x_parts)};
          launched = DIGAN_LAUNCH_SHARED((coord_linear_dphase_kernel<Math, Shape>),
                                         static_cast<unsigned>(blocks), Shape::kThreads, kBytes,
                                         stream, layer_of(T()), to, static_cast<T*>(a.dskip));
        }
        if (blocks > 0 && launched != cudaSuccess) {
          return launched;
        }
        const AngleParts parts = blocks > 0 ? angle_parts<Shape>(extent) : AngleParts();
        return sum_angle_parts<W>(a, a.grid, parts, stream);
      });
  if (error != cudaSuccess) {
    return error;
  }
  return with_math<MediumTile>(
      a.grid.number, a.tf32, plan.large_dweight, [&](auto math, auto shape) {
        using Math = decltype(math);
        using Shape = decltype(shape);
        using T = typename Math::Number;
        const int64_t blocks =
            any_pixels ? dweight_extent(a).blocks<Shape>() * plan.parts.count : 0;
        if (blocks > 0) {
          constexpr int kBytes =
              shared_bytes<Math, Shape, GradientColumns<T, Shape, true, true, true>,
                           EmbeddingColumns<T, Shape, true>>(Staging<Math, Shape>::kBytes);
          const cudaError_t launched = DIGAN_LAUNCH_SHARED(
              (coord_linear_dweight_kernel<Math, Shape>), static_cast<unsigned>(blocks),
              Shape::kThreads, kBytes, stream, layer_of(T()), row_sums_to<T>(a, plan.parts));
          if (launched != cudaSuccess) {
            return launched;
          }
        }
        return sum_row_parts<T>(a, {a.grid.videos, a.outputs, 2 * extent.frequencies},
                                blocks > 0 ? plan.parts.count : 0, stream);
      });
}

}  // namespace digan
