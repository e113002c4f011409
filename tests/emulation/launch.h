// DIGAN_LAUNCH under the emulator: the kernel has run when the launch returns.

#pragma once

#include <string>
#include <tuple>
#include <utility>

#include "cuda_words.h"

namespace emu {

// Runs a kernel, its arguments bound, as every thread of the grid. `name` is as the launch spells
// it; each block has `shared_bytes` of shared memory beside its arrays.
cudaError_t run_kernel(const char* name,
                       dim3 grid,
                       dim3 block,
                       int64_t shared_bytes,
                       void (*body)(void*),
                       void* bound);

// One at a time: the emulator's state is the process's.
class LaunchLock {
 public:
  LaunchLock();
  ~LaunchLock();
  LaunchLock(const LaunchLock&) = delete;
  LaunchLock& operator=(const LaunchLock&) = delete;
};

template <class... Parameters, class... Arguments>
cudaError_t launch(const char* name,
                   void (*kernel)(Parameters...),
                   dim3 grid,
                   dim3 block,
                   int64_t shared_bytes,
                   cudaStream_t,
                   Arguments&&... arguments) {
  using Values = std::tuple<std::decay_t<Parameters>...>;
  struct Bound {
    void (*kernel)(Parameters...);
    Values values;
  };
  const LaunchLock lock;
  Bound bound{kernel, Values(std::forward<Arguments>(arguments)...)};
  const auto body = [](void* pointer) {
    auto& bound = *static_cast<Bound*>(pointer);
    std::apply(bound.kernel, bound.values);
  };
  return run_kernel(name, grid, block, shared_bytes, body, &bound);
}

// The same with the shared memory that a block of sm_90 may have.
void allow_hopper_shared(bool allow);

template <class... Arguments>
cudaError_t launch_large(Arguments&&... arguments) {
  const LaunchLock lock;
  allow_hopper_shared(true);
  const cudaError_t error = launch(std::forward<Arguments>(arguments)...);
  allow_hopper_shared(false);
  return error;
}

}  // namespace emu
