// mbarriers and named barriers: one warp hands words to another.

#include "cases.h"
#include "gemm/hopper/barrier.cuh"

namespace cases {
namespace {

using namespace digan;

enum class Fault {
  kNone,
  kNoFullWait,
  kNoEmptyWait,
  kNoArrival,
  kEmptyParity,
  kFullParity,
  kNoBarrierBehindMaking,
  kTooManyArrivals,
  kTooFewAnnounced,
  kNotMade,
  kTouched,
  kMadeTwice,
};

// 32 words a round, for `count` rounds, through two stages; reversed.
template <Fault kFault>
__global__ void ring_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, ring, 2 * 32);
  DIGAN_SHARED(uint64_t, barriers, 5);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 4; ++i) {
      mbarrier_init(barriers + i, 32);
    }
    if (kFault == Fault::kMadeTwice) {
      mbarrier_init(barriers, 32);
    }
  }
  if (kFault != Fault::kNoBarrierBehindMaking) {
    __syncthreads();
  }
  for (int k = 0; k < count; ++k) {
    const int stage = k % 2;
    const uint32_t parity = k / 2 % 2;
    const auto full = barriers + stage, empty = barriers + (2 + stage);
    if (threadIdx.x < 32) {
      if (kFault != Fault::kNoEmptyWait) {
        mbarrier_wait(empty, parity ^ (kFault == Fault::kEmptyParity ? 0u : 1u));
      }
      ring[32 * stage + lane] = in[32 * k + lane];
      if (kFault == Fault::kTooFewAnnounced && lane == 5) {
        mbarrier_arrive_expect(full, 16);
      } else if (kFault != Fault::kNoArrival || lane != 7) {
        mbarrier_arrive(full);
      }
      if (kFault == Fault::kTooManyArrivals && lane == 31) {
        mbarrier_arrive(empty);
      }
      if (kFault == Fault::kNotMade) {
        mbarrier_arrive(barriers + 4);
      }
      if (kFault == Fault::kTouched) {
        barriers[3] = 1;
      }
    } else {
      if (kFault != Fault::kNoFullWait) {
        mbarrier_wait(full, parity ^ (kFault == Fault::kFullParity ? 1u : 0u));
      }
      out[32 * k + lane] = ring[32 * stage + 31 - lane];
      mbarrier_arrive(empty);
    }
  }
}

// A lane of each warp waits for the warp before, all of which then go on. What the first wrote
// reaches the third by way of the second, unless it forgets one of both barriers.
template <bool kSecondWaits, bool kWarpMeets>
__global__ void chain_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(uint32_t, words, 32);
  DIGAN_SHARED(uint64_t, barriers, 2);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == 0) {
    mbarrier_init(barriers, 1);
    mbarrier_init(barriers + 1, 1);
  }
  __syncthreads();
  if (warp > 0 && lane == 3 && (warp == 2 || kSecondWaits)) {
    mbarrier_wait(barriers + (warp - 1), 0);
  }
  if (warp == 0) {
    words[lane] = in[lane];
  }
  if (kWarpMeets) {
    __syncwarp();
  }
  if (warp < 2 && lane == 9) {
    mbarrier_arrive(barriers + warp);
  }
  if (warp == 2) {
    out[lane] = words[31 - lane];
  }
}

// Warps 0 and 1 meet, and warp 2 lets warp 1 go on.
template <int kThreads, bool kMeets, int kBarrier>
__global__ void named_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(uint32_t, words, 96);
  const int i = static_cast<int>(threadIdx.x);
  words[i] = in[i];
  if (kMeets && i < 64) {
    named_barrier_sync(kBarrier, kThreads);
  }
  if (i >= 64) {
    named_barrier_arrive(2, 64);
  } else if (i >= 32) {
    named_barrier_sync(2, 64);
    out[i - 32] = words[i - 32];
    out[i] = words[i + 32];
  }
}

// Three warpgroups, the first of which gives up what the others take.
template <int kReleased, int kTaken>
__global__ void registers_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 128) {
    registers_release<kReleased>();
  } else {
    registers_take<kTaken>();
  }
  out[i] = in[i];
}

__global__ void uneven_registers_kernel(Global<const uint32_t>, Global<uint32_t>, int) {
  if (threadIdx.x < 64) {
    registers_release<40>();
  } else if (threadIdx.x < 128) {
    registers_release<48>();
  }
}

}  // namespace

void add_mbarrier_cases(Table& table) {
  table["mbarrier"] = ring_kernel<Fault::kNone>;
  table["mbarrier_no_full_wait"] = ring_kernel<Fault::kNoFullWait>;
  table["mbarrier_no_empty_wait"] = ring_kernel<Fault::kNoEmptyWait>;
  table["mbarrier_no_arrival"] = ring_kernel<Fault::kNoArrival>;
  table["mbarrier_empty_parity"] = ring_kernel<Fault::kEmptyParity>;
  table["mbarrier_full_parity"] = ring_kernel<Fault::kFullParity>;
  table["mbarrier_no_barrier_behind_making"] = ring_kernel<Fault::kNoBarrierBehindMaking>;
  table["mbarrier_too_many_arrivals"] = ring_kernel<Fault::kTooManyArrivals>;
  table["mbarrier_bytes_that_never_come"] = ring_kernel<Fault::kTooFewAnnounced>;
  table["mbarrier_not_made"] = ring_kernel<Fault::kNotMade>;
  table["mbarrier_touched"] = ring_kernel<Fault::kTouched>;
  table["mbarrier_made_twice"] = ring_kernel<Fault::kMadeTwice>;
  table["mbarrier_chain"] = chain_kernel<true, true>;
  table["mbarrier_chain_broken"] = chain_kernel<false, true>;
  table["mbarrier_chain_of_lanes"] = chain_kernel<true, false>;
  table["named_barriers"] = named_kernel<64, true, 1>;
  table["named_barrier_missing"] = named_kernel<64, false, 1>;
  table["named_barrier_for_too_many"] = named_kernel<96, true, 1>;
  table["named_barrier_for_half_warps"] = named_kernel<48, true, 1>;
  table["named_barrier_zero"] = named_kernel<64, true, 0>;
  table["named_barrier_of_another"] = named_kernel<32, true, 2>;
  table["registers"] = registers_kernel<40, 232>;
  table["registers_of_too_many"] = registers_kernel<48, 232>;
  table["registers_taken_down"] = registers_kernel<40, 160>;
  table["registers_released_up"] = registers_kernel<176, 176>;
  table["registers_of_half_a_group"] = uneven_registers_kernel;
}

}  // namespace cases
