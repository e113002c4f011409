// cp.async: the copied data appear in shared memory at the wait that guarantees them, no sooner.

#pragma once

#include <cstring>

#include "counters.h"
#include "fault.h"
#include "memory.h"
#include "schedule.h"
#include "shared.h"

namespace emu {

// Poisons 16 bytes of shared memory, which nobody may touch until the wait.
void begin_copy(SharedStorage& storage, int64_t at, const char (&data)[16]);
void commit_copies();
void wait_for_copies(int pending);

}  // namespace emu

namespace digan {

// The source is read now: on a GPU at any time up to the wait, between which it must not change.
template <class T>
void cp_async_16(emu::Shared<T> to, emu::Global<const T> from, bool valid = true) {
  char data[16] = {};
  if (valid) {
    emu::check_read(from.region(), from.bytes(), 16);
    std::memcpy(data, from.raw(), 16);
    emu::counters.async_copy_bytes += 16;
  } else if (from == nullptr) {
    emu::fail("cp_async_16 from a null pointer");
  }
  emu::check_shared_alignment(to.storage(), to.at(), 16);
  emu::begin_copy(to.storage(), to.at(), data);
}

inline void cp_async_commit() {
  emu::commit_copies();
}

template <int kPending>
void cp_async_wait() {
  emu::wait_for_copies(kPending);
}

}  // namespace digan
