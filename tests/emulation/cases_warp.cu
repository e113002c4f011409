// Shuffles, votes, and what goes wrong with them.

#include "cases.h"

namespace cases {
namespace {

using digan::Global;

constexpr unsigned kAll = 0xffffffffu;

__global__ void shuffle_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  const uint32_t mine = in[i];
  out[i] = __shfl_sync(kAll, mine, 5);
  out[count + i] = __shfl_sync(kAll, mine, (i + 3) % 8, 8);
  out[2 * count + i] = __shfl_xor_sync(kAll, mine, 4);
  out[3 * count + i] = __shfl_down_sync(kAll, mine, 7);
  out[4 * count + i] = __shfl_up_sync(kAll, mine, 3, 16);
}

__global__ void vote_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  const bool odd = in[i] % 2 != 0;
  out[i] = __ballot_sync(kAll, odd);
  out[count + i] = static_cast<uint32_t>(__any_sync(kAll, odd));
  out[2 * count + i] = static_cast<uint32_t>(__all_sync(kAll, odd));
}

// A reduction of doubles: 8 bytes through a shuffle, and lanes of a half warp by themselves.
__global__ void half_warp_sum_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  const int i = static_cast<int>(threadIdx.x);
  double sum = in[i];
  const unsigned mask = i < 16 ? 0x0000ffffu : 0xffff0000u;
  for (int offset = 8; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(mask, sum, offset);
  }
  out[i] = static_cast<uint32_t>(sum);
}

// Lane 9 leaves before the others exchange.
__global__ void shuffle_without_a_lane_kernel(Global<const uint32_t> in,
                                              Global<uint32_t> out,
                                              int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i == 9) {
    return;
  }
  out[i] = __shfl_xor_sync(kAll, in[i], 1);
}

__global__ void shuffle_from_outside_its_mask_kernel(Global<const uint32_t> in,
                                                     Global<uint32_t> out,
                                                     int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 16) {
    out[i] = __shfl_sync(0x0000ffffu, in[i], 20);
  }
}

__global__ void shuffle_by_a_lane_outside_its_mask_kernel(Global<const uint32_t> in,
                                                          Global<uint32_t> out,
                                                          int) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = __shfl_sync(0x0000ffffu, in[i], 2);
}

}  // namespace

void add_warp_cases(Table& table) {
  table["shuffle"] = shuffle_kernel;
  table["vote"] = vote_kernel;
  table["half_warp_sum"] = half_warp_sum_kernel;
  table["shuffle_without_a_lane"] = shuffle_without_a_lane_kernel;
  table["shuffle_from_outside_its_mask"] = shuffle_from_outside_its_mask_kernel;
  table["shuffle_by_a_lane_outside_its_mask"] = shuffle_by_a_lane_outside_its_mask_kernel;
}

}  // namespace cases
