#include "coord_chain.h"

#include "grid.h"

namespace driver {
namespace {

struct Shape : GridShape {
  int64_t channels, hidden, outputs;  // outputs of `onward`, or 0
  uint32_t rgb_layers;
  bool has_skip, has_image;
};

// Below, at and above tiles of 8 x 16 pixels and slices of 32 numbers; one panel of 256 channels,
// and three; without a frame.
constexpr Shape kShapes[] = {
    {{1, 1, 3, 5, 8}, 8, 0, 0, 1, false, false},    {{1, 1, 9, 17, 24}, 40, 2, 24, 5, false, true},
    {{1, 2, 10, 6, 40}, 136, 1, 72, 2, true, true}, {{2, 1, 4, 18, 8}, 72, 2, 0, 4, true, false},
    {{1, 1, 2, 6, 16}, 264, 1, 264, 3, true, true}, {{1, 0, 2, 2, 8}, 8, 1, 8, 1, false, false}};

int64_t count_bits(uint32_t bits) {
  return bits == 0 ? 0 : (bits & 1) + count_bits(bits >> 1);
}

void run_one(Draw& draw, Number number, const Shape& s) {
  Call call(draw, std::string("coord_chain ") + name_of(number) + " " + text_of(s) + " C " +
                      std::to_string(s.channels) + " L " + std::to_string(s.hidden) + " O " +
                      std::to_string(s.outputs));
  const Number wide = Number::kF32;
  const int64_t pixels = s.pixels(), below = s.has_skip ? pixels / 4 : pixels;
  const int64_t pictures = count_bits(s.rgb_layers);
  digan::CoordChainArguments arguments;
  arguments.grid = grid_of(call, s, wide, number, wide);
  arguments.channels = s.channels;
  arguments.layers = s.hidden + 1;
  arguments.outputs = s.outputs;
  arguments.rgb_layers = s.rgb_layers;
  const int64_t square = s.channels * s.channels;
  arguments.weight = call.in(number, s.videos * s.channels * 2 * s.frequencies, 0.2);
  arguments.hidden = s.hidden > 0 ? call.in(number, s.videos * s.hidden * square, 0.1) : nullptr;
  arguments.onward =
      s.outputs > 0 ? call.in(number, s.videos * s.outputs * s.channels, 0.1) : nullptr;
  arguments.rgb_weight = call.in(number, s.videos * pictures * 3 * s.channels, 0.1);
  arguments.bias = call.in(wide, (s.hidden + 1) * s.channels);
  arguments.rgb_bias = call.in(wide, pictures * 3);
  arguments.skip = s.has_skip ? call.in(number, below * s.channels) : nullptr;
  arguments.image = s.has_image ? call.in(wide, below * 3) : nullptr;
  arguments.alpha = draw.flip() ? 0.2 : 0;
  arguments.clamps = draw.flip();
  arguments.clamp = arguments.clamps ? 1.5 : 0;
  arguments.picture = call.out(wide, pixels * 3);
  arguments.next = s.outputs > 0 ? call.out(number, pixels * s.outputs) : nullptr;
  call.done(launch_coord_chain(arguments, nullptr));
}

void run(Draw& draw) {
  for (const Number number : {Number::kBF16, Number::kF16}) {
    for (const Shape& shape : kShapes) {
      run_one(draw, number, shape);
    }
  }
}

const Entry entry("coord_chain", run);

}  // namespace
}  // namespace driver
