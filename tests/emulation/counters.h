// What a launch did, counted: every access of every thread, caches or not.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda_words.h"

namespace emu {

struct Counters {
  int64_t barriers = 0;         // __syncthreads, once per block
  int64_t warp_barriers = 0;    // __syncwarp, once per warp
  int64_t warp_exchanges = 0;   // shuffles, votes, ldmatrix and mma, once per warp
  int64_t matrix_products = 0;  // mma, once per warp
  int64_t group_products = 0;   // wgmma, once per warp
  int64_t global_reads = 0;     // accesses of a thread, whatever their width
  int64_t global_read_bytes = 0;
  int64_t async_copy_bytes = 0;               // those of them that cp.async reads
  int64_t tma_loads = 0, tma_load_bytes = 0;  // of them those of boxes, what lies in the tensor
  int64_t tma_stores = 0, tma_store_bytes = 0;
  int64_t mbarrier_arrivals = 0;  // of threads
  int64_t named_barriers = 0;     // as often as one was passed
  int64_t global_writes = 0;
  int64_t global_write_bytes = 0;
  int64_t shared_reads = 0;
  int64_t shared_writes = 0;
  // Passes beyond the first over shared memory's 32 banks, by what accesses it.
  int64_t matrix_read_conflicts = 0;   // ldmatrix
  int64_t shared_read_conflicts = 0;   // other reads
  int64_t shared_write_conflicts = 0;  // writes of threads and of cp.async

  int64_t bank_conflicts() const {
    return matrix_read_conflicts + shared_read_conflicts + shared_write_conflicts;
  }
};

struct LaunchRecord {
  std::string kernel;
  dim3 grid, block;
  int64_t launch_shared_bytes;  // of a block, beside its arrays of known size
  Counters counters;
};

// The counters of the launch that runs now.
extern Counters counters;

// Every launch since the last clear_launches().
const std::vector<LaunchRecord>& launches();
void clear_launches();

}  // namespace emu
