// modulated_linear, forward, on cards of 9.0: out = act(x weight^T + bias), by TMA and wgmma.
//
// DESIGN
// The product of modulated_linear.cu in tiles of 128 x 256. One thread copies: slices of 64 inputs,
// 128 rows of x and 256 of the weights, lie in shared memory as wgmma reads them, both with the
// reduced axis along 128-byte lines. Two warpgroups multiply 64 rows each. What lies beyond the
// ends of a video's rows, of the outputs and of the inputs arrives as zeros and is not stored.
// Four stages of 48 KB; blocks stay for tile after tile, and the next tile's slices arrive during
// an epilogue, which is that of the other path. Rejected: 64 x 256 a warpgroup, so that one's
// epilogue hides behind the other's products: it reads 160 bytes of shared memory a cycle, where
// 128 can be read; this one reads and writes 128 together. Bytes: as there.

#include "gemm/hopper/pieces.cuh"
#include "gemm/hopper/products.cuh"
#include "gemm/hopper/tensor_map.cuh"
#include "gemm/problem.cuh"
#include "modulated_linear_hopper.h"

namespace digan {
namespace gemm::hopper {
namespace {

using LayerRing = Ring<4, (kTileRows + kTileColumns) * kLine, kConsumerWarps>;
[[maybe_unused]] constexpr int kWeights = kTileRows * kLine;  // where they begin in a stage
constexpr int kLayerBytes = LayerRing::kBytes + kStagingBytes;

template <class T>
__global__ void __launch_bounds__(kRoleThreads, 1)
    modulated_linear_hopper_kernel(const __grid_constant__ TensorMap x,
                                   const __grid_constant__ TensorMap weight,
                                   LayerOutput<T> output,
                                   Tiles tiles,
                                   int rows,
                                   int inputs) {
#if defined(DIGAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DIGAN_SHARED_DYNAMIC(unsigned char, shared);
  const LayerRing ring(shared);
  ring.start();
  const int slices = slices_of_lines(inputs);
  run_roles(
      [&] {
        tma_prefetch(x);
        tma_prefetch(weight);
        RingPlace<LayerRing> place;
        for_each_tile(tiles.count(), [&](unsigned tile) {
          const int row = tiles.row(tile), column = tiles.column(tile), video = tiles.batch(tile);
          for (int k = 0; k < slices; ++k, place.advance()) {
            const Shared<unsigned char> stage = ring.fill(place, LayerRing::kStageBytes);
            tma_load(stage, x, ring.full(place), k * kSlice, row, video);
            tma_load(stage + kWeights, weight, ring.full(place), k * kSlice, column, video);
          }
        });
      },
      [&](int group) {
        RingPlace<LayerRing> place;
        const Epilogue<T> epilogue(output.pointwise);
        for_each_tile(tiles.count(), [&](unsigned tile) {
          TileSums sums;
          multiply<T>(sums, ring, place, slices, group * kGroupRows * kLine, kWeights);
          const int first = tiles.row(tile) + group * kGroupRows;
          const int64_t rows_before = int64_t{tiles.batch(tile)} * rows;
          for_each_piece(sums, shared + LayerRing::kBytes,
                         [&](int m, int n, float (&values)[kPiece]) {
                           const int row = first + m, column = tiles.column(tile) + n;
                           if (row < rows && column < output.columns) {
                             output.add_bias(column, values);
                             output.store(rows_before + row, column, epilogue, values);
                           }
                         });
        });
      });
#endif
}

template <class T>
cudaError_t launch(const ModulatedLinearArguments& a, cudaStream_t stream) {
  TensorMap x, weight;
  cudaError_t error = make_tensor_map(
      x, a.number, a.x,
      {{a.inputs, 1, kSlice}, {a.rows, a.inputs, kTileRows}, {a.videos, a.rows * a.inputs, 1}},
      Swizzle::k128);
  if (error == cudaSuccess) {
    error = make_tensor_map(weight, a.number, a.weight,
                            {{a.inputs, 1, kSlice},
                             {a.outputs, a.inputs, kTileColumns},
                             {a.videos, a.outputs * a.inputs, 1}},
                            Swizzle::k128);
  }
  if (error != cudaSuccess) {
    return error;
  }
  const Tiles tiles(a.rows, a.outputs, a.videos);
  const LayerOutput<T> output{
      static_cast<const float*>(a.bias),
      static_cast<T*>(a.out),
      static_cast<T*>(a.pre_activation),
      static_cast<int>(a.outputs),
      a.outputs % kPiece == 0 && lies_in_chunks(a.number, a.outputs, a.out, a.pre_activation),
      a.pointwise};
  return DIGAN_LAUNCH_LARGE((modulated_linear_hopper_kernel<T>), resident_blocks(tiles.count()),
                            kRoleThreads, kLayerBytes, stream, x, weight, output, tiles,
                            static_cast<int>(a.rows), static_cast<int>(a.inputs));
}

}  // namespace
}  // namespace gemm::hopper

cudaError_t launch_modulated_linear_hopper(const ModulatedLinearArguments& arguments,
                                           cudaStream_t stream) {
  return arguments.number == Number::kBF16 ? gemm::hopper::launch<bf16>(arguments, stream)
                                           : gemm::hopper::launch<f16>(arguments, stream);
}

}  // namespace digan
