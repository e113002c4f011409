// Launcher of frames_to_uint8: levels = (frames + 1) * 127.5, rounded half to even, in 0 to 255.

#pragma once

#include <cstdint>

#include "number.h"
#include "runtime.h"

namespace digan {

struct FramesToUint8Arguments {
  Number number = Number::kF32;  // of frames
  int64_t count = 0;
  const void* frames = nullptr;  // [count]
  uint8_t* out = nullptr;        // [count], at a multiple of 16 bytes
};

cudaError_t launch_frames_to_uint8(const FramesToUint8Arguments& arguments, cudaStream_t stream);

}  // namespace digan
