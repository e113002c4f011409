// factorized_modulation, first gradients.
//
// DESIGN
// With U, W as in factorized_modulation.cu, n = norm of a row and m = n + 1e-8, four kernels:
//   rows    dU = G/m - U * sum(G*U) / (n*m*m), the second term 0 where n is; dU to a workspace.
//           Then dleft = dM @ right^T with dM = dU * weight / sqrt(R): for each rank a sum over
//           the row, kRows rows at once.
//   right   dright = left^T @ dM: a thread holds V columns of kRanks ranks and walks down some
//           rows; the parts are added by sums.cuh (the third kernel).
//   weight  dweight = sum over videos, in order, of dU * (1 + M).
// Bytes: the gradient once, dU written once and read twice (from L2 where it fits), and the parts
// of dright written and read, R numbers for every rows_per_block of a column: at R = 10 each 0.3 of
// the gradient where videos are many, 2.5 where they are so few that blocks take four rows (which
// then is little, and stays in L2).
// Without demodulation dU is the gradient itself and is not copied.
//
// Shared memory: 64 + 512 numbers in `rows`. All sums are in the tensors' type.
//
// Rejected: dweight from partial sums of `rows` (B times the bytes); 1 + M as U / weight, which
// saves the product but fails where a weight is 0.

#include "factorized_modulation.h"
#include "factorized_modulation_tiles.cuh"
#include "sums.cuh"

namespace digan {
namespace {

constexpr int kRanks = 16;  // at a time; more take more turns

// The sum over a warp of four values at once: lanes 8k to 8k + 7 get that of value[k]. Each
// exchange halves what a lane holds, so it takes 6 shuffles in place of 20.
template <class T>
__device__ __forceinline__ T sum_four(const T (&value)[kRows]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool high = lane & 16;
  T a = high ? value[2] : value[0];
  T b = high ? value[3] : value[1];
  a += __shfl_xor_sync(0xffffffffu, high ? value[0] : value[2], 16);
  b += __shfl_xor_sync(0xffffffffu, high ? value[1] : value[3], 16);
  const bool odd = lane & 8;
  T sum = odd ? b : a;
  sum += __shfl_xor_sync(0xffffffffu, odd ? a : b, 8);
#pragma unroll
  for (int offset = 4; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  return sum;
}

// dU, if demodulated, and dleft.
template <class T, int V>
__global__ void __launch_bounds__(kMostThreads)
    factorized_modulation_backward_rows_kernel(Global<const T> grad,    // [B, O, I]
                                               Global<const T> weight,  // [O, I]
                                               Global<const T> left,    // [B, O, R]
                                               Global<const T> right,   // [B, R, I]
                                               Global<T> du,            // [B, O, I]
                                               Global<T> dleft,         // [B, O, R]
                                               Extents extents,
                                               int64_t row_blocks,
                                               bool demodulate) {
  DIGAN_SHARED(T, sums, 2 * kRows * kMostWarps);
  DIGAN_SHARED(T, by_rank, kMostWarps * kRanks * kRows);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const RowBlock<V> block(extents, row_blocks);
  const int64_t matrix = block.b * extents.outputs * extents.inputs;

  Tile<T, V> d = {};  // dU
  if (demodulate) {
    Tile<T, V> u = {}, g = {};
    const auto make = [&](int64_t i) {
      g = load_tile<T, V>(grad + matrix, extents, block.first, i);
      u = multiplied(modulation<T, V>(left, right, extents, block.b, block.first, i),
                     load_tile<T, V>(weight, extents, block.first, i));
    };
    T sum[2 * kRows] = {};  // U*U, then G*U
    for (int64_t i = block.begin; i < extents.inputs; i += block.chunk) {
      make(i);
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          sum[k] += u.v[k][v] * u.v[k][v];
          sum[kRows + k] += g.v[k][v] * u.v[k][v];
        }
      }
    }
    sum_over_block(sum, sums);
    for (int64_t i = block.begin; i < extents.inputs; i += block.chunk) {
      if (!block.kept) {
        make(i);
      }
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const T n = root(sum[k]);
        const T inverse = 1 / (n + static_cast<T>(kEpsilon));
        // Divided by n block.first: n*m*m may be too small for the type where s/n is not.
        const T along = n > 0 ? sum[kRows + k] / n * inverse * inverse : T(0);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          d.v[k][v] = g.v[k][v] * inverse - u.v[k][v] * along;
        }
      }
      store_tile<T, V>(du + matrix, extents, block.first, i, d);
    }
  }

  const Global<const T> written = demodulate ? Global<const T>(du) : grad;
  for (int64_t r0 = 0; r0 < extents.rank; r0 += kRanks) {
    const int ranks = static_cast<int>(extents.rank - r0 < kRanks ? extents.rank - r0 : kRanks);
    // One lane in eight owns these slots of its warp, here and below.
    for (int r = 0; r < ranks; ++r) {
      if (thread % 8 == 0) {
        by_rank[(warp * kRanks + r) * kRows + thread % 32 / 8] = 0;
      }
    }
    for (int64_t base = 0; base < extents.inputs; base += block.chunk) {
      const int64_t i = base + block.begin;
      const bool has = i < extents.inputs;
      Tile<T, V> dm = {};
      if (has) {
        if (!demodulate || !block.kept) {
          d = load_tile<T, V>(written + matrix, extents, block.first, i);
        }
        dm = multiplied(d, load_tile<T, V>(weight, extents, block.first, i));
      }
      for (int r = 0; r < ranks; ++r) {
        T sum[kRows] = {};
        if (has) {
          const Several<T, V> column =
              load_several<V>(right + ((block.b * extents.rank + r0 + r) * extents.inputs + i));
#pragma unroll
          for (int k = 0; k < kRows; ++k) {
#pragma unroll
            for (int v = 0; v < V; ++v) {
              sum[k] += dm.v[k][v] * column.v[v];
            }
          }
        }
        const T total = sum_four(sum);
        if (thread % 8 == 0) {
          by_rank[(warp * kRanks + r) * kRows + thread % 32 / 8] += total;
        }
      }
    }
    __syncthreads();
    for (int slot = thread; slot < ranks * kRows; slot += static_cast<int>(blockDim.x)) {
      const int64_t row = block.first + slot % kRows;
      T total = 0;
      for (int k = 0; k < warps; ++k) {
        total += by_rank[k * kRanks * kRows + slot];
      }
      if (row < extents.outputs) {
        dleft[(block.b * extents.outputs + row) * extents.rank + r0 + slot / kRows] =
            total * static_cast<T>(extents.scale);
      }
    }
    __syncthreads();
  }
}

// Parts of dright: sums over `rows_per_block` rows.
template <class T, int V>
__global__ void __launch_bounds__(kMostThreads, 2)
    factorized_modulation_backward_right_kernel(Global<const T> du,      // [B, O, I]
                                                Global<const T> weight,  // [O, I]
                                                Global<const T> left,    // [B, O, R]
                                                Global<T> parts,         // [B, row blocks, R, I]
                                                Extents extents,
                                                int64_t rows_per_block,
                                                int64_t row_blocks,
                                                int64_t column_blocks,
                                                int64_t rank_blocks) {
  int64_t block = blockIdx.x;
  const int64_t i = (block % column_blocks * blockDim.x + threadIdx.x) * V;
  block /= column_blocks;
  const int64_t r0 = block % rank_blocks * kRanks;
  block /= rank_blocks;
  const int64_t first = block % row_blocks * rows_per_block;
  const int64_t b = block / row_blocks;
  if (i >= extents.inputs) {
    return;
  }
  const int64_t last =
      first + rows_per_block < extents.outputs ? first + rows_per_block : extents.outputs;
  T sum[kRanks][V] = {};
  for (int64_t o = first; o < last; ++o) {
    const int64_t row = b * extents.outputs + o;
    Several<T, V> dm = load_several<V>(du + (row * extents.inputs + i));
    const Several<T, V> w = load_several<V>(weight + (o * extents.inputs + i));
#pragma unroll
    for (int v = 0; v < V; ++v) {
      dm.v[v] *= w.v[v];
    }
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      if (r0 + r < extents.rank) {
        const T factor = left[row * extents.rank + r0 + r];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          sum[r][v] += factor * dm.v[v];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRanks; ++r) {
    if (r0 + r < extents.rank) {
      Several<T, V> part;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        part.v[v] = sum[r][v] * static_cast<T>(extents.scale);
      }
      const int64_t rank = (b * row_blocks + first / rows_per_block) * extents.rank + r0 + r;
      store_several(parts + (rank * extents.inputs + i), part);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMostThreads)
    factorized_modulation_backward_weight_kernel(Global<const T> du,     // [B, O, I]
                                                 Global<const T> left,   // [B, O, R]
                                                 Global<const T> right,  // [B, R, I]
                                                 Global<T> dweight,      // [O, I]
                                                 Extents extents,
                                                 int64_t column_blocks) {
  const int64_t i = blockIdx.x % column_blocks * blockDim.x + threadIdx.x;
  const int64_t first = blockIdx.x / column_blocks * kRows;
  if (i >= extents.inputs) {
    return;
  }
  Tile<T, 1> sum = {};
  for (int64_t b = 0; b < extents.videos; ++b) {
    const Tile<T, 1> d =
        load_tile<T, 1>(du + b * extents.outputs * extents.inputs, extents, first, i);
    const Tile<T, 1> m = modulation<T, 1>(left, right, extents, b, first, i);
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      sum.v[k][0] += d.v[k][0] * m.v[k][0];
    }
  }
  store_tile<T, 1>(dweight, extents, first, i, sum);
}

// How the sums of dright are cut; the same on every GPU, as it decides their order.
struct RightCut {
  int vector = 1;
  unsigned threads = 32;
  int64_t rows_per_block = 32;
  int64_t row_blocks = 0, column_blocks = 0, rank_blocks = 0;
};

RightCut right_cut(const FactorizedModulationBackwardArguments& a) {
  RightCut cut;
  cut.vector = vector_of(a.number, a.inputs,
                         is_aligned(a.grad) && is_aligned(a.weight) && is_aligned(a.right));
  cut.threads = threads_for(a.inputs, cut.vector);
  cut.column_blocks = ceil_div(a.inputs, static_cast<int64_t>(cut.threads) * cut.vector);
  cut.rank_blocks = ceil_div(a.rank, kRanks);
  const int64_t side_by_side = a.videos * cut.column_blocks * cut.rank_blocks;
  while (cut.rows_per_block > 4 && side_by_side * ceil_div(a.outputs, cut.rows_per_block) < 1024) {
    cut.rows_per_block /= 2;
  }
  cut.row_blocks = ceil_div(a.outputs, cut.rows_per_block);
  return cut;
}

}  // namespace

int64_t factorized_modulation_right_parts(const FactorizedModulationBackwardArguments& a) {
  return a.videos * right_cut(a).row_blocks * a.rank * a.inputs;
}

cudaError_t launch_factorized_modulation_backward(const FactorizedModulationBackwardArguments& a,
                                                  cudaStream_t stream) {
  if (!is_served(a.number, a.rank)) {
    return cudaErrorInvalidValue;
  }
  const Extents extents = extents_of(a);
  const RightCut cut = right_cut(a);
  const int64_t row_blocks = ceil_div(a.outputs, kRows);
  const int64_t blocks = a.videos * row_blocks;
  const int64_t right_blocks = a.videos * cut.row_blocks * cut.column_blocks * cut.rank_blocks;
  const int64_t weight_columns = ceil_div(a.inputs, static_cast<int64_t>(threads_for(a.inputs, 1)));
  const int64_t weight_blocks = row_blocks * weight_columns;
  if (blocks > kMaxBlocks || right_blocks > kMaxBlocks || weight_blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_vector(a.number, cut.vector, [&](auto t, auto v) {
    using T = decltype(t);
    constexpr int V = decltype(v)::value;
    const T* const grad = static_cast<const T*>(a.grad);
    const T* const weight = static_cast<const T*>(a.weight);
    const T* const left = static_cast<const T*>(a.left);
    const T* const right = static_cast<const T*>(a.right);
    T* const written = static_cast<T*>(a.du);
    const T* const du = a.demodulate ? written : grad;
    cudaError_t error = cudaSuccess;
    if (blocks > 0) {
      error =
          DIGAN_LAUNCH((factorized_modulation_backward_rows_kernel<T, V>),
                       static_cast<unsigned>(blocks), cut.threads, stream, grad, weight, left,
                       right, written, static_cast<T*>(a.dleft), extents, row_blocks, a.demodulate);
    }
    if (error == cudaSuccess && right_blocks > 0) {
      error = DIGAN_LAUNCH((factorized_modulation_backward_right_kernel<T, V>),
                           static_cast<unsigned>(right_blocks), cut.threads, stream, du, weight,
                           left, static_cast<T*>(a.right_parts), extents, cut.rows_per_block,
                           cut.row_blocks, cut.column_blocks, cut.rank_blocks);
    }
    if (error == cudaSuccess && weight_blocks > 0) {
      error = DIGAN_LAUNCH((factorized_modulation_backward_weight_kernel<T>),
                           static_cast<unsigned>(weight_blocks), threads_for(a.inputs, 1), stream,
                           du, left, right, static_cast<T*>(a.dweight), extents, weight_columns);
    }
    if (error != cudaSuccess) {
      return error;
    }
    // Without outputs dright is zeros.
    const int64_t ranks = a.rank * a.inputs;
    const SumTask<T, T> tasks[] = {{static_cast<const T*>(a.right_parts), static_cast<T*>(a.dright),
                                    a.videos, cut.row_blocks, ranks, ranks, 1}};
    return sum_parts(tasks, stream);
  });
}

}  // namespace digan
