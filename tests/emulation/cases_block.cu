// Shared memory, barriers and global memory, right and wrong.

#include "cases.h"

namespace cases {
namespace {

using digan::Global;
using digan::load16;
using digan::store16;
using digan::Vec16;

constexpr int kMost = 256;

enum class Sync { kBarrier, kWarp, kNothing };

// Each thread gets what the thread `distance` further on read.
template <int kDistance, Sync kSync>
__global__ void rotate_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, kMost);
  const int i = static_cast<int>(threadIdx.x);
  const int64_t at = static_cast<int64_t>(blockIdx.x) * count + i;
  tile[i] = in[at];
  if (kSync == Sync::kBarrier) {
    __syncthreads();
  } else if (kSync == Sync::kWarp) {
    __syncwarp();
  }
  out[at] = tile[(i + kDistance) % count];
}

// The second tile overwrites the first while others may still read it.
template <bool kBarrier>
__global__ void two_tiles_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, kMost);
  const int i = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 2; ++round) {
    tile[i] = in[round * count + i];
    __syncthreads();
    out[round * count + i] = tile[count - 1 - i];
    if (kBarrier) {
      __syncthreads();
    }
  }
}

// Poison, if nothing else: what an earlier block left is not there.
__global__ void reads_what_nobody_wrote_kernel(Global<const uint32_t> in,
                                               Global<uint32_t> out,
                                               int count) {
  DIGAN_SHARED(uint32_t, tile, kMost);
  const int i = static_cast<int>(threadIdx.x);
  if (i > 0) {
    tile[i] = in[i];
  }
  __syncthreads();
  out[i] = tile[count - 1 - i];
}

__global__ void beyond_shared_kernel(Global<const uint32_t> in, Global<uint32_t>, int) {
  DIGAN_SHARED(uint32_t, tile, kMost);
  tile[kMost - 31 + static_cast<int>(threadIdx.x)] = in[threadIdx.x];
}

__global__ void half_at_a_barrier_kernel(Global<const uint32_t>, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count / 2) {
    __syncthreads();
  }
  out[i] = 1;
}

__global__ void two_barriers_kernel(Global<const uint32_t>, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count / 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[i] = 1;
}

// ---------------------------------------------------------------- global memory

__global__ void copy16_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    store16(out + i, load16(in + i));
  }
}

template <int kShift>
__global__ void copy_shifted_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    out[i] = in[i + kShift];
  }
}

__global__ void writes_beyond_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  out[i + count - 1] = in[i];
}

__global__ void misaligned_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  store16(out, load16(in + 2));
}

__global__ void reads_unwritten_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = in[i] + out[(i + 1) % count];
}

__global__ void two_write_one_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  out[threadIdx.x] = in[threadIdx.x];
}

// An array of the thread's own, one entry too short for its last thread.
__global__ void beyond_its_array_kernel(Global<const uint32_t> in,
                                        Global<uint32_t> out,
                                        int count) {
  uint32_t mine[3] = {1, 2, 3};
  const int i = static_cast<int>(threadIdx.x);
  mine[i * 4 / count] = in[i];
  out[i] = mine[0] + mine[1] + mine[2];
}

// ---------------------------------------------------------------- counted by hand

// Per warp: two accesses to shared memory, the stride of the write given by `count`.
__global__ void strided_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, 32 * 32);
  const int i = static_cast<int>(threadIdx.x);
  tile[i * count % 1024] = in[i];
  __syncthreads();
  out[i] = tile[i * count % 1024];
}

__global__ void strided16_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, 32 * 32);
  const int i = static_cast<int>(threadIdx.x);
  store16(tile + i * count % 1024, load16(in + 4 * i));
  __syncthreads();
  store16(out + 4 * i, load16(tile + i * count % 1024));
}

}  // namespace

void add_block_cases(Table& table) {
  table["rotate_by_1"] = rotate_kernel<1, Sync::kBarrier>;
  table["rotate_by_32"] = rotate_kernel<32, Sync::kBarrier>;
  table["rotate_by_1_warp"] = rotate_kernel<1, Sync::kWarp>;
  table["rotate_by_1_unordered"] = rotate_kernel<1, Sync::kNothing>;
  table["rotate_by_32_warp"] = rotate_kernel<32, Sync::kWarp>;
  table["rotate_by_32_unordered"] = rotate_kernel<32, Sync::kNothing>;
  table["two_tiles"] = two_tiles_kernel<true>;
  table["two_tiles_unordered"] = two_tiles_kernel<false>;
  table["reads_what_nobody_wrote"] = reads_what_nobody_wrote_kernel;
  table["beyond_shared"] = beyond_shared_kernel;
  table["half_at_a_barrier"] = half_at_a_barrier_kernel;
  table["two_barriers"] = two_barriers_kernel;
  table["copy16"] = copy16_kernel;
  table["copy"] = copy_shifted_kernel<0>;
  table["copy_from_beyond"] = copy_shifted_kernel<1>;
  table["copy_from_before"] = copy_shifted_kernel<-1>;
  table["writes_beyond"] = writes_beyond_kernel;
  table["misaligned"] = misaligned_kernel;
  table["reads_unwritten"] = reads_unwritten_kernel;
  table["two_write_one"] = two_write_one_kernel;
  table["beyond_its_array"] = beyond_its_array_kernel;
  table["strided"] = strided_kernel;
  table["strided16"] = strided16_kernel;
}

}  // namespace cases
