#include "shared.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bank_conflicts.h"
#include "counters.h"
#include "fault.h"
#include "mbarrier.h"
#include "schedule.h"
#include "tma.h"

namespace emu {
namespace {

constexpr int16_t kSeveral = -1;
constexpr uint32_t kMostStaticBytes = 48 * 1024;  // of arrays whose size the compiler knows
// Without the attribute that DIGAN_LAUNCH_SHARED sets, a block may have no more in all.
constexpr int64_t kMostUnasked = 48 * 1024;
constexpr int kAlignment = 1024;        // of the memory that a launch sizes
int64_t most_bytes = kMostSharedBytes;  // of a block of this launch
constexpr int kCellShift = 1;           // there

int64_t layout_block = 0;
uint32_t layout_end = 0;  // of the static arrays

// Behind all static arrays; the banks repeat every 128 bytes.
SharedStorage dynamic{"shared memory", kCellShift, 0, nullptr, nullptr, 0, kMostStaticBytes};
std::vector<char> dynamic_data;
std::vector<SharedCell> dynamic_cells;

// Who reads a cell, in blocks that are watched by clocks. A list for each cell, in one pool.
struct Reader {
  int32_t next;
  int16_t thread;  // -1 for a store of TMA
  int32_t store;
  uint32_t tick;
  uint32_t epoch;  // of barriers
};
std::vector<Reader> readers;
int32_t free_readers = -1;

void place_static(SharedStorage& storage) {
  storage.offset = layout_end;
  layout_end += static_cast<uint32_t>((storage.bytes + 15) / 16 * 16);
  if (layout_end > kMostStaticBytes) {
    fail("the block's shared arrays hold ", layout_end, " bytes, at most ", kMostStaticBytes);
  }
}

// At a block's first touch: poison, and a place in the block's shared memory.
void open(SharedStorage& storage) {
  if (storage.block == block_serial) {
    return;
  }
  storage.block = block_serial;
  std::memset(storage.data, 0xff, static_cast<size_t>(storage.bytes));
  std::fill_n(storage.cells, storage.bytes >> storage.cell_shift, SharedCell());
  if (layout_block != block_serial) {
    layout_block = block_serial;
    layout_end = 0;
    readers.clear();
    free_readers = -1;
  }
  if (&storage != &dynamic) {
    place_static(storage);
  }
  const int64_t all = (layout_end + kAlignment - 1) / kAlignment * kAlignment + dynamic.bytes;
  const int64_t most = dynamic.bytes > kMostUnasked ? most_bytes : kMostUnasked;
  if (dynamic.bytes > 0 && all > most) {
    fail("the block has ", all, " bytes of shared memory, arrays and ", dynamic.bytes,
         " of its launch, at most ", most);
  }
}

// "tile[5]", or "byte 10 of memory" where there are no elements.
std::string place(const SharedStorage& storage, int64_t at) {
  if (&storage == &dynamic) {
    return "byte " + std::to_string(at) + " of " + storage.name;
  }
  return std::string(storage.name) + "[" + std::to_string(at >> storage.cell_shift) + "]";
}

std::string place_of_cell(const SharedStorage& storage, int64_t cell) {
  return place(storage, cell << storage.cell_shift);
}

[[noreturn]] void race(
    SharedStorage& storage, int64_t cell, const char* what, int other, bool same_warp) {
  fail("race: ", what, " ", place_of_cell(storage, cell), " which thread ", other, " of ",
       same_warp ? "the same warp, without __syncwarp between"
                 : "another warp, without __syncthreads between");
}

// The cells of an access.
struct Cells {
  int64_t begin, end;
};

Cells cells_of(SharedStorage& storage, int64_t at, int bytes, const char* verb) {
  if (at < 0 || at + bytes > storage.bytes) {
    const bool sized = &storage == &dynamic;
    fail(verb, " ", place(storage, at), ", which has ",
         sized ? storage.bytes : storage.bytes >> storage.cell_shift,
         sized ? " bytes" : " elements");
  }
  if ((at | bytes) & ((1 << storage.cell_shift) - 1)) {
    fail(verb, " ", bytes, " bytes at byte ", at, " of ", storage.name,
         ", which is watched by pieces of ", 1 << storage.cell_shift);
  }
  return {at >> storage.cell_shift, (at + bytes) >> storage.cell_shift};
}

void check_against_write(
    SharedStorage& storage, int64_t i, const SharedCell& cell, const Lane& lane, const char* what) {
  if (cell.mbarrier >= 0) {
    if (!has_seen(lane, agent_of_mbarrier(cell.mbarrier), cell.tick)) {
      fail("race: ", what, " ", place_of_cell(storage, i),
           " without having waited for the copy that wrote it at ",
           text_of_mbarrier(cell.mbarrier));
    }
    return;
  }
  if (cell.written != barrier_epoch || has_seen(lane, cell.writer, cell.tick)) {
    return;
  }
  const bool same_warp = cell.writer / 32 == lane.warp->number;
  if (!same_warp || cell.written_in_warp == lane.warp->epoch) {
    race(storage, i, what, cell.writer, same_warp);
  }
}

void add_reader(SharedCell& cell, const Reader& reader) {
  if (reader.thread >= 0) {
    for (int32_t i = cell.readers; i >= 0; i = readers[i].next) {
      if (readers[i].thread == reader.thread) {
        readers[i].tick = reader.tick;
        readers[i].epoch = reader.epoch;
        return;
      }
    }
  }
  int32_t place = free_readers;
  if (place >= 0) {
    free_readers = readers[place].next;
    readers[place] = reader;
  } else {
    place = static_cast<int32_t>(readers.size());
    readers.push_back(reader);
  }
  readers[place].next = cell.readers;
  cell.readers = place;
}

// All of them, but for those before the last barrier of the block, must be seen by who writes.
void check_readers(SharedStorage& storage, int64_t i, SharedCell& cell, const Lane& lane) {
  while (cell.readers >= 0) {
    const int32_t place = cell.readers;
    const Reader& reader = readers[place];
    if (reader.thread < 0) {
      if (!has_seen_store(lane, reader.store)) {
        fail("writes ", place_of_cell(storage, i),
             " before the store that reads it was waited for");
      }
    } else if (reader.epoch == barrier_epoch && !has_seen(lane, reader.thread, reader.tick)) {
      fail("race: overwrites ", place_of_cell(storage, i), " which thread ", reader.thread,
           " read, without a barrier between");
    }
    cell.readers = reader.next;
    readers[place].next = free_readers;
    free_readers = place;
  }
}

void check_no_mbarrier(SharedStorage& storage,
                       int64_t i,
                       const SharedCell& cell,
                       const char* verb) {
  if (cell.is_mbarrier) {
    fail(verb, " ", place_of_cell(storage, i), ", which is of an mbarrier");
  }
}

}  // namespace

SharedStorage& dynamic_shared(const char* name) {
  dynamic.name = name;
  return dynamic;
}

SharedStorage& launch_shared() {
  return dynamic;
}

void set_dynamic_shared(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  if (dynamic_data.size() < size) {
    dynamic_data.resize(size);
    dynamic_cells.resize((size + 1) >> kCellShift);
  }
  dynamic.bytes = bytes;
  dynamic.data = dynamic_data.data();
  dynamic.cells = dynamic_cells.data();
}

void check_shared_read(SharedStorage& storage, int64_t at, int bytes, int lane_number) {
  open(storage);
  const Cells cells = cells_of(storage, at, bytes, "reads");
  const Lane& lane = lane_number < 0 ? *self : *self->warp->lanes[lane_number];
  const Warp& warp = *lane.warp;
  for (int64_t i = cells.begin; i < cells.end; ++i) {
    SharedCell& cell = storage.cells[i];
    check_no_mbarrier(storage, i, cell, "reads");
    if (cell.pending) {
      fail("reads ", place_of_cell(storage, i),
           " before the asynchronous copy to it was waited for");
    }
    if (cell.written == 0) {
      fail("reads ", place_of_cell(storage, i), ", which nobody wrote");
    }
    check_against_write(storage, i, cell, lane, "reads");
    if (ordering) {
      add_reader(cell, {-1, static_cast<int16_t>(lane.thread), -1, lane.tick, barrier_epoch});
    }
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

void check_shared_write(SharedStorage& storage, int64_t at, int bytes) {
  open(storage);
  const Cells cells = cells_of(storage, at, bytes, "writes");
  const Lane& lane = *self;
  const Warp& warp = *lane.warp;
  for (int64_t i = cells.begin; i < cells.end; ++i) {
    SharedCell& cell = storage.cells[i];
    check_no_mbarrier(storage, i, cell, "writes");
    if (cell.pending) {
      fail("writes ", place_of_cell(storage, i),
           " before the asynchronous copy to it was waited for");
    }
    if (cell.products > 0) {
      fail("writes ", place_of_cell(storage, i), " before the wgmma that reads it was waited for");
    }
    check_against_write(storage, i, cell, lane, "overwrites");
    if (cell.readers >= 0) {
      check_readers(storage, i, cell, lane);
    } else if (cell.read == barrier_epoch && !ordering) {
      const bool other_warp = cell.reading_warp != warp.number;
      const bool other_lane = cell.read_in_warp == warp.epoch && cell.reading_lane != lane.lane;
      if (other_warp || other_lane) {
        const int reader = cell.reading_warp == kSeveral || cell.reading_lane == kSeveral
                               ? -1
                               : 32 * cell.reading_warp + cell.reading_lane;
        fail("race: overwrites ", place_of_cell(storage, i), " which ",
             reader < 0 ? "several threads" : "thread " + std::to_string(reader), " read, without ",
             other_warp ? "__syncthreads" : "__syncwarp", " between");
      }
    }
    cell.written = barrier_epoch;
    cell.written_in_warp = warp.epoch;
    cell.writer = static_cast<int16_t>(lane.thread);
    cell.mbarrier = -1;
    cell.tick = lane.tick;
    cell.fences = lane.fences;
  }
}

void check_async_proxy_read(SharedStorage& storage, int64_t at, int bytes) {
  const Cells cells = cells_of(storage, at, bytes, "reads");
  for (int64_t i = cells.begin; i < cells.end; ++i) {
    const SharedCell& cell = storage.cells[i];
    if (cell.mbarrier < 0 && cell.written != 0 &&
        !has_seen_fence(*self, cell.writer, cell.fences)) {
      fail("an asynchronous access to ", place_of_cell(storage, i), ", which thread ", cell.writer,
           " wrote, without its fence_proxy_async between");
    }
  }
}

void begin_async_write(SharedStorage& storage, int64_t at, int bytes, int mbarrier) {
  open(storage);
  check_async_proxy_read(storage, at, bytes);
  check_shared_write(storage, at, bytes);
  std::memset(storage.data + at, 0xff, static_cast<size_t>(bytes));
  for (int64_t i = at >> storage.cell_shift; i < (at + bytes) >> storage.cell_shift; ++i) {
    storage.cells[i].pending = true;
    storage.cells[i].mbarrier = static_cast<int16_t>(mbarrier);
  }
}

void end_async_write(SharedStorage& storage, int64_t at, int bytes, uint32_t phases_ended) {
  for (int64_t i = at >> storage.cell_shift; i < (at + bytes) >> storage.cell_shift; ++i) {
    storage.cells[i].pending = false;
    storage.cells[i].tick = phases_ended;
  }
}

void note_store_read(SharedStorage& storage, int64_t at, int bytes, int store) {
  for (int64_t i = at >> storage.cell_shift; i < (at + bytes) >> storage.cell_shift; ++i) {
    add_reader(storage.cells[i], {-1, -1, store, 0, 0});
  }
}

void make_mbarrier_cells(SharedStorage& storage, int64_t at) {
  constexpr int kBytes = 8;
  check_shared_alignment(storage, at, kBytes);
  check_shared_write(storage, at, kBytes);
  for (int64_t i = at >> storage.cell_shift; i < (at + kBytes) >> storage.cell_shift; ++i) {
    storage.cells[i].is_mbarrier = true;
  }
}

void set_most_shared(int64_t bytes) {
  most_bytes = bytes;
}

int64_t most_shared() {
  return most_bytes;
}

void check_shared_alignment(SharedStorage& storage, int64_t at, int bytes) {
  if ((at & (bytes - 1)) != 0) {
    fail("misaligned: ", bytes, " bytes at ", place(storage, at), ", byte ", at);
  }
}

void count_shared(SharedStorage& storage, int64_t at, int bytes, SharedUse use) {
  ++(use == SharedUse::kWrite ? counters.shared_writes : counters.shared_reads);
  note_shared_access(storage.offset + static_cast<uint32_t>(at), bytes, use);
}

}  // namespace emu
