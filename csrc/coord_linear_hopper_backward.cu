// coord_linear, gradients by frequencies, phases, axes and skip on cards of 9.0.
//
// DESIGN
// dE = dA weight of coord_linear_backward.cu in tiles of a rectangle of 8 x 16 pixels and 128
// frequencies, their sines in the first half of the columns and their cosines in the second, so
// that a thread's sums hold both of a frequency at a pixel. dA is made in registers from grad and
// out, as modulated_linear's dx has it. A warp's 16 rows are 4 cells of 2 x 2 pixels: a thread has
// one pixel and the one below, and the sums of cells, for dskip, are those of two threads. They
// are taken from the same registers in the tiles of the first frequencies, and put together to 16
// bytes in shared memory of the warp.
//
// The tables of a tile's frequencies follow its slices as one more stage of the ring. With them a
// thread reduces its sums at once to the gradients of angles, in registers:
//
//   dtheta = dsin cos - dcos sin
//
// summed over a warp's pixels by shuffles, over warps in shared memory, in a fixed order, and
// written as the partial sums of gemm/phase_sums.cuh. dE is never anywhere else. dweight stays with
// the other path: both of its operands are made, and of wgmma's one must lie in shared memory.

#include "gemm/coord_extent.cuh"
#include "gemm/hopper/gradient.cuh"
#include "gemm/hopper/grid_tiles.cuh"
#include "gemm/phase_sums.cuh"

#include "coord_linear_hopper.h"

namespace digan {
namespace gemm::hopper {
namespace {

constexpr int kTileFrequencies = kTileColumns / 2;
constexpr int kTileTables = kTileFrequencies / kSliceFrequencies * TableLines::kBytes;
static_assert(kTileTables <= GradientRing::kStageBytes);
[[maybe_unused]] constexpr int kConsumers = 2 * kWarpgroup;
[[maybe_unused]] constexpr int kBarrier = 1;  // of all consumers

// Shared memory behind the ring: first sums of a warp's pixels, [3 kinds, 8 warps, frequencies], in
// floats, then those by row and column; then each warp's sums of cells.
struct AngleSums {
  static constexpr int kKind = kConsumerWarps * kTileFrequencies;
  static constexpr int kByRow = 3 * kKind;          // [2 halves of columns, 8 rows]
  static constexpr int kByColumn = kByRow + 2 * 8;  // [4 pairs of rows, 16 columns]
  static constexpr int kNumbers = kByColumn + 4 * 16;
  static constexpr int kBytes = kNumbers * static_cast<int>(sizeof(float));
};
// Of 4 cells, 64 outputs each in 128 bytes, 32 bytes apart, so that the threads of 4 cells write to
// different banks.
constexpr int kCellLine = kLine + 32;
constexpr int kCells = GradientRing::kBytes + AngleSums::kBytes;
constexpr int kCellsBytes = 4 * kCellLine;
constexpr int kAngleBytes = kCells + kConsumerWarps * kCellsBytes;

template <class T>
struct CoordGradient {
  TensorMap grad, out;  // [frames, H, W, O]
  TensorMap weight;     // [B, O, 2, F]
  TableMaps tables;
  PhaseSums<float> to;
  GridTiles tiles;
  GridExtent grid;
  Pointwise pointwise;
  int outputs, frequencies;
  bool slopes;
  Global<T> dskip;  // [frames, H/2, W/2, O], may be null
};

// The warp's rows of a box whose lines are the tile's pixels.
template <class T>
__device__ __forceinline__ void load_pixels(uint32_t (&to)[4],
                                            Shared<unsigned char> box,
                                            const WarpPixels& pixels,
                                            int step) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = pixels.line(lane % 16);
  const int chunk = 2 * step + lane / 16;
  ldmatrix_x4(to, view_as<T>(box + (line * kLine + (chunk ^ line % 8) * 16)));
}

// ---------------------------------------------------------------- cells of a skip connection

template <class T>
class Cells {
 public:
  // `shared` is the warp's own.
  __device__ __forceinline__ Cells(const CoordGradient<T>& layer, Shared<unsigned char> shared)
      : layer_(layer), shared_(shared) {}

  // Of which the next slices are.
  __device__ __forceinline__ void start(const GridPlace& tile, const WarpPixels& pixels) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int h = tile.h() / 2 + pixels.pair, w = tile.w() / 2 + 4 * pixels.half + lane / 8;
    const int height = layer_.grid.height / 2, width = layer_.grid.width / 2;
    column_ = h < height && w < width ? lane % 8 * 8 : layer_.outputs;
    cell_ = (tile.frame * height + h) * width + w;
  }

  // The registers of step `step` of the next slice. The last step stores the slice.
  __device__ __forceinline__ void add(int step, const uint32_t (&a)[4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float sums[2][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      T above[2], below[2];
      memcpy(above, &a[2 * half], 4);
      memcpy(below, &a[2 * half + 1], 4);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float sum = widen(above[i]) + widen(below[i]);
        // The neighbouring column's.
        sums[half][i] = sum + __shfl_xor_sync(0xffffffffu, sum, 16);
      }
    }
    // Both threads have both halves of the 16 outputs; each writes one.
    const bool second = lane >= 16;
    const float gain = static_cast<float>(layer_.pointwise.gain);
    const T two[2] = {narrow<T>((second ? sums[1][0] : sums[0][0]) * gain),
                      narrow<T>((second ? sums[1][1] : sums[0][1]) * gain)};
    uint32_t word;
    memcpy(&word, two, 4);
    const int at = lane / 4 % 4 * kCellLine + step * 32 + (second ? 16 : 0) + lane % 4 * 4;
    view_as<uint32_t>(shared_ + at)[0] = word;
    if (step == kSteps - 1) {
      store(lane);
    }
  }

 private:
  __device__ __forceinline__ void store(int lane) {
    __syncwarp();
    const auto chunk = load16(view_as<const T>(shared_ + (lane / 8 * kCellLine + lane % 8 * 16)));
    if (column_ < layer_.outputs) {
      store16(layer_.dskip + (rows_of(cell_, layer_.outputs) + column_), chunk);
    }
    column_ += kSlice;
    __syncwarp();
  }

  const CoordGradient<T>& layer_;
  Shared<unsigned char> shared_;
  int cell_ = 0;    // the thread's, of all frames
  int column_ = 0;  // its outputs of the next slice
};

// ---------------------------------------------------------------- angles

// Sums over the lanes that are `kFirst`, 2 kFirst, ... below kEnd apart.
template <int kFirst, int kEnd>
__device__ __forceinline__ float sum_of_lanes(float value) {
#pragma unroll
  for (int distance = kFirst; distance < kEnd; distance *= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

// One tile's sums, as the warp's 16 pixels have them, reduced into `shared`. Pixels outside of the
// grid have zeros, as their dA arrived.
template <class T>
__device__ __forceinline__ void reduce_angles(const TileSums& sums,
                                              Shared<const unsigned char> tables,
                                              Shared<float> shared,
                                              const CoordGradient<T>& layer,
                                              const GridPlace& tile,
                                              const WarpPixels& pixels) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = 8 * pixels.half + column_of(lane / 4);  // of the tile's pixels
  const int h = tile.h() + 2 * pixels.pair, w = tile.w() + column;
  const int video = tile.frame / layer.grid.frames;
  const float gain = static_cast<float>(layer.pointwise.gain);
  const float x = layer.to.x[at_most(w, layer.grid.width - 1)];
  const float y[2] = {layer.to.y[at_most(h, layer.grid.height - 1)],
                      layer.to.y[at_most(h + 1, layer.grid.height - 1)]};
  const int column_place = TableLines::kColumnsBegin + place_of_line(column);
  const int row_place = place_of_line(2 * pixels.pair);
  const int first = tile.across * kTileFrequencies;

  float by_row[2] = {0, 0}, by_column = 0;
#pragma unroll
  for (int j = 0; j < kTileFrequencies / 8; ++j) {
    const auto slice = tables + j / 4 * TableLines::kBytes;
    const int further = j % 4 * 32;
    float sin_column[2], cos_column[2], sin_row[2][2], cos_row[2][2];
    load_two(slice, column_place ^ further, TableLines::kColumns, sin_column, cos_column);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // The line behind an even one has its chunks the other way round in each pair.
      load_two(slice, (row_place ^ further ^ 16 * i) + kTableLine * i, TableLines::kRows,
               sin_row[i], cos_row[i]);
    }
    float found[2][3];  // by frequency: phase, freq_x, freq_y
#pragma unroll
    for (int f = 0; f < 2; ++f) {
      float dtheta[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float sine = fma(sin_row[i][f], cos_column[f], cos_row[i][f] * sin_column[f]);
        const float cosine = fma(cos_row[i][f], cos_column[f], -(sin_row[i][f] * sin_column[f]));
        const float by_sine = sums[4 * j + 2 * i + f];
        const float by_cosine = sums[kTileFrequencies / 2 + 4 * j + 2 * i + f];
        dtheta[i] = gain * fma(by_sine, cosine, -(by_cosine * sine));
      }
      const float both = dtheta[0] + dtheta[1];
      const int64_t frequency = int64_t{video} * layer.frequencies +
                                at_most(first + 8 * j + lane % 4 * 2 + f, layer.frequencies - 1);
      const float freq_x = layer.to.freq[2 * frequency], freq_y = layer.to.freq[2 * frequency + 1];
      by_row[0] += dtheta[0] * freq_y;
      by_row[1] += dtheta[1] * freq_y;
      by_column += both * freq_x;
      found[f][0] = sum_of_lanes<4, 32>(both);
      found[f][1] = sum_of_lanes<4, 32>(both * x);
      found[f][2] = sum_of_lanes<4, 32>(fma(dtheta[0], y[0], dtheta[1] * y[1]));
    }
    // All lanes of a frequency have its three sums; each of three of them writes one.
    const int kind = lane / 4;
    if (kind < 3) {
      const int at =
          kind * AngleSums::kKind + pixels.warp() * kTileFrequencies + 8 * j + lane % 4 * 2;
#pragma unroll
      for (int f = 0; f < 2; ++f) {
        shared[at + f] = kind == 0 ? found[f][0] : kind == 1 ? found[f][1] : found[f][2];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = sum_of_lanes<1, 32>(by_row[i]);
    if (lane == 0) {
      shared[AngleSums::kByRow + 8 * pixels.half + 2 * pixels.pair + i] = sum;
    }
  }
  const float sum = sum_of_lanes<1, 4>(by_column);
  if (lane % 4 == 0) {
    shared[AngleSums::kByColumn + 16 * pixels.pair + column] = sum;
  }
}

// What all warps have left there, to memory.
template <class T>
__device__ __forceinline__ void store_angles(Shared<const float> shared,
                                             const CoordGradient<T>& layer,
                                             const GridPlace& tile) {
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup;
  const int64_t frame = tile.frame;
  const int64_t part = (frame * layer.tiles.rows + tile.row) * layer.tiles.columns + tile.column;
  for (int index = thread; index < 3 * kTileFrequencies; index += kConsumers) {
    const int kind = index / kTileFrequencies, f = index % kTileFrequencies;
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kConsumerWarps; ++warp) {
      sum += shared[kind * AngleSums::kKind + warp * kTileFrequencies + f];
    }
    const int frequency = tile.across * kTileFrequencies + f;
    if (frequency < layer.frequencies) {
      const Global<float> parts = kind == 0   ? layer.to.phase_parts
                                  : kind == 1 ? layer.to.freq_x_parts
                                              : layer.to.freq_y_parts;
      parts[part * layer.frequencies + frequency] = sum;
    }
  }
  const int h = tile.h() + thread, w = tile.w() + thread;
  if (thread < TileRectangle::kHeight && h < layer.grid.height) {
    const float sum = shared[AngleSums::kByRow + thread] + shared[AngleSums::kByRow + 8 + thread];
    const int64_t slot = (frame * layer.tiles.columns + tile.column) * layer.tiles.across;
    layer.to.y_parts[(slot + tile.across) * layer.grid.height + h] = sum;
  }
  if (thread < TileRectangle::kWidth && w < layer.grid.width) {
    float sum = 0;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      sum += shared[AngleSums::kByColumn + 16 * pair + thread];
    }
    const int64_t slot = (frame * layer.tiles.rows + tile.row) * layer.tiles.across;
    layer.to.x_parts[(slot + tile.across) * layer.grid.width + w] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kRoleThreads, 1)
    coord_linear_dphase_hopper_kernel(const __grid_constant__ CoordGradient<T> layer) {
#if defined(DIGAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DIGAN_SHARED_DYNAMIC(unsigned char, shared);
  const GradientRing ring(shared);
  ring.start();
  const GridExtent& grid = layer.grid;
  const int slices = slices_of_lines(layer.outputs);
  run_roles(
      [&] {
        RingPlace<GradientRing> place;
        for_each_tile(layer.tiles.count(), [&](unsigned number) {
          const GridPlace tile(layer.tiles, number);
          const int video = tile.frame / grid.frames, frame = tile.frame;
          const int first = tile.across * kTileFrequencies;
          copy_slices(ring, place, slices, layer.slopes,
                      [&](Shared<unsigned char> stage, Shared<uint64_t> full, int k) {
                        tma_load(stage, layer.grad, full, k * kSlice, tile.w(), tile.h(), frame);
                        if (layer.slopes) {
                          tma_load(stage + kOfGradient, layer.out, full, k * kSlice, tile.w(),
                                   tile.h(), frame);
                        }
#pragma unroll
                        for (int box = 0; box < kTileColumns / kSlice; ++box) {
                          tma_load(stage + (kB + box * kBox), layer.weight, full,
                                   first + box % 2 * kSlice, box / 2, k * kSlice, video);
                        }
                      });
          const Shared<unsigned char> stage = ring.fill(place, kTileTables);
#pragma unroll
          for (int k = 0; k < kTileFrequencies / kSliceFrequencies; ++k) {
            layer.tables.load(stage + k * TableLines::kBytes, ring.full(place),
                              first / kSliceFrequencies + k, frame * grid.height + tile.h(),
                              video * grid.width + tile.w());
          }
          place.advance();
        });
      },
      [&](int) {
        RingPlace<GradientRing> place;
        const Slope<T, true> slope(layer.pointwise);
        const WarpPixels pixels;
        const Shared<float> angles = view_as<float>(shared + GradientRing::kBytes);
        Cells<T> cells(layer, shared + (kCells + pixels.warp() * kCellsBytes));
        for_each_tile(layer.tiles.count(), [&](unsigned number) {
          const GridPlace tile(layer.tiles, number);
          const bool sums_cells = layer.dskip && tile.across == 0;
          if (sums_cells) {
            cells.start(tile, pixels);
          }
          TileSums sums;
          multiply_made<T>(sums, ring, place, slices, kB,
                           [&](Shared<unsigned char> stage, int step, uint32_t (&a)[4]) {
                             load_pixels<T>(a, stage, pixels, step);
                             if (layer.slopes) {
                               uint32_t y[4];
                               load_pixels<T>(y, stage + kOfGradient, pixels, step);
                               apply(slope, a, y);
                             }
                             if (sums_cells) {
                               cells.add(step, a);
                             }
                           });
          reduce_angles(sums, ring.wait(place), angles, layer, tile, pixels);
          ring.release(place);
          place.advance();
          named_barrier_sync(kBarrier, kConsumers);
          store_angles(angles, layer, tile);
          // Before the next tile's sums take their place.
          named_barrier_sync(kBarrier, kConsumers);
        });
      });
#endif
}

template <class T>
cudaError_t launch(const CoordLinearBackwardArguments& a, cudaStream_t stream) {
  const CoordExtent extent(a);
  if (extent.frames() * extent.grid.pixels() > kMostExtent ||
      extent.videos * extent.width > kMostExtent) {
    return cudaErrorNotSupported;  // coordinates of a box, and cells, are ints
  }
  const int64_t outputs = a.outputs, features = 2 * extent.frequencies;
  const int64_t line = extent.width * outputs;
  CoordGradient<T> layer{{},
                         {},
                         {},
                         {},
                         {{},
                          static_cast<const float*>(a.freq),
                          static_cast<const float*>(a.y),
                          static_cast<const float*>(a.x),
                          static_cast<float*>(a.phase_parts),
                          static_cast<float*>(a.freq_x_parts),
                          static_cast<float*>(a.freq_y_parts),
                          static_cast<float*>(a.y_parts),
                          static_cast<float*>(a.x_parts)},
                         GridTiles(extent.grid, features, extent.frames()),
                         extent.grid,
                         a.pointwise,
                         static_cast<int>(outputs),
                         static_cast<int>(extent.frequencies),
                         a.out != nullptr,
                         static_cast<T*>(a.dskip)};
  const TensorAxis pixels[4] = {{outputs, 1, kSlice},
                                {extent.width, outputs, TileRectangle::kWidth},
                                {extent.height, line, TileRectangle::kHeight},
                                {extent.frames(), extent.height * line, 1}};
  const Number number = a.grid.number;
  for (const cudaError_t error :
       {make_tensor_map(layer.grad, number, a.grad, pixels, Swizzle::k128),
        // Not used where there is none, but a map needs memory.
        make_tensor_map(layer.out, number, layer.slopes ? a.out : a.grad, pixels, Swizzle::k128),
        make_tensor_map(layer.weight, number, a.weight,
                        {{extent.frequencies, 1, kSlice},
                         {2, extent.frequencies, 1},
                         {outputs, features, kSlice},
                         {extent.videos, outputs * features, 1}},
                        Swizzle::k128),
        make_table_maps(layer.tables, a.grid)}) {
    if (error != cudaSuccess) {
      return error;
    }
  }
  return DIGAN_LAUNCH_LARGE((coord_linear_dphase_hopper_kernel<T>),
                            resident_blocks(layer.tiles.count()), kRoleThreads, kAngleBytes, stream,
                            layer);
}

}  // namespace
}  // namespace gemm::hopper

cudaError_t launch_coord_linear_dphase_hopper(const CoordLinearBackwardArguments& arguments,
                                              cudaStream_t stream) {
  return arguments.grid.number == Number::kBF16 ? gemm::hopper::launch<bf16>(arguments, stream)
                                                : gemm::hopper::launch<f16>(arguments, stream);
}

}  // namespace digan
