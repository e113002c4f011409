// What a block of coord_chain does with its tile of pixels, step by step; see coord_chain.cu.

#pragma once

#include <cstring>

#include "gemm/embedding.cuh"
#include "gemm/problem.cuh"
#include "gemm/weight_stream.cuh"

namespace digan::gemm {

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

}  // namespace digan::gemm
