// modulated_linear with few outputs, first gradients.
//
// DESIGN
// With dA = grad * act'(.), rounded to the tensors' type: dx = dA W, dweight = dA^T x and
// dbias = sum of dA. One kernel reads x and grad once and writes dx once; it is bound by that, its
// floor 2 * B * P * I numbers over the memory's rate.
//
// A thread keeps one 16-byte piece of columns: the weights and the running dweight of all outputs
// in registers (8 * V numbers). Up to 64 threads side by side have a row, the groups of such
// threads in a block have different rows, and all walk down some rows of one video, four loads of
// x under way. dA is made once for each row and output: 256 threads make those of 64 rows, from a
// gradient and a kept number that were asked for a tile earlier, and leave them as Wide in shared
// memory (double-buffered: one barrier a tile), where all threads of a row read them at one
// address. At the end the groups' dweight are added through shared memory, an output at a time.
// Blocks write partial sums, O * (I + 1) numbers each, which sums.cuh adds: 0.6 % of the bytes of
// bf16 where a block has 512 rows, 5 % with the 64 that short videos leave it (and little, in L2,
// then). Rows longer than 64 pieces take several blocks, each with all of dA; the first sums the
// bias.
//
// Second stage: one launch; two of 16-bit tensors, as dbias is float32. Issued: for bf16 and O = 3
// a row is 74 instructions of a warp for 1024 bytes, 37 % of what an H200 issues while it moves
// them. Shared memory: 11 KiB. Registers: 128 at most, so that two blocks share a multiprocessor.
//
// Rejected: dA by every thread of a row (64 times its loads and activations); dx and dweight by two
// kernels (no fewer bytes, dA made twice, a launch more).

#include <algorithm>

#include "activation.cuh"
#include "modulated_linear_narrow.h"
#include "sums.cuh"
#include "widen.cuh"

namespace digan {
namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = kThreads / kMostOutputs;
constexpr int kMostPieces = 64;  // of a row, side by side in a block
constexpr int kBatch = 4;        // rows whose loads are under way together
constexpr int64_t kMostRows = 1024;
constexpr int64_t kFullGrid = 1024;

// How the work is cut; the same on every GPU, as it decides the order of the sums.
struct Cut {
  int64_t rows;
  int64_t inputs;
  int outputs;
  int rows_per_block;  // a multiple of kTileRows
  int row_blocks;      // of a video
  int column_blocks;   // of a row
  int pieces;          // of a row, side by side in a block
  int groups;          // of threads, each with rows of its own
};

Cut cut_of(const ModulatedLinearNarrowBackwardArguments& a, int vector) {
  Cut cut;
  cut.rows = a.rows;
  cut.inputs = a.inputs;
  cut.outputs = static_cast<int>(a.outputs);
  // Without inputs there is still a bias.
  const int64_t pieces = std::max<int64_t>(a.inputs / vector, 1);
  const int64_t column_blocks = ceil_div(pieces, kMostPieces);
  cut.column_blocks = static_cast<int>(column_blocks);
  cut.pieces = static_cast<int>(ceil_div(pieces, column_blocks));
  cut.groups = std::min(kThreads / cut.pieces, kTileRows);
  int64_t rows_per_block = kMostRows;
  while (rows_per_block > kTileRows &&
         a.videos * column_blocks * ceil_div(a.rows, rows_per_block) < kFullGrid) {
    rows_per_block /= 2;
  }
  cut.rows_per_block = static_cast<int>(rows_per_block);
  cut.row_blocks = static_cast<int>(ceil_div(a.rows, rows_per_block));
  return cut;
}

// What a thread has of its columns: kMostOutputs rows of the weight, and of its gradient.
template <class T, int V>
struct Columns {
  using W = Wide<T>;
  W weight[kMostOutputs][V] = {};
  W sum[kMostOutputs][V] = {};
};

// kRows rows, `step` numbers apart in x and dx and `da_step` in dA.
template <int kOutputs, int kRows, class T, int V>
__device__ __forceinline__ void pull_back_rows(Global<const T> x,
                                               Global<T> dx,
                                               int64_t step,
                                               Shared<const Wide<T>> da,
                                               int da_step,
                                               Columns<T, V>& columns) {
  using W = Wide<T>;
  constexpr int kPart = Vec16<W>::kCount;
  Several<T, V> loaded[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    loaded[k] = load_several<V, T>(x + k * step);
  }
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    W d[kMostOutputs];
#pragma unroll
    for (int part = 0; part * kPart < kOutputs; ++part) {
      const Vec16<W> numbers = load16(da + (k * da_step + part * kPart));
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        d[part * kPart + i] = numbers.v[i];
      }
    }
    Several<T, V> result;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const W number = widen(loaded[k].v[v]);
      W total = 0;
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        columns.sum[o][v] += d[o] * number;
        total += d[o] * columns.weight[o][v];
      }
      result.v[v] = narrow<T>(total);
    }
    store_several<V, T>(dx + k * step, result);
  }
}

// The rows of a tile that are this thread's: every groups-th from `row`.
template <int kOutputs, class T, int V>
__device__ __forceinline__ void pull_back_tile(Global<const T> x,  // from the thread's columns of
                                               Global<T> dx,       // the tile's first row
                                               Shared<const Wide<T>> da,
                                               const Cut& cut,
                                               int row,
                                               int rows,
                                               Columns<T, V>& columns) {
  const int64_t step = cut.groups * cut.inputs;
  const int da_step = cut.groups * kMostOutputs;
  x += row * cut.inputs;
  dx += row * cut.inputs;
  da += row * kMostOutputs;
#pragma unroll 1
  for (; row + (kBatch - 1) * cut.groups < rows; row += kBatch * cut.groups) {
    pull_back_rows<kOutputs, kBatch>(x, dx, step, da, da_step, columns);
    x += kBatch * step;
    dx += kBatch * step;
    da += kBatch * da_step;
  }
#pragma unroll 1
  for (; row < rows; row += cut.groups) {
    pull_back_rows<kOutputs, 1>(x, dx, step, da, da_step, columns);
    x += step;
    dx += step;
    da += da_step;
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads, 2)
    modulated_linear_narrow_backward_kernel(Global<const T> grad,           // [B, P, O]
                                            Global<const T> kept,           // [B, P, O] or null
                                            Global<const T> x,              // [B, P, I]
                                            Global<const T> weight,         // [B, O, I]
                                            Global<T> dx,                   // [B, P, I]
                                            Global<Wide<T>> dweight_parts,  // [B, row blocks, O, I]
                                            Global<Wide<T>> dbias_parts,    // [B, row blocks, O]
                                            Cut cut,
                                            bool kept_is_output,
                                            bool has_bias,
                                            Pointwise pointwise) {
  using W = Wide<T>;
  // Neighbouring threads read neighbouring columns in order, V threads a piece: no bank twice.
  constexpr int kStride = kThreads + (V == 1 ? 0 : 128 / static_cast<int>(sizeof(W)) / V);
  DIGAN_SHARED(W, staged, 2 * kThreads);
  DIGAN_SHARED(W, added, V * kStride);
  DIGAN_SHARED(W, bias_sums, kThreads / 32 * kMostOutputs);
  const int thread = static_cast<int>(threadIdx.x);
  const int column_block = static_cast<int>(blockIdx.x) % cut.column_blocks;
  const int part = static_cast<int>(blockIdx.x) / cut.column_blocks;  // of the sums
  const int b = part / cut.row_blocks;
  const int64_t first = static_cast<int64_t>(part % cut.row_blocks) * cut.rows_per_block;
  const int rows = cut.rows - first < cut.rows_per_block ? static_cast<int>(cut.rows - first)
                                                         : cut.rows_per_block;
  const int64_t before = b * cut.rows + first;

  const int group = thread / cut.pieces;
  const int64_t block_column = static_cast<int64_t>(column_block) * cut.pieces * V;
  const int64_t column = block_column + thread % cut.pieces * V;
  const bool has_columns = group < cut.groups && column < cut.inputs;
  Columns<T, V> columns;
  if (has_columns) {
#pragma unroll
    for (int o = 0; o < kMostOutputs; ++o) {
      if (o < cut.outputs) {
        const int64_t row = static_cast<int64_t>(b) * cut.outputs + o;
        widen_several<T, V>(load_several<V, T>(weight + (row * cut.inputs + column)),
                            columns.weight[o]);
      }
    }
  }

  // This thread's dA of a tile.
  const int own_row = thread / kMostOutputs;
  const int own_output = thread % kMostOutputs;
  W own_grad[1], own_kept[1];
  const auto load = [&](int tile) {
    own_grad[0] = 0;
    own_kept[0] = 0;
    if (tile + own_row < rows && own_output < cut.outputs) {
      const int64_t at = (before + tile + own_row) * cut.outputs + own_output;
      own_grad[0] = widen(grad[at]);
      if (kept != nullptr) {
        own_kept[0] = widen(kept[at]);
      }
    }
  };
  load(0);
  W bias_sum = 0;
  int buffer = 0;
  for (int tile = 0; tile < rows; tile += kTileRows) {
    const Epilogue<T> epilogue(pointwise);
    if (kept_is_output) {
      epilogue.pull_back_from_output(own_grad, own_kept);
    } else {
      epilogue.pull_back(own_grad, own_kept);
    }
    const W da = widen(narrow<T>(own_grad[0]));
    bias_sum += da;
    staged[buffer + thread] = da;
    __syncthreads();
    load(tile + kTileRows);
    if (has_columns) {
      const int64_t at = (before + tile) * cut.inputs + column;
      const int left = rows - tile < kTileRows ? rows - tile : kTileRows;
      const Shared<const W> from = staged + buffer;
      switch (cut.outputs) {
        case 1:
          pull_back_tile<1, T, V>(x + at, dx + at, from, cut, group, left, columns);
          break;
        case 2:
          pull_back_tile<2, T, V>(x + at, dx + at, from, cut, group, left, columns);
          break;
        case 3:
          pull_back_tile<3, T, V>(x + at, dx + at, from, cut, group, left, columns);
          break;
        default:
          pull_back_tile<4, T, V>(x + at, dx + at, from, cut, group, left, columns);
      }
    }
    buffer = kThreads - buffer;
  }

  // The groups' sums, one output after another.
  const int64_t columns_left = cut.inputs - block_column;
  const int block_columns =
      columns_left < cut.pieces * V ? static_cast<int>(columns_left) : cut.pieces * V;
#pragma unroll
  for (int o = 0; o < kMostOutputs; ++o) {
    if (o < cut.outputs) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        added[v * kStride + thread] = columns.sum[o][v];
      }
      __syncthreads();
      const int64_t row = static_cast<int64_t>(part) * cut.outputs + o;
      for (int i = thread; i < block_columns; i += kThreads) {
        W total = 0;
        for (int k = 0; k < cut.groups; ++k) {
          total += added[i % V * kStride + k * cut.pieces + i / V];
        }
        dweight_parts[row * cut.inputs + block_column + i] = total;
      }
      __syncthreads();
    }
  }
  if (!has_bias || column_block != 0) {
    return;
  }
#pragma unroll
  for (int offset = 16; offset >= kMostOutputs; offset /= 2) {
    bias_sum += __shfl_xor_sync(0xffffffffu, bias_sum, offset);
  }
  if (thread % 32 < kMostOutputs) {
    bias_sums[thread / 32 * kMostOutputs + thread % 32] = bias_sum;
  }
  __syncthreads();
  if (thread < cut.outputs) {
    W total = 0;
#pragma unroll
    for (int warp = 0; warp < kThreads / 32; ++warp) {
      total += bias_sums[warp * kMostOutputs + thread];
    }
    dbias_parts[static_cast<int64_t>(part) * cut.outputs + thread] = total;
  }
}

int vector_of(const ModulatedLinearNarrowBackwardArguments& a) {
  const int vector = 16 / size_of(a.number);
  return a.inputs % vector == 0 && is_aligned(a.x) && is_aligned(a.weight) && is_aligned(a.dx)
             ? vector
             : 1;
}

template <class T, int V>
cudaError_t run(const ModulatedLinearNarrowBackwardArguments& a,
                const Cut& cut,
                cudaStream_t stream) {
  using W = Wide<T>;
  const int64_t parts = a.videos * cut.row_blocks;
  W* const dweight_parts = static_cast<W*>(a.workspace);
  W* const dbias_parts = parts > 0 ? dweight_parts + parts * a.outputs * a.inputs : dweight_parts;
  if (parts > 0) {
    const cudaError_t error = DIGAN_LAUNCH(
        (modulated_linear_narrow_backward_kernel<T, V>),
        static_cast<unsigned>(parts * cut.column_blocks), kThreads, stream,
        static_cast<const T*>(a.grad), static_cast<const T*>(a.kept), static_cast<const T*>(a.x),
        static_cast<const T*>(a.weight), static_cast<T*>(a.dx), dweight_parts, dbias_parts, cut,
        a.kept_is_output, a.dbias != nullptr, a.pointwise);
    if (error != cudaSuccess) {
      return error;
    }
  }
  const int64_t matrix = a.outputs * a.inputs;
  const SumTask<W, T> of_weight = {
      dweight_parts, static_cast<T*>(a.dweight), a.videos, cut.row_blocks, matrix, matrix, 1};
  const SumTask<W, W> of_bias = {
      dbias_parts, static_cast<W*>(a.dbias), 1, parts, a.dbias == nullptr ? 0 : a.outputs, 0, 1};
  if constexpr (sizeof(T) == sizeof(W)) {
    const SumTask<W, T> tasks[] = {of_weight, of_bias};
    return sum_parts(tasks, stream);
  } else {
    const SumTask<W, T> weight_tasks[] = {of_weight};
    const cudaError_t error = sum_parts(weight_tasks, stream);
    const SumTask<W, W> bias_tasks[] = {of_bias};
    return error != cudaSuccess ? error : sum_parts(bias_tasks, stream);
  }
}

}  // namespace

int64_t modulated_linear_narrow_workspace(const ModulatedLinearNarrowBackwardArguments& a) {
  return a.videos * cut_of(a, vector_of(a)).row_blocks * a.outputs * (a.inputs + 1) *
         (a.number == Number::kF64 ? 8 : 4);
}

cudaError_t launch_modulated_linear_narrow_backward(const ModulatedLinearNarrowBackwardArguments& a,
                                                    cudaStream_t stream) {
  if (a.outputs > kMostOutputs) {
    return cudaErrorInvalidValue;
  }
  const int64_t rows = a.videos * a.rows;
  if (a.outputs == 0) {  // dx is a sum of nothing
    const auto bytes = static_cast<size_t>(rows * a.inputs * size_of(a.number));
    return bytes == 0 ? cudaSuccess : cudaMemsetAsync(a.dx, 0, bytes, stream);
  }
  const bool linear = a.pointwise.activation == Activation::kLinear && !a.pointwise.clamps;
  if (rows > 0 && a.kept == nullptr && !linear) {
    return cudaErrorInvalidValue;
  }
  if (rows > kMaxBlocks || a.inputs > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  const int vector = vector_of(a);
  const Cut cut = cut_of(a, vector);
  if (a.videos * cut.row_blocks * cut.column_blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_number(a.number, [&](auto number) {
    using T = decltype(number);
    return vector == 1 ? run<T, 1>(a, cut, stream) : run<T, kVector<T>>(a, cut, stream);
  });
}

}  // namespace digan
