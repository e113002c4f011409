// Global memory under the emulator: a table of what a kernel may touch, and Global<T>.
//
// Whoever calls a launcher registers the memory first, as the binding does with its tensors:
//
//   emu::Allocation x_memory(x, bytes, emu::Access::kRead, "x");
//   emu::Allocation out_memory(out, bytes, emu::Access::kFresh, "out");   // poisoned here
//   error = launch_op(arguments, stream);
//
// A registration lasts as long as the Allocation. Null or empty memory may be registered.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "element.h"

namespace emu {

enum class Access {
  kRead,       // an input: writing it is an error
  kReadWrite,  // holds data that a kernel updates
  kFresh,      // an output or a workspace: poisoned with 0xFF now, reading it unwritten is an error
};

struct Region;  // one registered piece of memory

int64_t register_memory(const void* begin, int64_t bytes, Access access, const char* name = "");
void forget_memory(int64_t id);

class Allocation {
 public:
  Allocation(const void* begin, int64_t bytes, Access access, const char* name = "")
      : id_(register_memory(begin, bytes, access, name)) {}
  Allocation(Allocation&& other) noexcept : id_(other.id_) { other.id_ = -1; }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  Allocation& operator=(Allocation&&) = delete;
  ~Allocation() {
    if (id_ >= 0)
      forget_memory(id_);
  }

 private:
  int64_t id_;
};

// The region that a pointer given to a kernel lies in; null if nobody registered it.
const Region* find_region(const void* pointer, bool writes);

// Bounds, alignment, rights, order between threads; counts. Throws Fault where the kernel errs.
void check_read(const Region* region, const char* at, int bytes);
void check_write(const Region* region, const char* at, int bytes);
// As if an earlier launch had written it: for cudaMemsetAsync.
void mark_written(const void* begin, size_t bytes);

template <class T>
class Global {
 public:
  using Value = std::remove_const_t<T>;

  Global() = default;
  Global(std::nullptr_t) {}
  Global(T* pointer) : at_(pointer), region_(find_region(pointer, !std::is_const_v<T>)) {}
  Global(T* pointer, const Region* region) : at_(pointer), region_(region) {}
  operator Global<const T>() const { return Global<const T>(at_, region_); }

  explicit operator bool() const { return at_ != nullptr; }
  friend bool operator==(Global a, std::nullptr_t) { return a.at_ == nullptr; }
  friend bool operator==(Global a, Global b) { return a.at_ == b.at_; }
  friend bool operator<(Global a, Global b) { return a.at_ < b.at_; }

  // Addresses are formed as integers: a pointer outside its memory is an error only when used.
  friend Global operator+(Global a, int64_t n) { return a.moved(n); }
  friend Global operator+(int64_t n, Global a) { return a.moved(n); }
  friend Global operator-(Global a, int64_t n) { return a.moved(-n); }
  friend int64_t operator-(Global a, Global b) {
    return (reinterpret_cast<intptr_t>(a.at_) - reinterpret_cast<intptr_t>(b.at_)) /
           static_cast<intptr_t>(sizeof(T));
  }
  Global& operator+=(int64_t n) { return *this = moved(n); }
  Global& operator-=(int64_t n) { return *this = moved(-n); }
  Global& operator++() { return *this = moved(1); }

  // Const memory yields a value, other memory a stand-in that knows reading from writing.
  auto operator[](int64_t n) const {
    if constexpr (std::is_const_v<T>) {
      return moved(n).read();
    } else {
      return Element<Global<T>, T>(moved(n));
    }
  }
  auto operator*() const { return (*this)[0]; }

  Value read() const {
    check_read(region_, bytes(), sizeof(T));
    Value value;
    std::memcpy(&value, at_, sizeof(T));
    return value;
  }
  void write(const Value& value) const {
    static_assert(!std::is_const_v<T>, "an input is read only");
    check_write(region_, bytes(), sizeof(T));
    std::memcpy(at_, &value, sizeof(T));
  }

  T* raw() const { return at_; }
  const Region* region() const { return region_; }
  const char* bytes() const { return reinterpret_cast<const char*>(at_); }

 private:
  Global moved(int64_t n) const {
    const auto address = reinterpret_cast<uintptr_t>(at_) + static_cast<uintptr_t>(n) * sizeof(T);
    return Global(reinterpret_cast<T*>(address), region_);
  }

  T* at_ = nullptr;
  const Region* region_ = nullptr;
};

}  // namespace emu
