#include "frames_to_uint8.h"

#include "driver.h"

namespace driver {
namespace {

void run(Draw& draw) {
  for (const Number number : kNumbers) {
    for (const int64_t count : {0, 1, 15, 16, 17, 4096, 4099}) {
      Call call(draw, std::string("frames_to_uint8 ") + name_of(number) + " [" +
                          std::to_string(count) + "]");
      digan::FramesToUint8Arguments arguments;
      arguments.number = number;
      arguments.count = count;
      arguments.frames = call.in(number, count);
      arguments.out = static_cast<uint8_t*>(call.out_bytes(count));
      call.done(launch_frames_to_uint8(arguments, nullptr));
    }
  }
}

const Entry entry("frames_to_uint8", run);

}  // namespace
}  // namespace driver
