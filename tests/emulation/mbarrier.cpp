#include "mbarrier.h"

#include <algorithm>
#include <vector>

#include "counters.h"
#include "fault.h"

namespace emu {
namespace {

constexpr int kMostArrivals = (1 << 20) - 1;
constexpr int64_t kMostBytes = (1 << 20) - 1;
constexpr int kNamedBarriers = 16;  // barrier 0 is __syncthreads
constexpr int kWarpgroup = 128;
constexpr int kRegistersOfAll = 65536;

struct Mbarrier {
  const SharedStorage* storage;
  int64_t at;
  int arrivals, to_arrive;
  int64_t bytes = 0;  // announced and not there yet
  uint32_t phase = 0;
  uint32_t copied = 0, waited = 0;  // phases of which somebody was to wait, and did
  int maker;                        // thread
  uint32_t made, made_between_barriers;
  bool fenced = false;
  Clock arrived, ended;  // of this phase so far, and of all that have ended
};

struct NamedBarrier {
  int threads = 0, arrived = 0;
  Clock clock;
  std::vector<Lane*> waiting;
};

struct Warpgroup {
  int registers = 0;  // 0 for those of the launch
  int threads = 0;    // that have set them
};

// Of the block that runs.
int64_t block = 0;
std::vector<Mbarrier> mbarriers;
NamedBarrier named[kNamedBarriers];
std::vector<Warpgroup> warpgroups;

void open_block() {
  if (block == block_serial) {
    return;
  }
  block = block_serial;
  mbarriers.clear();
  warpgroups.assign((block_threads() + kWarpgroup - 1) / kWarpgroup, Warpgroup());
  for (NamedBarrier& barrier : named) {
    barrier = NamedBarrier();
  }
}

void end_phase_if_complete(int number) {
  Mbarrier& barrier = mbarriers[number];
  if (barrier.to_arrive > 0 || barrier.bytes != 0) {
    return;
  }
  ++barrier.phase;
  barrier.to_arrive = barrier.arrivals;
  join(barrier.ended, barrier.arrived);
  barrier.ended[agent_of_mbarrier(number)] = static_cast<uint64_t>(barrier.phase) << 32;
  for (int i = 0; i < block_threads(); ++i) {
    Lane& lane = lane_of(i);
    if (lane.state == State::kAtMbarrier && lane.waits_for == number) {
      lane.state = State::kReady;
    }
  }
}

void check_bytes(int number) {
  const int64_t bytes = mbarriers[number].bytes;
  if (bytes > kMostBytes || bytes < -kMostBytes) {
    fail(text_of_mbarrier(number), ": more than ", kMostBytes, " bytes in a phase");
  }
}

}  // namespace

std::string text_of_mbarrier(int number) {
  const Mbarrier& barrier = mbarriers[number];
  return "the mbarrier at byte " + std::to_string(barrier.at) + " of " + barrier.storage->name +
         ", in phase " + std::to_string(barrier.phase) + " with " +
         std::to_string(barrier.to_arrive) + " arrivals and " + std::to_string(barrier.bytes) +
         " bytes to come";
}

int mbarrier_at(const char* operation, SharedStorage& storage, int64_t at, Where where) {
  open_block();
  for (size_t i = 0; i < mbarriers.size(); ++i) {
    const Mbarrier& barrier = mbarriers[i];
    if (barrier.storage != &storage || barrier.at != at) {
      continue;
    }
    if (barrier.made_between_barriers == barrier_epoch &&
        !has_seen(*self, barrier.maker, barrier.made)) {
      fail("race: ", operation, " at the mbarrier at byte ", at, " of ", storage.name,
           " which thread ", barrier.maker, " made, without a barrier between, ", text_of(where));
    }
    return static_cast<int>(i);
  }
  fail(operation, " at byte ", at, " of ", storage.name, ", where no mbarrier was made, ",
       text_of(where));
}

int mbarrier_for_copy(SharedStorage& storage, int64_t at, Where where) {
  const int number = mbarrier_at("a copy", storage, at, where);
  if (!mbarriers[number].fenced) {
    fail("a copy to ", text_of_mbarrier(number), ", which was made without a fence, ",
         text_of(where));
  }
  return number;
}

uint32_t mbarrier_phase(int number) {
  return mbarriers[number].phase;
}

void complete_bytes(int number, int64_t bytes) {
  mbarriers[number].bytes -= bytes;
  mbarriers[number].copied = mbarriers[number].phase + 1;
  check_bytes(number);
  end_phase_if_complete(number);
}

void init_mbarrier(SharedStorage& storage, int64_t at, int arrivals, Where where) {
  open_block();
  start_ordering();
  if (arrivals < 1 || arrivals > kMostArrivals) {
    fail("an mbarrier for ", arrivals, " arrivals, from 1 to ", kMostArrivals, " can be, ",
         text_of(where));
  }
  if (mbarriers.size() == kMostMbarriers) {
    fail("more than ", kMostMbarriers, " mbarriers");
  }
  make_mbarrier_cells(storage, at);
  Mbarrier barrier{&storage, at, arrivals, arrivals};
  barrier.maker = self->thread;
  barrier.made = self->tick;
  barrier.made_between_barriers = barrier_epoch;
  barrier.arrived.assign(self->seen.size(), 0);
  barrier.ended = barrier.arrived;
  mbarriers.push_back(barrier);
}

void arrive(SharedStorage& storage, int64_t at, int64_t bytes, Where where) {
  const int number = mbarrier_at("an arrival", storage, at, where);
  Mbarrier& barrier = mbarriers[number];
  if (barrier.to_arrive == 0) {
    fail("one arrival more than its ", barrier.arrivals, " at ", text_of_mbarrier(number), ", ",
         text_of(where));
  }
  if (bytes < 0) {
    fail("announces ", bytes, " bytes at ", text_of_mbarrier(number), ", ", text_of(where));
  }
  ++counters.mbarrier_arrivals;
  barrier.bytes += bytes;
  check_bytes(number);
  --barrier.to_arrive;
  join(barrier.arrived, release(*self));
  end_phase_if_complete(number);
}

void wait_for_phase(SharedStorage& storage, int64_t at, uint32_t parity, Where where) {
  if (parity > 1) {
    fail("waits for parity ", parity, " of a phase, 0 or 1 can be, ", text_of(where));
  }
  const int number = mbarrier_at("a wait", storage, at, where);
  const uint32_t phase = mbarriers[number].phase;
  if ((phase & 1u) == parity) {
    self->where = where;
    self->mask = 0;
    self->waits_for = number;
    self->state = State::kAtMbarrier;
    self->fiber.yield();
    // A thread that looks every now and then would have missed it.
    if (mbarriers[number].phase != phase + 1) {
      fail("two phases ended while a thread waited for one at ", text_of_mbarrier(number), ", ",
           text_of(where));
    }
  }
  mbarriers[number].waited = mbarriers[number].phase;
  acquire(*self, mbarriers[number].ended);
}

void check_copies_waited_for() {
  open_block();
  for (size_t i = 0; i < mbarriers.size(); ++i) {
    if (mbarriers[i].copied > mbarriers[i].waited) {
      fail("the block ended though nobody waited for a copy at ",
           text_of_mbarrier(static_cast<int>(i)));
    }
  }
}

void fence_mbarriers() {
  open_block();
  for (Mbarrier& barrier : mbarriers) {
    barrier.fenced = barrier.fenced || barrier.maker == self->thread;
  }
}

void fence_proxy() {
  start_ordering();
  ++self->fences;
  fence_mbarriers();
}

void named_barrier(int number, int threads, bool waits, Where where) {
  open_block();
  start_ordering();
  if (number < 1 || number >= kNamedBarriers) {
    fail("named barrier ", number, ", from 1 to ", kNamedBarriers - 1, " can be, ", text_of(where));
  }
  if (threads < 32 || threads % 32 != 0 || threads > block_threads()) {
    fail("named barrier ", number, " for ", threads, " threads, whole warps of the block can be, ",
         text_of(where));
  }
  NamedBarrier& barrier = named[number];
  if (barrier.arrived > 0 && barrier.threads != threads) {
    fail("named barrier ", number, " for ", threads, " threads, by others for ", barrier.threads,
         ", ", text_of(where));
  }
  if (barrier.arrived == 0) {
    barrier.threads = threads;
    barrier.clock.assign(self->seen.size(), 0);
  }
  ++barrier.arrived;
  join(barrier.clock, release(*self));
  if (waits) {
    self->where = where;
    self->mask = 0;
    self->waits_for = number;
    self->state = State::kAtNamedBarrier;
    barrier.waiting.push_back(self);
  }
  if (barrier.arrived == threads) {
    ++counters.named_barriers;
    for (Lane* lane : barrier.waiting) {
      acquire(*lane, barrier.clock);
      lane->state = State::kReady;
    }
    barrier.waiting.clear();
    barrier.arrived = 0;
  }
  if (waits && self->state == State::kAtNamedBarrier) {
    self->fiber.yield();
  }
}

// Setting them is an operation of a warpgroup. What is given to some must be free: the launch
// gives as many to all as there are, in units of 8.
void set_registers(int registers, bool takes, Where where) {
  open_block();
  const int threads = block_threads();
  if (threads % kWarpgroup != 0) {
    fail("registers of a warpgroup in a block of ", threads, " threads, ", text_of(where));
  }
  Warpgroup& group = warpgroups[self->thread / kWarpgroup];
  const int launched = std::min(kRegistersOfAll / threads / 8 * 8, 248);
  const int before =
      group.threads % kWarpgroup == 0 && group.registers > 0 ? group.registers : launched;
  if (group.threads % kWarpgroup == 0) {
    if (takes ? registers < before : registers > before) {
      fail(takes ? "takes " : "releases down to ", registers, " registers, has ", before, ", ",
           text_of(where));
    }
    group.registers = registers;
  } else if (group.registers != registers) {
    fail("one warpgroup sets ", registers, " and ", group.registers, " registers, ",
         text_of(where));
  }
  ++group.threads;
  int all = 0;
  for (const Warpgroup& each : warpgroups) {
    if (each.threads == 0 && takes) {
      return;  // which may release some yet
    }
    all += kWarpgroup * (each.registers > 0 ? each.registers : launched);
  }
  if (all > launched * threads) {
    fail("warpgroups have ", all, " registers, the launch gave ", launched * threads, ", ",
         text_of(where));
  }
}

}  // namespace emu
