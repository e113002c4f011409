#include "async_copy.h"

namespace emu {
namespace {

void set_pending(SharedStorage& storage, int64_t at, bool pending) {
  for (int64_t i = at >> storage.cell_shift; i < (at + 16) >> storage.cell_shift; ++i) {
    storage.cells[i].pending = pending;
  }
}

}  // namespace

void begin_copy(SharedStorage& storage, int64_t at, const char (&data)[16]) {
  check_shared_write(storage, at, 16);
  count_shared(storage, at, 16, SharedUse::kWrite);
  std::memset(storage.data + at, 0xff, 16);
  set_pending(storage, at, true);
  PendingCopy copy{self->copy_group, &storage, at, {}};
  std::memcpy(copy.data, data, 16);
  self->copies.push_back(copy);
}

void commit_copies() {
  ++self->copy_group;
}

void wait_for_copies(int pending) {
  Lane& lane = *self;
  std::vector<PendingCopy> left;
  for (const PendingCopy& copy : lane.copies) {
    if (copy.group >= lane.copy_group - pending) {
      left.push_back(copy);
      continue;
    }
    auto& storage = *static_cast<SharedStorage*>(copy.storage);
    set_pending(storage, copy.at, false);
    check_shared_write(storage, copy.at, 16);
    std::memcpy(storage.data + copy.at, copy.data, 16);
  }
  lane.copies = left;
}

}  // namespace emu
