// Shared memory: poisoned when a block starts, and watched cell by cell.
//
// For each cell it is known who wrote and who read it last, and between which barriers. Two
// threads that touch a cell, one of them writing, race unless a __syncthreads stands between,
// or a __syncwarp if both are of one warp (a shuffle is no memory barrier), or what is known by
// clocks (order.h). Every race is reported, whether or not this run's order made it show.
//
// A cell is an element of an array of known size, and 2 bytes of the memory that a launch sizes,
// so that this can be viewed as numbers of any type.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "element.h"
#include "schedule.h"

namespace emu {

// What is known of a cell; epochs are 0 for never in this block.
struct SharedCell {
  uint32_t written = 0, written_in_warp = 0;  // barrier epoch, __syncwarp epoch
  uint32_t read = 0, read_in_warp = 0;
  int16_t writer = 0;                          // thread
  int16_t reading_warp = 0, reading_lane = 0;  // or kSeveral
  uint16_t products = 0;  // of a warpgroup under way, which read it until they are waited for
  bool pending = false;   // an asynchronous copy that nobody has waited for will write it
  // In blocks that are watched by clocks:
  bool is_mbarrier = false;
  int16_t mbarrier = -1;          // at which a copy by TMA that wrote it arrived
  uint32_t tick = 0, fences = 0;  // the writer's when it wrote, or the phase of that mbarrier
  int32_t readers = -1;           // a list of them
};

struct SharedStorage {
  const char* name;
  int cell_shift;  // a cell has 1 << cell_shift bytes
  int64_t bytes;
  char* data;
  SharedCell* cells;
  int64_t block = 0;    // whose content this is
  uint32_t offset = 0;  // in the block's shared memory
};

// Places are in bytes. `lane` of the running thread's warp is the one that accesses, -1 for the
// running thread.
void check_shared_read(SharedStorage& storage, int64_t at, int bytes, int lane = -1);
void check_shared_write(SharedStorage& storage, int64_t at, int bytes);
// Besides, what threads wrote there must be fenced: see fence_proxy_async.
void check_async_proxy_read(SharedStorage& storage, int64_t at, int bytes);
void check_shared_alignment(SharedStorage& storage, int64_t at, int bytes);
// A copy by TMA, as the running thread starts it: the old content is gone. And as it has arrived,
// to be seen by who has waited for that phase.
void begin_async_write(SharedStorage& storage, int64_t at, int bytes, int mbarrier);
void end_async_write(SharedStorage& storage, int64_t at, int bytes, uint32_t phases_ended);
// The place is read by a store of TMA until that is known to be done.
void note_store_read(SharedStorage& storage, int64_t at, int bytes, int store);
void make_mbarrier_cells(SharedStorage& storage, int64_t at);
// Notes one access for the counters.
void count_shared(SharedStorage& storage, int64_t at, int bytes, SharedUse use);

// What the launch that runs now gave its blocks.
SharedStorage& dynamic_shared(const char* name);
SharedStorage& launch_shared();  // the same, whatever the kernel calls it
void set_dynamic_shared(int64_t bytes);
// Of a block: on cards 8.6, 8.9 and 12.0, and on 9.0.
constexpr int64_t kMostSharedBytes = 99 * 1024, kMostHopperBytes = 227 * 1024;
void set_most_shared(int64_t bytes);
int64_t most_shared();

template <class T>
class Shared {
 public:
  using Value = std::remove_const_t<T>;

  Shared() = default;
  explicit Shared(SharedStorage& storage) : storage_(&storage) {}
  Shared(SharedStorage* storage, int64_t at) : storage_(storage), at_(at) {}
  operator Shared<const T>() const { return Shared<const T>(storage_, at_); }

  friend Shared operator+(Shared a, int64_t n) {
    return Shared(a.storage_, a.at_ + n * static_cast<int64_t>(sizeof(T)));
  }
  friend Shared operator+(int64_t n, Shared a) { return a + n; }
  friend Shared operator-(Shared a, int64_t n) { return a + -n; }
  friend int64_t operator-(Shared a, Shared b) {
    return (a.at_ - b.at_) / static_cast<int64_t>(sizeof(T));
  }
  Shared& operator+=(int64_t n) { return *this = *this + n; }
  Shared& operator-=(int64_t n) { return *this = *this + -n; }
  Shared& operator++() { return *this += 1; }

  auto operator[](int64_t n) const {
    if constexpr (std::is_const_v<T>) {
      return (*this + n).read();
    } else {
      return Element<Shared<T>, T>(*this + n);
    }
  }
  auto operator*() const { return (*this)[0]; }

  Value read() const { return wide_read<Value>(); }
  void write(const Value& value) const { wide_write(value); }

  // Accesses of a type that may be wider, as one instruction that wants its alignment.
  template <class V>
  V wide_read() const {
    check_shared_alignment(*storage_, at_, alignof(V));
    check_shared_read(*storage_, at_, sizeof(V));
    count_shared(*storage_, at_, sizeof(V), SharedUse::kRead);
    V value;
    std::memcpy(&value, storage_->data + at_, sizeof(V));
    return value;
  }
  template <class V>
  void wide_write(const V& value) const {
    static_assert(!std::is_const_v<T>, "read only");
    check_shared_alignment(*storage_, at_, alignof(V));
    check_shared_write(*storage_, at_, sizeof(V));
    count_shared(*storage_, at_, sizeof(V), SharedUse::kWrite);
    std::memcpy(storage_->data + at_, &value, sizeof(V));
  }

  SharedStorage& storage() const { return *storage_; }
  int64_t at() const { return at_; }  // bytes

 private:
  SharedStorage* storage_ = nullptr;
  int64_t at_ = 0;
};

// A shared array is one object for all threads, as its blocks run one after another.
template <class T, int64_t kCount>
struct SharedArray : SharedStorage {
  static_assert((sizeof(T) & (sizeof(T) - 1)) == 0, "numbers");
  explicit constexpr SharedArray(const char* name)
      : SharedStorage{name, __builtin_ctz(sizeof(T)), sizeof(content), content, own_cells} {}
  alignas(16) char content[kCount * sizeof(T)] = {};
  SharedCell own_cells[kCount] = {};
};

}  // namespace emu

namespace digan {

// The same place, seen as numbers of another type.
template <class U, class T>
emu::Shared<U> view_as(emu::Shared<T> pointer) {
  static_assert(std::is_const_v<U> || !std::is_const_v<T>, "read only");
  return emu::Shared<U>(&pointer.storage(), pointer.at());
}

}  // namespace digan
