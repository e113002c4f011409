// PyTorch's current stream. Its getter lies in libtorch_cuda, which a CPU build of PyTorch has
// not, so it is looked up at run time. A weak symbol would not do: Python loads libtorch_cuda
// with local scope, the symbol would be null, and kernels would run on the default stream.

#include "binding/torch.h"

#ifndef DIGAN_EMULATED

#include <dlfcn.h>

namespace digan {
namespace {

using Getter = AOTITorchError (*)(int32_t device, void** stream);

struct Found {
  Getter getter = nullptr;
  const char* reason = nullptr;
};

Found find_getter() {
  void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
  if (library == nullptr) {
    return {nullptr, "this PyTorch was built without CUDA"};
  }
  void* symbol = dlsym(library, "aoti_torch_get_current_cuda_stream");
  if (symbol == nullptr) {
    return {nullptr, "this PyTorch does not tell its current CUDA stream; install PyTorch 2.10+"};
  }
  return {reinterpret_cast<Getter>(symbol), nullptr};
}

const Found& getter() {
  static const Found found = find_getter();
  return found;
}

}  // namespace

cudaStream_t current_stream(int device) {
  const Found& found = getter();
  check(found.getter != nullptr, found.reason == nullptr ? "" : found.reason);
  void* stream = nullptr;
  check(found.getter(device, &stream) == TORCH_SUCCESS,
        "PyTorch gave no current stream for CUDA device ", device);
  return static_cast<cudaStream_t>(stream);
}

}  // namespace digan

// Why kernels could not be put on PyTorch's stream; null where they can.
extern "C" __attribute__((visibility("default"))) const char* digan_stream_obstacle() {
  return digan::getter().reason;
}

// For the test of the getter: the current stream, or -1.
extern "C" __attribute__((visibility("default"))) int64_t digan_current_stream(int device) {
  try {
    return reinterpret_cast<int64_t>(digan::current_stream(device));
  } catch (const std::runtime_error&) {
    return -1;
  }
}

#endif  // DIGAN_EMULATED
