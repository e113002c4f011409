// modulated_linear with few outputs, forward.
//
// DESIGN
// With O <= 4 a number of x meets at most four multiply-adds, far from what would feed tensor
// cores: the kernel is bound by reading x, its floor B * P * I numbers over the memory's rate.
// Eight neighbouring lanes share a row, 16 bytes each, so that a step reads 128 contiguous bytes
// of it. A thread holds four rows, four loads under way, and the weights that it reads from shared
// memory serve all four. The eight lanes' sums meet in exchanges that halve what a lane holds: 14
// shuffles for 16 sums leave each lane one row's two outputs, which it activates and writes.
//
// A block takes tiles of 128 rows of one video. Its weights lie in shared memory as Wide, in
// 16-byte parts, a step's parts of one output side by side: the lanes of a row read 128 bytes
// without a bank conflict, and the other rows of a warp read the same ones. Where I is too long
// for the 16 KiB, the weights come in chunks, again for each tile.
//
// Moved: x once; the weights once a block, from L2: O / 128 of its x, and a quarter of that for
// the four tiles that long videos give a block; y, and z if kept. Issued: for bf16 and O = 3 a
// step is 177 instructions of a warp for 2048 bytes, 45 % of what an H200 issues while it reads
// them. Registers: 80, so that three blocks share a multiprocessor and 48 KiB of x are on their
// way; two of float64.
//
// Rejected: one row a thread (each then reads the weights from shared memory for itself); a kernel
// for each O (only its inner loop is compiled four times, behind a uniform branch).

#include "modulated_linear_narrow.h"

#include <algorithm>

#include "activation.cuh"
#include "widen.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 8;  // that share a row
constexpr int kRows = 4;   // of a thread
constexpr int kWarpRows = 32 / kLanes * kRows;
constexpr int kBlockRows = kThreads / kLanes * kRows;
constexpr int kStagedBytes = 16384;

// Blocks that fill any device; beyond that, a block takes more tiles.
constexpr int64_t kFullGrid = 1024;
constexpr int64_t kMostTiles = 4;

// Blocks of a multiprocessor, for the compiler to keep the registers below.
template <class T>
constexpr int kBlocks = sizeof(T) == 8 ? 2 : 3;

struct Extents {
  int64_t rows;
  int inputs, outputs;
  int tiles, blocks;  // of a video
};

// The weights of one video in shared memory, a chunk of columns at a time.
template <class T, int V>
struct Staged {
  using W = Wide<T>;
  static constexpr int kColumns = kStagedBytes / (kMostOutputs * static_cast<int>(sizeof(W)));
  static constexpr int kPieces = kColumns / V;
  static constexpr int kPart = V == 1 ? 1 : 16 / static_cast<int>(sizeof(W));
  static constexpr int kParts = V / kPart;

  Shared<W> memory;  // [kMostOutputs, kParts, kPieces, kPart]

  __device__ __forceinline__ void write(Global<const T> weight,  // [O, I], from the first column
                                        int inputs,
                                        int outputs,
                                        int pieces) const {
#pragma unroll 1
    for (int k = static_cast<int>(threadIdx.x); k < outputs * pieces; k += kThreads) {
      const int o = k / pieces;
      const int piece = k - o * pieces;
      W wide[V];
      widen_several<T, V>(
          load_several<V, T>(weight + (static_cast<int64_t>(o) * inputs + piece * V)), wide);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int at = ((o * kParts + part) * kPieces + piece) * kPart;
        if constexpr (V == 1) {
          memory[at] = wide[0];
        } else {
          Vec16<W> numbers;
#pragma unroll
          for (int i = 0; i < kPart; ++i) {
            numbers.v[i] = wide[part * kPart + i];
          }
          store16(memory + at, numbers);
        }
      }
    }
  }

  __device__ __forceinline__ void read(int o, int part, int piece, W (&w)[kPart]) const {
    const int at = ((o * kParts + part) * kPieces + piece) * kPart;
    if constexpr (V == 1) {
      w[0] = memory[at];
    } else {
      const Vec16<W> numbers = load16(memory + at);
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        w[i] = numbers.v[i];
      }
    }
  }
};

// Adds the products of a thread's pieces of a chunk; `row` then points behind them.
template <int kOutputs, class T, int V>
__device__ __forceinline__ void add_products(const Staged<T, V>& weights,
                                             int pieces,
                                             Global<const T> (&row)[kRows],
                                             Wide<T> (&sum)[kRows][kMostOutputs]) {
  using Weights = Staged<T, V>;
  constexpr int kPart = Weights::kPart;
#pragma unroll 1
  for (int piece = static_cast<int>(threadIdx.x) % kLanes; piece < pieces; piece += kLanes) {
    Several<T, V> x[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      x[r] = load_several<V, T>(row[r]);
      row[r] += kLanes * V;
    }
#pragma unroll
    for (int part = 0; part < Weights::kParts; ++part) {
      Wide<T> w[kOutputs][kPart];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        weights.read(o, part, piece, w[o]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < kPart; ++i) {
          const Wide<T> number = widen(x[r].v[part * kPart + i]);
#pragma unroll
          for (int o = 0; o < kOutputs; ++o) {
            sum[r][o] += number * w[o][i];
          }
        }
      }
    }
  }
}

// The sums over the eight lanes of a row: lane l gets those of row l / 2 and of two outputs, from
// 2 * (l % 2).
template <class W>
__device__ __forceinline__ void sum_over_lanes(const W (&sum)[kRows][kMostOutputs], W (&own)[2]) {
  static_assert(kLanes == 8 && kRows == 4 && kMostOutputs == 4, "three exchanges of halves");
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  W half[2][kMostOutputs];
  const bool rows_high = lane & 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int o = 0; o < kMostOutputs; ++o) {
      half[r][o] = rows_high ? sum[r + 2][o] : sum[r][o];
      half[r][o] += __shfl_xor_sync(0xffffffffu, rows_high ? sum[r][o] : sum[r + 2][o], 4);
    }
  }
  W row[kMostOutputs];
  const bool row_odd = lane & 2;
#pragma unroll
  for (int o = 0; o < kMostOutputs; ++o) {
    row[o] = row_odd ? half[1][o] : half[0][o];
    row[o] += __shfl_xor_sync(0xffffffffu, row_odd ? half[0][o] : half[1][o], 2);
  }
  const bool outputs_high = lane & 1;
#pragma unroll
  for (int o = 0; o < 2; ++o) {
    own[o] = outputs_high ? row[o + 2] : row[o];
    own[o] += __shfl_xor_sync(0xffffffffu, outputs_high ? row[o] : row[o + 2], 1);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    modulated_linear_narrow_kernel(Global<const T> x,           // [B, P, I]
                                   Global<const T> weight,      // [B, O, I]
                                   Global<const Wide<T>> bias,  // [O] or null
                                   Global<T> y,                 // [B, P, O]
                                   Global<T> z,                 // [B, P, O] or null
                                   Extents extents,
                                   Pointwise pointwise) {
  using W = Wide<T>;
  using Weights = Staged<T, V>;
  DIGAN_SHARED(W, staged, kMostOutputs * Weights::kColumns);
  const Weights weights{staged};
  const int thread = static_cast<int>(threadIdx.x);
  const int outputs = extents.outputs;
  const int b = static_cast<int>(blockIdx.x) / extents.blocks;
  const int64_t before = b * extents.rows;  // rows of other videos
  const bool whole = extents.inputs <= Weights::kColumns;
  bool fresh = true;
  for (int tile = static_cast<int>(blockIdx.x) - b * extents.blocks; tile < extents.tiles;
       tile += extents.blocks) {
    const int64_t first = static_cast<int64_t>(tile) * kBlockRows + thread / 32 * kWarpRows;
    // Rows beyond the last stand on the last, and are not stored.
    Global<const T> row[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t p = first + thread % 32 / kLanes * kRows + r;
      const int64_t own = before + (p < extents.rows ? p : extents.rows - 1);
      row[r] = x + (own * extents.inputs + thread % kLanes * V);
    }
    W sum[kRows][kMostOutputs] = {};
    for (int base = 0; base < extents.inputs; base += Weights::kColumns) {
      const int left = extents.inputs - base;
      const int pieces = (left < Weights::kColumns ? left : Weights::kColumns) / V;
      if (!whole || fresh) {
        fresh = false;
        __syncthreads();
        const int64_t matrix = static_cast<int64_t>(b) * outputs * extents.inputs;
        weights.write(weight + (matrix + base), extents.inputs, outputs, pieces);
        __syncthreads();
      }
      if (first >= extents.rows) {
        continue;
      }
      switch (outputs) {
        case 1:
          add_products<1>(weights, pieces, row, sum);
          break;
        case 2:
          add_products<2>(weights, pieces, row, sum);
          break;
        case 3:
          add_products<3>(weights, pieces, row, sum);
          break;
        default:
          add_products<4>(weights, pieces, row, sum);
      }
    }
    if (first >= extents.rows) {
      continue;
    }
    W own[2];
    sum_over_lanes(sum, own);
    const int64_t p = first + thread % 32 / 2;
    const int o = thread % 2 * 2;
    const int64_t at = (before + p) * outputs + o;
    bool has[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      has[i] = p < extents.rows && o + i < outputs;
      if (has[i] && bias != nullptr) {
        own[i] += bias[o + i];
      }
      if (has[i] && z != nullptr) {
        z[at + i] = narrow<T>(own[i]);
      }
    }
    Epilogue<T>(pointwise).apply(own);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (has[i]) {
        y[at + i] = narrow<T>(own[i]);
      }
    }
  }
}

template <class T, int V>
cudaError_t run(const ModulatedLinearNarrowArguments& a,
                const Extents& extents,
                cudaStream_t stream) {
  return DIGAN_LAUNCH((modulated_linear_narrow_kernel<T, V>),
                      static_cast<unsigned>(a.videos) * extents.blocks, kThreads, stream,
                      static_cast<const T*>(a.x), static_cast<const T*>(a.weight),
                      static_cast<const Wide<T>*>(a.bias), static_cast<T*>(a.y),
                      static_cast<T*>(a.z), extents, a.pointwise);
}

}  // namespace

cudaError_t launch_modulated_linear_narrow(const ModulatedLinearNarrowArguments& a,
                                           cudaStream_t stream) {
  if (a.outputs > kMostOutputs) {
    return cudaErrorInvalidValue;
  }
  if (a.videos == 0 || a.rows == 0 || a.outputs == 0) {
    return cudaSuccess;
  }
  const int64_t tiles = ceil_div(a.rows, kBlockRows);
  const int64_t blocks =
      std::min(tiles, std::max(ceil_div(kFullGrid, a.videos), ceil_div(tiles, kMostTiles)));
  if (a.videos * blocks > kMaxBlocks || tiles > kMaxBlocks / 2 || a.inputs > kMaxBlocks / 2) {
    return cudaErrorInvalidConfiguration;
  }
  const Extents extents = {a.rows, static_cast<int>(a.inputs), static_cast<int>(a.outputs),
                           static_cast<int>(tiles), static_cast<int>(blocks)};
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    return a.inputs % kVector<T> == 0 && is_aligned(a.x) && is_aligned(a.weight)
               ? run<T, kVector<T>>(a, extents, stream)
               : run<T, 1>(a, extents, stream);
  });
}

}  // namespace digan
