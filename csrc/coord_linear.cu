// coord_linear, forward: out = act(embedding weight^T + bias + upsample(skip)).
//
// DESIGN
// A product per frame of [H*W, 2F] by [2F, O] whose first operand is made slice by slice from the
// tables of the grid's axes (gemm/embedding.cuh). A tile is a rectangle of pixels and, in its
// large form, 256 outputs: making a slice costs as much as the product of about 100 columns, so a
// tile owns as many outputs as its registers hold. `skip` is read by the epilogue, four pixels a
// number, and never upsampled. Bytes: the tables and the weights from L2, skip once, out once.
//
// Issue slots of a warp for one slice of a large tile in 16 bits: 64 products, 40 to make the
// embedding (4 operations and half a rounding for each of 8 pairs), 16 ldmatrix, 8 loads of tables
// and 2 stores, and about 30 for addresses, copies and the barrier: 160, where an H200's tensor
// cores are busy for about 400 cycles with the products. The other form of the embedding, one for
// all frames with weights rotated per frame, saves the 40 and reads 2F numbers a pixel instead.

#include "coord_linear.h"

#include "coord_linear_hopper.h"
#include "fourier_features_axes.h"
#include "gemm/coord_extent.cuh"
#include "gemm/grid_output.cuh"

namespace digan {
namespace gemm {
namespace {

template <class T>
struct CoordLayer {
  AxisTables<Wide<T>> tables;
  Global<const T> weight;
  GridOutput<T> to;
  bool whole_features;
};

template <class T, class Shape, bool kWhole>
using WeightRows = KeptRows<T, Shape, Shape::kN, PairedColumns<kDepth<T>>, kWhole>;

template <class Math, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, kResident<Math, Shape>)
    coord_linear_kernel(CoordLayer<typename Math::Number> layer) {
  using T = typename Math::Number;
  using Rectangle = gemm::Rectangle<Shape::kM>;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const GridExtent& grid = layer.to.grid;
  const int outputs = layer.to.output.columns;
  const PixelTile<Shape> tile(grid, (outputs + Shape::kN - 1) / Shape::kN);
  const int features = 2 * layer.tables.frequencies;

  Sums<Math, Shape> sums = {};
  with_whole<Shape>(layer.whole_features, [&](auto whole) {
    constexpr bool kWhole = decltype(whole)::value;
    EmbeddingRows<T, Shape, kWhole> a(layer.tables, grid, tile);
    WeightRows<T, Shape, kWhole> b({layer.weight + tile.frame / grid.frames * outputs * features},
                                   features, StraightRows{tile.n, outputs},
                                   PairedColumns<kDepth<T>>{layer.tables.frequencies});
    main_loop<Math, Shape>(sums, a, b, shared, slices_of<T>(features));
  });

  __syncthreads();
  const Epilogue<T> epilogue(layer.to.output.pointwise);
  for_each_piece<Math, Shape>(
      sums, view_as<Wide<T>>(shared), [&](int m, int n, Wide<T>(&values)[kPiece]) {
        layer.to.store(tile.frame, tile.h + m / Rectangle::kWidth, tile.w + m % Rectangle::kWidth,
                       tile.n + n, epilogue, values);
      });
}

}  // namespace
}  // namespace gemm

cudaError_t launch_coord_linear(const CoordLinearArguments& a, cudaStream_t stream) {
  using namespace gemm;
  const CoordExtent extent(a);
  if (!extent.fits()) {
    return cudaErrorInvalidConfiguration;
  }
  if (extent.frames() * extent.grid.pixels() * a.outputs == 0) {
    return cudaSuccess;
  }
  const cudaError_t error =
      launch_fourier_features_axes(a.grid, wide_number(a.grid.number), stream);
  if (error != cudaSuccess) {
    return error;
  }
  const bool whole_features = extent.frequencies % kPiece == 0 && is_aligned(a.weight);
  const bool whole_outputs =
      a.outputs % kPiece == 0 &&
      lies_in_chunks(a.grid.number, a.outputs, a.out, a.pre_activation, a.skip);
  const bool large =
      has_large(a.grid.number, a.tf32) && whole_features && extent.is_large<LargeTile>(a.outputs);
  if (large && extent.frequencies > 0 && hopper::serves(a.hopper, a.grid.number)) {
    const cudaError_t launched = launch_coord_linear_hopper(a, stream);
    if (launched != cudaErrorNotSupported) {
      return launched;
    }
  }
  return with_math<LargeTile>(a.grid.number, a.tf32, large, [&](auto math, auto shape) {
    using Math = decltype(math);
    using Shape = decltype(shape);
    using T = typename Math::Number;
    constexpr int kBytes =
        shared_bytes<Math, Shape, EmbeddingRows<T, Shape, true>, WeightRows<T, Shape, true>>(
            Staging<Math, Shape>::kBytes);
    const LayerOutput<T> output{static_cast<const Wide<T>*>(a.bias),
                                static_cast<T*>(a.out),
                                static_cast<T*>(a.pre_activation),
                                static_cast<int>(a.outputs),
                                whole_outputs,
                                a.pointwise};
    const CoordLayer<T> layer{extent.tables<Wide<T>>(a.grid),
                              static_cast<const T*>(a.weight),
                              {output, static_cast<const T*>(a.skip), extent.grid},
                              whole_features};
    return DIGAN_LAUNCH_SHARED((coord_linear_kernel<Math, Shape>),
                               static_cast<unsigned>(extent.blocks<Shape>(a.outputs)),
                               Shape::kThreads, kBytes, stream, layer);
  });
}

}  // namespace digan
