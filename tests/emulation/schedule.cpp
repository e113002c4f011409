#include "schedule.h"

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>

#include "bank_conflicts.h"
#include "counters.h"
#include "fault.h"
#include "gemm/hopper/wgmma.cuh"
#include "mbarrier.h"
#include "tma.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu {

Lane* self = nullptr;
uint32_t barrier_epoch = 0;
int64_t block_serial = 0;
uint32_t launch_serial = 0;

namespace {

uint64_t seed_state = 1;

struct Block {
  std::unique_ptr<Lane[]> lanes;
  std::vector<Warp> warps;
  int threads = 0;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
  bool failed = false;
  Fault fault;
};

Block block;

void thread_main() {
  try {
    block.body(block.argument);
    check_stores_read();
  } catch (const Fault& fault) {
    block.failed = true;
    block.fault = fault;
  } catch (const std::exception& error) {
    block.failed = true;
    block.fault = {error.what()};
  }
  self->state = State::kDone;
  self->fiber.yield();
}

void set_up_block(dim3 size) {
  const int threads = static_cast<int>(size.x * size.y * size.z);
  if (threads > block.threads) {
    block.lanes = std::make_unique<Lane[]>(threads);
  }
  block.threads = threads;
  block.warps.resize((threads + 31) / 32);
  for (size_t i = 0; i < block.warps.size(); ++i) {
    block.warps[i].number = static_cast<int>(i);
    block.warps[i].live = 0;
    block.warps[i].epoch = 1;
    for (auto& accesses : block.warps[i].accesses) {
      accesses.clear();
    }
  }
  for (int i = 0; i < threads; ++i) {
    Lane& lane = block.lanes[i];
    Warp& warp = block.warps[i / 32];
    lane.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    lane.thread = i;
    lane.lane = i % 32;
    lane.warp = &warp;
    lane.state = State::kReady;
    std::fill_n(lane.shared_accesses, kSharedUses, 0);
    lane.copy_group = 0;
    lane.copies.clear();
    lane.tick = 1;
    lane.fences = 0;
    warp.lanes[lane.lane] = &lane;
    warp.live |= 1u << lane.lane;
    lane.fiber.start(thread_main, i);
  }
  block.failed = false;
  ordering = false;
  barrier_epoch = 1;
  ++block_serial;
}

// Until every lane waits for another warp or has ended.
void run_warp(Warp& warp) {
  bool any = true;
  while (any) {
    any = false;
    const uint32_t start = draw(32);
    const uint32_t stride = 2 * draw(16) + 1;  // odd, so that each of the 32 has its turn
    for (uint32_t i = 0; i < 32; ++i) {
      const uint32_t number = (start + i * stride) % 32;
      if ((warp.live >> number & 1u) == 0 || warp.lanes[number]->state != State::kReady) {
        continue;
      }
      any = true;
      self = warp.lanes[number];
      threadIdx = self->index;
      self->fiber.resume();
      if (block.failed) {
        throw block.fault;
      }
    }
  }
  count_bank_conflicts(warp);
}

// What keeps the block from going on: threads by what they wait for.
[[noreturn]] void raise_deadlock() {
  std::ostringstream text;
  text << "deadlock:";
  std::vector<bool> told(block.threads, false);
  const char* between = " ";
  for (int i = 0; i < block.threads; ++i) {
    if (told[i]) {
      continue;
    }
    const Lane& first = block.lanes[i];
    int alike = 0;
    for (int j = i; j < block.threads; ++j) {
      const Lane& other = block.lanes[j];
      const bool same = other.state == first.state &&
                        (first.state == State::kDone ||
                         (other.where.line() == first.where.line() && other.mask == first.mask &&
                          other.waits_for == first.waits_for));
      if (same) {
        told[j] = true;
        ++alike;
      }
    }
    text << between << alike << " threads (thread " << i << " first) ";
    if (first.state == State::kDone) {
      text << "have left the kernel";
    } else if (first.state == State::kAtBarrier) {
      text << "wait at __syncthreads, " << text_of(first.where);
    } else if (first.state == State::kAtMbarrier) {
      text << "wait at " << text_of_mbarrier(first.waits_for) << ", " << text_of(first.where);
    } else if (first.state == State::kAtNamedBarrier) {
      text << "wait at named barrier " << first.waits_for << ", " << text_of(first.where);
    } else {
      text << "wait at " << first.operation << " with mask 0x" << std::hex << first.mask << std::dec
           << ", " << text_of(first.where);
    }
    between = "; ";
  }
  self = nullptr;
  raise_fault(text.str());
}

void pass_barrier() {
  const Where& where = block.lanes[0].where;
  for (int i = 0; i < block.threads; ++i) {
    Lane& lane = block.lanes[i];
    // Two different barriers, met in different branches, are not one.
    if (lane.state != State::kAtBarrier || lane.where.line() != where.line() ||
        lane.where.column() != where.column()) {
      raise_deadlock();
    }
  }
  std::vector<Lane*> all(block.threads);
  for (int i = 0; i < block.threads; ++i) {
    all[i] = &block.lanes[i];
    block.lanes[i].state = State::kReady;
  }
  meet(all.data(), block.threads);
  ++barrier_epoch;
  ++counters.barriers;
}

void run_block() {
  std::vector<int> order(block.warps.size());
  while (true) {
    for (size_t i = 0; i < order.size(); ++i) {
      const uint32_t at = draw(static_cast<uint32_t>(i) + 1);
      order[i] = order[at];
      order[at] = static_cast<int>(i);
    }
    for (const int number : order) {
      run_warp(block.warps[number]);
    }
    bool done = true, ready = false;
    for (int i = 0; i < block.threads; ++i) {
      done = done && block.lanes[i].state == State::kDone;
      ready = ready || block.lanes[i].state == State::kReady;
    }
    if (done) {
      check_copies_arrived();
      check_products_ended();
      return;
    }
    // What is copied arrives when nobody can go on without it.
    if (!ready && !deliver_a_copy()) {
      pass_barrier();
    }
  }
}

}  // namespace

void set_seed(uint64_t seed) {
  seed_state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
}

// xorshift: a whole order depends on few numbers, which need not be good ones.
uint32_t draw(uint32_t below) {
  seed_state ^= seed_state << 13;
  seed_state ^= seed_state >> 7;
  seed_state ^= seed_state << 17;
  return static_cast<uint32_t>((seed_state >> 20) % below);
}

int block_threads() {
  return block.threads;
}

Lane& lane_of(int thread) {
  return block.lanes[thread];
}

uint32_t block_number() {
  return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
}

void meet_warp(
    const char* operation, unsigned mask, Complete complete, void* operands, Where where) {
  Lane& lane = *self;
  Warp& warp = *lane.warp;
  if ((mask >> lane.lane & 1u) == 0) {
    fail(operation, " at ", text_of(where), " with a mask that leaves out the calling lane");
  }
  lane.operation = operation;
  lane.mask = mask;
  lane.complete = complete;
  lane.operands = operands;
  lane.where = where;
  lane.state = State::kAtExchange;
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) == 0) {
      continue;
    }
    const bool here = (warp.live >> i & 1u) != 0 && warp.lanes[i]->state == State::kAtExchange &&
                      warp.lanes[i]->mask == mask && warp.lanes[i]->complete == complete;
    if (!here) {
      lane.fiber.yield();
      return;
    }
  }
  count_bank_conflicts(warp);
  complete(warp, mask);
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) != 0) {
      warp.lanes[i]->state = State::kReady;
    }
  }
}

void end_thread(const std::string& what) {
  try {
    raise_fault(what);
  } catch (const Fault& fault) {
    block.failed = true;
    block.fault = fault;
  }
  while (true) {
    self->state = State::kDone;
    self->fiber.yield();
  }
}

void run_grid(dim3 grid, dim3 size, void (*body)(void*), void* argument) {
  gridDim = grid;
  blockDim = size;
  block.body = body;
  block.argument = argument;
  ++launch_serial;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        set_up_block(size);
        run_block();
      }
    }
  }
}

std::string text_of(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

}  // namespace emu

void __syncthreads(std::source_location where) {
  emu::self->where = where;
  emu::self->state = emu::State::kAtBarrier;
  emu::self->fiber.yield();
}

void __syncwarp(unsigned mask, std::source_location where) {
  const auto complete = [](emu::Warp& warp, unsigned mask) {
    // Only a barrier of the whole warp orders all that its lanes did.
    if ((mask & warp.live) == warp.live) {
      ++warp.epoch;
    }
    emu::Lane* met[32];
    int count = 0;
    for (int i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) != 0) {
        met[count++] = warp.lanes[i];
      }
    }
    emu::meet(met, count);
    ++emu::counters.warp_barriers;
  };
  emu::meet_warp("__syncwarp", mask, complete, nullptr, where);
}
