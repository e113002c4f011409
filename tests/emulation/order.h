// Who has seen what of whom, where barriers are not the whole block's.
//
// A block whose threads meet at mbarriers or named barriers is watched by vector clocks. Each
// thread has a number of its own that grows when it releases (arrives somewhere), and knows of
// every other thread the number up to which it has seen its work. Copies of TMA are seen by
// waiting at their mbarrier, of which a clock has the phases that ended. Beside each thread's
// number is how many proxy fences it had executed by then.
//
// __syncthreads and __syncwarp order by their epochs (schedule.h); here they are known too, so
// that what is seen through them goes on to others.

#pragma once

#include <cstdint>
#include <vector>

namespace emu {

struct Lane;
struct Warp;

// By agent, first the block's threads, then its mbarriers: number << 32 | proxy fences.
using Clock = std::vector<uint64_t>;
constexpr int kMostMbarriers = 64;  // of a block

extern bool ordering;   // whether the running block is watched so
void start_ordering();  // from here on
int agent_of_mbarrier(int number);

// What `lane` did so far and has seen may now be seen by others.
const Clock& release(Lane& lane);
void acquire(Lane& lane, const Clock& clock);
void join(Clock& into, const Clock& clock);
// Lanes that met at a barrier of theirs.
void meet(Lane* const* lanes, int count);

bool has_seen(const Lane& lane, int agent, uint32_t number);
// Whether `lane` has seen a proxy fence of `thread` behind those that it had executed before.
bool has_seen_fence(const Lane& lane, int thread, uint32_t fences);

}  // namespace emu
