#include "fir_resample.h"

#include "driver.h"

namespace driver {
namespace {

struct Shape {
  int64_t images, channels, height, width;
  int up, down, before, behind;  // padding
  int taps;                      // 0 for no filter
  bool separable;
};

// One pixel, tiles of 32 x 32 outputs and cut ones, crops, more taps than a block's table holds.
constexpr Shape kShapes[] = {
    {1, 1, 1, 1, 2, 1, 2, 1, 4, true},   {2, 3, 9, 11, 1, 1, 2, 1, 4, true},
    {1, 2, 19, 18, 2, 1, 2, 1, 4, true}, {2, 3, 35, 34, 1, 2, 1, 1, 4, true},
    {1, 2, 7, 5, 3, 2, 2, 2, 5, false},  {2, 2, 8, 7, 1, 1, -1, 2, 2, false},
    {2, 9, 9, 11, 1, 3, 0, 0, 0, true},  {1, 1, 33, 33, 1, 1, 0, 0, 33, false},
    {0, 3, 4, 4, 2, 1, 2, 2, 4, true},
};

digan::FirAxis axis_of(int64_t in, const Shape& s) {
  digan::FirAxis axis;
  axis.in = in;
  axis.up = s.up;
  axis.down = s.down;
  axis.pad = s.before;
  axis.taps = s.taps == 0 ? 1 : s.taps;
  axis.out = (in * s.up + s.before + s.behind - axis.taps) / s.down + 1;
  return axis;
}

// Of [images, channels, height, width], channels innermost or not.
digan::FirStrides strides_of(int64_t channels, int64_t height, int64_t width, bool channels_last) {
  if (channels_last) {
    return {height * width * channels, 1, width * channels, channels};
  }
  return {channels * height * width, height * width, width, 1};
}

void run_one(Draw& draw, Number number, const Shape& s, bool channels_last) {
  Call call(draw, std::string("fir_resample ") + name_of(number) + " [" + std::to_string(s.height) +
                      ", " + std::to_string(s.width) + "] up " + std::to_string(s.up) + " down " +
                      std::to_string(s.down) + " taps " + std::to_string(s.taps) +
                      (channels_last ? " channels last" : ""));
  digan::FirResampleArguments arguments{};
  arguments.number = number;
  arguments.images = s.images;
  arguments.channels = s.channels;
  arguments.y = axis_of(s.height, s);
  arguments.x_axis = axis_of(s.width, s);
  const int64_t out_height = arguments.y.out, out_width = arguments.x_axis.out;
  arguments.x_stride = strides_of(s.channels, s.height, s.width, channels_last);
  arguments.out_stride = strides_of(s.channels, out_height, out_width, channels_last);
  arguments.x = call.in(number, s.images * s.channels * s.height * s.width);
  arguments.out = call.out(number, s.images * s.channels * out_height * out_width);
  digan::FirTaps& taps = arguments.taps;
  taps.y = taps.x = s.taps == 0 ? 1 : s.taps;
  taps.separable = s.separable;
  taps.stride_y = s.separable ? 0 : taps.x;
  taps.stride_x = 1;
  taps.flip = draw.flip();
  taps.gain = draw.normal();
  if (s.taps > 0) {
    arguments.filter_number =
        wide_of(number) == Number::kF64 && draw.flip() ? Number::kF64 : Number::kF32;
    arguments.filter =
        call.in(arguments.filter_number, s.separable ? s.taps : s.taps * s.taps, 0.3);
  }
  call.done(launch_fir_resample(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number number : kNumbers) {
    for (const Shape& shape : kShapes) {
      run_one(draw, number, shape, false);
      run_one(draw, number, shape, true);
    }
  }
}

const Entry entry("fir_resample", run);

}  // namespace
}  // namespace driver
