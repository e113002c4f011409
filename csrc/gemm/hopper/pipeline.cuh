// How the warps of a persistent kernel share the work (sm_90).
//
// DESIGN
// A block has one warpgroup that copies and kConsumers that multiply, and stays on its
// multiprocessor: it goes through the tiles blockIdx.x, blockIdx.x + gridDim.x, ... Slices of
// operands stand in a ring of stages, each with two mbarriers:
//
//   full    ends a phase when the announced bytes of a slice have arrived; made for 1 arrival
//   empty   ends one when every consuming warp is done with it; made for kConsumerWarps
//
// One thread waits for `empty`, announces the bytes at `full` and starts the copies; it runs ahead
// of the consumers by as many stages as there are, over the ends of tiles too, so that the next
// tile's slices are on their way while this one's epilogue runs. The copying warpgroup hands its
// registers to the multiplying ones, which hold sums of 64 x 256 and what an operand is made of.
//
//   DIGAN_SHARED_DYNAMIC(unsigned char, shared);
//   const Ring ring(shared);                              // using Ring = hopper::Ring<4, 49152, 8>
//   ring.start();                                         // all threads
//   run_roles(
//       [&] {                                             // one thread
//         RingPlace<Ring> place;
//         for_each_tile(tiles, [&](unsigned tile) {
//           for (int k = 0; k < slices; ++k, place.advance()) {
//             const auto stage = ring.fill(place, kBytes);
//             tma_load(stage, map, ring.full(place), 64 * k, row);
//           }
//         });
//       },
//       [&](int group) {                                  // the 128 threads of each consumer
//         RingPlace<Ring> place;
//         for_each_tile(tiles, [&](unsigned tile) {
//           for (int k = 0; k < slices; ++k, place.advance()) {
//             const auto stage = ring.wait(place);
//             ... wgmma on it, waited for ...
//             ring.release(place);
//           }
//         });
//       });

#pragma once

#include <cstdint>

#include "gemm/hopper/barrier.cuh"
#include "platform.cuh"

namespace digan::gemm::hopper {

constexpr int kWarpgroup = 128;  // threads that a wgmma is of

// Stages in shared memory from a multiple of 1024 on, and behind them their barriers.
template <int kStages_, int kStageBytes_, int kConsumerWarps_>
class Ring {
 public:
  static constexpr int kStages = kStages_, kStageBytes = kStageBytes_;
  static constexpr int kConsumerWarps = kConsumerWarps_;
  static constexpr int kBarriers = kStages * kStageBytes;  // where they begin, in bytes
  static constexpr int kBytes = kBarriers + 2 * kStages * static_cast<int>(sizeof(uint64_t));
  static_assert(kStageBytes % 1024 == 0, "boxes that are swizzled over 128 bytes begin there");

  // `shared` has kBytes.
  __device__ __forceinline__ explicit Ring(Shared<unsigned char> shared)
      : shared_(shared), barriers_(view_as<uint64_t>(shared + kBarriers)) {}

  // By all threads of the block, once, before anything else; has a __syncthreads.
  __device__ __forceinline__ void start() const {
    if (threadIdx.x == 0) {
#pragma unroll
      for (int stage = 0; stage < kStages; ++stage) {
        mbarrier_init(barriers_ + stage, 1);
        mbarrier_init(barriers_ + (kStages + stage), kConsumerWarps);
      }
      fence_mbarrier_init();
    }
    __syncthreads();
  }

  // The copying thread: waits until the stage is free and announces `bytes`, those of all the
  // copies that follow with full(place).
  template <class Place>
  __device__ __forceinline__ Shared<unsigned char> fill(const Place& place, int bytes) const {
    mbarrier_wait(empty(place), place.parity ^ 1u);
    mbarrier_arrive_expect(full(place), bytes);
    return stage(place);
  }
  template <class Place>
  __device__ __forceinline__ Shared<uint64_t> full(const Place& place) const {
    return barriers_ + place.stage;
  }

  // Every multiplying thread: waits until the slice is there.
  template <class Place>
  __device__ __forceinline__ Shared<unsigned char> wait(const Place& place) const {
    mbarrier_wait(full(place), place.parity);
    return stage(place);
  }
  // Every thread of a multiplying warp, together: the warp, its wgmma too, is done with the slice.
  template <class Place>
  __device__ __forceinline__ void release(const Place& place) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      mbarrier_arrive(empty(place));
    }
  }

 private:
  template <class Place>
  __device__ __forceinline__ Shared<uint64_t> empty(const Place& place) const {
    return barriers_ + (kStages + place.stage);
  }
  template <class Place>
  __device__ __forceinline__ Shared<unsigned char> stage(const Place& place) const {
    return shared_ + place.stage * kStageBytes;
  }

  Shared<unsigned char> shared_;
  Shared<uint64_t> barriers_;
};

// Where a thread stands in the ring. Both sides begin at the first stage, in the first round, and
// advance once a slice, from tile to tile without a break.
template <class Ring>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;  // of the round, and so of the phase of the stage's barriers

  __device__ __forceinline__ void advance() {
    const bool wraps = stage == Ring::kStages - 1;
    stage = wraps ? 0 : stage + 1;
    parity ^= wraps ? 1u : 0u;
  }
};

// Registers a thread that a block of three warpgroups was launched with, and the two shares:
// 65536 / 384 and 232 + 232 + 40 = 3 * 168.
constexpr int kCopyRegisters = 40, kMultiplyRegisters = 232;
constexpr int kRoleThreads = 3 * kWarpgroup;

// Calls produce() in the first thread of the first warpgroup, consume(0) and consume(1) in all
// threads of the second and the third. For kernels of kRoleThreads, one block a multiprocessor.
template <class Produce, class Consume>
__device__ __forceinline__ void run_roles(const Produce& produce, const Consume& consume) {
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (group == 0) {
    registers_release<kCopyRegisters>();
    if (threadIdx.x == 0) {
      produce();
    }
  } else {
    registers_take<kMultiplyRegisters>();
    consume(group - 1);
  }
}

// Calls function(tile) for this block's share of `tiles`. Neighbours in number are under way at
// the same time: number them so that they share operands, which L2 then reads once.
template <class Function>
__device__ __forceinline__ void for_each_tile(unsigned tiles, const Function& function) {
  for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    function(tile);
  }
}

}  // namespace digan::gemm::hopper
