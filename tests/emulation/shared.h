// Shared memory: poisoned when a block starts, and watched element by element.
//
// For each element it is known who wrote and who read it last, and between which barriers. Two
// threads that touch an element, one of them writing, race unless a __syncthreads stands between,
// or a __syncwarp if both are of one warp (a shuffle is no memory barrier). Every race is
// reported, whether or not this run's order made it show.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "element.h"

namespace emu {

// What is known of an element; epochs are 0 for never in this block.
struct SharedCell {
  uint32_t written = 0, written_in_warp = 0;  // barrier epoch, __syncwarp epoch
  uint32_t read = 0, read_in_warp = 0;
  int16_t writer = 0;                          // thread
  int16_t reading_warp = 0, reading_lane = 0;  // or kSeveral
  bool pending = false;  // an asynchronous copy that nobody has waited for will write it
};

struct SharedStorage {
  const char* name;
  int element_bytes;
  int64_t count;
  char* data;
  SharedCell* cells;
  int64_t block = 0;    // whose content this is
  uint32_t offset = 0;  // in the block's shared memory
};

// `lane` of the running thread's warp is the one that accesses, -1 for the running thread.
void check_shared_read(SharedStorage& storage, int64_t element, int count, int lane = -1);
void check_shared_write(SharedStorage& storage, int64_t element, int count);
// Notes one access for the counters.
void count_shared(SharedStorage& storage, int64_t element, int bytes, bool writes);
// Alignment of an access that is wider than an element.
void check_shared_alignment(SharedStorage& storage, int64_t element, int bytes);

template <class T>
class Shared {
 public:
  using Value = std::remove_const_t<T>;

  Shared() = default;
  explicit Shared(SharedStorage& storage) : storage_(&storage) {}
  Shared(SharedStorage* storage, int64_t element) : storage_(storage), element_(element) {}
  operator Shared<const T>() const { return Shared<const T>(storage_, element_); }

  friend Shared operator+(Shared a, int64_t n) { return Shared(a.storage_, a.element_ + n); }
  friend Shared operator+(int64_t n, Shared a) { return a + n; }
  friend Shared operator-(Shared a, int64_t n) { return a + -n; }
  friend int64_t operator-(Shared a, Shared b) { return a.element_ - b.element_; }
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

  Value read() const {
    check_shared_read(*storage_, element_, 1);
    count_shared(*storage_, element_, sizeof(T), false);
    Value value;
    std::memcpy(&value, storage_->data + element_ * sizeof(T), sizeof(T));
    return value;
  }
  void write(const Value& value) const {
    static_assert(!std::is_const_v<T>, "read only");
    check_shared_write(*storage_, element_, 1);
    count_shared(*storage_, element_, sizeof(T), true);
    std::memcpy(storage_->data + element_ * sizeof(T), &value, sizeof(T));
  }

  SharedStorage& storage() const { return *storage_; }
  int64_t element() const { return element_; }

 private:
  SharedStorage* storage_ = nullptr;
  int64_t element_ = 0;
};

// A shared array is one object for all threads, as its blocks run one after another.
template <class T, int64_t kCount>
struct SharedArray : SharedStorage {
  explicit constexpr SharedArray(const char* name)
      : SharedStorage{name, sizeof(T), kCount, bytes, own_cells} {}
  alignas(16) char bytes[kCount * sizeof(T)] = {};
  SharedCell own_cells[kCount] = {};
};

}  // namespace emu
