#include "memory.h"

#include <sys/mman.h>

#include <list>
#include <mutex>
#include <string>

#include "counters.h"
#include "fault.h"
#include "schedule.h"

namespace emu {

// Who wrote a granule of 2 bytes last; launch 0 for nobody.
struct Writer {
  uint32_t launch;
  uint32_t block;
  uint32_t epoch;
  uint32_t thread;
};

struct Region {
  char* begin;
  char* end;
  Access access;
  int64_t id;
  std::string name;
  Writer* writers;  // null for inputs
  size_t writer_bytes;
};

namespace {

constexpr int kGranule = 2;

std::list<Region> regions;  // the newest first; kernels hold pointers to them
std::mutex regions_mutex;
int64_t next_id = 0;

// Zeros that cost nothing until they are touched, for regions of many gigabytes too.
Writer* make_writers(size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return pages == MAP_FAILED ? nullptr : static_cast<Writer*>(pages);
}

std::string place(const Region& region, const char* at) {
  const auto offset = reinterpret_cast<intptr_t>(at) - reinterpret_cast<intptr_t>(region.begin);
  return "byte " + std::to_string(offset) + " of " +
         (region.name.empty() ? "memory" : region.name) + ", which has " +
         std::to_string(region.end - region.begin);
}

void check_access(const Region* region, const char* at, int bytes, const char* verb) {
  if (region == nullptr) {
    fail(verb, " ", bytes, " bytes through a ",
         at == nullptr ? "null pointer" : "pointer that nobody registered");
  }
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (address < reinterpret_cast<uintptr_t>(region->begin) ||
      address + bytes > reinterpret_cast<uintptr_t>(region->end)) {
    fail("out of bounds: ", verb, " ", bytes, " bytes at ", place(*region, at));
  }
  const int unit = bytes & -bytes;  // the power of two in the width
  if (address % unit != 0) {
    fail("misaligned: ", verb, " ", bytes, " bytes at ", place(*region, at));
  }
}

bool other_thread(const Writer& writer) {
  return writer.block != block_number() || writer.thread != static_cast<uint32_t>(self->thread);
}

// True where no barrier stands between a write of another thread in this launch and now.
bool unordered(const Writer& writer) {
  if (writer.launch != launch_serial || !other_thread(writer)) {
    return false;
  }
  return writer.block != block_number() || writer.epoch == barrier_epoch;
}

}  // namespace

int64_t register_memory(const void* begin, int64_t bytes, Access access, const char* name) {
  const std::lock_guard lock(regions_mutex);
  char* first = static_cast<char*>(const_cast<void*>(begin));
  bytes = first == nullptr || bytes < 0 ? 0 : bytes;
  Region region{first, first + bytes, access, next_id++, name, nullptr, 0};
  if (access != Access::kRead && bytes > 0) {
    region.writer_bytes = (bytes + kGranule - 1) / kGranule * sizeof(Writer);
    region.writers = make_writers(region.writer_bytes);
  }
  if (access == Access::kFresh && bytes > 0) {
    std::memset(first, 0xff, bytes);
  }
  regions.push_front(region);
  return region.id;
}

void forget_memory(int64_t id) {
  const std::lock_guard lock(regions_mutex);
  for (auto region = regions.begin(); region != regions.end(); ++region) {
    if (region->id == id) {
      if (region->writers != nullptr) {
        munmap(region->writers, region->writer_bytes);
      }
      regions.erase(region);
      return;
    }
  }
}

const Region* find_region(const void* pointer, bool writes) {
  if (pointer == nullptr) {
    return nullptr;
  }
  const std::lock_guard lock(regions_mutex);
  const char* at = static_cast<const char*>(pointer);
  const Region* found = nullptr;
  for (const Region& region : regions) {
    if (at < region.begin || at > region.end) {
      continue;
    }
    // Of several, as views of one tensor are: one with the right, one that starts just here.
    const int fit = 4 * (at < region.end) + 2 * (!writes || region.access != Access::kRead) +
                    (at == region.begin);
    const int best = found == nullptr
                         ? -1
                         : 4 * (at < found->end) + 2 * (!writes || found->access != Access::kRead) +
                               (at == found->begin);
    // Of two that fit alike, as views that begin together do, the longer one.
    if (fit > best || (fit == best && region.end > found->end)) {
      found = &region;
    }
  }
  return found;
}

void check_read(const Region* region, const char* at, int bytes) {
  check_access(region, at, bytes, "reads");
  ++counters.global_reads;
  counters.global_read_bytes += bytes;
  if (region->writers == nullptr) {
    return;
  }
  const int64_t offset = at - region->begin;
  for (int64_t i = offset / kGranule; i <= (offset + bytes - 1) / kGranule; ++i) {
    const Writer& writer = region->writers[i];
    if (writer.launch == 0 && region->access == Access::kFresh) {
      fail("reads ", place(*region, at), ", where nobody wrote");
    }
    if (unordered(writer)) {
      fail("race: reads ", place(*region, at), ", where thread ", writer.thread, " of block ",
           writer.block, " wrote in the same launch, without a barrier between");
    }
  }
}

void check_write(const Region* region, const char* at, int bytes) {
  check_access(region, at, bytes, "writes");
  ++counters.global_writes;
  counters.global_write_bytes += bytes;
  if (region->access == Access::kRead) {
    fail("writes ", bytes, " bytes to an input, ", place(*region, at));
  }
  if (region->writers == nullptr) {
    return;
  }
  const int64_t offset = at - region->begin;
  for (int64_t i = offset / kGranule; i <= (offset + bytes - 1) / kGranule; ++i) {
    Writer& writer = region->writers[i];
    if (unordered(writer)) {
      fail("race: writes ", place(*region, at), ", where thread ", writer.thread, " of block ",
           writer.block, " wrote in the same launch, without a barrier between");
    }
    writer = {launch_serial, block_number(), barrier_epoch, static_cast<uint32_t>(self->thread)};
  }
}

void mark_written(const void* begin, size_t bytes) {
  const Region* region = find_region(begin, true);
  if (region == nullptr || region->writers == nullptr) {
    return;
  }
  const int64_t offset = static_cast<const char*>(begin) - region->begin;
  for (size_t i = 0; i < (bytes + kGranule - 1) / kGranule; ++i) {
    region->writers[offset / kGranule + i] = {launch_serial, 0, 0, 0};
  }
}

}  // namespace emu
