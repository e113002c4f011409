#include "shared.h"

#include <string>

#include "bank_conflicts.h"
#include "counters.h"
#include "fault.h"
#include "schedule.h"

namespace emu {
namespace {

constexpr int16_t kSeveral = -1;
constexpr uint32_t kMostBytes = 48 * 1024;  // of arrays whose size the compiler knows

int64_t layout_block = 0;
uint32_t layout_end = 0;

// At a block's first touch: poison, and a place in the block's shared memory.
void open(SharedStorage& storage) {
  if (storage.block == block_serial) {
    return;
  }
  storage.block = block_serial;
  const auto bytes = static_cast<size_t>(storage.count) * storage.element_bytes;
  std::memset(storage.data, 0xff, bytes);
  for (int64_t i = 0; i < storage.count; ++i) {
    storage.cells[i] = SharedCell();
  }
  if (layout_block != block_serial) {
    layout_block = block_serial;
    layout_end = 0;
  }
  storage.offset = layout_end;
  layout_end += static_cast<uint32_t>((bytes + 15) / 16 * 16);
  if (layout_end > kMostBytes) {
    fail("the block's shared arrays hold ", layout_end, " bytes, at most ", kMostBytes);
  }
}

[[noreturn]] void race(
    SharedStorage& storage, int64_t element, const char* what, int other, bool same_warp) {
  fail("race: ", what, " ", storage.name, "[", element, "] which thread ", other, " of ",
       same_warp ? "the same warp, without __syncwarp between"
                 : "another warp, without __syncthreads between");
}

void check_bounds(SharedStorage& storage, int64_t element, int count, const char* verb) {
  if (element < 0 || element + count > storage.count) {
    fail(verb, " ", storage.name, "[", element, "], which has ", storage.count, " elements");
  }
}

void check_against_write(SharedStorage& storage,
                         int64_t element,
                         const SharedCell& cell,
                         const Lane& lane,
                         const char* what) {
  if (cell.written != barrier_epoch || cell.writer == lane.thread) {
    return;
  }
  const bool same_warp = cell.writer / 32 == lane.warp->number;
  if (!same_warp || cell.written_in_warp == lane.warp->epoch) {
    race(storage, element, what, cell.writer, same_warp);
  }
}

}  // namespace

void check_shared_read(SharedStorage& storage, int64_t element, int count, int lane_number) {
  open(storage);
  check_bounds(storage, element, count, "reads");
  const Lane& lane = lane_number < 0 ? *self : *self->warp->lanes[lane_number];
  const Warp& warp = *lane.warp;
  for (int64_t i = element; i < element + count; ++i) {
    SharedCell& cell = storage.cells[i];
    if (cell.pending) {
      fail("reads ", storage.name, "[", i, "] before the asynchronous copy to it was waited for");
    }
    if (cell.written == 0) {
      fail("reads ", storage.name, "[", i, "], which nobody wrote");
    }
    check_against_write(storage, i, cell, lane, "reads");
    const auto warp_number = static_cast<int16_t>(warp.number);
    const auto lane_in_warp = static_cast<int16_t>(lane.lane);
    if (cell.read != barrier_epoch) {
      cell.read = barrier_epoch;
      cell.reading_warp = warp_number;
      cell.reading_lane = lane_in_warp;
    } else if (cell.reading_warp != warp_number) {
      cell.reading_warp = kSeveral;
    } else if (cell.read_in_warp != warp.epoch) {
      cell.reading_lane = lane_in_warp;
    } else if (cell.reading_lane != lane_in_warp) {
      cell.reading_lane = kSeveral;
    }
    cell.read_in_warp = warp.epoch;
  }
}

void check_shared_write(SharedStorage& storage, int64_t element, int count) {
  open(storage);
  check_bounds(storage, element, count, "writes");
  const Lane& lane = *self;
  const Warp& warp = *lane.warp;
  for (int64_t i = element; i < element + count; ++i) {
    SharedCell& cell = storage.cells[i];
    if (cell.pending) {
      fail("writes ", storage.name, "[", i, "] before the asynchronous copy to it was waited for");
    }
    check_against_write(storage, i, cell, lane, "overwrites");
    if (cell.read == barrier_epoch) {
      const bool other_warp = cell.reading_warp != warp.number;
      const bool other_lane = cell.read_in_warp == warp.epoch && cell.reading_lane != lane.lane;
      if (other_warp || other_lane) {
        const int reader = cell.reading_warp == kSeveral || cell.reading_lane == kSeveral
                               ? -1
                               : 32 * cell.reading_warp + cell.reading_lane;
        fail("race: overwrites ", storage.name, "[", i, "] which ",
             reader < 0 ? "several threads" : "thread " + std::to_string(reader), " read, without ",
             other_warp ? "__syncthreads" : "__syncwarp", " between");
      }
    }
    cell.written = barrier_epoch;
    cell.written_in_warp = warp.epoch;
    cell.writer = static_cast<int16_t>(lane.thread);
  }
}

void check_shared_alignment(SharedStorage& storage, int64_t element, int bytes) {
  open(storage);
  const int64_t offset = element * storage.element_bytes;
  if (offset % bytes != 0) {
    fail("misaligned: ", bytes, " bytes at ", storage.name, "[", element, "], byte ", offset);
  }
}

void count_shared(SharedStorage& storage, int64_t element, int bytes, bool writes) {
  ++(writes ? counters.shared_writes : counters.shared_reads);
  note_shared_access(storage.offset + static_cast<uint32_t>(element * storage.element_bytes),
                     bytes);
}

}  // namespace emu
