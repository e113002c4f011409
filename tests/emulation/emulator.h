// What csrc/platform.cuh and csrc/ptx.cuh get from a host compiler alone.
//
// The same kernels run on a CPU, watched: see memory.h and shared.h for what is checked,
// schedule.h for the order in which threads run, counters.h for what is counted.

#pragma once

#include <cstdint>
#include <cstring>

#include "counters.h"
#include "cuda_words.h"
#include "fault.h"
#include "float16.h"
#include "launch.h"
#include "memory.h"
#include "mutant.h"
#include "schedule.h"
#include "shared.h"
#include "warp.h"

namespace digan {

using emu::bf16;
using emu::f16;
using emu::Global;
using emu::Shared;

template <class T>
struct alignas(16) Vec16 {
  static constexpr int kCount = 16 / sizeof(T);
  T v[kCount];
};

template <class T>
Vec16<T> load16(Global<const T> from) {
  emu::check_read(from.region(), from.bytes(), 16);
  Vec16<T> value;
  std::memcpy(&value, from.raw(), 16);
  return value;
}

template <class T>
void store16(Global<T> to, const Vec16<T>& value) {
  emu::check_write(to.region(), to.bytes(), 16);
  std::memcpy(to.raw(), &value, 16);
}

template <class T>
Vec16<T> load16(Shared<const T> from) {
  return from.template wide_read<Vec16<T>>();
}

template <class T>
void store16(Shared<T> to, const Vec16<T>& value) {
  to.wide_write(value);
}

template <class T>
uint32_t load_pair(Global<const T> from) {
  static_assert(sizeof(T) == 2, "numbers of 16 bits");
  emu::check_read(from.region(), from.bytes(), 4);
  uint32_t value;
  std::memcpy(&value, from.raw(), 4);
  return value;
}

inline int thread_here() {
  return static_cast<int>(threadIdx.x);
}

// Memory that may be written is read as well.
template <class T>
requires(!std::is_const_v<T>) Vec16<T> load16(Global<T> from) {
  return load16(Global<const T>(from));
}

template <class T>
requires(!std::is_const_v<T>) Vec16<T> load16(Shared<T> from) {
  return load16(Shared<const T>(from));
}

}  // namespace digan

template <class T>
T __ldg(emu::Global<const T> from) {
  return from.read();
}

#define DIGAN_SHARED(T, name, count)                                     \
  constinit static ::emu::SharedArray<T, (count)> name##_storage(#name); \
  const ::emu::Shared<T> name(name##_storage)

#define DIGAN_SHARED_DYNAMIC(T, name) const ::emu::Shared<T> name(::emu::dynamic_shared(#name))

#define DIGAN_UNWRAP(...) __VA_ARGS__
#define DIGAN_LAUNCH(kernel, grid, block, stream, ...) \
  DIGAN_LAUNCH_SHARED(kernel, grid, block, 0, stream, __VA_ARGS__)
#define DIGAN_LAUNCH_SHARED(kernel, grid, block, shared_bytes, stream, ...)                \
  ::emu::launch(#kernel, (DIGAN_UNWRAP kernel), (grid), (block), (shared_bytes), (stream), \
                __VA_ARGS__)
#define DIGAN_LAUNCH_LARGE(kernel, grid, block, shared_bytes, stream, ...)                       \
  ::emu::launch_large(#kernel, (DIGAN_UNWRAP kernel), (grid), (block), (shared_bytes), (stream), \
                      __VA_ARGS__)
