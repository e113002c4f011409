// Asynchronous copies: a thread copies four words, and another reads them.

#include "cases.h"
#include "ptx.cuh"

namespace cases {
namespace {

using digan::cp_async_16;
using digan::cp_async_commit;
using digan::cp_async_wait;
using digan::Global;

constexpr int kThreads = 64;

enum class Fault { kNone, kNoWait, kNoBarrier, kNoCommit };

// Reversed; beyond `count` words, zeros are copied.
template <Fault kFault>
__global__ void copy_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, 4 * kThreads);
  const int i = static_cast<int>(threadIdx.x);
  cp_async_16(tile + 4 * i, in + 4 * i, 4 * i < count);
  if (kFault != Fault::kNoCommit) {
    cp_async_commit();
  }
  if (kFault != Fault::kNoWait) {
    cp_async_wait<0>();
  }
  if (kFault != Fault::kNoBarrier) {
    __syncthreads();
  }
  for (int k = 0; k < 4; ++k) {
    out[4 * i + k] = tile[4 * kThreads - 1 - 4 * i - k];
  }
}

// Two stages under way; waiting for all but kPending groups lets the first be read if it is 1.
template <int kPending>
__global__ void two_stages_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(uint32_t, tile, 2 * 4 * kThreads);
  const int i = static_cast<int>(threadIdx.x);
  for (int stage = 0; stage < 2; ++stage) {
    const int at = 4 * (stage * kThreads + i);
    cp_async_16(tile + at, in + at);
    cp_async_commit();
  }
  cp_async_wait<kPending>();
  __syncthreads();
  out[i] = tile[4 * kThreads - 1 - i];
  cp_async_wait<0>();
  __syncthreads();
  out[kThreads + i] = tile[8 * kThreads - 1 - i];
}

// Writes to where a copy is under way.
__global__ void overwritten_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(uint32_t, tile, 4 * kThreads);
  const int i = static_cast<int>(threadIdx.x);
  cp_async_16(tile + 4 * i, in + 4 * i);
  cp_async_commit();
  tile[4 * i] = 7;
  cp_async_wait<0>();
  out[i] = tile[4 * i];
}

}  // namespace

void add_copy_cases(Table& table) {
  table["async"] = copy_kernel<Fault::kNone>;
  table["async_no_wait"] = copy_kernel<Fault::kNoWait>;
  table["async_no_barrier"] = copy_kernel<Fault::kNoBarrier>;
  table["async_no_commit"] = copy_kernel<Fault::kNoCommit>;
  table["async_two_stages"] = two_stages_kernel<1>;
  table["async_wait_for_too_few"] = two_stages_kernel<2>;
  table["async_overwritten"] = overwritten_kernel;
}

}  // namespace cases
