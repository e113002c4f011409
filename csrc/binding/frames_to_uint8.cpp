// PyTorch's side of frames_to_uint8.

#include "frames_to_uint8.h"

#include "binding/ops.h"

namespace digan {

Tensor frames_to_uint8(const Tensor& frames) {
  FramesToUint8Arguments arguments;
  arguments.number = number_of("frames", frames);
  arguments.count = frames.numel();
  const Tensor dense = contiguous(frames);
  const Tensor out = empty(frames, sizes_of(frames), ScalarType::Byte);
  Launch launch("frames_to_uint8", frames);
  arguments.frames = launch.in("frames", dense);
  arguments.out = static_cast<uint8_t*>(launch.out("out", out));
  launch.check(launch_frames_to_uint8(arguments, launch.stream()));
  return out;
}

}  // namespace digan
