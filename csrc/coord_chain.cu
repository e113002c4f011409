// coord_chain: layers of a coordinate network one behind the other, without a trip to memory.
//
// DESIGN
// A block takes 128 pixels, a rectangle of one frame, from their embedding to their colours. Their
// activations stay in shared memory, in panels of 128 x 256 numbers (64 KB) that lie as the slices
// of an operand do (gemm/tile.cuh); a layer multiplies them by its weights, which flow through a
// ring from L2 (gemm/weight_stream.cuh), 256 outputs at a time in the registers of 8 warps, each
// 64 x 64. Written are the picture and, for a finer block, its half-resolution pre-activation.
//
// With at most 256 channels a layer's outputs take its inputs' place, behind a barrier: one panel.
// With up to 512 a layer has two parts, and there are three panels, taken in a circle: the first
// part goes to the free one, the second to the first of the inputs, which nobody reads any more.
//
//   panels  ring               tables   shared memory                  cards
//   1       4 slices of 16 KB  12 KB    140 KB                         8.0, 9.0, 10.0
//   3       2 slices of 16 KB  -        224 KB, tables in a free panel  9.0, 10.0
//
// So one block lives on a multiprocessor, and its registers hold 128 x 256 sums, half of all there
// are. Two blocks of 64 pixels would overlap one's epilogue with the other's products, and read all
// weights twice as often. Per frame of the published 128x128 generator in 16 bits, of which layer
// by layer 97 MB go through memory and 173 MB come from L2:
//
//   chain      tiles  slices  weights  from L2  memory             epilogues  beside products
//   b4 to b32      8    1920   3.9 MB    31 MB  1.1 MB out               128              8 %
//   b64           32    2048   1.0 MB    34 MB  1.1 in, 2.2 out          160             10 %
//   b128         128    3072   0.4 MB    50 MB  2.2 in, 0.2 out          384             16 %
//
// 115 MB from L2 in the 29 us that docs/kernels.md calculates are 4 TB/s.
//
// Issue slots of a warp for one slice, as compiled: 64 products, 16 ldmatrix, 4 copies, and 38
// (one panel) or 59 (three) for their places, the barrier and the loop: 122 or 143, while its
// scheduler's tensor core is busy for 813 cycles with two warps' products, by mma.sync (63 % of its
// peak). In the first layer, once a tile, the embedding's slices are made between the same
// barriers: 40 and 10 accesses more. Epilogue of a part, in which no products run: for each of 64
// pairs of a thread 2 comparisons and 2 products, a rounding to 16 bits and a store of 4 bytes,
// without bank conflicts as the four lanes of a row have its chunk: 512 cycles of a warp, 1,024 of
// a scheduler, beside 8 slices of products in one panel and 8 or 16 in three.
//
// To RGB: a warp takes 16 pixels and one matrix instruction of 8 columns, of which 3 are colours,
// for 16 channels; its weights come through L1. Pictures are summed in registers in float, and
// never rounded to 16 bits.
//
// Rejected: 64 pixels by 512 outputs in registers, in place without a spare panel: it fits cards
// 8.0, and reads all weights of wide layers twice as often, 130 MB from L2 where they must come in
// 12 us. Skip connections in the epilogue: added where the sums begin, their latency falls into
// that of the first weights.

#include "coord_chain.h"

#include "coord_chain_tile.cuh"
#include "fourier_features_axes.h"
#include "gemm/coord_extent.cuh"

namespace digan {
namespace gemm {
namespace {

template <class T, int kPanels>
__global__ void __launch_bounds__(LargeTile::kThreads, 1) coord_chain_kernel(Chain<T> chain) {
  using Memory = ChainMemory<T, kPanels>;
  using Math = typename Memory::Math;
  using Shape = typename Memory::Shape;
  constexpr int kStages = Memory::kStages;
  DIGAN_SHARED_DYNAMIC(T, shared);
  const PixelTile<Shape> tile(chain.grid, 1);
  const int video = static_cast<int>(tile.frame / chain.grid.frames);
  const WarpProduct<Math, Shape, typename Memory::Activations, typename Memory::Weights> product(
      shared, shared + Memory::kRing);
  WeightStream<T, Shape, kStages> weights(chain.weights, video);
  typename Memory::Embedding embedding(chain.tables, chain.grid, tile);

  // One slice of tables, then as many of weights as the ring has but one, each with the tables of
  // the slice behind it.
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    if (stage > 0) {
      weights.copy(shared + (Memory::kRing + (stage - 1) * Memory::Weights::kNumbers), stage - 1);
    }
    embedding.copy_table(
        view_as<float>(shared + (Memory::kTables + stage * Memory::Table::kNumbers)));
    embedding.advance();
    cp_async_commit();
  }
  Sums<Math, Shape> sums;
  begin_sums<Math, Shape>(sums, chain, tile, 0, 0);
  cp_async_wait<kStages - 1>();
  __syncthreads();
  embedding.make_slice(shared, view_as<const float>(shared + Memory::kTables));

  float colours[4] = {};
  int first = 0;  // panel of the layer's inputs
  int pictures = 0;
#pragma unroll 1
  for (int layer = 0; layer < chain.weights.count(); ++layer) {
    const int rounds = chain.weights.template rounds<kStages>(layer);
    const int parts = chain.weights.template parts<Shape>(layer);
    const int taken = (chain.weights.inputs(layer) + Shape::kN - 1) / Shape::kN;
    const bool is_onward = layer == chain.weights.layers;
#pragma unroll 1
    for (int part = 0; part < parts; ++part) {
      if (layer == 0 && part == 0) {
        multiply<true, Memory, T>(sums, shared, product, weights, &embedding, first, rounds);
      } else {
        begin_sums<Math, Shape>(sums, chain, tile, layer, part);
        multiply<false, Memory, T>(sums, shared, product, weights, nullptr, first, rounds);
      }
      if (taken + part >= kPanels) {
        __syncthreads();  // outputs take the place of inputs
      }
      const auto panel = shared + (first + taken + part) % kPanels * Memory::kPanelNumbers;
      if (chain.clamps && !is_onward) {
        end_sums<true, Memory, T>(sums, panel, chain.alpha, chain.bound);
      } else {
        end_sums<false, Memory, T>(sums, panel, is_onward ? 1 : chain.alpha, 0);
      }
    }
    first = (first + taken) % kPanels;
    const bool is_seen = chain.rgb_layers >> layer & 1;
    if (is_seen || is_onward) {
      __syncthreads();
    }
    if (is_seen) {
      add_colours<Memory, T>(colours, chain, shared, video, pictures, first);
      ++pictures;
    }
  }
  // The ring's last copies, zeros, before the block ends.
  cp_async_wait<0>();
  store_picture<Shape>(colours, chain, tile);
  if (chain.weights.outputs > 0) {
    store_next<Memory, T>(chain, tile, shared, first);
  }
}

template <class T, int kPanels>
cudaError_t run(const Chain<T>& chain, int64_t blocks, cudaStream_t stream) {
  using Memory = ChainMemory<T, kPanels>;
  static_assert(Memory::kBytes == (kPanels == 1 ? 143360 : 229376), "as coord_chain.py has it");
  return DIGAN_LAUNCH_LARGE((coord_chain_kernel<T, kPanels>), static_cast<unsigned>(blocks),
                            Memory::Shape::kThreads, Memory::kBytes, stream, chain);
}

template <class T>
cudaError_t launch(const CoordChainArguments& a,
                   const CoordExtent& extent,
                   int64_t blocks,
                   cudaStream_t stream) {
  Chain<T> chain;
  chain.weights = {static_cast<const T*>(a.weight), static_cast<const T*>(a.hidden),
                   static_cast<const T*>(a.onward), static_cast<int>(extent.frequencies),
                   static_cast<int>(a.channels),    static_cast<int>(a.layers),
                   static_cast<int>(a.outputs)};
  chain.rgb_weight = static_cast<const T*>(a.rgb_weight);
  chain.bias = static_cast<const float*>(a.bias);
  chain.rgb_bias = static_cast<const float*>(a.rgb_bias);
  chain.tables = extent.tables<float>(a.grid);
  chain.skip = static_cast<const T*>(a.skip);
  chain.image = static_cast<const float*>(a.image);
  chain.picture = static_cast<float*>(a.picture);
  chain.next = static_cast<T*>(a.next);
  chain.grid = extent.grid;
  chain.rgb_layers = a.rgb_layers;
  chain.rgb_count = __builtin_popcount(a.rgb_layers);
  chain.alpha = static_cast<float>(a.alpha);
  chain.clamps = a.clamps;
  chain.bound = bound_in<T>(a.clamp);
  chain.rgb_bound = static_cast<float>(a.clamp);
  const bool is_narrow = a.channels <= LargeTile::kN && a.outputs <= LargeTile::kN;
  return is_narrow ? run<T, 1>(chain, blocks, stream) : run<T, 3>(chain, blocks, stream);
}

}  // namespace
}  // namespace gemm

cudaError_t launch_coord_chain(const CoordChainArguments& a, cudaStream_t stream) {
  using namespace gemm;
  CoordLinearCall call;
  call.grid = a.grid;
  call.outputs = a.channels;
  const CoordExtent extent(call);
  const bool is_served =
      a.channels > 0 && a.channels <= kMostChainChannels && a.channels % kPiece == 0 &&
      a.outputs <= kMostChainChannels && a.outputs % kPiece == 0 && extent.frequencies > 0 &&
      extent.frequencies <= kMostChainFrequencies && extent.frequencies % kPiece == 0 &&
      a.layers > 0 && a.layers <= kMostChainLayers && a.grid.wide == Number::kF32;
  if (!is_served) {
    return cudaErrorInvalidValue;
  }
  const int64_t rows = a.grid.videos * (a.layers > 3 ? a.layers : 3) * kMostChainChannels;
  if (!extent.fits() || rows > kMostExtent) {
    return cudaErrorInvalidConfiguration;
  }
  const int64_t blocks = extent.frames() * Rectangle<LargeTile::kM>::count(extent.grid);
  if (blocks == 0) {
    return cudaSuccess;
  }
  const cudaError_t error = launch_fourier_features_axes(a.grid, Number::kF32, stream);
  if (error != cudaSuccess) {
    return error;
  }
  switch (a.grid.number) {
    case Number::kBF16:
      return launch<bf16>(a, extent, blocks, stream);
    case Number::kF16:
      return launch<f16>(a, extent, blocks, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace digan
