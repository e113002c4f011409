// TMA under the emulator: see csrc/gemm/hopper/tma.cuh. And what of the driver makes tensor maps.
//
// Of a load, the place in shared memory is poisoned and nobody may touch it; the data arrive when
// no thread can go on, or by a draw at a later load, one box after another in an order drawn from
// the seed, and are seen behind a wait for the phase that their bytes were counted in. A store
// reads what its threads wrote and fenced, and whoever overwrites that before its group was waited
// for is reported.

#pragma once

#include <cstdint>

#include "memory.h"
#include "schedule.h"
#include "shared.h"

#define __grid_constant__

// ---------------------------------------------------------------- the driver

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;

struct alignas(64) CUtensorMap {
  cuuint64_t opaque[16];
};

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType {
  CU_TENSOR_MAP_DATA_TYPE_UINT8 = 0,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32 = 7,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT64 = 8,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9,
};
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle {
  CU_TENSOR_MAP_SWIZZLE_NONE = 0,
  CU_TENSOR_MAP_SWIZZLE_32B,
  CU_TENSOR_MAP_SWIZZLE_64B,
  CU_TENSOR_MAP_SWIZZLE_128B,
};
enum CUtensorMapL2promotion {
  CU_TENSOR_MAP_L2_PROMOTION_NONE = 0,
  CU_TENSOR_MAP_L2_PROMOTION_L2_64B,
  CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
};
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// Checks what the driver's documentation asks for, and refuses what it does not.
CUresult cuTensorMapEncodeTiled(CUtensorMap* tensorMap,
                                CUtensorMapDataType tensorDataType,
                                cuuint32_t tensorRank,
                                void* globalAddress,
                                const cuuint64_t* globalDim,
                                const cuuint64_t* globalStrides,
                                const cuuint32_t* boxDim,
                                const cuuint32_t* elementStrides,
                                CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion l2Promotion,
                                CUtensorMapFloatOOBfill oobFill);

enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
constexpr unsigned long long cudaEnableDefault = 0;
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol,
                                             void** function,
                                             unsigned cuda_version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result);

namespace emu {

// Whether the driver has the function.
void set_driver_has_tensor_maps(bool has);

// ---------------------------------------------------------------- copies

void start_load(SharedStorage& storage,
                int64_t at,
                const CUtensorMap& map,
                SharedStorage& barrier_storage,
                int64_t barrier_at,
                int axes,
                const int* place,
                Where where);
void start_store(SharedStorage& storage,
                 int64_t at,
                 const CUtensorMap& map,
                 int axes,
                 const int* place,
                 Where where);
void commit_stores();
void wait_for_stores(int pending);

// For the scheduler. A load that is under way arrives; false if there is none.
bool deliver_a_copy();
void check_copies_arrived();  // at a block's end
void check_stores_read();     // at a thread's

// Whether `lane` has seen that the store is done with shared memory.
bool has_seen_store(const Lane& lane, int store);

}  // namespace emu

namespace digan {

using TensorMap = CUtensorMap;

inline void tma_prefetch(const TensorMap&) {}

template <class T>
void tma_load(emu::Shared<T> to,
              const TensorMap& map,
              emu::Shared<uint64_t> barrier,
              int x,
              int y,
              emu::Where where = emu::Where::current()) {
  const int place[] = {x, y};
  emu::start_load(to.storage(), to.at(), map, barrier.storage(), barrier.at(), 2, place, where);
}

template <class T>
void tma_load(emu::Shared<T> to,
              const TensorMap& map,
              emu::Shared<uint64_t> barrier,
              int x,
              int y,
              int z,
              emu::Where where = emu::Where::current()) {
  const int place[] = {x, y, z};
  emu::start_load(to.storage(), to.at(), map, barrier.storage(), barrier.at(), 3, place, where);
}

template <class T>
void tma_load(emu::Shared<T> to,
              const TensorMap& map,
              emu::Shared<uint64_t> barrier,
              int x,
              int y,
              int z,
              int w,
              emu::Where where = emu::Where::current()) {
  const int place[] = {x, y, z, w};
  emu::start_load(to.storage(), to.at(), map, barrier.storage(), barrier.at(), 4, place, where);
}

template <class T>
void tma_store(const TensorMap& map,
               emu::Shared<T> from,
               int x,
               int y,
               emu::Where where = emu::Where::current()) {
  const int place[] = {x, y};
  emu::start_store(from.storage(), from.at(), map, 2, place, where);
}

template <class T>
void tma_store(const TensorMap& map,
               emu::Shared<T> from,
               int x,
               int y,
               int z,
               emu::Where where = emu::Where::current()) {
  const int place[] = {x, y, z};
  emu::start_store(from.storage(), from.at(), map, 3, place, where);
}

inline void tma_store_commit() {
  emu::commit_stores();
}

// Stores are in global memory at once here; what is left to wait for is that they were read.
template <int kPending>
void tma_store_wait_read() {
  emu::wait_for_stores(kPending);
}

template <int kPending>
void tma_store_wait() {
  emu::wait_for_stores(kPending);
}

}  // namespace digan
