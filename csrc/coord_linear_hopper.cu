// coord_linear, forward, on cards of 9.0: out = act(embedding weight^T + bias + upsample(skip)).
//
// DESIGN
// The product of coord_linear.cu in tiles of a rectangle of 8 x 16 pixels and 256 outputs, two
// warpgroups of 64 pixels each. The embedding is made in the registers from which wgmma multiplies
// it (gemm/hopper/embedding.cuh), so that of a slice, 32 frequencies, TMA brings the weights of
// the sines and of the cosines, 16 KB each in lines of 64 bytes, and 6 KB of tables. While the
// wgmma of one slice are under way a warp makes the registers of the next. Frequencies beyond the
// end, of tables and weights, arrive as zeros. Five stages of 38 KB; the epilogue, that of the
// other path, has shared memory of its own. Of shared memory's 128 bytes a cycle the weights take
// 64 and the tables up to 40. Bytes: as there. Rejected: making the embedding once for both
// warpgroups, as each makes other pixels; 128 columns a tile, for which it would be made twice.

#include "coord_linear_hopper.h"

#include "gemm/coord_extent.cuh"
#include "gemm/grid_output.cuh"
#include "gemm/hopper/embedding.cuh"
#include "gemm/hopper/grid_tiles.cuh"
#include "gemm/hopper/pieces.cuh"
#include "gemm/hopper/products.cuh"

namespace digan {
namespace gemm::hopper {
namespace {

constexpr int kWeightLine = kSliceFrequencies * 2;  // bytes, of 16-bit numbers
constexpr int kWeightBytes = kTileColumns * kWeightLine;
constexpr int kTables = 2 * kWeightBytes;  // where they begin in a stage
using CoordRing = Ring<5, kTables + TableLines::kBytes, kConsumerWarps>;
constexpr int kCoordBytes = CoordRing::kBytes + kStagingBytes;

template <class T>
struct CoordLayer {
  TableMaps tables;
  TensorMap weight;  // [B O, 2, F]
  GridOutput<T> to;
  GridTiles tiles;
  int slices;
};

struct MadeSlice {
  uint32_t sines[2][4], cosines[2][4];  // by 16 frequencies
};

// The sums of all slices: multiply_made, but for what a slice is.
template <class T>
__device__ __forceinline__ void multiply_embedding(TileSums& sums,
                                                   const CoordRing& ring,
                                                   RingPlace<CoordRing>& place,
                                                   int slices,
                                                   const MadeRows<T>& rows) {
  MadeSlice even, odd;
  RingPlace<CoordRing> before;
  const auto slice = [&](MadeSlice& a, bool first) {
    one_slice(ring, place, before, first, [&](Shared<unsigned char> stage, bool adds) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        rows.make(stage + kTables, step, a.sines[step], a.cosines[step]);
      }
      const uint64_t sines = reduced_rows<kWeightLine>(shared_address(stage));
      const uint64_t cosines = reduced_rows<kWeightLine>(shared_address(stage + kWeightBytes));
      wgmma_fence(sums, a.sines[0], a.sines[1], a.cosines[0], a.cosines[1]);
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        constexpr uint32_t kBytes = kStepBytes<Major::kReduced>;
        wgmma<T, Major::kReduced>(sums, a.sines[step], sines + further(kBytes * step),
                                  adds || step > 0);
        wgmma<T, Major::kReduced>(sums, a.cosines[step], cosines + further(kBytes * step));
      }
    });
  };
  in_turns(even, odd, slices, slice);
  wgmma_wait<0>(sums);
  ring.release(before);
}

template <class T>
__global__ void __launch_bounds__(kRoleThreads, 1)
    coord_linear_hopper_kernel(const __grid_constant__ CoordLayer<T> layer) {
#if defined(DIGAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DIGAN_SHARED_DYNAMIC(unsigned char, shared);
  const CoordRing ring(shared);
  ring.start();
  const GridExtent& grid = layer.to.grid;
  run_roles(
      [&] {
        tma_prefetch(layer.tables.rows);
        tma_prefetch(layer.tables.columns);
        tma_prefetch(layer.weight);
        RingPlace<CoordRing> place;
        for_each_tile(layer.tiles.count(), [&](unsigned number) {
          const GridPlace tile(layer.tiles, number);
          const int video = tile.frame / grid.frames;
          const int output = video * layer.to.output.columns + tile.n();
          for (int k = 0; k < layer.slices; ++k, place.advance()) {
            const Shared<unsigned char> stage = ring.fill(place, CoordRing::kStageBytes);
            const Shared<uint64_t> full = ring.full(place);
            tma_load(stage, layer.weight, full, k * kSliceFrequencies, 0, output);
            tma_load(stage + kWeightBytes, layer.weight, full, k * kSliceFrequencies, 1, output);
            layer.tables.load(stage + kTables, full, k, tile.frame * grid.height + tile.h(),
                              video * grid.width + tile.w());
          }
        });
      },
      [&](int group) {
        RingPlace<CoordRing> place;
        const int row = 4 * group + static_cast<int>(threadIdx.x) % kWarpgroup / 32;
        const MadeRows<T> rows(row);
        const Epilogue<T> epilogue(layer.to.output.pointwise);
        for_each_tile(layer.tiles.count(), [&](unsigned number) {
          TileSums sums;
          multiply_embedding(sums, ring, place, layer.slices, rows);
          const GridPlace tile(layer.tiles, number);
          for_each_piece(
              sums, shared + CoordRing::kBytes, [&](int m, int n, float (&values)[kPiece]) {
                layer.to.store(tile.frame, tile.h() + 4 * group + m / 16,
                               tile.w() + column_of(m % 16), tile.n() + n, epilogue, values);
              });
        });
      });
#endif
}

template <class T>
cudaError_t launch(const CoordLinearArguments& a, cudaStream_t stream) {
  const CoordExtent extent(a);
  const int64_t rows = a.grid.videos * a.outputs;
  if (rows > kMostExtent || extent.frames() * extent.height > kMostExtent ||
      extent.videos * extent.width > kMostExtent) {
    return cudaErrorNotSupported;  // coordinates of a box are ints
  }
  const int64_t features = 2 * extent.frequencies;
  const LayerOutput<T> output{
      static_cast<const float*>(a.bias),
      static_cast<T*>(a.out),
      static_cast<T*>(a.pre_activation),
      static_cast<int>(a.outputs),
      a.outputs % kPiece == 0 &&
          lies_in_chunks(a.grid.number, a.outputs, a.out, a.pre_activation, a.skip),
      a.pointwise};
  CoordLayer<T> layer{{},
                      {},
                      {output, static_cast<const T*>(a.skip), extent.grid},
                      GridTiles(extent.grid, a.outputs, extent.frames()),
                      static_cast<int>(ceil_div(extent.frequencies, kSliceFrequencies))};
  cudaError_t error = make_table_maps(layer.tables, a.grid);
  if (error == cudaSuccess) {
    error = make_tensor_map(layer.weight, a.grid.number, a.weight,
                            {{extent.frequencies, 1, kSliceFrequencies},
                             {2, extent.frequencies, 1},
                             {rows, features, kTileColumns}},
                            Swizzle::k64);
  }
  if (error != cudaSuccess) {
    return error;
  }
  return DIGAN_LAUNCH_LARGE((coord_linear_hopper_kernel<T>), resident_blocks(layer.tiles.count()),
                            kRoleThreads, kCoordBytes, stream, layer);
}

}  // namespace
}  // namespace gemm::hopper

cudaError_t launch_coord_linear_hopper(const CoordLinearArguments& arguments, cudaStream_t stream) {
  return arguments.grid.number == Number::kBF16 ? gemm::hopper::launch<bf16>(arguments, stream)
                                                : gemm::hopper::launch<f16>(arguments, stream);
}

}  // namespace digan
