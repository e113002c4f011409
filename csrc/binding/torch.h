// What the bindings use of PyTorch: its stable ABI, so that one library serves every Python and
// every PyTorch since 2.10. The build gives TORCH_TARGET_VERSION on the command line.
//
// A binding of an op reads:
//
//   Tensor bias_act(const Tensor& x, const MaybeTensor& bias, ...) {
//     Tensor out = empty_like(x);
//     Launch launch("bias_act", x);
//     BiasActArguments arguments;
//     arguments.number = number_of("x", x);
//     arguments.x = launch.in("x", x);
//     arguments.bias = launch.in("bias", bias);  // nullptr for none
//     arguments.out = launch.out("out", out);
//     launch.check(launch_bias_act(arguments, launch.stream()));
//     return out;
//   }
//
// The types of a schema: Tensor, Tensor? = MaybeTensor, float = double, float? =
// std::optional<double>, int = int64_t, int[] = std::vector<int64_t>, str = std::string,
// ScalarType = ScalarType, and std::tuple<Tensor, ...> for several results.

#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "number.h"
#include "runtime.h"

#ifdef DIGAN_EMULATED
#include "memory.h"
#endif

#ifndef TORCH_TARGET_VERSION
#error "compile with -DTORCH_TARGET_VERSION=0x020a000000000000 (PyTorch 2.10)"
#endif

// The key that kernels are registered for, and the namespace of their ops: the emulator's
// library serves CPU tensors, and may serve them under another name.
#ifdef DIGAN_EMULATED
#define DIGAN_DISPATCH_KEY CPU
#else
#define DIGAN_DISPATCH_KEY CUDA
#endif
#ifndef DIGAN_NAMESPACE
#define DIGAN_NAMESPACE digan
#endif

namespace digan {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

// Throws one line made of the parts; Python raises it as RuntimeError.
template <class... Parts>
void check(bool good, const Parts&... parts) {
  if (good) {
    return;
  }
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline Number number_of(const char* name, ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double:
      return Number::kF64;
    case ScalarType::Float:
      return Number::kF32;
    case ScalarType::BFloat16:
      return Number::kBF16;
    case ScalarType::Half:
      return Number::kF16;
    default:
      check(false, name, " must be float64, float32, bfloat16 or float16, got ",
            torch::headeronly::toString(dtype));
      return Number::kF32;
  }
}

inline Number number_of(const char* name, const Tensor& tensor) {
  return number_of(name, tensor.scalar_type());
}

// The types of ops that have no 16-bit form of `tensor`.
inline Number wide_number_of(const char* op, const char* name, const Tensor& tensor) {
  const Number number = number_of(name, tensor);
  check(number == Number::kF64 || number == Number::kF32, op, ": ", name,
        " must be float64 or float32, got ", torch::headeronly::toString(tensor.scalar_type()));
  return number;
}

// The dtype of sums: float32 for float32, bfloat16 and float16, float64 for float64.
inline ScalarType wide_of(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Sizes sizes_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return Sizes(sizes.begin(), sizes.end());
}

inline Sizes strides_of(const Tensor& tensor) {
  const auto strides = tensor.strides();
  return Sizes(strides.begin(), strides.end());
}

// "[2, 3]"
inline std::string text(const Sizes& sizes) {
  std::ostringstream out;
  for (size_t i = 0; i < sizes.size(); ++i) {
    out << (i == 0 ? "[" : ", ") << sizes[i];
  }
  out << (sizes.empty() ? "[]" : "]");
  return out.str();
}

inline void check_sizes(const char* name, const Tensor& tensor, const Sizes& wanted) {
  const Sizes sizes = sizes_of(tensor);
  check(sizes == wanted, name, " must be ", text(wanted), ", got ", text(sizes));
}

inline void check_rank(const char* name, const Tensor& tensor, int64_t rank) {
  check(tensor.dim() == rank, name, " must have ", rank, " axes, got ", text(sizes_of(tensor)));
}

inline void check_dtype(const char* name, const Tensor& tensor, ScalarType dtype) {
  check(tensor.scalar_type() == dtype, name, " must be ", torch::headeronly::toString(dtype),
        ", got ", torch::headeronly::toString(tensor.scalar_type()));
}

inline void check_like(const char* name,
                       const Tensor& tensor,
                       const Sizes& wanted,
                       ScalarType dtype) {
  check_sizes(name, tensor, wanted);
  check_dtype(name, tensor, dtype);
}

// Objects and not functions: for those, torch::stable's of the same name would be found too.

// The tensor itself where it is contiguous.
inline constexpr auto contiguous = [](const Tensor& tensor) -> Tensor {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
};

// As torch.empty_like: the strides of `like` where its elements lie densely.
inline constexpr auto empty_like = [](const Tensor& like) -> Tensor {
  return torch::stable::empty_like(like);
};

// The tensor itself where it has the dtype.
inline Tensor to_dtype(const Tensor& tensor, ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

// Uninitialised, contiguous, on the device of `like`.
inline Tensor empty(const Tensor& like, const Sizes& sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

inline Tensor empty(const Tensor& like, const Sizes& sizes) {
  return torch::stable::new_empty(like, sizes);
}

// Uninitialised, with strides in elements, on the device of `like`.
inline Tensor empty_strided(const Tensor& like,
                            const Sizes& sizes,
                            const Sizes& strides,
                            ScalarType dtype) {
  AtenTensorHandle handle = nullptr;
  const auto device = like.device();
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(device.type())),
      device.index(), &handle));
  return Tensor(handle);
}

inline Tensor empty_channels_last(const Tensor& like, const Sizes& sizes) {
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              MemoryFormat::ChannelsLast);
}

// As tensor.is_contiguous(memory_format=torch.channels_last): [N, C, H, W] with C innermost.
inline bool is_channels_last(const Tensor& tensor) {
  if (tensor.dim() != 4) {
    return false;
  }
  int64_t expected = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (tensor.size(axis) != 1) {
      if (tensor.stride(axis) != expected) {
        return false;
      }
      expected *= tensor.size(axis);
    }
  }
  return true;
}

// The bytes from a tensor's first element to its last.
inline int64_t extent_of(const Tensor& tensor) {
  if (tensor.numel() == 0) {
    return 0;
  }
  int64_t last = 0;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
    last += (tensor.size(axis) - 1) * tensor.stride(axis);
  }
  return (last + 1) * static_cast<int64_t>(tensor.element_size());
}

// Throws with the launch's name where a launcher failed.
inline void check_launch(cudaError_t error, const char* name) {
#ifdef DIGAN_EMULATED
  check(error == cudaSuccess, name, ": the launch failed with error ", static_cast<int>(error));
#else
  check(error == cudaSuccess, name, ": the launch failed: ", cudaGetErrorString(error));
#endif
}

// PyTorch's current stream of a device; throws where PyTorch does not tell, as kernels on any
// other stream would read what is not yet written.
cudaStream_t current_stream(int device);

// What one call of a launcher needs, for as long as it lives: the first tensor's device is the
// current one, and the emulator knows the memory of every tensor that was handed out.
class Launch {
 public:
  Launch(const char* op, const Tensor& first) : op_(op), device_(first.device()) {
#ifdef DIGAN_EMULATED
    digan::check(device_.is_cpu(), op, ": the emulator takes CPU tensors");
#else
    digan::check(device_.is_cuda(), op, ": the kernels take CUDA tensors");
    guard_.emplace(device_.index());
    // Both runtimes in this process, PyTorch's and ours, must agree on the current device.
    check_launch(cudaSetDevice(device_.index()), op);
    stream_ = current_stream(device_.index());
#endif
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  // The tensor's first element, to be read; nullptr for no tensor.
  const void* in(const char* name, const Tensor& tensor) {
    hand_out(name, tensor, /*writes=*/false);
    return tensor.const_data_ptr();
  }
  const void* in(const char* name, const MaybeTensor& tensor) {
    return tensor ? in(name, *tensor) : nullptr;
  }

  // The tensor's first element, to be written: an output or a workspace, poisoned by the emulator.
  void* out(const char* name, const Tensor& tensor) {
    hand_out(name, tensor, /*writes=*/true);
    return tensor.mutable_data_ptr();
  }
  void* out(const char* name, const MaybeTensor& tensor) {
    return tensor ? out(name, *tensor) : nullptr;
  }

  cudaStream_t stream() const { return stream_; }
  void check(cudaError_t error) const { check_launch(error, op_); }

 private:
  void hand_out(const char* name, const Tensor& tensor, bool writes) {
    digan::check(tensor.device() == device_, op_, ": ", name,
                 " must be on the device of the first tensor");
#ifdef DIGAN_EMULATED
    memory_.emplace_back(tensor.data_ptr(), extent_of(tensor),
                         writes ? emu::Access::kFresh : emu::Access::kRead);
#else
    static_cast<void>(writes);
#endif
  }

  const char* op_;
  torch::stable::Device device_;
  cudaStream_t stream_ = nullptr;
#ifdef DIGAN_EMULATED
  std::vector<emu::Allocation> memory_;
#else
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
#endif
};

}  // namespace digan
