// Bank conflicts of shared memory: what one access of a warp's lanes costs beyond one pass.

#pragma once

#include <cstdint>

#include "schedule.h"

namespace emu {

// Notes an access by the running thread. Lanes' accesses of one use are matched by their number
// since the warp last met; lanes that took different branches in between are matched wrongly,
// but for ldmatrix, at which a warp meets.
void note_shared_access(uint32_t offset, int bytes, SharedUse use);

// Adds what the noted accesses cost to the counters, and starts anew.
void count_bank_conflicts(Warp& warp);

}  // namespace emu
