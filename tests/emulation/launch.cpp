#include "launch.h"

#include <mutex>

#include "counters.h"
#include "fault.h"
#include "memory.h"
#include "mutant.h"
#include "schedule.h"
#include "shared.h"

namespace emu {

Counters counters;
int active_mutant = 0;

namespace {

std::recursive_mutex launch_mutex;
std::vector<LaunchRecord> records;
std::string report;
std::string running;
cudaError_t last_error = cudaSuccess;

std::string text_of(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

// "(fill_kernel<T>)" -> "fill_kernel<T>"
std::string kernel_name(std::string name) {
  if (name.size() > 1 && name.front() == '(' && name.back() == ')') {
    name = name.substr(1, name.size() - 2);
  }
  return name;
}

std::string configuration_complaint(dim3 grid, dim3 block, int64_t shared_bytes) {
  const auto threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) {
    return "a block must have 1 to 1024 threads, at most 64 along z, got " +
           text_of({block.x, block.y, block.z});
  }
  const auto blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return "a grid must have 1 to 2147483647 x 65535 x 65535 blocks, got " +
           text_of({grid.x, grid.y, grid.z});
  }
  if (shared_bytes < 0 || shared_bytes > most_shared()) {
    return "a block must have at most " + std::to_string(most_shared()) +
           " bytes of shared memory, got " + std::to_string(shared_bytes);
  }
  return "";
}

cudaError_t set_error(cudaError_t error, const std::string& text) {
  report = text;
  last_error = error;
  return error;
}

}  // namespace

LaunchLock::LaunchLock() {
  launch_mutex.lock();
}
LaunchLock::~LaunchLock() {
  launch_mutex.unlock();
}

const std::string& last_report() {
  return report;
}
const std::vector<LaunchRecord>& launches() {
  return records;
}
void clear_launches() {
  records.clear();
}

void raise_fault(const std::string& what) {
  std::string text = running + ", block " + text_of(blockIdx);
  if (self != nullptr) {
    text += ", thread " + text_of(self->index);
  }
  throw Fault{text + ": " + what};
}

void allow_hopper_shared(bool allow) {
  set_most_shared(allow ? kMostHopperBytes : kMostSharedBytes);
}

cudaError_t run_kernel(const char* name,
                       dim3 grid,
                       dim3 block,
                       int64_t shared_bytes,
                       void (*body)(void*),
                       void* bound) {
  running = kernel_name(name);
  self = nullptr;
  const std::string complaint = configuration_complaint(grid, block, shared_bytes);
  if (!complaint.empty()) {
    return set_error(cudaErrorInvalidConfiguration, running + ": " + complaint);
  }
  counters = Counters();
  report.clear();
  cudaError_t error = cudaSuccess;
  set_dynamic_shared(shared_bytes);
  try {
    run_grid(grid, block, body, bound);
  } catch (const Fault& fault) {
    error = set_error(cudaErrorLaunchFailure, fault.text);
  }
  self = nullptr;
  records.push_back({running, grid, block, shared_bytes, counters});
  return error;
}

}  // namespace emu

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorNotSupported:
      return "operation not supported";
    case cudaErrorInvalidConfiguration:
      // A launcher may have found that by itself.
      return emu::report.empty() ? "invalid configuration argument" : emu::report.c_str();
    default:
      return emu::report.c_str();
  }
}

cudaError_t cudaPeekAtLastError() {
  return emu::last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = emu::last_error;
  emu::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaMemsetAsync(void* begin, int byte, size_t bytes, cudaStream_t) {
  if (bytes > 0) {
    std::memset(begin, byte, bytes);
    emu::mark_written(begin, bytes);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

// Few, so that a grid made to fill the chip takes several rounds over small tensors too.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 2;
  return cudaSuccess;
}
