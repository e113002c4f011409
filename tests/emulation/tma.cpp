#include "tma.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "counters.h"
#include "fault.h"
#include "mbarrier.h"

namespace emu {
namespace {

constexpr int kMostAxes = 5;
constexpr int kChunk = 16;  // bytes, which change places

// What a tensor map holds, in its 128 bytes.
struct TensorBox {
  char* base;
  uint64_t strides[kMostAxes];  // bytes
  uint32_t extents[kMostAxes];  // less one
  uint16_t box[kMostAxes];
  uint8_t axes, number_bytes, swizzle;
  uint8_t made;  // kMade
};
static_assert(sizeof(TensorBox) <= sizeof(CUtensorMap));
constexpr uint8_t kMade = 0xd1;

TensorBox box_of(const CUtensorMap& map, int axes, const char* operation, Where where) {
  TensorBox box;
  std::memcpy(&box, &map, sizeof(box));
  if (box.made != kMade) {
    fail(operation, " by a tensor map that nobody made, ", text_of(where));
  }
  if (box.axes != axes) {
    fail(operation, " of ", axes, " axes by a tensor map of ", int{box.axes}, ", ", text_of(where));
  }
  return box;
}

int64_t bytes_of(const TensorBox& box) {
  int64_t bytes = box.number_bytes;
  for (int i = 0; i < box.axes; ++i) {
    bytes *= box.box[i];
  }
  return bytes;
}

// Bytes after which the swizzle repeats itself.
int period_of(int swizzle) {
  return swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 128 : 128 << swizzle;
}

// Where byte `at` of a box goes, both from a multiple of the period on: of 16-byte chunks, those
// of a span of 32, 64 or 128 bytes change places by the number of the 128-byte line.
int64_t swizzled(int64_t at, int swizzle) {
  const int64_t chunks = (1 << swizzle) - 1;
  return at ^ ((at >> 7 & chunks) << 4);
}

void check_place(const SharedStorage& storage, int64_t at, const TensorBox& box, Where where) {
  if (&storage != &launch_shared()) {
    fail("a copy by TMA to or from ", storage.name, ", whose alignment nobody knows, ",
         text_of(where));
  }
  if (at % period_of(box.swizzle) != 0) {
    fail("misaligned: a copy by TMA at byte ", at, " of ", storage.name, ", multiples of ",
         period_of(box.swizzle), " can be, ", text_of(where));
  }
  // Where its rows lie is not documented.
  if (box.swizzle != CU_TENSOR_MAP_SWIZZLE_NONE &&
      box.box[0] * box.number_bytes != 16 << box.swizzle) {
    fail("a box narrower than its swizzle, ", text_of(where));
  }
}

struct Load {
  SharedStorage* storage;
  int64_t at;
  int barrier;
  std::vector<char> data;
};

struct Store {
  int thread;
  int group;
  uint32_t done = 0;  // the thread's number when it had waited
};

// Of the block that runs.
int64_t block = 0;
std::vector<Load> loads;
std::vector<Store> stores;
std::vector<int> store_groups;  // by thread

void open_block() {
  if (block != block_serial) {
    block = block_serial;
    loads.clear();
    stores.clear();
    store_groups.assign(block_threads(), 0);
  }
}

// Calls function(byte of the box, address or null where outside, bytes) for each run of the
// innermost axis.
template <class Function>
void for_each_run(const TensorBox& box, const int* place, const Function& function) {
  int64_t runs = 1;
  for (int i = 1; i < box.axes; ++i) {
    runs *= box.box[i];
  }
  const int64_t run_bytes = int64_t{box.box[0]} * box.number_bytes;
  const int64_t begin = std::max<int64_t>(place[0], 0);
  const int64_t end = std::min(int64_t{place[0]} + box.box[0], int64_t{box.extents[0]} + 1);
  for (int64_t run = 0; run < runs; ++run) {
    int64_t left = run, offset = 0;
    bool inside = begin < end;
    for (int i = 1; i < box.axes; ++i) {
      const int64_t at = place[i] + left % box.box[i];
      left /= box.box[i];
      inside = inside && at >= 0 && at <= box.extents[i];
      offset += at * static_cast<int64_t>(box.strides[i]);
    }
    if (inside) {
      function(run * run_bytes + (begin - place[0]) * box.number_bytes,
               box.base + offset + begin * box.number_bytes,
               static_cast<int>((end - begin) * box.number_bytes));
    }
  }
}

// A run from byte `begin` of the box in pieces, each an aligned access: whole chunks, of memory
// and of the box, or numbers.
template <class At, class Function>
void for_each_piece(
    const TensorBox& box, int64_t begin, At* at, int bytes, const Function& function) {
  const bool chunks = (bytes | begin | reinterpret_cast<intptr_t>(at)) % kChunk == 0;
  const int width = chunks ? kChunk : box.number_bytes;
  for (int i = 0; i < bytes; i += width) {
    function(swizzled(begin + i, box.swizzle), at + i, width);
  }
}

void arrive_at(size_t number) {
  const Load load = loads[number];
  loads.erase(loads.begin() + static_cast<int64_t>(number));
  std::memcpy(load.storage->data + load.at, load.data.data(), load.data.size());
  end_async_write(*load.storage, load.at, static_cast<int>(load.data.size()),
                  mbarrier_phase(load.barrier) + 1);
  complete_bytes(load.barrier, static_cast<int64_t>(load.data.size()));
}

}  // namespace

void start_load(SharedStorage& storage,
                int64_t at,
                const CUtensorMap& map,
                SharedStorage& barrier_storage,
                int64_t barrier_at,
                int axes,
                const int* place,
                Where where) {
  open_block();
  const TensorBox box = box_of(map, axes, "a load", where);
  check_place(storage, at, box, where);
  const auto bytes = static_cast<int>(bytes_of(box));
  Load load{&storage, at, mbarrier_for_copy(barrier_storage, barrier_at, where),
            std::vector<char>(bytes, 0)};
  begin_async_write(storage, at, bytes, load.barrier);
  const Region* region = find_region(box.base, false);
  for_each_run(box, place, [&](int64_t to, const char* from, int run) {
    for_each_piece(box, to, from, run, [&](int64_t place, const char* piece, int width) {
      check_read(region, piece, width);
      counters.tma_load_bytes += width;
      std::memcpy(load.data.data() + place, piece, width);
    });
  });
  ++counters.tma_loads;
  loads.push_back(std::move(load));
  if (draw(4) == 0) {
    deliver_a_copy();
  }
}

void start_store(SharedStorage& storage,
                 int64_t at,
                 const CUtensorMap& map,
                 int axes,
                 const int* place,
                 Where where) {
  open_block();
  const TensorBox box = box_of(map, axes, "a store", where);
  check_place(storage, at, box, where);
  const auto bytes = static_cast<int>(bytes_of(box));
  check_shared_read(storage, at, bytes);
  check_async_proxy_read(storage, at, bytes);
  stores.push_back({self->thread, store_groups[self->thread]});
  note_store_read(storage, at, bytes, static_cast<int>(stores.size()) - 1);
  const Region* region = find_region(box.base, true);
  for_each_run(box, place, [&](int64_t from, char* to, int run) {
    for_each_piece(box, from, to, run, [&](int64_t place, char* piece, int width) {
      check_write(region, piece, width);
      counters.tma_store_bytes += width;
      std::memcpy(piece, storage.data + at + place, width);
    });
  });
  ++counters.tma_stores;
}

void commit_stores() {
  open_block();
  ++store_groups[self->thread];
}

void wait_for_stores(int pending) {
  open_block();
  for (Store& store : stores) {
    if (store.thread == self->thread && store.done == 0 &&
        store.group < store_groups[self->thread] - pending) {
      store.done = self->tick;
    }
  }
}

bool deliver_a_copy() {
  open_block();
  if (loads.empty()) {
    return false;
  }
  arrive_at(draw(static_cast<uint32_t>(loads.size())));
  return true;
}

void check_copies_arrived() {
  open_block();
  self = nullptr;
  if (!loads.empty()) {
    fail("the block ended while copies to its shared memory were under way, the first to byte ",
         loads[0].at);
  }
  check_copies_waited_for();
}

void check_stores_read() {
  open_block();
  for (const Store& store : stores) {
    if (store.thread == self->thread && store.done == 0) {
      fail("leaves the kernel before its stores have read shared memory");
    }
  }
}

bool has_seen_store(const Lane& lane, int store) {
  const Store& it = stores[store];
  return it.done != 0 && has_seen(lane, it.thread, it.done);
}

namespace {

bool driver_has_tensor_maps = true;

}  // namespace

void set_driver_has_tensor_maps(bool has) {
  driver_has_tensor_maps = has;
}

}  // namespace emu

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
                                CUtensorMapFloatOOBfill oobFill) {
  emu::TensorBox box{};
  switch (tensorDataType) {
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
      box.number_bytes = 2;
      break;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      box.number_bytes = 4;
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  const bool right =
      reinterpret_cast<uintptr_t>(tensorMap) % 64 == 0 && tensorRank >= 1 &&
      tensorRank <= emu::kMostAxes && reinterpret_cast<uintptr_t>(globalAddress) % 16 == 0 &&
      globalAddress != nullptr && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
      swizzle >= CU_TENSOR_MAP_SWIZZLE_NONE && swizzle <= CU_TENSOR_MAP_SWIZZLE_128B &&
      l2Promotion >= CU_TENSOR_MAP_L2_PROMOTION_NONE &&
      l2Promotion <= CU_TENSOR_MAP_L2_PROMOTION_L2_256B &&
      oobFill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  if (!right) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (cuuint32_t i = 0; i < tensorRank; ++i) {
    // Strides between numbers are not emulated, but for the first axis, where none are heard.
    const bool strides_right =
        i == 0 || (globalStrides[i - 1] % 16 == 0 && globalStrides[i - 1] < cuuint64_t{1} << 40 &&
                   elementStrides[i] == 1 && globalStrides[i - 1] >= globalDim[i - 1]);
    if (globalDim[i] == 0 || globalDim[i] > cuuint64_t{1} << 32 || boxDim[i] == 0 ||
        boxDim[i] > 256 || !strides_right) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    box.extents[i] = static_cast<uint32_t>(globalDim[i] - 1);
    box.strides[i] = i == 0 ? box.number_bytes : globalStrides[i - 1];
    box.box[i] = static_cast<uint16_t>(boxDim[i]);
  }
  const cuuint32_t inner = boxDim[0] * box.number_bytes;
  if (inner % 16 != 0 ||
      (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && inner > 16u << static_cast<unsigned>(swizzle))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  box.base = static_cast<char*>(globalAddress);
  box.axes = static_cast<uint8_t>(tensorRank);
  box.swizzle = static_cast<uint8_t>(swizzle);
  box.made = emu::kMade;
  std::memset(tensorMap, 0, sizeof(*tensorMap));
  std::memcpy(tensorMap, &box, sizeof(box));
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol,
                                             void** function,
                                             unsigned cuda_version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool has = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0 && cuda_version >= 12000 &&
                   flags == cudaEnableDefault && emu::driver_has_tensor_maps;
  *function = has ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = has ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
