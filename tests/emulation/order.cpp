#include "order.h"

#include <algorithm>

#include "schedule.h"

namespace emu {

bool ordering = false;

namespace {

uint64_t packed(uint32_t number, uint32_t fences) {
  return static_cast<uint64_t>(number) << 32 | fences;
}

}  // namespace

void start_ordering() {
  if (ordering) {
    return;
  }
  ordering = true;
  for (int i = 0; i < block_threads(); ++i) {
    lane_of(i).seen.assign(block_threads() + kMostMbarriers, 0);
  }
}

int agent_of_mbarrier(int number) {
  return block_threads() + number;
}

const Clock& release(Lane& lane) {
  lane.seen[lane.thread] = packed(lane.tick, lane.fences);
  ++lane.tick;
  return lane.seen;
}

void acquire(Lane& lane, const Clock& clock) {
  join(lane.seen, clock);
}

void join(Clock& into, const Clock& clock) {
  for (size_t i = 0; i < clock.size(); ++i) {
    into[i] = std::max(into[i], clock[i]);
  }
}

void meet(Lane* const* lanes, int count) {
  if (!ordering || count == 0) {
    return;
  }
  Clock all = release(*lanes[0]);
  for (int i = 1; i < count; ++i) {
    join(all, release(*lanes[i]));
  }
  for (int i = 0; i < count; ++i) {
    lanes[i]->seen = all;
  }
}

bool has_seen(const Lane& lane, int agent, uint32_t number) {
  return agent == lane.thread || (ordering && lane.seen[agent] >> 32 >= number);
}

bool has_seen_fence(const Lane& lane, int thread, uint32_t fences) {
  if (thread == lane.thread) {
    return lane.fences > fences;
  }
  return ordering && static_cast<uint32_t>(lane.seen[thread]) > fences;
}

}  // namespace emu
