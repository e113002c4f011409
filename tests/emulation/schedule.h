// How the threads of a block take turns.
//
// Each thread is a fiber. Warps run in an order drawn from a seed, and one warp runs as far as
// it can, up to the block's next barrier, before another gets a turn: what a kernel leaves
// unordered then happens in the order that hurts. Exchanges inside a warp are released at once.

#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_words.h"
#include "fiber.h"
#include "order.h"

namespace emu {

using Where = std::source_location;

struct Lane;
struct Warp;

// An operation of a warp's lanes together. The last lane that arrives runs `complete`, which
// finds every lane's operands, and all go on.
using Complete = void (*)(Warp& warp, unsigned mask);

enum class State { kReady, kAtExchange, kAtBarrier, kAtMbarrier, kAtNamedBarrier, kDone };

// 16 bytes on their way from global to shared memory, see async_copy.h.
struct PendingCopy {
  int group;
  void* storage;
  int64_t at;  // bytes
  char data[16];
};

enum class SharedUse { kRead, kMatrixRead, kWrite };
constexpr int kSharedUses = 3;

struct Lane {
  Fiber fiber;
  State state = State::kReady;
  uint3 index{};   // threadIdx
  int thread = 0;  // in the block
  int lane = 0;    // in the warp
  Warp* warp = nullptr;
  const char* operation = "";
  Complete complete = nullptr;
  unsigned mask = 0;
  void* operands = nullptr;
  Where where;
  int shared_accesses[kSharedUses] = {};  // since the warp last met
  int copy_group = 0;                     // that the next asynchronous copy joins
  std::vector<PendingCopy> copies;
  int waits_for = -1;  // a number of the mbarriers or the named barriers
  uint32_t tick = 1;   // of this thread in clocks
  uint32_t fences = 0;
  Clock seen;
};

// The addresses of one access to shared memory by the lanes of a warp.
struct SharedAccess {
  uint32_t offset[32];
  unsigned lanes = 0;
  int bytes = 0;
};

struct Warp {
  Lane* lanes[32] = {};
  int number = 0;
  unsigned live = 0;   // lanes that exist
  uint32_t epoch = 1;  // __syncwarp so far, plus one
  std::vector<SharedAccess> accesses[kSharedUses];
};

// The thread that runs now, and how many barriers its block has passed, plus one.
extern Lane* self;
extern uint32_t barrier_epoch;
extern int64_t block_serial;  // of all blocks ever run, from 1
extern uint32_t launch_serial;
uint32_t block_number();  // in its grid

void set_seed(uint64_t seed);
uint32_t draw(uint32_t below);

int block_threads();
Lane& lane_of(int thread);

// Waits for the lanes of `mask` to arrive at the same operation.
void meet_warp(
    const char* operation, unsigned mask, Complete complete, void* operands, Where where);

// Runs `body` as every thread of every block; throws Fault.
void run_grid(dim3 grid, dim3 block, void (*body)(void*), void* argument);

// Reports a fault of the running thread where nothing may be thrown. Does not return.
[[noreturn]] void end_thread(const std::string& what);

// "kernel.cu:12"
std::string text_of(const Where& where);

}  // namespace emu

void __syncthreads(std::source_location where = std::source_location::current());
void __syncwarp(unsigned mask = 0xffffffffu,
                std::source_location where = std::source_location::current());
