#include "async_copy.h"

namespace emu {
namespace {

int elements(const SharedStorage& storage) {
  return 16 / storage.element_bytes;
}

void set_pending(SharedStorage& storage, int64_t element, bool pending) {
  for (int64_t i = element; i < element + elements(storage); ++i) {
    storage.cells[i].pending = pending;
  }
}

}  // namespace

void begin_copy(SharedStorage& storage, int64_t element, const char (&data)[16]) {
  check_shared_write(storage, element, elements(storage));
  count_shared(storage, element, 16, true);
  std::memset(storage.data + element * storage.element_bytes, 0xff, 16);
  set_pending(storage, element, true);
  PendingCopy copy{self->copy_group, &storage, element, {}};
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
    set_pending(storage, copy.element, false);
    check_shared_write(storage, copy.element, elements(storage));
    std::memcpy(storage.data + copy.element * storage.element_bytes, copy.data, 16);
  }
  lane.copies = left;
}

}  // namespace emu
