// Boxes of tensors: copied to shared memory and read there word by word, and the other way round.

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "cases.h"
#include "gemm/hopper/tensor_map.cuh"
#include "gemm/hopper/tma.cuh"

namespace py = pybind11;

namespace cases {
namespace {

using namespace digan;
using gemm::hopper::Swizzle;

constexpr int kThreads = 64;

enum class Fault {
  kNone,
  kNoWait,
  kOnlyOneWaits,
  kTooFewBytes,
  kTooManyBytes,
  kNoFenceOfMbarrier,
  kOverwritten,
  kUnfencedBefore,
  kLeaves,
  kMisaligned,
  kNoFence,
  kNoBarrier,
  kNoWaitForStore,
  kWaitForTooFew,
  kOverwritesStored,
};

struct Box {
  TensorMap map;
  int axes;
  int place[4];
  int bytes;
};

__device__ void load(Shared<uint32_t> to, const Box& box, Shared<uint64_t> barrier) {
  if (box.axes == 2) {
    tma_load(to, box.map, barrier, box.place[0], box.place[1]);
  } else if (box.axes == 3) {
    tma_load(to, box.map, barrier, box.place[0], box.place[1], box.place[2]);
  } else {
    tma_load(to, box.map, barrier, box.place[0], box.place[1], box.place[2], box.place[3]);
  }
}

__device__ void store(const Box& box, Shared<const uint32_t> from) {
  if (box.axes == 2) {
    tma_store(box.map, from, box.place[0], box.place[1]);
  } else {
    tma_store(box.map, from, box.place[0], box.place[1], box.place[2]);
  }
}

// Two copies of one box stand behind each other, each in a phase of its own mbarrier.
template <Fault kFault>
__global__ void load_kernel(const __grid_constant__ Box box, Global<uint32_t> out, int pitch) {
  DIGAN_SHARED_DYNAMIC(uint32_t, boxes);
  DIGAN_SHARED(uint64_t, barriers, 2);
  const int thread = static_cast<int>(threadIdx.x);
  if (kFault == Fault::kUnfencedBefore && thread == 40) {
    boxes[0] = 3;
  }
  if (thread == 0) {
    mbarrier_init(barriers, 1);
    mbarrier_init(barriers + 1, 1);
    if (kFault != Fault::kNoFenceOfMbarrier) {
      fence_mbarrier_init();
    }
  }
  __syncthreads();
  if (thread == 0) {
    for (int i = 0; i < 2; ++i) {
      const int wrong = kFault == Fault::kTooFewBytes ? -16 : kFault == Fault::kTooManyBytes;
      mbarrier_arrive_expect(barriers + i, box.bytes + wrong);
      load(boxes + (i * pitch + (kFault == Fault::kMisaligned ? 16 : 0)), box, barriers + i);
    }
    if (kFault == Fault::kOverwritten) {
      boxes[pitch] = 1;
    }
  }
  if (kFault == Fault::kLeaves) {
    return;
  }
  for (int i = 0; i < 2; ++i) {
    if (kFault != Fault::kNoWait && (kFault != Fault::kOnlyOneWaits || thread == 0)) {
      mbarrier_wait(barriers + i, 0);
    }
    for (int k = thread; k < box.bytes / 4; k += kThreads) {
      out[i * (box.bytes / 4) + k] = boxes[i * pitch + k];
    }
  }
}

// Two boxes, the second of which is the first's words plus one; in two groups.
template <Fault kFault>
__global__ void store_kernel(const __grid_constant__ Box first,
                             const __grid_constant__ Box second,
                             Global<const uint32_t> in,
                             int pitch) {
  DIGAN_SHARED_DYNAMIC(uint32_t, boxes);
  const int thread = static_cast<int>(threadIdx.x);
  const int words = first.bytes / 4;
  for (int k = thread; k < words; k += kThreads) {
    boxes[k] = in[k];
    boxes[pitch + k] = in[k] + 1;
  }
  if (kFault != Fault::kNoFence) {
    fence_proxy_async();
  }
  if (kFault != Fault::kNoBarrier) {
    __syncthreads();
  }
  if (thread == 0) {
    store(first, boxes);
    tma_store_commit();
    store(second, boxes + pitch);
    tma_store_commit();
    if (kFault == Fault::kOverwritesStored) {
      boxes[0] = 0;
    }
    tma_store_wait_read<1>();
    boxes[words - 1] = 0;  // of the first
    if (kFault != Fault::kNoWaitForStore) {
      tma_store_wait<kFault == Fault::kWaitForTooFew ? 1 : 0>();
    }
  }
}

template <Fault kFault>
cudaError_t run_load(const Box& box, uint32_t* out, int pitch) {
  return DIGAN_LAUNCH_LARGE((load_kernel<kFault>), 1, kThreads, 8 * pitch + 64, nullptr, box, out,
                             pitch);
}

template <Fault kFault>
cudaError_t run_store(const Box& first, const Box& second, const uint32_t* in, int pitch) {
  return DIGAN_LAUNCH_LARGE((store_kernel<kFault>), 1, kThreads, 8 * pitch, nullptr, first, second,
                             in, pitch);
}

using Bytes = py::array_t<uint8_t, py::array::c_style>;

// A tensor in `memory`, innermost axis first.
struct Tensor {
  int number_bytes;
  std::vector<int64_t> extents, strides;  // numbers
  std::vector<int> box;
  int swizzle;
};

void check(cudaError_t error) {
  if (error == cudaErrorLaunchFailure) {
    throw std::runtime_error(cudaGetErrorString(cudaGetLastError()));
  }
  if (error != cudaSuccess) {
    throw std::invalid_argument(cudaGetErrorString(error));
  }
}

Box box_of(const Tensor& tensor, const void* memory, const std::vector<int>& place) {
  Box box{};
  box.axes = static_cast<int>(tensor.extents.size());
  box.bytes = tensor.number_bytes;
  using gemm::hopper::TensorAxis;
  TensorAxis axes[4];
  for (int i = 0; i < box.axes; ++i) {
    axes[i] = {tensor.extents[i], tensor.strides[i], tensor.box[i]};
    box.bytes *= tensor.box[i];
    box.place[i] = place[i];
  }
  const Number number = tensor.number_bytes == 2   ? Number::kBF16
                        : tensor.number_bytes == 4 ? Number::kF32
                                                   : Number::kF64;
  const auto swizzle = static_cast<Swizzle>(tensor.swizzle);
  if (box.axes == 2) {
    const TensorAxis two[2] = {axes[0], axes[1]};
    check(make_tensor_map(box.map, number, memory, two, swizzle));
  } else if (box.axes == 3) {
    const TensorAxis three[3] = {axes[0], axes[1], axes[2]};
    check(make_tensor_map(box.map, number, memory, three, swizzle));
  } else {
    check(make_tensor_map(box.map, number, memory, axes, swizzle));
  }
  return box;
}

// Words between both boxes, from a multiple of 1024 bytes to another.
int pitch_of(const Box& box) {
  return (box.bytes + 1023) / 1024 * 256;
}

py::array_t<uint32_t> load_box(const std::string& fault,
                               const Bytes& memory,
                               int64_t offset,
                               const Tensor& tensor,
                               const std::vector<int>& place) {
  static const std::map<std::string, decltype(&run_load<Fault::kNone>)> faults = {
      {"none", run_load<Fault::kNone>},
      {"no_wait", run_load<Fault::kNoWait>},
      {"only_one_waits", run_load<Fault::kOnlyOneWaits>},
      {"too_few_bytes", run_load<Fault::kTooFewBytes>},
      {"too_many_bytes", run_load<Fault::kTooManyBytes>},
      {"no_fence_of_mbarrier", run_load<Fault::kNoFenceOfMbarrier>},
      {"overwritten", run_load<Fault::kOverwritten>},
      {"unfenced_before", run_load<Fault::kUnfencedBefore>},
      {"leaves", run_load<Fault::kLeaves>},
      {"misaligned", run_load<Fault::kMisaligned>},
  };
  const emu::Allocation in_memory(memory.data(), memory.size(), emu::Access::kRead, "tensor");
  const Box box = box_of(tensor, memory.data() + offset, place);
  py::array_t<uint32_t> out(box.bytes / 2);
  const emu::Allocation out_memory(out.data(), 4 * out.size(), emu::Access::kFresh, "out");
  check(faults.at(fault)(box, out.mutable_data(), pitch_of(box)));
  return out;
}

void store_boxes(const std::string& fault,
                 Bytes memory,
                 int64_t offset,
                 const Tensor& tensor,
                 const std::vector<int>& first,
                 const std::vector<int>& second,
                 const py::array_t<uint32_t, py::array::c_style>& words) {
  static const std::map<std::string, decltype(&run_store<Fault::kNone>)> faults = {
      {"none", run_store<Fault::kNone>},
      {"no_fence", run_store<Fault::kNoFence>},
      {"no_barrier", run_store<Fault::kNoBarrier>},
      {"no_wait_for_store", run_store<Fault::kNoWaitForStore>},
      {"wait_for_too_few", run_store<Fault::kWaitForTooFew>},
      {"overwrites_stored", run_store<Fault::kOverwritesStored>},
  };
  uint8_t* begin = memory.mutable_data();
  const emu::Allocation out_memory(begin, memory.size(), emu::Access::kReadWrite, "tensor");
  const emu::Allocation in_memory(words.data(), 4 * words.size(), emu::Access::kRead, "in");
  const Box one = box_of(tensor, begin + offset, first),
            two = box_of(tensor, begin + offset, second);
  check(faults.at(fault)(one, two, words.data(), pitch_of(one)));
}

// What the driver's stand-in says of these arguments.
bool encodes(int64_t address,
             int type,
             const std::vector<cuuint64_t>& extents,
             const std::vector<cuuint64_t>& strides,
             const std::vector<cuuint32_t>& box,
             const std::vector<cuuint32_t>& steps,
             int swizzle) {
  CUtensorMap map;
  return cuTensorMapEncodeTiled(
             &map, static_cast<CUtensorMapDataType>(type), static_cast<cuuint32_t>(extents.size()),
             reinterpret_cast<void*>(address), extents.data(), strides.data(), box.data(),
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, static_cast<CUtensorMapSwizzle>(swizzle),
             CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

void bind_tma_cases(py::module_& module) {
  py::class_<Tensor>(module, "Tensor")
      .def(py::init<int, std::vector<int64_t>, std::vector<int64_t>, std::vector<int>, int>(),
           py::arg("number_bytes"), py::arg("extents"), py::arg("strides"), py::arg("box"),
           py::arg("swizzle"));
  module.def("load_box", &load_box, py::arg("fault"), py::arg("memory"), py::arg("offset"),
             py::arg("tensor"), py::arg("place"));
  module.def("store_boxes", &store_boxes, py::arg("fault"), py::arg("memory").noconvert(),
             py::arg("offset"), py::arg("tensor"), py::arg("first"), py::arg("second"),
             py::arg("words"));
  module.def("encodes", &encodes, py::arg("address"), py::arg("type"), py::arg("extents"),
             py::arg("strides"), py::arg("box"), py::arg("steps"), py::arg("swizzle"));
}

}  // namespace cases
