// modulated_linear, gradients by x and weight on cards of 9.0, by TMA and wgmma.
//
// DESIGN
// The two products of modulated_linear_backward.cu in tiles of 128 x 256, with its workspaces and
// parts of rows. dA = grad * slope(out) is made in registers, from which wgmma takes its A: a warp
// loads its 16 rows of both by ldmatrix, for dweight transposed, and multiplies pairs. So dA is
// made once a tile, never stored, and made while the last slice is multiplied. B, the weights or x,
// has its kept axis along the lines of 128 bytes, which wgmma transposes. The sums of dA for dbias
// are taken from the same registers, in the tiles of the first columns.
// Three stages of 64 KB: grad and out 16 each, B 32. Without slopes the 16 KB of out stay empty.
// Inputs are in whole pieces, or TMA could not copy them.

#include "gemm/hopper/gradient.cuh"
#include "gemm/hopper/pieces.cuh"
#include "gemm/hopper/products.cuh"
#include "gemm/hopper/tensor_map.cuh"
#include "gemm/problem.cuh"
#include "gemm/row_sums.cuh"
#include "modulated_linear_hopper.h"

namespace digan {
namespace gemm::hopper {
namespace {

constexpr int kGradientBytes = GradientRing::kBytes + kStagingBytes;

// What both kernels are told.
template <class T>
struct LayerGradient {
  Pointwise pointwise;
  Tiles tiles;
  int rows, inputs, outputs;
  bool whole_result;
};

// ---------------------------------------------------------------- dx

template <class T>
__global__ void __launch_bounds__(kRoleThreads, 1)
    modulated_linear_dx_hopper_kernel(const __grid_constant__ TensorMap grad,
                                      const __grid_constant__ TensorMap out,
                                      const __grid_constant__ TensorMap weight,
                                      LayerGradient<T> layer,
                                      bool slopes,
                                      Global<T> dx) {
#if defined(DIGAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DIGAN_SHARED_DYNAMIC(unsigned char, shared);
  const GradientRing ring(shared);
  ring.start();
  const Tiles& tiles = layer.tiles;
  const int slices = slices_of_lines(layer.outputs);
  run_roles(
      [&] {
        RingPlace<GradientRing> place;
        for_each_tile(tiles.count(), [&](unsigned tile) {
          const int row = tiles.row(tile), column = tiles.column(tile), video = tiles.batch(tile);
          copy_slices(ring, place, slices, slopes,
                      [&](Shared<unsigned char> stage, Shared<uint64_t> full, int k) {
                        tma_load(stage, grad, full, k * kSlice, row, video);
                        if (slopes) {
                          tma_load(stage + kOfGradient, out, full, k * kSlice, row, video);
                        }
#pragma unroll
                        for (int box = 0; box < kTileColumns / kSlice; ++box) {
                          tma_load(stage + (kB + box * kBox), weight, full, column + box * kSlice,
                                   k * kSlice, video);
                        }
                      });
        });
      },
      [&](int group) {
        RingPlace<GradientRing> place;
        const float gain = static_cast<float>(layer.pointwise.gain);
        // One loop for all: a second one, for no clamp or no slopes, costs the compiler the
        // registers of a second set of sums.
        const Slope<T, true> slope(layer.pointwise);
        const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
        const int own = group * kGroupRows + 16 * warp;  // of the tile's rows
        for_each_tile(tiles.count(), [&](unsigned tile) {
          TileSums sums;
          multiply_made<T>(sums, ring, place, slices, kB,
                           [&](Shared<unsigned char> stage, int step, uint32_t (&a)[4]) {
                             load_rows<T>(a, stage, own, step);
                             if (slopes) {
                               uint32_t y[4];
                               load_rows<T>(y, stage + kOfGradient, own, step);
                               apply(slope, a, y);
                             }
                           });
          const int first = tiles.row(tile) + group * kGroupRows;
          const int64_t rows_before = int64_t{tiles.batch(tile)} * layer.rows;
          for_each_piece(sums, shared + GradientRing::kBytes,
                         [&](int m, int n, float (&values)[kPiece]) {
                           const int row = first + m, column = tiles.column(tile) + n;
                           if (row < layer.rows && column < layer.inputs) {
                             scale(values, gain);
                             store_piece(dx + ((rows_before + row) * layer.inputs + column), kPiece,
                                         layer.whole_result, values);
                           }
                         });
        });
      });
#endif
}

// ---------------------------------------------------------------- dweight, dbias

// The numbers of a word, added to a sum.
template <class T>
__device__ __forceinline__ void add_word(float& sum, uint32_t word) {
  T two[2];
  memcpy(two, &word, 4);
  sum += widen(two[0]);
  sum += widen(two[1]);
}

template <class T>
__global__ void __launch_bounds__(kRoleThreads, 1)
    modulated_linear_dweight_hopper_kernel(const __grid_constant__ TensorMap grad,
                                           const __grid_constant__ TensorMap out,
                                           const __grid_constant__ TensorMap x,
                                           LayerGradient<T> layer,
                                           bool slopes,
                                           RowSums<T> to) {
#if defined(DIGAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DIGAN_SHARED_DYNAMIC(unsigned char, shared);
  const GradientRing ring(shared);
  ring.start();
  const Tiles& tiles = layer.tiles;  // a batch is a part of a video
  const int all = slices_of_lines(layer.rows);
  run_roles(
      [&] {
        RingPlace<GradientRing> place;
        for_each_tile(tiles.count(), [&](unsigned tile) {
          const int row = tiles.row(tile), column = tiles.column(tile);
          const int64_t batch = tiles.batch(tile);
          const int video = static_cast<int>(to.parts.video(batch)), first = to.parts.first(batch);
          copy_slices(ring, place, to.parts.left(batch, all), slopes,
                      [&](Shared<unsigned char> stage, Shared<uint64_t> full, int k) {
                        const int reduced = (first + k) * kSlice;
#pragma unroll
                        for (int box = 0; box < kTileRows / kSlice; ++box) {
                          tma_load(stage + box * kBox, grad, full, row + box * kSlice, reduced,
                                   video);
                          if (slopes) {
                            tma_load(stage + (kOfGradient + box * kBox), out, full,
                                     row + box * kSlice, reduced, video);
                          }
                        }
#pragma unroll
                        for (int box = 0; box < kTileColumns / kSlice; ++box) {
                          tma_load(stage + (kB + box * kBox), x, full, column + box * kSlice,
                                   reduced, video);
                        }
                      });
        });
      },
      [&](int group) {
        RingPlace<GradientRing> place;
        const float gain = static_cast<float>(layer.pointwise.gain);
        const Slope<T, true> slope(layer.pointwise);
        const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
        const int lane = static_cast<int>(threadIdx.x) % 32;
        const int box = group * kBox;
        for_each_tile(tiles.count(), [&](unsigned tile) {
          const int64_t batch = tiles.batch(tile);
          const int first = tiles.row(tile) + group * kGroupRows;
          float of_bias[2] = {0, 0};  // of rows lane / 4 and 8 further
          TileSums sums;
          multiply_made<T>(sums, ring, place, to.parts.left(batch, all), kB,
                           [&](Shared<unsigned char> stage, int step, uint32_t (&a)[4]) {
                             load_columns<T>(a, stage + box, 16 * warp, step);
                             if (slopes) {
                               uint32_t y[4];
                               load_columns<T>(y, stage + (kOfGradient + box), 16 * warp, step);
                               apply(slope, a, y);
                             }
#pragma unroll
                             for (int i = 0; i < 4; ++i) {
                               add_word<T>(of_bias[i % 2], a[i]);
                             }
                           });
          if (to.bias_parts && tiles.column(tile) == 0) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              float sum = of_bias[half];
              sum += __shfl_xor_sync(0xffffffffu, sum, 1);
              sum += __shfl_xor_sync(0xffffffffu, sum, 2);
              const int row = first + 16 * warp + 8 * half + lane / 4;
              if (lane % 4 == 0 && row < layer.outputs) {
                to.bias_parts[batch * layer.outputs + row] = sum * gain;
              }
            }
          }
          for_each_piece(sums, shared + GradientRing::kBytes,
                         [&](int m, int n, float (&values)[kPiece]) {
                           const int row = first + m, column = tiles.column(tile) + n;
                           if (row < layer.outputs && column < layer.inputs) {
                             scale(values, gain);
                             to.store((batch * layer.outputs + row) * layer.inputs + column, kPiece,
                                      layer.whole_result, values);
                           }
                         });
        });
      });
#endif
}

// ---------------------------------------------------------------- on the host

// A map of [videos, rows, columns] in boxes of 64 columns.
cudaError_t map_of(TensorMap& map,
                   const ModulatedLinearBackwardArguments& a,
                   const void* base,
                   int64_t rows,
                   int64_t columns,
                   int box) {
  return make_tensor_map(
      map, a.number, base,
      {{columns, 1, kSlice}, {rows, columns, box}, {a.videos, rows * columns, 1}}, Swizzle::k128);
}

template <class T>
LayerGradient<T> gradient_of(const ModulatedLinearBackwardArguments& a,
                             const Tiles& tiles,
                             const void* result,
                             const void* parts) {
  return {a.pointwise,
          tiles,
          static_cast<int>(a.rows),
          static_cast<int>(a.inputs),
          static_cast<int>(a.outputs),
          a.inputs % kPiece == 0 && lies_in_chunks(a.number, a.inputs, result, parts)};
}

template <class T>
cudaError_t launch_dx(const ModulatedLinearBackwardArguments& a, cudaStream_t stream) {
  TensorMap grad, out, weight;
  const void* outputs = a.out != nullptr ? a.out : a.grad;  // a map that is not used needs memory
  for (const cudaError_t error : {map_of(grad, a, a.grad, a.rows, a.outputs, kTileRows),
                                  map_of(out, a, outputs, a.rows, a.outputs, kTileRows),
                                  map_of(weight, a, a.weight, a.outputs, a.inputs, kSlice)}) {
    if (error != cudaSuccess) {
      return error;
    }
  }
  const Tiles tiles(a.rows, a.inputs, a.videos);
  return DIGAN_LAUNCH_LARGE((modulated_linear_dx_hopper_kernel<T>), resident_blocks(tiles.count()),
                            kRoleThreads, kGradientBytes, stream, grad, out, weight,
                            gradient_of<T>(a, tiles, a.dx, nullptr), a.out != nullptr,
                            static_cast<T*>(a.dx));
}

template <class T>
cudaError_t launch_dweight(const ModulatedLinearBackwardArguments& a,
                           const RowParts& parts,
                           cudaStream_t stream) {
  TensorMap grad, out, x;
  const void* outputs = a.out != nullptr ? a.out : a.grad;
  for (const cudaError_t error : {map_of(grad, a, a.grad, a.rows, a.outputs, kSlice),
                                  map_of(out, a, outputs, a.rows, a.outputs, kSlice),
                                  map_of(x, a, a.x, a.rows, a.inputs, kSlice)}) {
    if (error != cudaSuccess) {
      return error;
    }
  }
  const Tiles tiles(a.outputs, a.inputs, a.videos * parts.count);
  return DIGAN_LAUNCH_LARGE((modulated_linear_dweight_hopper_kernel<T>),
                            resident_blocks(tiles.count()), kRoleThreads, kGradientBytes, stream,
                            grad, out, x, gradient_of<T>(a, tiles, a.dweight, a.weight_parts),
                            a.out != nullptr, row_sums_to<T>(a, parts));
}

}  // namespace
}  // namespace gemm::hopper

cudaError_t launch_modulated_linear_dx_hopper(const ModulatedLinearBackwardArguments& arguments,
                                              cudaStream_t stream) {
  return arguments.number == Number::kBF16 ? gemm::hopper::launch_dx<bf16>(arguments, stream)
                                           : gemm::hopper::launch_dx<f16>(arguments, stream);
}

cudaError_t launch_modulated_linear_dweight_hopper(
    const ModulatedLinearBackwardArguments& arguments, int parts, int slices, cudaStream_t stream) {
  const gemm::RowParts cut{parts, slices};
  return arguments.number == Number::kBF16
             ? gemm::hopper::launch_dweight<bf16>(arguments, cut, stream)
             : gemm::hopper::launch_dweight<f16>(arguments, cut, stream);
}

}  // namespace digan
