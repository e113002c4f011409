#include "bank_conflicts.h"

#include <algorithm>

#include "counters.h"

namespace emu {
namespace {

constexpr int kBanks = 32;
constexpr int kWord = 4;

// 16-byte accesses are served for 8 lanes at a time, 8-byte ones for 16.
int lanes_together(int bytes) {
  return bytes <= 4 ? 32 : 128 / bytes;
}

// The most different words that a bank must yield, minus the one that is free.
int conflicts(const SharedAccess& access, int first, int count) {
  uint32_t words[kBanks][32];
  int held[kBanks] = {};
  int most = 1;
  for (int lane = first; lane < first + count; ++lane) {
    if ((access.lanes >> lane & 1u) == 0) {
      continue;
    }
    const uint32_t last = (access.offset[lane] + access.bytes - 1) / kWord;
    for (uint32_t word = access.offset[lane] / kWord; word <= last; ++word) {
      const int bank = static_cast<int>(word % kBanks);
      uint32_t* end = words[bank] + held[bank];
      if (std::find(words[bank], end, word) == end) {
        *end = word;
        most = std::max(most, ++held[bank]);
      }
    }
  }
  return most - 1;
}

int64_t& counter_of(SharedUse use) {
  switch (use) {
    case SharedUse::kMatrixRead:
      return counters.matrix_read_conflicts;
    case SharedUse::kWrite:
      return counters.shared_write_conflicts;
    default:
      return counters.shared_read_conflicts;
  }
}

}  // namespace

void note_shared_access(uint32_t offset, int bytes, SharedUse use) {
  const int kind = static_cast<int>(use);
  std::vector<SharedAccess>& accesses = self->warp->accesses[kind];
  const auto number = static_cast<size_t>(self->shared_accesses[kind]++);
  if (accesses.size() <= number) {
    accesses.resize(number + 1);
  }
  SharedAccess& access = accesses[number];
  access.offset[self->lane] = offset;
  access.lanes |= 1u << self->lane;
  access.bytes = std::max(access.bytes, bytes);
}

void count_bank_conflicts(Warp& warp) {
  for (int kind = 0; kind < kSharedUses; ++kind) {
    if (warp.accesses[kind].empty()) {
      continue;
    }
    for (const SharedAccess& access : warp.accesses[kind]) {
      const int together = lanes_together(access.bytes);
      for (int first = 0; first < 32; first += together) {
        counter_of(static_cast<SharedUse>(kind)) += conflicts(access, first, together);
      }
    }
    warp.accesses[kind].clear();
    for (int i = 0; i < 32; ++i) {
      if ((warp.live >> i & 1u) != 0) {
        warp.lanes[i]->shared_accesses[kind] = 0;
      }
    }
  }
}

}  // namespace emu
