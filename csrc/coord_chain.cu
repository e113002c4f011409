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
//   chain           tiles  weights  from L2   memory             products  epilogues
//   b4 to b32           8   3.9 MB    31 MB   1.1 MB out         12.6 %    of them 128 parts
//   b64                32   1.0 MB    34 MB   1.1 in, 2.2 out    14.1 %    160
//   b128              128   0.4 MB    50 MB   2.2 in, 0.2 out    25.1 %    384
//
// (products: of the cycles that the epilogues below take beside them). 115 MB from L2 a frame are 4
// TB/s at the rate calculated below, of the 5.5 and more that an H200's L2 gives.
//
// Issue slots of a warp for one slice: 64 products, 16 ldmatrix, 4 copies with 12 instructions for
// their places, and 10 for the barrier and the loop: 106, while its scheduler's tensor core is busy
// for 813 cycles with two warps' products, by mma.sync (63 % of its peak). In the first layer, once
// a tile, the embedding's slices are made between the same barriers: 40 and 10 accesses more.
// Epilogue of a part, in which no products run: for each of 64 pairs of a thread 2 comparisons and
// 2 products, a rounding to 16 bits and a store of 4 bytes, without bank conflicts as the four
// lanes of a row have its chunk: 512 cycles of a warp, 1,024 of a scheduler. The layers of one
// panel have 8 slices, 6,500 cycles, a part; those of three have 16.
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

#include <cstring>

#include "fourier_features_axes.h"
#include "gemm/coord_extent.cuh"
#include "gemm/weight_stream.cuh"

namespace digan {
namespace gemm {
namespace {

constexpr int kColours = 3;

template <class T>
struct Chain {
  ChainWeights<T> weights;
  Global<const T> rgb_weight;
  Global<const float> bias, rgb_bias;
  AxisTables<float> tables;
  Global<const T> skip;
  Global<const float> image;
  Global<float> picture;
  Global<T> next;
  GridExtent grid;
  unsigned rgb_layers;
  int rgb_count;
  float alpha, bound, rgb_bound;
  bool clamps;
};

// How a block's shared memory is cut, in numbers of T.
template <class T, int kPanels_>
struct ChainMemory {
  using Shape = LargeTile;
  using Math = TensorCores<T>;
  using Activations = Slice<T, Shape::kM, true>;
  using Weights = Slice<T, Shape::kN, true>;
  using Embedding = EmbeddingRows<T, Shape, true>;
  using Table = typename Embedding::Table;
  static constexpr int kPanels = kPanels_;
  static constexpr int kStages = kPanels == 1 ? 4 : 2;
  static constexpr int kPanelSlices = Shape::kN / kDepth<T>;
  static constexpr int kPanelNumbers = kPanelSlices * Activations::kNumbers;
  static constexpr int kRing = kPanels * kPanelNumbers;
  static constexpr int kRingEnd = kRing + kStages * Weights::kNumbers;
  // The last of three panels is free as long as tables are needed.
  static constexpr bool kHasRoom = kPanels > 2;
  static constexpr int kTables = kHasRoom ? (kPanels - 1) * kPanelNumbers : kRingEnd;
  static constexpr int kNumbers = kRingEnd + (kHasRoom ? 0 : kStages * Table::kNumbers);
  static constexpr int kBytes = kNumbers * static_cast<int>(sizeof(T));
  static_assert(kPanelSlices % kStages == 0, "a round lies in one panel");

  // Slice `slice` of what begins with panel `first`.
  __device__ __forceinline__ static int slice(int first, int slice) {
    return (first + slice / kPanelSlices) % kPanels * kPanelNumbers +
           slice % kPanelSlices * Activations::kNumbers;
  }
};

// Adds the products of one part of a layer, whose inputs begin with panel `first`. kEmbeds: they
// are the embedding, of which slice 0 is there and the others are made here.
template <bool kEmbeds, class Memory, class T, class Product, class Weights>
__device__ __forceinline__ void multiply(Sums<typename Memory::Math, typename Memory::Shape>& sums,
                                         Shared<T> shared,
                                         const Product& product,
                                         Weights& weights,
                                         typename Memory::Embedding* embedding,
                                         int first,
                                         int rounds) {
  constexpr int kStages = Memory::kStages;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    const int inputs = Memory::slice(first, round * kStages);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      constexpr int kBefore = kStages - 1;
      const int filled = (stage + kBefore) % kStages;
      cp_async_wait<kStages - 2>();
      // The slice's weights, and the next one's tables, are seen by all, as is the slice of the
      // embedding; nobody multiplies the one before it any more.
      __syncthreads();
      if (stage == 1) {
        weights.next_round();
      }
      weights.copy(shared + (Memory::kRing + filled * Memory::Weights::kNumbers), filled);
      if constexpr (kEmbeds) {
        const auto tables = shared + Memory::kTables;
        embedding->copy_table(view_as<float>(tables + stage * Memory::Table::kNumbers));
        embedding->advance();
        cp_async_commit();
        if (stage + 1 < kStages || round + 1 < rounds) {
          const int made = inputs + (stage + 1) * Memory::Activations::kNumbers;
          const int table = (stage + 1) % kStages * Memory::Table::kNumbers;
          embedding->make_slice(shared + made, view_as<const float>(tables + table));
        }
      } else {
        cp_async_commit();
      }
      product.add(sums, inputs + stage * Memory::Activations::kNumbers,
                  stage * Memory::Weights::kNumbers);
    }
  }
}

// Where a thread's pair of sums stands in a part: sums[i][j][2 * half] is in row `row` of the tile
// and column `column` of the part, the other number of the pair behind it.
template <class Shape>
struct PairPlace {
  int row_, column_;
  __device__ __forceinline__ PairPlace() {
    const int thread = thread_here();
    const int warp = thread / 32;
    row_ = warp / Shape::kWarpsN * Shape::kWarpM + thread % 32 / 4;
    column_ = warp % Shape::kWarpsN * Shape::kWarpN + thread % 4 * 2;
  }
  __device__ __forceinline__ int row(int i, int half) const { return row_ + 16 * i + 8 * half; }
  __device__ __forceinline__ int column(int j) const { return column_ + 8 * j; }
};

// Sums begin with the bias and, in the first layer, with the skip connection.
template <class Math, class Shape, class T>
__device__ __forceinline__ void begin_sums(Sums<Math, Shape>& sums,
                                           const Chain<T>& chain,
                                           const PixelTile<Shape>& tile,
                                           int layer,
                                           int part) {
  const PairPlace<Shape> place;
  const int channels = chain.weights.channels;
#pragma unroll
  for (int j = 0; j < Shape::kGroupsN; ++j) {
    const int column = part * Shape::kN + place.column(j);
    const bool has = layer < chain.weights.layers && column < channels;
    float pair[2] = {};
    if (has) {
      const Global<const float> bias = chain.bias + (layer * channels + column);
      pair[0] = bias[0];
      pair[1] = bias[1];
    }
#pragma unroll
    for (int i = 0; i < Shape::kGroupsM; ++i) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        sums[i][j][n] = pair[n % 2];
      }
    }
  }
  if (layer > 0 || !chain.skip) {
    return;
  }
  using Rectangle = typename PixelTile<Shape>::Rectangle;
  const GridExtent& grid = chain.grid;
  const Global<const T> skip =
      chain.skip + tile.frame * (grid.height / 2) * (grid.width / 2) * channels;
#pragma unroll
  for (int i = 0; i < Shape::kGroupsM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = place.row(i, half);
      const int h = at_most(tile.h + row / Rectangle::kWidth, grid.height - 1);
      const int w = at_most(tile.w + row % Rectangle::kWidth, grid.width - 1);
      const Global<const T> cell = skip + rows_of(h / 2 * (grid.width / 2) + w / 2, channels);
#pragma unroll
      for (int j = 0; j < Shape::kGroupsN; ++j) {
        const int column = part * Shape::kN + place.column(j);
        if (column < channels) {
          const uint32_t bits = load_pair(cell + column);
          T pair[2];
          memcpy(pair, &bits, 4);
          sums[i][j][2 * half] += widen(pair[0]);
          sums[i][j][2 * half + 1] += widen(pair[1]);
        }
      }
    }
  }
}

// A part's outputs, act(sums), to `panel`.
template <bool kClamps, class Memory, class T>
__device__ __forceinline__ void end_sums(
    const Sums<typename Memory::Math, typename Memory::Shape>& sums,
    Shared<T> panel,
    float alpha,
    float bound) {
  using Shape = typename Memory::Shape;
  using Activations = typename Memory::Activations;
  const PairPlace<Shape> place;
#pragma unroll
  for (int i = 0; i < Shape::kGroupsM; ++i) {
#pragma unroll
    for (int j = 0; j < Shape::kGroupsN; ++j) {
      const int column = place.column(j);
      const int slice = column / kDepth<T> * Activations::kNumbers;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        T pair[2];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          float y = value_of<Activation::kLrelu>(sums[i][j][2 * half + n], alpha);
          if (kClamps) {
            y = y > bound ? bound : y < -bound ? -bound : y;
          }
          pair[n] = narrow<T>(y);
        }
        uint32_t bits;
        memcpy(&bits, pair, 4);
        view_as<uint32_t>(panel + (slice + Activations::number(place.row(i, half),
                                                               column % kDepth<T>)))[0] = bits;
      }
    }
  }
}

// Adds a layer's colours: of the 16 pixels of a warp, (g, 2q), (g, 2q + 1), (g + 8, 2q) and
// (g + 8, 2q + 1) to lane 4 g + q, as fragments have it.
template <class Memory, class T>
__device__ __forceinline__ void add_colours(
    float (&colours)[4], const Chain<T>& chain, Shared<T> shared, int video, int which, int first) {
  using Math = typename Memory::Math;
  const int lane = thread_here() % 32;
  const int warp = thread_here() / 32;
  const int channels = chain.weights.channels;
  const typename Math::template Loader<typename Memory::Activations, 1, true> loader(shared,
                                                                                     16 * warp);
  const bool is_colour = lane / 4 < kColours;
  const Global<const T> matrix =
      chain.rgb_weight + static_cast<int64_t>(video) * chain.rgb_count * kColours * channels +
      which * kColours * channels;
  const Global<const T> row = matrix + (rows_of(is_colour ? lane / 4 : 0, channels) + lane % 4 * 2);
  float sum[4] = {};
#pragma unroll 4
  for (int slice = 0; slice < slices_of<T>(channels); ++slice) {
#pragma unroll
    for (int step = 0; step < Math::kSteps; ++step) {
      typename Math::A a[1];
      typename Math::B b;
      loader.load(a, Memory::slice(first, slice), step);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = slice * kDepth<T> + step * Math::kStep + half * 8;
        b.v[half] = is_colour && column < channels ? load_pair(row + column) : 0;
      }
      Math::multiply(sum, a[0], b);
    }
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const int colour = lane % 4 * 2 + n % 2;
    if (colour < kColours) {
      const float y = sum[n] + chain.rgb_bias[which * kColours + colour];
      const float bound = chain.rgb_bound;
      colours[n] += !chain.clamps ? y : y > bound ? bound : y < -bound ? -bound : y;
    }
  }
}

// The warp's 16 pixels, a row of the tile's rectangle.
template <class Shape, class T>
__device__ __forceinline__ void store_picture(const float (&colours)[4],
                                              const Chain<T>& chain,
                                              const PixelTile<Shape>& tile) {
  using Rectangle = typename PixelTile<Shape>::Rectangle;
  static_assert(Rectangle::kWidth == 16, "a warp has one row");
  const int lane = thread_here() % 32;
  const GridExtent& grid = chain.grid;
  const int h = tile.h + thread_here() / 32;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const int w = tile.w + lane / 4 + n / 2 * 8;
    const int colour = lane % 4 * 2 + n % 2;
    if (h < grid.height && w < grid.width && colour < kColours) {
      float y = colours[n];
      if (chain.image) {
        const int by = chain.skip ? 2 : 1;
        const int64_t cell = tile.frame * (grid.height / by) * (grid.width / by) +
                             (h / by * (grid.width / by) + w / by);
        y += chain.image[cell * kColours + colour];
      }
      const int64_t pixel = tile.frame * grid.pixels() + (h * grid.width + w);
      chain.picture[pixel * kColours + colour] = y;
    }
  }
}

// What the next block adds to its first layer, from the panels from `first` on. A row's 64 bytes
// by four lanes: without bank conflicts, and in whole sectors of memory.
template <class Memory, class T>
__device__ __forceinline__ void store_next(const Chain<T>& chain,
                                           const PixelTile<typename Memory::Shape>& tile,
                                           Shared<const T> shared,
                                           int first) {
  using Activations = typename Memory::Activations;
  const int lane = thread_here() % 32;
  const int warp = thread_here() / 32;
  const int outputs = chain.weights.outputs;
  const GridExtent& grid = chain.grid;
  const int h = tile.h + warp;
  if (h >= grid.height) {
    return;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = half * 8 + lane / 4;
    const int w = tile.w + row;
    if (w < grid.width) {
      const int64_t pixel = tile.frame * grid.pixels() + (h * grid.width + w);
      const Global<T> to = chain.next + (pixel * outputs + lane % 4 * kChunk<T>);
      const Shared<const T> from = shared + Activations::offset(16 * warp + row, lane % 4);
      for (int slice = 0; slice * kDepth<T> + lane % 4 * kChunk<T> < outputs; ++slice) {
        store16(to + slice * kDepth<T>, load16(from + Memory::slice(first, slice)));
      }
    }
  }
}

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
